package schedule

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests do not depend on the host's

	"github.com/robfig/cron/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func mustParse(t testing.TB, cron, timezone string) Spec {
	t.Helper()
	spec, err := Parse(cron, timezone)
	require.NoError(t, err)
	return spec
}

// at reads a time with its offset from UTC.
func at(t testing.TB, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse("2006-01-02 15:04 -07:00", text)
	require.NoError(t, err)
	return parsed.UTC()
}

// following are the next n times, as the wall clock and its offset tell them.
func following(s Spec, after time.Time, n int) []string {
	var times []string
	for range n {
		after = s.Next(after)
		times = append(times, after.Format("2006-01-02 15:04 -07:00"))
	}
	return times
}

func TestParseRefusesWhatDoesNotMeanWhatItSays(t *testing.T) {
	for _, tt := range []struct{ cron, want string }{
		{"", "is empty"},
		{" \t", "is empty"},
		{"0 3 * *", "write 5 fields, not 4"},
		{"0 0 3 * * *", "without seconds"},
		{"0 0 3 * * * 2026", "write 5 fields, not 7"},
		{"TZ=UTC", "use the key timezone"},
		{"CRON_TZ=", "use the key timezone"},
		{"TZ= 0 3 * * *", "use the key timezone"},
		{"cron_tz=Europe/Berlin 0 3 * * *", "use the key timezone"},
		{"@reboot", "run_on_start"},
		{"@fortnightly", "use @yearly"},
		{"@", "use @yearly"},
		{"@daily 5", "use @yearly"},
		{"@every", "needs one duration"},
		{"@every 1h 30m", "needs one duration"},
		{"@every 0s", "shorter than a second"},
		{"@every 0", "shorter than a second"},
		{"@every -5m", "shorter than a second"},
		{"@every 1ms", "shorter than a second"},
		{"@every 100ms", "shorter than a second"},
		{"@every 1500ms", "fraction of a second"},
		{"@every 1.5s", "fraction of a second"},
		{"@every often", "no valid duration"},
		{"@every 1000y", "no valid duration"},
		{"0 0 30 2 *", "never due: the months (2) have none of the days (30)"},
		{"0 0 31 4,6,SEP,11 *", "never due"},
		{", * * * *", `"" is not a minute`},
		{"1,,2 * * * *", `"" is not a minute`},
		{"1, * * * *", `"" is not a minute`},
		{"*/100 * * * *", `minute "*/100": "100" is not a step within *: use 1 to 59`},
		{"*/60 * * * *", "use 1 to 59"},
		{"0 */24 * * *", "use 1 to 23"},
		{"0 0 */31 * *", "use 1 to 30"},
		{"0 0 * * */7", "use 1 to 6"},
		{"0 10-12/3 * * *", "use 1 to 2"},
		{"*/0 * * * *", "use 1 to 59"},
		{"*/ * * * *", "use 1 to 59"},
		{"*/-5 * * * *", "use 1 to 59"},
		{"*/5/5 * * * *", "use 1 to 59"},
		{"5/15 * * * *", "write 5-59/15, or */15"},
		{"*-5 * * * *", `"*" is not a minute: use 0 to 59, or * for every one`},
		{"-5 * * * *", `"" is not a minute`},
		{"5--5 * * * *", `"-5" is not a minute`},
		{"+5 * * * *", `"+5" is not a minute`},
		{"1_0 * * * *", `"1_0" is not a minute`},
		{"٣ * * * *", "is not a minute"},
		{"60 * * * *", `"60" is not a minute: use 0 to 59`},
		{"99999999999999999999 * * * *", "is not a minute"},
		{"0 24 * * *", `hour "24": "24" is not an hour: use 0 to 23`},
		{"0 22-2 * * *", "write 22-23,0-2"},
		{"0 0 0 * *", "is not a day of month: use 1 to 31"},
		{"0 0 ? * *", "* for every one"},
		{"0 0 L * *", "is not a day of month"},
		{"0 0 1 13 *", "use 1 to 12 or JAN to DEC"},
		{"0 0 1 January *", "use 1 to 12 or JAN to DEC"},
		{"0 0 * * 8", "use 0 to 7 (Sunday is 0 and 7) or SUN to SAT"},
		{"0 0 * * MON#2", "is not a day of week"},
		{"*,5 * * * *", "* stands for every value"},
	} {
		t.Run(tt.cron, func(t *testing.T) {
			spec, err := Parse(tt.cron, "UTC")
			require.ErrorContains(t, err, tt.want)
			assert.True(t, spec.Next(time.Now()).IsZero(), "the zero spec is never due")
			if tt.cron = strings.TrimSpace(tt.cron); tt.cron != "" {
				assert.ErrorContains(t, err, tt.cron, "names what was written")
			}
		})
	}
}

