package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// document is the file's YAML, not yet looked at. The YAML library's own decoder would
// stop at the first duration that it cannot read, and says nothing of the lines, or of
// the keys by their names; so a reader walks the sections, and the library decodes the
// single values.
type document struct {
	root *yaml.Node // a mapping where the file is right; nil where it is empty
}

func parseDocument(file string, text []byte) (document, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var node yaml.Node
	if err := decoder.Decode(&node); errors.Is(err, io.EOF) {
		return document{}, nil
	} else if err != nil {
		return document{}, syntaxProblem(file, text, err)
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case err == nil:
		return document{}, fmt.Errorf("%s:%d: the file holds more than one YAML document: keep one", file, second.Line)
	case !errors.Is(err, io.EOF):
		return document{}, syntaxProblem(file, text, err)
	}
	root := resolve(node.Content[0])
	merge(root, map[*yaml.Node]bool{})
	return document{root}, nil
}

// merge puts what stands for the key << into the sections that have it, as YAML 1.1 says
// (https://yaml.org/type/merge.html): a section, or a list of them of which the first wins;
// the keys of the section itself come before those. What cannot be merged stays, and is a
// key that nobody knows. done are the nodes that were seen, so that what contains itself
// ends.
func merge(node *yaml.Node, done map[*yaml.Node]bool) {
	node = resolve(node)
	if done[node] {
		return
	}
	done[node] = true
	for _, child := range node.Content {
		merge(child, done)
	}
	if node.Kind != yaml.MappingNode {
		return
	}
	var own, others []*yaml.Node
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], resolve(node.Content[i+1])
		switch {
		case key.Tag == mergeTag && value.Kind == yaml.MappingNode:
			others = append(others, value)
		case key.Tag == mergeTag && value.Kind == yaml.SequenceNode && !slices.ContainsFunc(value.Content, noSection):
			for _, item := range value.Content {
				others = append(others, resolve(item))
			}
		default:
			own = append(own, node.Content[i], node.Content[i+1])
		}
	}
	if others == nil {
		return
	}
	known := map[string]bool{}
	for i := 0; i < len(own); i += 2 {
		known[own[i].Value] = true
	}
	for _, other := range others {
		for i := 0; i+1 < len(other.Content); i += 2 {
			if key := other.Content[i]; key.Tag != mergeTag && !known[key.Value] {
				known[key.Value] = true
				own = append(own, key, other.Content[i+1])
			}
		}
	}
	node.Content = own
}

const mergeTag = "!!merge"

func noSection(node *yaml.Node) bool { return resolve(node).Kind != yaml.MappingNode }

var (
	syntaxMessage = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// hints are what most often is behind the messages of the YAML library.
var hints = map[string]string{
	"did not find expected alphabetic or numeric character": `a text that begins with * needs quotes, as in "*"`,
	"found character that cannot start any token":           "a text that begins with @, %, ` or a tab needs quotes; spaces indent, not tabs",
	"did not find expected ',' or ']'":                      `a text that begins with ! needs quotes, as in "!mtp-*"`,
	"did not find expected key":                             `a text that begins with { or [ needs quotes, as in "{a2a}:events"`,
	"mapping values are not allowed in this context":        "is the line indented like its neighbours? A text with a colon and a space in it needs quotes",
}

// syntaxProblem puts the file's name before the line that the YAML library names, and a
// hint behind what it says.
func syntaxProblem(file string, text []byte, err error) error {
	line, message := 1, err.Error() // the library names no line when it is the first
	if match := syntaxMessage.FindStringSubmatch(message); match != nil {
		message = match[2]
		if n, err := strconv.Atoi(match[1]); err == nil {
			line = n
		}
	}
	hint := hints[message]
	if hint != "" {
		hint = ": " + hint
	}
	// These come without a line, and not for being in the first.
	if match := unknownAnchor.FindStringSubmatch(message); match != nil {
		line = lineWith(text, func(line []byte) bool { return bytes.Contains(line, []byte("*"+match[1])) })
		// The name is kept to ourselves: it may be the beginning of a secret.
		message, hint = "an alias stands for nothing", ": a text that begins with * needs quotes"
	} else if i := lineWith(text, unprintable); i > 0 {
		line = i
	}
	last := bytes.Count(text, []byte("\n")) + bytes.Count(text, []byte("\r")) + 1
	return fmt.Errorf("%s:%d: this is not valid YAML: %s%s", file, min(max(line, 1), last), message, hint)
}

// lineWith finds the first line that is so; 0 when there is none.
func lineWith(text []byte, is func([]byte) bool) int {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if is(line) {
			return number
		}
	}
	return 0
}

// unprintable lines are not YAML.
func unprintable(line []byte) bool {
	return !utf8.Valid(line) || bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' && r != '\n' || r == 0x7f })
}

// lineOf returns the line of the key with this path, or the line of the nearest section if
// the key itself is not in the file.
func (d document) lineOf(path string) int {
	line, _ := d.find(path)
	return line
}

// has reports whether the key is in the file.
func (d document) has(path string) bool {
	_, found := d.find(path)
	return found
}

func (d document) find(path string) (line int, found bool) {
	node, line := d.root, 1
	for name := range strings.SplitSeq(path, ".") {
		name, index, item := strings.Cut(strings.TrimSuffix(name, "]"), "[")
		key, value := entry(node, name)
		if key == nil {
			return line, false
		}
		line, node = key.Line, value
		if !item {
			continue
		}
		i, err := strconv.Atoi(index)
		if err != nil || node.Kind != yaml.SequenceNode || i >= len(node.Content) {
			return line, false
		}
		line, node = node.Content[i].Line, resolve(node.Content[i])
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
