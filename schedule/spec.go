package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/robfig/cron/v3"
)

// Spec is a parsed cron specification in a timezone. See the package's documentation
// for what it may say. The zero value is never due.
type Spec struct {
	text     string // canonical
	location *time.Location
	every    time.Duration // 0: wall says when

	// wall is the specification on a clock without timezone. Such times are kept as times
	// in UTC.
	wall cron.Schedule
	// wildcard: the hour field has a wildcard. hourly: it lets every hour through.
	wildcard, hourly bool
}

// Parse reads a specification. The timezone is an IANA name, such as Europe/Berlin; ""
// is the host's. The error says what to write instead.
func Parse(cron, timezone string) (Spec, error) {
	spec, err := parseCron(cron)
	location, errLocation := parseTimezone(timezone)
	if err := errors.Join(err, errLocation); err != nil {
		return Spec{}, err
	}
	spec.location = location
	return spec, nil
}

func parseTimezone(name string) (*time.Location, error) {
	if name == "" {
		return time.Local, nil
	}
	location, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not a timezone known here: use an IANA name such as Europe/Berlin or UTC", name)
	}
	return location, nil
}

// shorthands and the fields they stand for.
var shorthands = map[string]string{
	"@yearly":   "0 0 1 1 *",
	"@annually": "0 0 1 1 *",
	"@monthly":  "0 0 1 * *",
	"@weekly":   "0 0 * * 0",
	"@daily":    "0 0 * * *",
	"@midnight": "0 0 * * *",
	"@hourly":   "0 * * * *",
}

// parseCron leaves the location out.
func parseCron(text string) (Spec, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return Spec{}, errors.New(`is empty: write when the entry is due, such as "0 3 * * *" or "@every 6h"`)
	}
	if first := strings.ToUpper(words[0]); strings.HasPrefix(first, "TZ=") || strings.HasPrefix(first, "CRON_TZ=") {
		return Spec{}, fmt.Errorf("%q names a timezone: use the key timezone for that", text)
	}
	if strings.HasPrefix(words[0], "@") {
		shorthand := strings.ToLower(words[0])
		if shorthand == "@every" {
			return parseEvery(text, words[1:])
		}
		if shorthand == "@reboot" {
			return Spec{}, fmt.Errorf("%q is not a time: use run_on_start: true, and a cron for the runs after it", text)
		}
		expanded, ok := shorthands[shorthand]
		if !ok || len(words) > 1 {
			return Spec{}, fmt.Errorf("%q is not known: use @yearly, @monthly, @weekly, @daily, @hourly, @every with a duration, or five fields", text)
		}
		words = strings.Fields(expanded)
	}
	if len(words) == len(fields)+1 {
		return Spec{}, fmt.Errorf("%q has 6 fields: write 5, without seconds: minute, hour, day of month, month, day of week", text)
	}
	if len(words) != len(fields) {
		return Spec{}, fmt.Errorf("%q: write 5 fields, not %d: minute, hour, day of month, month, day of week", text, len(words))
	}

	plain := make([]string, len(fields))
	var problems []error
	for i := range fields {
		var err error
		if plain[i], err = fields[i].plain(words[i]); err != nil {
			problems = append(problems, err)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return Spec{}, fmt.Errorf("%q: %w", text, err)
	}
	wall, err := cron.ParseStandard(strings.Join(plain, " "))
	if err != nil {
		return Spec{}, fmt.Errorf("%q: %w", text, err)
	}
	parsed, ok := wall.(*cron.SpecSchedule)
	if !ok {
		return Spec{}, fmt.Errorf("%q: understood as a %T", text, wall)
	}
	parsed.Location = time.UTC
	const day = 1<<24 - 1
	spec := Spec{
		text:   strings.ToUpper(strings.Join(words, " ")),
		wall:   parsed,
		hourly: parsed.Hour&day == day,
	}
	spec.wildcard = spec.hourly || strings.Contains(words[1], "*")
	if spec.nextWall(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Spec{}, fmt.Errorf("%q is never due: the months (%s) have none of the days (%s)", text, words[3], words[2])
	}
	return spec, nil
}

