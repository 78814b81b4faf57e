package config

import (
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"

	"github.com/prometheus/common/config"
	"gopkg.in/yaml.v3"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
)

var scheduleType = reflect.TypeFor[[]Entry]()

// schedule reads the entries. problems are the problems already found in the sections.
func (r *reader) schedule(c *Config, problems []Problem) {
	_, list := entry(r.document.root, "schedule")
	if list == nil || isNull(list) {
		return
	}
	if list.Kind != yaml.SequenceNode {
		r.problem(list.Line, "schedule", "%s is not a list of entries: begin each with a dash, as in \"- name: nightly\"", shown(list))
		return
	}
	if n := len(list.Content); n > maxEntries {
		r.problem(list.Line, "schedule", "has %d entries, more than %d: patterns such as \"*\" name many models at once", n, maxEntries)
		return
	}
	inherited := map[string]bool{} // keys of which the sections' values cannot be used
	for _, p := range problems {
		inherited[p.Path] = true
	}
	clashes := newClashes()
	for i, item := range list.Content {
		before := len(r.problems)
		path := fmt.Sprintf("schedule[%d]", i)
		node := resolve(item)
		e := c.NewEntry(item.Line, namesFile(node))
		r.section(path+".", node, reflect.ValueOf(&e).Elem())
		e.Baseline = gguf.Canonical(e.Baseline)
		switch {
		case len(e.On) == 0:
			e.On = nil
		case !r.document.has(path + ".publish"): // which is of copies on this host
			e.Publish = DefaultPublish()
		}
		if node.Kind != yaml.MappingNode && !isNull(node) {
			continue // that has been said
		}
		r.rebase(map[string]*string{
			path + ".engine.dir": &e.Engine.Dir, path + ".engine.imatrix": &e.Engine.Imatrix, path + ".quality.corpus": &e.Quality.Corpus,
			path + ".publish.dir": &e.Publish.Dir,
		})
		if r.document.has(path+".quality.corpus") && e.Quality.Corpus == "" {
			r.withoutQuality(path+".quality.", &e.Quality)
		}
		for i := range e.Models {
			r.rebaseName(&e.Models[i])
		}
		r.rebaseName(&e.Against)
		own := slices.DeleteFunc(e.problems(c, r.checks), func(p Problem) bool { // else the section's
			return inherited[p.Path] && !r.document.has(path+"."+p.Path)
		})
		r.object(below(path, own))
		right := len(r.problems) == before
		r.object(below(path, clashes.name(&e)))
		if right { // else its models and targets may be defaults that nobody meant
			r.object(below(path, clashes.pairs(&e)))
		}
		c.Schedule = append(c.Schedule, e)
	}
}

// withoutQuality takes the inherited limits from an entry whose corpus is "", which switches
// quality off. Those that the entry sets itself stay, for they are a mistake.
func (r *reader) withoutQuality(path string, q *Quality) {
	for key, limit := range map[string]*float64{
		"max_kl_divergence": &q.MaxKLDivergence, "min_top1_agreement": &q.MinTop1Agreement, "max_perplexity_increase": &q.MaxPerplexityIncrease,
		"max_kl_divergence_p999": &q.MaxKLDivergenceP999, "max_rms_dp": &q.MaxRMSDeltaP,
	} {
		if !r.document.has(path + key) {
			*limit = 0
		}
	}
}

// namesFile reports whether an entry names a file to compare with.
func namesFile(item *yaml.Node) bool {
	var name string
	_, value := entry(item, "against")
	return value != nil && value.Decode(&name) == nil && name != ""
}

// rebaseName takes what is a path, and no name of a model, from the file's directory.
func (r *reader) rebaseName(name *string) {
	mark := ""
	path, excluded := Excluded(*name)
	if excluded {
		mark = "!"
	}
	if strings.HasPrefix(path, "./") || strings.HasPrefix(path, "../") {
		*name = mark + config.JoinDir(r.dir, path)
	}
}

// clashes finds what two entries cannot both have.
type clashes struct {
	lines  map[string]int       // by name
	owners map[[3]string]*Entry // by pattern of models, target and class
}

func newClashes() clashes {
	return clashes{map[string]int{}, map[[3]string]*Entry{}}
}

// name takes the name of an entry in and reports whether one before it has that already.
func (c clashes) name(e *Entry) []Problem {
	switch line, taken := c.lines[e.Name]; {
	case e.Name == "": // its own problem
	case taken:
		return []Problem{{Path: "name", Err: fmt.Errorf("%q is the name of the entry in line %d already: use another one", e.Name, line)}}
	default:
		c.lines[e.Name] = e.Line
	}
	return nil
}

// pairs adds the pairs of an entry, and reports each earlier entry that decides one of them
// as well. Clashes that show only once the models are known are found by model.NewPlan.
func (c clashes) pairs(e *Entry) []Problem {
	var problems []Problem
	reported := map[*Entry]bool{e: true}
	if slices.ContainsFunc(e.Models, func(pattern string) bool { _, excluded := Excluded(pattern); return excluded }) {
		return nil // its patterns name less than they would elsewhere
	}
	for pair := range e.pairs() {
		first, taken := c.owners[pair]
		switch {
		case !taken:
			c.owners[pair] = e
		case !reported[first]:
			reported[first] = true
			problems = append(problems, Problem{Path: "targets", Err: fmt.Errorf("the entry %q in line %d decides %s of the models %q as well, and they would overwrite each other's figures: name other models or targets",
				first.Name, first.Line, pair[1], pair[0])})
		}
	}
	return problems
}

// pairs returns what the entry decides: patterns of models, with targets and classes.
func (e *Entry) pairs() iter.Seq[[3]string] {
	return func(yield func([3]string) bool) {
		for _, pattern := range e.Models {
			for _, target := range e.Targets {
				for _, class := range e.Classes() {
					if !yield([3]string{pattern, e.Recipes.Canonical(target), class}) {
						return
					}
				}
			}
		}
	}
}