func TestParseNamesEveryFieldThatIsWrong(t *testing.T) {
	_, err := Parse("60 24 * * 8", "Europe/Atlantis")
	require.Error(t, err)
	for _, want := range []string{"minute", "hour", "day of week", `"Europe/Atlantis" is not a timezone known here`} {
		assert.ErrorContains(t, err, want)
	}
}

func TestParseRefusesTimezones(t *testing.T) {
	for _, name := range []string{"Berlin", "CEST+1", "../UTC", "/etc/localtime", "Europe"} {
		_, err := Parse("@daily", name)
		assert.ErrorContains(t, err, "use an IANA name", name)
	}
}

// The right column is in the words of robfig/cron, which is tested by many.
func TestParseMeans(t *testing.T) {
	for _, tt := range []struct{ cron, means string }{
		{"*/15 9-17/2 1,15 jan-MAR mon-Fri", "0,15,30,45 9,11,13,15,17 1,15 1,2,3 1,2,3,4,5"},
		{"0 3 * * 7", "0 3 * * 0"},
		{"0 3 * * 5-7", "0 3 * * 0,5,6"},
		{"0 3 * * FRI-MON", "0 3 * * 0,1,5,6"},
		{"0 3 * * FRI-MON/2", "0 3 * * 0,5"},
		{"0 3 * * SAT-SUN", "0 3 * * 0,6"},
		{"0 3 * * 7-2", "0 3 * * 0-2"},
		{"0 3 * * 0-7", "0 3 * * 0-6"},
		{"0 3 * * */2", "0 3 * * 0,2,4,6"},
		{"0 3 13 * 0-7", "0 3 * * *"},       // a restriction to all days, or the 13th
		{"0 3 13 * FRI", "0 3 13 * 5"},      // the 13th, or a Friday
		{"0 3 */2 * MON", "0 3 1-31/2 * 1"}, // a step is a restriction
		{"0 3 */1 * MON", "0 3 * * 1"},      // but not a step of one
		{"0 3 */01,4 * MON", "0 3 * * 1"},
		{"*/1 */1 */1 */1 */1", "* * * * *"},
		{"007 03 * * *", "7 3 * * *"},
		{"\t0  3 * * *\n", "0 3 * * *"},
		{"@YEARLY", "0 0 1 1 *"},
		{"@annually", "0 0 1 1 *"},
		{"@Monthly", "0 0 1 * *"},
		{"@weekly", "0 0 * * 0"},
		{"@DAILY", "0 0 * * *"},
		{"@midnight", "0 0 * * *"},
		{" @hourly ", "0 * * * *"},
	} {
		t.Run(tt.cron, func(t *testing.T) {
			spec := mustParse(t, tt.cron, "UTC")
			oracle, err := cron.ParseStandard("CRON_TZ=UTC " + tt.means)
			require.NoError(t, err)
			want, got := at(t, "2026-11-23 12:34 +00:00"), at(t, "2026-11-23 12:34 +00:00")
			for range 500 {
				want, got = oracle.Next(want), spec.Next(got)
				require.Equal(t, want, got)
			}
		})
	}
}