// parseEvery reads what follows @every, as Prometheus writes durations or as Go does.
func parseEvery(text string, words []string) (Spec, error) {
	refuse := func(why string) (Spec, error) {
		return Spec{}, fmt.Errorf("%q %s: write a duration of whole seconds, such as @every 90s, @every 1h30m or @every 1d", text, why)
	}
	if len(words) != 1 {
		return refuse("needs one duration")
	}
	prometheus, err := model.ParseDuration(words[0])
	every := time.Duration(prometheus)
	if err != nil {
		every, err = time.ParseDuration(words[0])
	}
	switch {
	case err != nil:
		return refuse("has no valid duration")
	case every < time.Second:
		return refuse("is shorter than a second")
	case every%time.Second != 0:
		return refuse("has a fraction of a second")
	}
	return Spec{text: "@every " + model.Duration(every).String(), every: every}, nil
}

// String returns the canonical text with the timezone, where that matters. Two specs with
// the same string are due at the same times.
func (s Spec) String() string {
	if s.every > 0 || s.location == nil {
		return s.text
	}
	return s.text + " " + s.location.String()
}

// Every returns the duration of an @every, and whether the spec is one.
func (s Spec) Every() (time.Duration, bool) { return s.every, s.every > 0 }

// Next returns the first time after the given one at which the spec is due, in the timezone
// of the spec. For @every, the given time must be the time of the last fire.
func (s Spec) Next(after time.Time) time.Time {
	if s.every > 0 {
		return after.Add(s.every).Round(0).In(s.location)
	}
	if s.wall == nil {
		return time.Time{}
	}
	// Within a period between two changes of the clock, its offset from UTC is the
	// same, and wall time and time are one.
	after = after.Round(0).In(s.location)
	for p := periodOf(after); ; {
		wall := s.nextWall(p.wall(s.searchFrom(p, after)))
		if wall.IsZero() {
			return time.Time{}
		}
		if t := p.time(wall); p.end.IsZero() || t.Before(p.end) {
			return t.In(s.location)
		}
		following := periodOf(p.end)
		// Where every hour is due, and the clock skips whole ones, the one after
		// those is due just when the skipped one would have been.
		gap := following.offset - p.offset
		keepsPace := s.hourly && gap%time.Hour == 0
		if wall.Before(following.wall(p.end)) && !keepsPace {
			return p.end // the clock skips it
		}
		p = following
	}
}

// searchFrom returns the time after which what is due in p is to be looked for.
func (s Spec) searchFrom(p period, after time.Time) time.Time {
	if p.start.IsZero() {
		return after
	}
	from := p.start
	if repeated := p.before - p.offset; repeated > 0 && !s.wildcard {
		from = from.Add(repeated)
	}
	from = from.Add(-1) // itself included
	if from.Before(after) {
		return after
	}
	return from
}

// nextWall returns the next time on a clock without timezone; zero if there is none.
func (s Spec) nextWall(after time.Time) time.Time {
	// The library gives up after 5 years, and it can be 8 from one 29 February to the
	// next, which is the rarest day there is: 2096 to 2104.
	next := s.wall.Next(after)
	if next.IsZero() {
		next = s.wall.Next(time.Date(after.Year()+5, 12, 31, 23, 59, 59, 0, time.UTC))
	}
	return next
}

// latest returns the last time not after upto at which the spec is due, where first is one,
// too.
func (s Spec) latest(first, upto time.Time) time.Time {
	if s.every > 0 {
		return first.Add(upto.Sub(first).Truncate(s.every))
	}
	// Going through all of them could take long: look near the end before.
	for window := time.Hour; upto.Add(-window).After(first); window *= 2 {
		if t := s.Next(upto.Add(-window)); !t.After(upto) {
			first = t
			break
		}
	}
	for t := s.Next(first); !t.After(upto); t = s.Next(t) {
		first = t
	}
	return first
}

// period is a time during which a clock has one offset from UTC. The next one may have
// the same.
type period struct {
	start, end     time.Time // zero: there is none
	offset, before time.Duration
}

func periodOf(t time.Time) period {
	p := period{offset: offsetAt(t)}
	p.start, p.end = t.ZoneBounds()
	if !p.end.IsZero() && !p.end.After(t) {
		// Go takes leap years, too, for 365 days, where it goes by the rule at the end
		// of a timezone's data: on the last day, the end is before t.
		p.end = t.Add(24 * time.Hour)
	}
	if !p.start.IsZero() {
		p.before = offsetAt(p.start.Add(-1))
	}
	return p
}

func offsetAt(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}

// wall returns what the clock shows at t.
func (p period) wall(t time.Time) time.Time { return t.UTC().Add(p.offset) }

// time is when the clock shows wall.
func (p period) time(wall time.Time) time.Time { return wall.Add(-p.offset) }
