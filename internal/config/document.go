package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"

	"github.com/prometheus/common/model"
	"gopkg.in/yaml.v3"
)

// document is the file's YAML, not yet looked at. The YAML library's own decoder would
// stop at the first duration that it cannot read, and says nothing of the lines, or of
// the keys by their names; so the sections are walked here, and the library decodes the
// single values.
type document struct {
	root *yaml.Node // a mapping where the file is right; nil where it is empty
}

// problem is what is wrong in one place of the file.
type problem struct {
	line int
	path string // of keys, such as "engine.nice"
	err  error
}

func parseDocument(file string, text []byte) (document, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var node yaml.Node
	if err := decoder.Decode(&node); errors.Is(err, io.EOF) {
		return document{}, nil
	} else if err != nil {
		return document{}, syntaxProblem(file, err)
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case err == nil:
		return document{}, fmt.Errorf("%s:%d: the file holds more than one YAML document: keep one", file, second.Line)
	case !errors.Is(err, io.EOF):
		return document{}, syntaxProblem(file, err)
	}
	return document{resolve(node.Content[0])}, nil
}

var syntaxMessage = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntaxProblem puts the file's name before the line that the YAML library names.
func syntaxProblem(file string, err error) error {
	match := syntaxMessage.FindStringSubmatch(err.Error())
	switch {
	case match == nil:
		return fmt.Errorf("%s: this is no YAML: %w", file, err)
	case match[1] == "":
		return fmt.Errorf("%s: this is no YAML: %s", file, match[2])
	default:
		return fmt.Errorf("%s:%s: this is no YAML: %s", file, match[1], match[2])
	}
}

// decode reads the document over the values in c, as far as it can, and finds all that
// is wrong with its keys and with the kinds of its values.
func (d document) decode(c *Config) []problem {
	if d.root == nil {
		return nil
	}
	var decoder decoder
	decoder.section("", d.root, reflect.ValueOf(c).Elem())
	return decoder.problems
}

type decoder struct{ problems []problem }

func (d *decoder) problem(line int, path, format string, args ...any) {
	d.problems = append(d.problems, problem{line, path, fmt.Errorf(format, args...)})
}

// section decodes a mapping into a struct. path ends in a dot, or is empty.
func (d *decoder) section(path string, node *yaml.Node, into reflect.Value) {
	switch {
	case isNull(node): // "engine:" with everything below it commented out
		return
	case node.Kind != yaml.MappingNode && path == "":
		d.problem(node.Line, "(the whole file)", "%s is no section of keys; the keys are %s", shown(node), keysOf(into.Type()))
		return
	case node.Kind != yaml.MappingNode:
		d.problem(node.Line, strings.TrimSuffix(path, "."), "%s is no section of keys; the keys are %s", shown(node), keysOf(into.Type()))
		return
	}
	lines := map[string]int{} // of the keys so far
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], resolve(node.Content[i+1])
		name := key.Value // "" where the key is no scalar
		field, known := fieldOf(into, name)
		if !known {
			d.problem(key.Line, path+strings.Trim(shown(key), `"`), "there is no such key; the keys here are %s", keysOf(into.Type()))
			continue
		}
		if first, twice := lines[name]; twice {
			d.problem(key.Line, path+name, "the key is in line %d already: keep one", first)
			continue
		}
		lines[name] = key.Line
		if field.Kind() == reflect.Struct {
			d.section(path+name+".", value, field)
		} else {
			d.value(path+name, value, field)
		}
	}
}

// value decodes what stands for a key. Nothing at all leaves the default.
func (d *decoder) value(path string, node *yaml.Node, into reflect.Value) {
	if isNull(node) {
		return
	}
	decoded := reflect.New(into.Type()) // a value half decoded must not stay
	err := node.Decode(decoded.Interface())
	cut := into.Kind() == reflect.Int && node.ShortTag() == "!!float" // 1.5 would be read as 1
	if err != nil || cut {
		d.problem(node.Line, path, "%s is not %s%s", shown(node), wanted(into.Type()), within(node, into, err))
		return
	}
	into.Set(decoded.Elem())
}

// wanted says which kind of value a key takes.
func wanted(t reflect.Type) string {
	if t == reflect.TypeFor[model.Duration]() {
		return "a duration: write one such as 90s, 15m, 4h or 1d"
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

// shown is a value as a message names it.
func shown(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a section of keys"
	case yaml.SequenceNode:
		return "a list"
	default:
		return fmt.Sprintf("%q", clip(node.Value))
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

// lineOf finds the line of a key given by its path; that of the nearest section where
// the key itself is not in the file.
func (d document) lineOf(path string) int {
	line, _ := d.find(path)
	return line
}

// has says whether the key is in the file.
func (d document) has(path string) bool {
	_, found := d.find(path)
	return found
}

func (d document) find(path string) (line int, found bool) {
	node, line := d.root, 1
	for name := range strings.SplitSeq(path, ".") {
		key, value := entry(node, name)
		if key == nil {
			return line, false
		}
		line, node = key.Line, value
	}
	return line, true
}

// entry finds a key of a section and its value; nil when it is not there.
func entry(section *yaml.Node, name string) (key, value *yaml.Node) {
	if section == nil || section.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(section.Content); i += 2 {
		if section.Content[i].Value == name {
			return section.Content[i], resolve(section.Content[i+1])
		}
	}
	return nil, nil
}

// resolve follows an alias to what it stands for.
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool { return node.ShortTag() == "!!null" }
