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

// Overlap says what becomes of a fire while an earlier run of the entry is not over.
type Overlap string

// The ways to treat an overlap.
const (
	Forbid Overlap = "forbid" // the fire is skipped
	Queue  Overlap = "queue"  // one fire waits for the run to end, any further is skipped
)

// Entry is one item of `schedule:` in the configuration.
type Entry struct {
	// Name identifies the entry, in metrics, events and the state; unique. 1 to 100
	// printable characters.
	Name string `yaml:"name"`
	// Cron is when the entry is due: see the package's documentation.
	Cron string `yaml:"cron"`
	// Timezone of Cron, an IANA name such as Europe/Berlin. Default: the host's.
	Timezone string `yaml:"timezone"`
	// Models are names, globs or paths. Default: all.
	Models []string `yaml:"models"`
	// Targets are the formats to quantize to. Default: Q2_K.
	Targets []string `yaml:"targets"`
	// Against is a file to compare with the model, by name or path, in place of targets:
	// nothing is quantized then. Models has to name one model. Default: none.
	Against string `yaml:"against"`
	// Jitter delays each fire by up to this long, always the same for an entry on a
	// host, so that hosts with one configuration do not act at once. The entry counts
	// as due after the delay. Default 0.
	Jitter model.Duration `yaml:"jitter"`
	// Overlap is what becomes of a fire while an earlier run of the entry is not over.
	// Default forbid.
	Overlap Overlap `yaml:"overlap"`
	// StartingDeadline bounds how late a run may begin after it was due; a run that
	// would begin later is skipped. 0 is no bound: what was missed is made up for
	// however long ago it was due. Else 1s or more. Default 1h.
	StartingDeadline model.Duration `yaml:"starting_deadline"`
	// Timeout bounds a run of the entry, all its models together. What is left then is
	// first in the next run. Default 0: no bound.
	Timeout model.Duration `yaml:"timeout"`
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

// Default is an entry with everything that has a default.
func Default() Entry {
	return Entry{
		Models:           []string{"*"},
		Targets:          []string{"Q2_K"},
		Overlap:          Forbid,
		StartingDeadline: model.Duration(time.Hour),
	}
}

// Problem is a value that cannot be used.
type Problem struct {
	Path string // the key, such as "cron"
	Err  error
}

// Validate finds every value that cannot be used.
func (e Entry) Validate() []Problem {
	var problems []Problem
	check := func(path string, err error) {
		if err != nil {
			problems = append(problems, Problem{path, err})
		}
	}
	check("name", checkName(e.Name))
	_, err := parseCron(e.Cron)
	check("cron", err)
	_, err = parseTimezone(e.Timezone)
	check("timezone", err)
	check("models", checkList(e.Models, "names, globs or paths of models", func(s string) string { return s }))
	if e.Against == "" {
		check("targets", checkList(e.Targets, "formats such as Q2_K", strings.ToUpper))
	} else {
		check("against", e.checkAgainst())
	}
	if e.Overlap != Forbid && e.Overlap != Queue {
		check("overlap", fmt.Errorf("%q is not known: use %s or %s", e.Overlap, Forbid, Queue))
	}
	check("jitter", checkDuration(e.Jitter))
	check("starting_deadline", checkDuration(e.StartingDeadline))
	if d := time.Duration(e.StartingDeadline); d > 0 && d < time.Second {
		check("starting_deadline", fmt.Errorf("%v is too short for anything to begin in time: use 1s or more, or 0 for no bound", d))
	}
	check("timeout", checkDuration(e.Timeout))
	return problems
}

// wildcards make a pattern of a name.
const wildcards = `*?[\`

// checkAgainst wants one file, for one model.
func (e Entry) checkAgainst() error {
	switch {
	case strings.TrimSpace(e.Against) == "":
		return errors.New("is blank: name a file, or leave it away")
	case strings.ContainsAny(e.Against, wildcards):
		return fmt.Errorf("%q is a pattern: name one file, or a link to it", e.Against)
	case len(e.Targets) > 0:
		return errors.New("takes the place of targets, and the file has a format of its own: leave one of them away")
	case len(e.Models) == 0: // that has been said
		return nil
	case len(e.Models) > 1, strings.ContainsAny(e.Models[0], wildcards):
		return errors.New("compares the file with one model: name that in models, without wildcards")
	}
	return nil
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

// checkList wants at least one item, none of them blank, none twice.
func checkList(items []string, what string, same func(string) string) error {
	if len(items) == 0 {
		return fmt.Errorf("is empty: name %s", what)
	}
	seen := map[string]bool{}
	for _, item := range items {
		if strings.TrimSpace(item) == "" {
			return fmt.Errorf("has a blank item: name %s", what)
		}
		if seen[same(item)] {
			return fmt.Errorf("%q is named twice", item)
		}
		seen[same(item)] = true
	}
	return nil
}

func checkDuration(d model.Duration) error {
	if d < 0 {
		return fmt.Errorf("%s is negative: use 0 or more", d)
	}
	return nil
}
