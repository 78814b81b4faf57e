package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"gopkg.in/yaml.v3"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/text"
)

// reader reads a document into values, as far as it can, and collects all that is wrong
// with it.
type reader struct {
	document document
	dir      string // of the file
	checks   Checks
	problems []Problem
}

func (r *reader) problem(line int, path, format string, args ...any) {
	r.problems = append(r.problems, Problem{path, line, fmt.Errorf(format, args...)})
}

// object takes in what is wrong with values, except for those that could not be read: a
// default stands in for them.
func (r *reader) object(problems []Problem) {
	unread := map[string]bool{}
	for _, p := range r.problems {
		unread[p.Path] = true
	}
	for _, p := range problems {
		if !unread[p.Path] {
			p.Line = r.document.lineOf(p.Path)
			r.problems = append(r.problems, p)
		}
	}
}

// err joins the problems; nil when there is none.
func (r *reader) err(file string) error {
	slices.SortStableFunc(r.problems, func(a, b Problem) int { return a.Line - b.Line })
	var errs []error
	for _, p := range r.problems {
		for line := range strings.SplitSeq(p.Err.Error(), "\n") { // one may be several, joined
			errs = append(errs, fmt.Errorf("%s:%d: %s: %s", file, p.Line, p.Path, line))
		}
	}
	return errors.Join(errs...)
}

// rebase takes the paths that the file names from the file's directory.
func (r *reader) rebase(paths map[string]*string) {
	for key, path := range paths {
		if r.document.has(key) {
			*path = config.JoinDir(r.dir, *path)
		}
	}
}

// section reads a mapping into a struct. path ends in a dot, or is empty.
func (r *reader) section(path string, node *yaml.Node, into reflect.Value) {
	switch {
	case node == nil, isNull(node): // "engine:" with everything below it commented out
		return
	case node.Kind != yaml.MappingNode && path == "":
		r.problem(node.Line, "(the whole file)", "%s is not a section of keys; the keys are %s", shown(node), keysOf(into.Type()))
		return
	case node.Kind != yaml.MappingNode:
		r.problem(node.Line, strings.TrimSuffix(path, "."), "%s is not a section of keys; the keys are %s", shown(node), keysOf(into.Type()))
		return
	}
	lines := map[string]int{} // of the keys so far
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], resolve(node.Content[i+1])
		name := key.Value // "" where the key is not a scalar
		field, known := fieldOf(into, name)
		if key.Tag == mergeTag {
			r.problem(key.Line, path+name, "%s cannot be merged: name a section, as in <<: *base, or a list of them", shown(value))
			continue
		}
		if !known {
			r.problem(key.Line, path+strings.Trim(shown(key), `"`), "there is no such key%s", instead(name, keysOf(into.Type())))
			continue
		}
		if first, twice := lines[name]; twice {
			r.problem(key.Line, path+name, "the key is in line %d already: keep one", first)
			continue
		}
		lines[name] = key.Line
		switch {
		case field.Type() == scheduleType: // read when all sections are
		case name == "targets" && value.Kind == yaml.SequenceNode:
			r.targets(path+name, value, into)
		case field.Type() == reflect.TypeFor[choice.Rule]() && value.Kind == yaml.MappingNode:
			r.rule(path+name+".", value, field)
		case field.Kind() == reflect.Struct:
			r.section(path+name+".", value, field)
		default:
			r.value(path+name, value, field)
		}
	}
}

// rule reads a rule with limits, a section in the place of its word.
func (r *reader) rule(path string, node *yaml.Node, into reflect.Value) {
	rule := choice.Rule(into.String())
	limits := rule.Limits()
	limited := struct {
		By        choice.Rule `yaml:"by"`
		MaxSize   Size        `yaml:"max_size"`
		MaxMemory MaxMemory   `yaml:"max_memory"`
	}{rule.By(), Size(limits.Size), MaxMemory{Size(limits.Host), Size(limits.Device)}}
	r.section(path, node, reflect.ValueOf(&limited).Elem())
	limits = choice.Limits{Size: int64(limited.MaxSize), Host: int64(limited.MaxMemory.Host), Device: int64(limited.MaxMemory.Device)}
	into.SetString(string(choice.Limited(limited.By, limits)))
}