func TestEvery(t *testing.T) {
	for _, tt := range []struct {
		cron string
		want time.Duration
		text string
	}{
		{"@every 1s", time.Second, "@every 1s"},
		{"@every 1d", 24 * time.Hour, "@every 1d"},
		{"@every 1w", 7 * 24 * time.Hour, "@every 1w"},
		{"@every 1h30m", 90 * time.Minute, "@every 1h30m"},
		{"@EVERY 90m", 90 * time.Minute, "@every 1h30m"},
		{"@every 1.5h", 90 * time.Minute, "@every 1h30m"},
		{"@every 2000ms", 2 * time.Second, "@every 2s"},
	} {
		spec := mustParse(t, tt.cron, "Europe/Berlin")
		every, ok := spec.Every()
		assert.True(t, ok)
		assert.Equal(t, tt.want, every, tt.cron)
		assert.Equal(t, tt.text, spec.String())
		last := at(t, "2026-03-28 12:34 +01:00")
		assert.Equal(t, tt.want, spec.Next(last).Sub(last), "by the clock that is never changed")
	}
	_, ok := mustParse(t, "@daily", "").Every()
	assert.False(t, ok)
}

func TestStringIsTheIdentity(t *testing.T) {
	assert.Equal(t, "0 3 * * MON Europe/Berlin", mustParse(t, " 0 3  * * mon", "Europe/Berlin").String())
	assert.Equal(t, "0 0 * * * Local", mustParse(t, "@Midnight", "").String())
	assert.Equal(t, mustParse(t, "@daily", "UTC").String(), mustParse(t, "0 0 * * *", "UTC").String())
	assert.NotEqual(t, mustParse(t, "@daily", "UTC").String(), mustParse(t, "@daily", "Asia/Tokyo").String())
	assert.Empty(t, Spec{}.String())
}

func TestNextFindsTheRarestDay(t *testing.T) {
	spec := mustParse(t, "0 0 29 2 *", "UTC")
	assert.Equal(t, []string{"2104-02-29 00:00 +00:00", "2108-02-29 00:00 +00:00"},
		following(spec, at(t, "2096-03-01 00:00 +00:00"), 2))
	spec = mustParse(t, "0 0 29 2 *", "America/New_York")
	assert.Equal(t, []string{"2096-02-29 00:00 -05:00", "2104-02-29 00:00 -05:00", "2108-02-29 00:00 -05:00"},
		following(spec, at(t, "2095-03-01 00:00 -05:00"), 3))
}

// Go's ZoneBounds is wrong on these days: see periodOf.
func TestNextAtTheEndOfALeapYear(t *testing.T) {
	for _, timezone := range []string{"America/New_York", "Australia/Sydney", "Asia/Tokyo", "Europe/Dublin", "America/Santiago"} {
		for _, year := range []int{2028, 2040, 2104} {
			spec := mustParse(t, "0 12 * * *", timezone)
			location, err := time.LoadLocation(timezone)
			require.NoError(t, err)
			last := time.Date(year, 12, 28, 12, 0, 0, 0, location)
			for range 6 {
				next := spec.Next(last)
				require.Equal(t, last.AddDate(0, 0, 1), next, timezone)
				last = next
			}
		}
	}
	spec := mustParse(t, "0 12 1 4 *", "America/New_York")
	assert.Equal(t, []string{"2041-04-01 12:00 -04:00"}, following(spec, at(t, "2040-12-31 12:00 -05:00"), 1))
}

