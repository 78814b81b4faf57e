package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/common/model"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// Entry is one item of the schedule, with the settings of its cycles: the file's sections
// of the same names, overridden by what the entry itself sets. Names in engine.env are added
// to the section's; any other value replaces the section's.
type Entry struct {
	schedule.Entry `yaml:",inline"`

	// On are the classes of hardware on whose workers the cycles run, one cycle a class.
	// Default: this host.
	On []string `yaml:"on"`
	// Models are names, globs or paths; see [Excluded] for those that leave models out.
	// Default: all.
	Models []string `yaml:"models"`
	// Targets are the formats to quantize to, and the names of the Recipes. Default: Q2_K.
	Targets []string `yaml:"targets"`
	// Against is a file to compare with the model, by name or path, in place of targets:
	// nothing is quantized then. Models has to name one model. Default: none.
	Against string `yaml:"against"`
	// AllowRequantize lets models be quantized that are quantized already. Default: the
	// key of the models section.
	AllowRequantize bool `yaml:"allow_requantize"`
	// Overlap is what becomes of a fire while an earlier run of the entry is not over.
	// Default forbid.
	Overlap Overlap `yaml:"overlap"`
	// Timeout bounds a run of the entry, all its models together. What is left then is
	// first in the next run. With On it bounds each cycle, from when it is given. Default 0: no
	// bound.
	Timeout model.Duration `yaml:"timeout"`

	Settings `yaml:",inline"`
	Engine   Engine `yaml:"engine"`

	// Line of the file in which the entry begins, from 1.
	Line int `yaml:"-"`
}

// Overlap says what becomes of a fire while an earlier run of the entry is not over.
type Overlap string

// The ways to treat an overlap.
const (
	Forbid Overlap = "forbid" // the fire is skipped
	Queue  Overlap = "queue"  // one fire waits for the run to end, any further is skipped
)

// NewEntry makes an entry that names nothing itself, but perhaps a file to compare with: then
// there is nothing to make, to choose or to publish.
func (c *Config) NewEntry(line int, against bool) Entry {
	e := Entry{
		Entry: schedule.Default(), Models: []string{"*"}, Targets: []string{"Q2_K"}, Overlap: Forbid,
		AllowRequantize: c.Models.AllowRequantize, Settings: c.Settings, Engine: c.Engine, Line: line,
	}
	if against {
		e.Targets, e.Choose, e.Publish = nil, choice.None, DefaultPublish()
	}
	return e
}

// Times says when the entries of the schedule are due.
func (c *Config) Times() []schedule.Entry {
	times := make([]schedule.Entry, len(c.Schedule))
	for i, entry := range c.Schedule {
		times[i] = entry.Entry
	}
	return times
}

// problems collects what is wrong with the values of the entry by itself, in c.
func (e *Entry) problems(c *Config, checks Checks) []Problem {
	found := problems(slices.Concat(below("engine", append(e.Engine.Validate(), checks.Engine(e.Engine)...)), e.Settings.Validate())) //nolint:staticcheck // e.Validate() would read as if it were all of it
	e.Check(func(key string, err error) { found.check(key, err) })
	found.check("publish.dir", c.apart(e.Publish.Dir))
	found.check("models", checkList(e.Models, "names, globs or paths of models", func(pattern string) string { return pattern }))
	for _, pattern := range e.Models {
		if of, excluded := Excluded(pattern); excluded && strings.TrimSpace(of) == "" {
			found.add("models", "has a ! that leaves nothing out: write a name, glob or path behind it")
		}
	}
	if e.Against == "" {
		found = append(found, e.checkTargets(checks)...)
	} else {
		found.check("against", e.checkAgainst())
	}
	if e.Against != "" && e.Choose != choice.None {
		found.add("choose", "chooses one of several formats, and against names one file: leave one of them out")
	}
	if e.Against != "" && e.Publish.Enabled() {
		found.add("publish", "publishes copies that are made, and against names a file that exists: leave one of them out")
	}
	found = append(found, e.checkFleet(c)...)
	if e.Overlap != Forbid && e.Overlap != Queue {
		found.add("overlap", "%q is not known: use %s or %s", e.Overlap, Forbid, Queue)
	}
	if e.Timeout < 0 {
		found.add("timeout", "%s is negative: use 0 or more", e.Timeout)
	}
	return found
}

// IsGlob reports whether a name is a pattern that may fit several models.
func IsGlob(name string) bool { return strings.ContainsAny(name, `*?[\`) }

// Excluded takes apart a pattern that leaves models out: "!mtp-*" leaves out those that
// "mtp-*" names, of all that other patterns of the list name. A model whose name begins with
// an exclamation mark is named with a backslash before that.
func Excluded(pattern string) (of string, ok bool) { return strings.CutPrefix(pattern, "!") }

// Included returns the patterns of a list that do not exclude models; if all of them do, a
// pattern for all models.
func Included(patterns []string) []string {
	included := slices.DeleteFunc(slices.Clone(patterns), func(pattern string) bool {
		_, excluded := Excluded(pattern)
		return excluded
	})
	if len(included) == 0 && len(patterns) > 0 {
		return []string{"*"}
	}
	return included
}

// checkAgainst wants one file, for one model.
func (e Entry) checkAgainst() error {
	switch {
	case strings.TrimSpace(e.Against) == "":
		return errors.New("is blank: name a file, or leave it out")
	case IsGlob(e.Against):
		return fmt.Errorf("%q is a pattern: name one file, or a link to it", e.Against)
	case len(e.Targets) > 0:
		return errors.New("takes the place of targets, and the file has a format of its own: leave one of them out")
	case len(e.Models) == 0: // that has been said
		return nil
	case len(e.Models) > 1, IsGlob(Included(e.Models)[0]):
		return errors.New("compares the file with one model: name that in models, without wildcards")
	}
	return nil
}

// checkList wants at least one item, none of them blank, none twice: items with the same key
// are the same.
func checkList(items []string, what string, key func(string) string) error {
	if len(items) == 0 {
		return fmt.Errorf("is empty: name %s", what)
	}
	if slices.ContainsFunc(items, func(item string) bool { return strings.TrimSpace(item) == "" }) {
		return fmt.Errorf("has a blank item: name %s", what)
	}
	switch first, second, twice := Twice(items, key); {
	case !twice:
		return nil
	case strings.EqualFold(first, second):
		return fmt.Errorf("%q is named twice", second)
	default:
		return fmt.Errorf("%q and %q are the same format: name it once", first, second)
	}
}

// Twice finds the first two items with the same key. For the formats of targets the key is
// Recipes.Canonical.
func Twice(items []string, key func(string) string) (first, second string, twice bool) {
	seen := map[string]string{}
	for _, item := range items {
		if first, twice = seen[key(item)]; twice {
			return first, item, true
		}
		seen[key(item)] = item
	}
	return "", "", false
}
