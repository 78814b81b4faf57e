package model

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/choice"
)

// Entry is what the schedule says of an entry.
type Entry struct {
	Name    string
	Models  []string // patterns: see Found.Select
	Targets []string // formats, in any case
	Against string   // file that models are compared with, in place of targets: see Found.Existing
	// LastFormat is that of Against when it was last decided on: its target while the file
	// cannot be read. "" when it never was.
	LastFormat string
	Baseline   string  // canonical name of the originals' format; "" for the models as they are
	Threshold  float64 // ratio
	Quality    bool    // whether copies have to pass the gate of quality, too
	Publish    bool    // whether copies that are kept are published
	Choose     choice.Rule
}

// Plan is every pair that is scheduled, each under one entry.
type Plan struct {
	Entries   []Resolved // in the order of the schedule
	Conflicts []Conflict
}

// Resolved is an entry and the models it names now.
type Resolved struct {
	Entry
	Models []Planned // sorted by name; without those it may not decide
	// Unresolved are the errors of the globs that fit nothing. A model that is named and
	// cannot be used is among Models, with its Err set.
	Unresolved []error
}

// Planned is a model and the targets under which the entry decides it.
type Planned struct {
	Model
	Targets []string // canonical names
	// Choose is the entry's rule, unless an earlier entry chooses a format of this model.
	Choose   choice.Rule
	Baseline string // see Entry
	Against  *Model // the file of the entry, with its Err set where it cannot be used; nil without one
}

// SourceFormat is that of the original; "" when the model cannot be read.
func (m *Planned) SourceFormat() string {
	switch {
	case m.Header == nil:
		return ""
	case m.Baseline != "":
		return m.Baseline
	default:
		return m.Header.Format
	}
}

// Conflict is a pair that a second entry names, too. The first one decides it. Without a
// target it is the choice of one of the model's formats, which the first one makes.
type Conflict struct {
	Model, Target string
	First, Second string // names of the entries
}

// Error says what to do about it.
func (c Conflict) Error() string {
	if c.Target == "" {
		return fmt.Sprintf("the entries %q and %q both choose a format of %q, and would overwrite each other's choice: let one of them name other models or all the targets, or no choose",
			c.First, c.Second, c.Model)
	}
	return fmt.Sprintf("the entries %q and %q both decide %s of %q, and would overwrite each other's figures: let one of them name other models or targets",
		c.First, c.Second, c.Target, c.Model)
}

// Finder finds models by patterns, and files by names: Found does.
type Finder interface {
	Select(patterns []string) ([]Model, error)
	Existing(name string) (Model, error)
	MissingName(pattern string) string
}

// NewPlan resolves the entries, in their order: a pair belongs to the first that names it.
func NewPlan(entries []Entry, found Finder) Plan {
	var p Plan
	selected := selectAll(entries, found)
	owners := map[[2]string]string{}
	for _, entry := range entries {
		resolved := Resolved{Entry: entry}
		against := existing(&resolved.Entry, found)
		seen := map[string]bool{}
		for _, pattern := range entry.Models {
			if err := selected[pattern].err; err != nil {
				resolved.Unresolved = append(resolved.Unresolved, fmt.Errorf("entry %q: %w", entry.Name, err))
			}
			for _, model := range selected[pattern].models {
				if seen[model.Name] {
					continue
				}
				seen[model.Name] = true
				targets := p.claim(owners, resolved.Entry, model.Name)
				if len(targets) > 0 {
					resolved.Models = append(resolved.Models, Planned{
						Model: model, Targets: targets, Choose: p.claimChoice(owners, entry, model.Name), Baseline: entry.Baseline, Against: against,
					})
				}
			}
		}
		slices.SortFunc(resolved.Models, func(a, b Planned) int { return strings.Compare(a.Name, b.Name) })
		p.Entries = append(p.Entries, resolved)
	}
	return p
}

// UnknownFormat is the target of a file that cannot be read, and never was.
const UnknownFormat = "UNKNOWN"

// existing finds the file of an entry, whose format is its target; nil where copies are
// made.
func existing(entry *Entry, found Finder) *Model {
	if entry.Against == "" {
		return nil
	}
	file, err := found.Existing(entry.Against)
	if err != nil { // the cycles fail, and say why
		file = Model{Name: found.MissingName(entry.Against), Path: entry.Against, Err: err}
	}
	entry.Targets = []string{Format(&file, entry.LastFormat)}
	return &file
}

// Format is that of a file, as a target; last is what it was, where that is known.
func Format(file *Model, last string) string {
	if file.Err != nil {
		return cmp.Or(last, UnknownFormat)
	}
	return Canonical(file.Header.Format)
}

// selection is what a pattern names: models, or nothing, and why.
type selection struct {
	models []Model
	err    error
}

// selectAll selects by every pattern of the entries.
func selectAll(entries []Entry, found Finder) map[string]selection {
	selected := map[string]selection{}
	var usable []string
	for _, entry := range entries {
		for _, pattern := range entry.Models {
			if _, done := selected[pattern]; done {
				continue
			}
			models, err := found.Select([]string{pattern})
			switch {
			case err == nil:
				usable = append(usable, pattern)
			case !isGlob(pattern): // somebody counts on this one: its cycles fail, and say why
				models = []Model{{Name: found.MissingName(pattern), Path: pattern, Err: err}}
				err = nil
			}
			selected[pattern] = selection{models, err}
		}
	}
	rename(selected, usable, found)
	return selected
}

// rename gives the models the names that they have in one selection of them all. Where
// there is no model directory, two of a name are told apart by their paths, and a
// selection of one of them cannot know of the other.
func rename(selected map[string]selection, usable []string, found Finder) {
	if len(usable) == 0 {
		return
	}
	all, err := found.Select(usable)
	if err != nil { // a file has gone this moment; it will be missed the next time
		return
	}
	names := map[string]string{}
	for i := range all {
		names[all[i].Path] = all[i].Name
	}
	for _, pattern := range usable {
		models := selected[pattern].models
		for i := range models {
			if name, ok := names[models[i].Path]; ok {
				models[i].Name = name
			}
		}
	}
}

// claim gives the targets of a model that no earlier entry decides.
func (p *Plan) claim(owners map[[2]string]string, entry Entry, model string) []string {
	var free []string
	seen := map[string]bool{} // two names of one format are one target
	for _, target := range entry.Targets {
		target = Canonical(target)
		if seen[target] {
			continue
		}
		seen[target] = true
		pair := [2]string{model, target}
		if owner, taken := owners[pair]; taken {
			p.Conflicts = append(p.Conflicts, Conflict{model, target, owner, entry.Name})
			continue
		}
		owners[pair] = entry.Name
		free = append(free, target)
	}
	return free
}

// claimChoice gives the rule by which the entry chooses a format of the model: none where
// an earlier entry chooses one.
func (p *Plan) claimChoice(owners map[[2]string]string, entry Entry, model string) choice.Rule {
	if entry.Choose == choice.None {
		return choice.None
	}
	if owner, taken := owners[[2]string{model, ""}]; taken {
		p.Conflicts = append(p.Conflicts, Conflict{Model: model, First: owner, Second: entry.Name})
		return choice.None
	}
	owners[[2]string{model, ""}] = entry.Name
	return entry.Choose
}

// aliases of llama-quantize, by which one format may be named twice.
var aliases = map[string]string{"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}

// Canonical is the one name of a format: two names that llama-quantize takes for the
// same format are one pair, whether it is installed or not.
func Canonical(target string) string {
	target = strings.ToUpper(target)
	if name, ok := aliases[target]; ok {
		return name
	}
	return target
}