func TestNextWhereTheClockIsChanged(t *testing.T) {
	for _, tt := range []struct {
		name, cron, timezone, after string
		want                        []string
	}{
		{
			"skipped: right after", "30 2 * * *", "America/New_York", "2026-03-07 03:00 -05:00",
			[]string{"2026-03-08 03:00 -04:00", "2026-03-09 02:30 -04:00"},
		},
		{
			"skipped midnight", "0 0 * * *", "America/Santiago", "2026-09-05 00:00 -04:00",
			[]string{"2026-09-06 01:00 -03:00", "2026-09-07 00:00 -03:00"},
		},
		{
			"many skipped are one", "*/10 2 * * *", "America/New_York", "2026-03-07 02:50 -05:00",
			[]string{"2026-03-08 03:00 -04:00", "2026-03-09 02:00 -04:00"},
		},
		{
			"skipped and then due are one", "0 2,3 * * *", "America/New_York", "2026-03-07 03:00 -05:00",
			[]string{"2026-03-08 03:00 -04:00", "2026-03-09 02:00 -04:00"},
		},
		{
			"half an hour skipped", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03 12:00 +10:30",
			[]string{"2026-10-04 02:30 +11:00", "2026-10-05 02:15 +11:00"},
		},
		{
			"half an hour skipped, rest of it there", "45 2 * * *", "Australia/Lord_Howe", "2026-10-03 12:00 +10:30",
			[]string{"2026-10-04 02:45 +11:00", "2026-10-05 02:45 +11:00"},
		},
		{
			"every hour, half an hour skipped", "0 * * * *", "Australia/Lord_Howe", "2026-10-04 00:00 +10:30",
			[]string{"2026-10-04 01:00 +10:30", "2026-10-04 02:30 +11:00", "2026-10-04 03:00 +11:00"},
		},
		{
			"every hour, an hour skipped", "30 * * * *", "America/New_York", "2026-03-08 00:30 -05:00",
			[]string{"2026-03-08 01:30 -05:00", "2026-03-08 03:30 -04:00", "2026-03-08 04:30 -04:00"},
		},
		{
			"every other hour, its hour skipped", "30 */2 * * *", "America/New_York", "2026-03-07 23:00 -05:00",
			[]string{"2026-03-08 00:30 -05:00", "2026-03-08 03:00 -04:00", "2026-03-08 04:30 -04:00"},
		},
		{
			"a day skipped", "0 12 * * *", "Pacific/Apia", "2011-12-29 00:00 -10:00",
			[]string{"2011-12-29 12:00 -10:00", "2011-12-31 00:00 +14:00", "2011-12-31 12:00 +14:00"},
		},
		{
			"repeated: the first time", "30 1 * * *", "America/New_York", "2026-10-31 12:00 -04:00",
			[]string{"2026-11-01 01:30 -04:00", "2026-11-02 01:30 -05:00"},
		},
		{
			"asked in the repetition", "30 1 * * *", "America/New_York", "2026-11-01 01:10 -05:00",
			[]string{"2026-11-02 01:30 -05:00"},
		},
		{
			"due in the moment of the change", "0 1 * * *", "America/New_York", "2026-10-31 12:00 -04:00",
			[]string{"2026-11-01 01:00 -04:00", "2026-11-02 01:00 -05:00"},
		},
		{
			"repeated midnight", "0 0 * * *", "America/Havana", "2026-10-31 12:00 -04:00",
			[]string{"2026-11-01 00:00 -04:00", "2026-11-02 00:00 -05:00"},
		},
		{
			"every hour, an hour repeated", "30 * * * *", "America/New_York", "2026-11-01 00:30 -04:00",
			[]string{"2026-11-01 01:30 -04:00", "2026-11-01 01:30 -05:00", "2026-11-01 02:30 -05:00"},
		},
		{
			"all the hours are every hour", "30 0-23 * * *", "America/New_York", "2026-11-01 00:30 -04:00",
			[]string{"2026-11-01 01:30 -04:00", "2026-11-01 01:30 -05:00", "2026-11-01 02:30 -05:00"},
		},
		{
			"every other hour, its hour repeated", "30 */2 * * *", "America/Havana", "2026-10-31 23:00 -04:00",
			[]string{"2026-11-01 00:30 -04:00", "2026-11-01 00:30 -05:00", "2026-11-01 02:30 -05:00"},
		},
		{
			"every hour, half an hour repeated", "0 * * * *", "Australia/Lord_Howe", "2026-04-05 00:00 +11:00",
			[]string{"2026-04-05 01:00 +11:00", "2026-04-05 02:00 +10:30", "2026-04-05 03:00 +10:30"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := mustParse(t, tt.cron, tt.timezone)
			assert.Equal(t, tt.want, following(spec, at(t, tt.after), len(tt.want)))
		})
	}
}

func TestNextKeepsItsPaceWhereTheClockIsChanged(t *testing.T) {
	for _, timezone := range []string{"America/New_York", "Australia/Lord_Howe", "America/Santiago"} {
		spec := mustParse(t, "*/15 * * * *", timezone)
		last := at(t, "2026-01-01 00:00 +00:00")
		for last.Year() == 2026 {
			next := spec.Next(last)
			require.Equal(t, 15*time.Minute, next.Sub(last), "%s after %s", timezone, last)
			last = next
		}
	}
}

