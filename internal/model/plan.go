package model

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
)

// Plan is every pair that is scheduled, each under one entry.
type Plan struct {
	Entries   []Resolved // in the order of the schedule
	Conflicts []Conflict
	// PassedOver is what lies in the model directory and cannot be a source, sorted by
	// name. What an entry names all the same is among its Models instead, with its Err set.
	PassedOver []Skipped
}

// CountModels counts the models that the plan has pairs of, each once.
func (p *Plan) CountModels() int { return len(p.names()) }

// names returns the models that the plan has pairs of.
func (p *Plan) names() map[string]bool {
	names := map[string]bool{}
	for _, entry := range p.Entries {
		for i := range entry.Models {
			names[entry.Models[i].Name] = true
		}
	}
	return names
}

// Resolved is an entry and the models it names now.
type Resolved struct {
	config.Entry
	Models []Planned // sorted by name, each once a class; without those it may not decide
	// Unresolved are the errors of the globs that fit nothing. A model that is named and
	// cannot be used, or is not there, is among Models, with its Err set.
	Unresolved []error
	// Unfound is the error of the first pattern, or of the file Against, that names nothing
	// at all; nil where each names something.
	Unfound error
}

// Planned is a model and the targets under which the entry decides it.
type Planned struct {
	Model
	Targets []string // canonical names
	// Choose is the entry's rule, unless an earlier entry chooses a format of this model.
	Choose   choice.Rule
	Baseline string // the entry's
	Against  *Model // the file of the entry, with its Err set where it cannot be used; nil without one
	Class    string // of the hardware that decides, in a fleet; "" for this host
}

// SourceFormat returns the format of the original; "" if the model cannot be read.
func (m *Planned) SourceFormat() string { return m.OriginalFormat(m.Baseline) }

