package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/model"
)

// Entry says when something is due: the keys of an item of `schedule:` in the
// configuration that are about time.
type Entry struct {
	// Name identifies the entry, in metrics, events and the state; unique. 1 to 100
	// printable characters.
	Name string `yaml:"name"`
	// Cron is when the entry is due: see the package's documentation.
	Cron string `yaml:"cron"`
	// Timezone of Cron, an IANA name such as Europe/Berlin. Default: the host's.
	Timezone string `yaml:"timezone"`
	// Jitter delays each fire by up to this long, always the same for an entry on a
	// host, so that hosts with one configuration do not act at once. The entry counts
	// as due after the delay. Default 0.
	Jitter model.Duration `yaml:"jitter"`
	// StartingDeadline bounds how late a run may begin after it was due; a run that
	// would begin later is skipped. 0 means no bound: what was missed is made up for
	// however long ago it was due. Else 1s or more. Default 1h.
	StartingDeadline model.Duration `yaml:"starting_deadline"`
	// Suspend keeps the entry from being due, and its decisions on /metrics. What would
	// have been due meanwhile is not made up for afterwards. Default false.
	Suspend bool `yaml:"suspend"`
	// RunOnStart makes the entry due when the exporter starts; not when it reloads its
	// configuration. Default false.
	RunOnStart bool `yaml:"run_on_start"`
}

// maxName is how many characters a name may have: it is a label value and a column of
// tables.
const maxName = 100

// Default returns an entry with everything that has a default.
func Default() Entry {
	return Entry{StartingDeadline: model.Duration(time.Hour)}
}

// Check reports every value that cannot be used, by its key, such as "cron".
func (e Entry) Check(report func(key string, err error)) {
	check := func(key string, err error) {
		if err != nil {
			report(key, err)
		}
	}
	check("name", checkName(e.Name))
	_, err := parseCron(e.Cron)
	check("cron", err)
	_, err = parseTimezone(e.Timezone)
	check("timezone", err)
	check("jitter", checkDuration(e.Jitter))
	check("starting_deadline", checkDuration(e.StartingDeadline))
	if d := time.Duration(e.StartingDeadline); d > 0 && d < time.Second {
		check("starting_deadline", fmt.Errorf("%v is too short for anything to begin in time: use 1s or more, or 0 for no bound", d))
	}
}

func checkName(name string) error {
	switch length := utf8.RuneCountInString(name); {
	case name == "":
		return errors.New(`is missing: give the entry a name, such as "nightly"`)
	case length > maxName:
		return fmt.Errorf("has %d characters: use at most %d", length, maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%q has characters that cannot be printed", name)
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("%q begins or ends with a space", name)
	}
	return nil
}

func checkDuration(d model.Duration) error {
	if d < 0 {
		return fmt.Errorf("%s is negative: use 0 or more", d)
	}
	return nil
}