// TestNextAsAClockOnTheWall compares Next with somebody who sits before a clock on the
// wall, with a list of what to do at which times, and looks at it every minute.
func TestNextAsAClockOnTheWall(t *testing.T) {
	specs := []string{
		"0 0 * * *", "30 0 * * *", "0 1 * * *", "30 1 * * *", "59 1 * * *", "0 2 * * *", "30 2 * * *", "15 3 * * *",
		"0 2,3 * * *", "*/20 1-2 * * *", "* 2 * * *", "30 23 * * *", "0 12 * * SUN", "0 0 1 * *", "45 0-3 * * *",
	}
	for _, zone := range []struct {
		timezone string
		from     string // a change within the two days after
	}{
		{"America/New_York", "2026-03-07 12:00 +00:00"},
		{"America/New_York", "2026-10-31 12:00 +00:00"},
		{"Europe/Berlin", "2026-03-28 12:00 +00:00"},
		{"Europe/Berlin", "2026-10-24 12:00 +00:00"},
		{"Europe/Dublin", "2026-03-28 12:00 +00:00"},
		{"Australia/Lord_Howe", "2026-10-03 00:00 +00:00"},
		{"Australia/Lord_Howe", "2026-04-04 00:00 +00:00"},
		{"America/Santiago", "2026-09-05 12:00 +00:00"},
		{"America/Santiago", "2026-04-04 12:00 +00:00"},
		{"America/Havana", "2026-10-31 12:00 +00:00"},
		{"Atlantic/Azores", "2026-10-24 12:00 +00:00"},
		{"Africa/Casablanca", "2026-02-14 12:00 +00:00"},
		{"Antarctica/Troll", "2026-03-28 12:00 +00:00"},
		{"Antarctica/Troll", "2026-10-24 12:00 +00:00"},
		{"Asia/Pyongyang", "2018-05-04 00:00 +00:00"},
		{"Pacific/Apia", "2011-12-29 12:00 +00:00"},
		{"Pacific/Kwajalein", "1993-08-20 00:00 +00:00"},
		{"America/Caracas", "2007-12-08 12:00 +00:00"},
	} {
		from := at(t, zone.from)
		to := from.Add(48 * time.Hour)
		location, err := time.LoadLocation(zone.timezone)
		require.NoError(t, err)
		require.NotEqual(t, offsetAt(from.In(location)), offsetAt(to.In(location)), "%v has no change", zone)
		for _, text := range specs {
			spec := mustParse(t, text, zone.timezone)
			var got []string
			for next := spec.Next(from); !next.After(to); next = spec.Next(next) {
				got = append(got, next.Format("01-02 15:04 -07:00"))
			}
			assert.Equal(t, watchClock(t, text, location, from, to), got, "%s in %v", text, zone)
		}
	}
}

// watchClock does what is due in every minute that the clock has come past since the
// last look, and never the same minute again.
func watchClock(t *testing.T, text string, location *time.Location, from, to time.Time) []string {
	t.Helper()
	list, err := cron.ParseStandard(text)
	require.NoError(t, err)
	wallOf := func(now time.Time) time.Time {
		y, m, d := now.In(location).Date()
		return time.Date(y, m, d, now.In(location).Hour(), now.In(location).Minute(), 0, 0, time.UTC)
	}
	var done []string
	seen := wallOf(from)
	for now := from.Add(time.Minute); !now.After(to); now = now.Add(time.Minute) {
		wall := wallOf(now)
		due := false
		for ; seen.Before(wall); seen = seen.Add(time.Minute) {
			due = due || list.Next(seen).Equal(seen.Add(time.Minute))
		}
		if due {
			done = append(done, now.In(location).Format("01-02 15:04 -07:00"))
		}
	}
	return done
}