// Conflict is a pair that a second entry names, too. The first one decides it. Without a
// target it is the choice of one of the model's formats, which the first one makes.
type Conflict struct {
	Model, Target string
	Class         string // "" for this host
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

// NewPlan resolves the entries, in their order: a pair belongs to the first that names it.
// An entry that compares a model with a file has the file's format as its target. While the
// file cannot be read, that is the one in last, by the entry's name, or else UnknownFormat.
// Files of one format that are compared with the same model are targets by their own names: see
// nameFiles.
func NewPlan(entries []config.Entry, found Found, last map[string]string) Plan {
	selected := map[bool]map[string]selected{false: selectAll(entries, found, false), true: selectAll(entries, found.requantized(), true)}
	all := make([]resolving, len(entries))
	for i, entry := range entries {
		within := found
		if entry.AllowRequantize {
			within = found.requantized()
		}
		all[i] = resolve(entry, within, selected[entry.AllowRequantize], last[entry.Name])
	}
	nameFiles(all)
	var p Plan
	owners := map[[3]string]string{}
	for i, r := range all {
		for _, name := range slices.Sorted(maps.Keys(r.models)) {
			for _, class := range entries[i].Classes() {
				if targets := p.claim(owners, r.Entry, name, class); len(targets) > 0 {
					r.Models = append(r.Models, Planned{
						Model: r.models[name], Targets: targets, Choose: p.claimChoice(owners, entries[i], name, class), Baseline: entries[i].Baseline, Against: r.file, Class: class,
					})
				}
			}
		}
		p.Entries = append(p.Entries, r.Resolved)
	}
	p.PassedOver = p.passedOver(found)
	return p
}

// resolving is an entry whose pairs are not claimed yet.
type resolving struct {
	Resolved
	models map[string]Model // that it names, by name
	file   *Model           // that it compares them with; nil without one
	format string           // of the file
}

// resolve finds what an entry names. selected are the models of its patterns.
func resolve(entry config.Entry, found Found, selected map[string]selected, last string) resolving {
	r := resolving{Resolved: Resolved{Entry: entry}, models: map[string]Model{}}
	leftOut, err := found.leftOut(entry.Models)
	if err != nil {
		r.Unfound = err
		r.Unresolved = append(r.Unresolved, fmt.Errorf("entry %q: %w", entry.Name, err))
		return r
	}
	for _, pattern := range config.Included(entry.Models) {
		s := selected[pattern]
		if s.err != nil && config.IsGlob(pattern) {
			r.Unresolved = append(r.Unresolved, fmt.Errorf("entry %q: %w", entry.Name, s.err))
		}
		r.Unfound = cmp.Or(r.Unfound, s.err)
		for _, model := range s.models {
			if !leftOut(model) {
				r.models[model.Name] = model
			}
		}
	}
	if len(r.models) == 0 && len(r.Unresolved) == 0 && len(entry.Models) > 0 {
		err := fmt.Errorf("entry %q: its patterns with ! leave out every model that the others name: %q", entry.Name, entry.Models)
		r.Unresolved = append(r.Unresolved, err)
		r.Unfound = cmp.Or(r.Unfound, err)
	}
	r.Unfound = cmp.Or(r.Unfound, r.findFile(found, last))
	return r
}

// nameFiles names the targets of files after the files where entries compare several of one
// format with the same model: by format, they would be one pair. A file that is alone keeps its
// format as its name, whoever else makes copies in that.
func nameFiles(all []resolving) {
	files := map[[2]string]map[string]bool{} // names, by model and format
	each := func(do func(r *resolving, pair [2]string)) {
		for i := range all {
			if r := &all[i]; r.file != nil {
				for name := range r.models {
					do(r, [2]string{name, r.format})
				}
			}
		}
	}
	each(func(r *resolving, pair [2]string) {
		if files[pair] == nil {
			files[pair] = map[string]bool{}
		}
		files[pair][r.file.Name] = true
	})
	each(func(r *resolving, pair [2]string) {
		if len(files[pair]) > 1 {
			r.Targets = []string{r.file.Name + extension}
		}
	})
}

// passedOver returns what was found and the plan does not decide.
func (p *Plan) passedOver(found Found) []Skipped {
	planned := p.names()
	return slices.DeleteFunc(slices.Clone(found.Skipped), func(s Skipped) bool { return planned[s.Name] })
}

// selectAll selects by every pattern at once of the entries that allow quantized models, or of
// those that do not, so that names which models outside of the model directory get are apart
// from each other.
func selectAll(entries []config.Entry, found Found, requantize bool) map[string]selected {
	var patterns []string
	for _, entry := range entries {
		if entry.AllowRequantize == requantize {
			patterns = append(patterns, config.Included(entry.Models)...)
		}
	}
	all := map[string]selected{}
	for i, s := range found.selectEach(patterns) {
		if pattern := patterns[i]; s.err != nil && !config.IsGlob(pattern) { // somebody counts on this one: its cycles fail, and say why
			s.models = []Model{found.missing(pattern, s.err)}
		}
		all[patterns[i]] = s
	}
	return all
}

// UnknownFormat is the target of a file that cannot be read, and never was.
const UnknownFormat = "UNKNOWN"

// findFile finds the file that the entry compares a model with, if it does, and makes its
// format the target. last is its format at the last look, if that is known. A file that is not
// there has its Err set, which is the error, too.
func (r *resolving) findFile(found Found, last string) error {
	if r.Against == "" {
		return nil
	}
	file, err := found.File(r.Against)
	if err != nil { // the cycles fail, and say why
		file = found.missing(r.Against, err)
	}
	r.file, r.format = &file, cmp.Or(last, UnknownFormat)
	if file.Err == nil {
		r.format = gguf.Canonical(file.Header.Format)
	}
	r.Targets = []string{r.format}
	return err
}

// claim returns the targets of a model that no earlier entry decides.
func (p *Plan) claim(owners map[[3]string]string, entry config.Entry, model, class string) []string {
	var free []string
	for _, target := range entry.Targets {
		if entry.Against == "" { // else it is named already
			target = entry.Recipes.Canonical(target)
		}
		pair := [3]string{model, target, class}
		if owner, taken := owners[pair]; taken {
			p.Conflicts = append(p.Conflicts, Conflict{model, target, class, owner, entry.Name})
			continue
		}
		owners[pair] = entry.Name
		free = append(free, target)
	}
	return free
}

// claimChoice returns the rule by which the entry chooses a format of the model: none where
// an earlier entry chooses one.
func (p *Plan) claimChoice(owners map[[3]string]string, entry config.Entry, model, class string) choice.Rule {
	if entry.Choose == choice.None {
		return choice.None
	}
	if owner, taken := owners[[3]string{model, "", class}]; taken {
		p.Conflicts = append(p.Conflicts, Conflict{Model: model, Class: class, First: owner, Second: entry.Name})
		return choice.None
	}
	owners[[3]string{model, "", class}] = entry.Name
	return entry.Choose
}