// targets reads the list of an entry: formats, and recipes, which are sections.
func (r *reader) targets(path string, list *yaml.Node, into reflect.Value) {
	e, isEntry := reflect.TypeAssert[*Entry](into.Addr())
	if !isEntry || !slices.ContainsFunc(list.Content, func(item *yaml.Node) bool { return !noSection(item) }) {
		field, _ := fieldOf(into, "targets")
		r.value(path, list, field)
		return
	}
	e.Targets = nil
	for i, node := range list.Content {
		at, item := fmt.Sprintf("%s[%d]", path, i), resolve(node)
		if noSection(item) {
			var target string
			r.value(at, item, reflect.ValueOf(&target).Elem())
			e.Targets = append(e.Targets, target)
			continue
		}
		var recipe Recipe
		r.section(at+".", item, reflect.ValueOf(&recipe).Elem())
		recipe.Format, recipe.Imatrix = gguf.Canonical(recipe.Format), config.JoinDir(r.dir, recipe.Imatrix)
		e.Targets, e.Recipes = append(e.Targets, recipe.Name), append(e.Recipes, recipe)
	}
}

// instead says what could have been meant by an unknown key.
func instead(name, keys string) string {
	if question := text.DidYouMean(name, strings.Split(keys, ", ")); question != "" {
		return question + " The keys here are " + keys
	}
	return "; the keys here are " + keys
}

// value reads what stands for a key. Nothing at all leaves what is there already, and a
// map adds to it.
func (r *reader) value(path string, node *yaml.Node, into reflect.Value) {
	if isNull(node) {
		return
	}
	for _, item := range node.Content {
		if node.Kind == yaml.SequenceNode && strings.HasPrefix(item.Tag, "!") && !strings.HasPrefix(item.Tag, "!!") {
			r.problem(item.Line, path, "%q is a tag of YAML and no text: a text that begins with ! needs quotes", clip(item.Tag))
			return
		}
	}
	decoded := reflect.New(into.Type()) // a value half decoded must not stay
	err := node.Decode(decoded.Interface())
	cut := into.Kind() == reflect.Int && node.ShortTag() == "!!float" // 1.5 would be read as 1
	if err != nil || cut {
		r.problem(node.Line, path, "%s is not %s%s", shown(node), wanted(into.Type()), cmp.Or(within(node, into, err), percentage(node.Value, into.Kind())))
		return
	}
	if names, ok := reflect.TypeAssert[map[string]string](into); ok && len(names) > 0 {
		merged := maps.Clone(names) // which others have, too
		maps.Copy(merged, decoded.Elem().Interface().(map[string]string))
		into.Set(reflect.ValueOf(merged))
		return
	}
	into.Set(decoded.Elem())
}

// wanted says which kind of value a key takes.
func wanted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[model.Duration]():
		return "a duration: write one such as 90s, 15m, 4h or 1d"
	case reflect.TypeFor[Depths]():
		return "a whole number or a list of them"
	case reflect.TypeFor[Size]():
		return "a size: write one such as 500MB, 10GB or 0"
	case reflect.TypeFor[config.TLSVersion]():
		return "a version of TLS: write TLS12 or TLS13"
	}
	switch t.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list: write one such as [a, b]"
	case reflect.Map:
		return "a section of names and texts: write one such as {NAME: text}"
	default:
		return "a text"
	}
}

// percentage says how a number is written that was given in percent; "" for anything else.
func percentage(value string, kind reflect.Kind) string {
	number, percent := strings.CutSuffix(strings.TrimSpace(value), "%")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if kind != reflect.Float64 || !percent || err != nil {
		return ""
	}
	return fmt.Sprintf(": write %g %% as %.6g", n, n/100)
}

// within says what is wrong inside of a list or a section that is in its place: the
// YAML library does.
func within(node *yaml.Node, into reflect.Value, err error) string {
	inPlace := node.Kind == yaml.SequenceNode && into.Kind() == reflect.Slice || node.Kind == yaml.MappingNode && into.Kind() == reflect.Map
	var kind *yaml.TypeError
	if !inPlace || !errors.As(err, &kind) {
		return ""
	}
	return " (" + strings.Join(kind.Errors, "; ") + ")"
}

// shown returns a value, or a key, as a message names it: without what may be secret.
func shown(node *yaml.Node) string {
	switch {
	case node.Kind == yaml.MappingNode:
		return "a section of keys"
	case node.Kind == yaml.SequenceNode:
		return "a list"
	case node.ShortTag() == "!!binary":
		return "binary data"
	case strings.Contains(node.Value, "PRIVATE KEY"): // PEM
		return "a private key"
	default:
		return fmt.Sprintf("%q", clip(RedactURL(node.Value)))
	}
}

// clip keeps messages short.
func clip(text string) string {
	const limit = 60
	if runes := []rune(text); len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return text
}