// TestNextAsTheLibrary has random specs, in timezones whose clocks nobody changes.
func TestNextAsTheLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(low, high int) string {
		a, b := low+random.IntN(high-low+1), low+random.IntN(high-low+1)
		a, b = min(a, b), max(a, b)
		switch random.IntN(5) {
		case 0:
			return "*"
		case 1:
			return fmt.Sprintf("*/%d", 1+random.IntN(high-low))
		case 2:
			return fmt.Sprintf("%d-%d", a, b)
		case 3:
			return fmt.Sprintf("%d,%d", b, a)
		}
		return strconv.Itoa(a)
	}
	for _, timezone := range []string{"UTC", "Asia/Tokyo", "Asia/Kolkata", "Etc/GMT+12"} {
		location, err := time.LoadLocation(timezone)
		require.NoError(t, err)
		for range 250 {
			text := strings.Join([]string{pick(0, 59), pick(0, 23), pick(1, 28), pick(1, 12), pick(0, 6)}, " ")
			spec := mustParse(t, text, timezone)
			oracle, err := cron.ParseStandard("CRON_TZ=" + timezone + " " + text)
			require.NoError(t, err)
			after := time.Unix(1.7e9+random.Int64N(4e8), random.Int64N(1e9)).In(location)
			for range 20 {
				want := oracle.Next(after)
				require.Equal(t, want, spec.Next(after), "%s in %s after %s", text, timezone, after)
				after = want
			}
		}
	}
}

func TestNextGoesForwardAndLeavesNothingOut(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, timezone := range []string{"America/New_York", "Australia/Lord_Howe", "America/Santiago", "Europe/London", "Africa/Casablanca", "Antarctica/Troll", "America/Sao_Paulo"} {
		for _, text := range []string{"*/7 * * * *", "0 * * * *", "30 */2 * * *", "*/5 1-3 * * *", "0 0 * * *", "30 2 * * *", "0 2 29 2,3 SUN"} {
			spec := mustParse(t, text, timezone)
			last := time.Unix(1.5e9+random.Int64N(5e8), 0)
			for range 300 {
				next := spec.Next(last)
				require.True(t, next.After(last), "%s in %s: %s after %s", text, timezone, next, last)
				// From anywhere before it, it is the next one all the same.
				between := last.Add(time.Duration(random.Int64N(int64(next.Sub(last)))))
				require.Equal(t, next, spec.Next(between), "%s in %s after %s", text, timezone, between)
				last = next
			}
		}
	}
}

func TestLatestIsTheLastOfThem(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, text := range []string{"*/7 * * * *", "0 3 * * *", "30 1 1 * *", "0 0 29 2 *", "@every 11m"} {
		spec := mustParse(t, text, "America/New_York")
		for range 20 {
			first := spec.Next(time.Unix(1.7e9+random.Int64N(1e8), 0))
			upto := first.Add(time.Duration(random.Int64N(int64(60 * 24 * time.Hour))))
			want := first
			for next := first; !next.After(upto); next = spec.Next(next) {
				want = next
			}
			require.Equal(t, want, spec.latest(first, upto), "%s from %s up to %s", text, first, upto)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"0 3 * * *", "*/15 9-17/2 1,15 jan-MAR FRI-MON", "@daily", "@every 1d", "@every -5m", "TZ=UTC", "CRON_TZ=",
		"TZ= * * * * *", "0 0 30 2 *", "0 0 29 2 *", ", * * * *", "*/100 * * * *", "*-5 * * * *", "* * * * 0-7/7", "5/15 * * * *", "0 0 */1,5 * 1",
	} {
		f.Add(text)
	}
	from := time.Date(2096, 3, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		spec, err := Parse(text, "UTC")
		if err != nil {
			require.Equal(t, Spec{}, spec)
			return
		}
		next := spec.Next(from)
		require.True(t, next.After(from), "%s", next)
		again, err := Parse(strings.TrimSuffix(spec.String(), " UTC"), "UTC")
		require.NoError(t, err)
		require.Equal(t, spec, again)
		if _, every := spec.Every(); every {
			return
		}
		// What the library reads as well, it reads the same way.
		if oracle, err := cron.ParseStandard("CRON_TZ=UTC " + text); err == nil {
			if want := oracle.Next(from); !want.IsZero() {
				require.Equal(t, want, next)
			}
		}
	})
}

func BenchmarkNext(b *testing.B) {
	for _, text := range []string{"*/5 * * * *", "0 3 * * *", "0 0 29 2 *"} {
		b.Run(text, func(b *testing.B) {
			spec := mustParse(b, text, "America/New_York")
			from := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
			b.ReportAllocs()
			for b.Loop() {
				spec.Next(from)
			}
		})
	}
}
