// Package config reads quant-exporter.yml.
//
// The file is decoded strictly: a key that is not known is an error, and so is a
// value that cannot be used. Every problem found in a file is reported at once, each
// with the file, the line, the key and what to write instead. Every key has a
// default, so that an empty file is valid.
//
// The sections are the configuration types of the packages that use them; this
// package composes them and finds the lines of what they object to.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/workdir"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Config is the whole file.
type Config struct {
	Models    Models           `yaml:"models"`
	Work      Work             `yaml:"work"`
	Engine    llamacpp.Config  `yaml:"engine"`
	Benchmark runner.Benchmark `yaml:"benchmark"`
	// Threshold is the drop in throughput, a ratio between 0 and 1, from which on a
	// quantized copy is rejected. Default 0.12.
	Threshold float64 `yaml:"threshold"`
}

// Models says which models there are.
type Models struct {
	// Dir is searched recursively for *.gguf. No default.
	Dir string `yaml:"dir"`
	// AllowRequantize lets models be quantized that are quantized already. Default
	// false: quality suffers.
	AllowRequantize bool `yaml:"allow_requantize"`
}

// Work says where and how a cycle works.
type Work struct {
	// Dir holds the working directory of each cycle, removed at its end. Default
	// data/work. On the file system of the models nothing has to be copied.
	Dir string `yaml:"dir"`
	// Isolation is how a model gets there: auto, reflink, link, symlink or copy.
	// Default auto: the first of reflink, link and symlink that works.
	Isolation workdir.Mode `yaml:"isolation"`
}

// Default is the configuration of an empty file.
func Default() Config {
	return Config{
		Work:      Work{Dir: filepath.Join("data", "work"), Isolation: workdir.Auto},
		Engine:    llamacpp.DefaultConfig(),
		Benchmark: runner.DefaultBenchmark(),
		Threshold: 0.12,
	}
}

// Load reads a file. Relative paths in it are taken from the file's own folder, as
// Prometheus does. The error joins all problems of the file, one a line.
func Load(file string) (*Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return Parse(file, text)
}

// Parse reads the text of the named file; see [Load].
func Parse(file string, text []byte) (*Config, error) {
	c := Default()
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return nil, decodeProblems(file, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: the file holds more than one YAML document: keep one", file)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, decodeProblems(file, err)
	}
	var problems []error
	for _, p := range c.problems() {
		problems = append(problems, fmt.Errorf("%s:%d: %s: %w", file, lineOf(&root, p.Path), p.Path, p.Err))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	c.resolvePaths(filepath.Dir(file))
	return &c, nil
}

// problems collects what each section says of its values.
func (c *Config) problems() []runner.Problem {
	var all []runner.Problem
	section := func(name string, problems []runner.Problem) {
		for _, p := range problems {
			all = append(all, runner.Problem{Path: name + "." + p.Path, Err: p.Err})
		}
	}
	section("engine", engineProblems(c.Engine.Validate()))
	section("benchmark", c.Benchmark.Validate())
	if err := c.Work.Isolation.Validate(); err != nil {
		all = append(all, runner.Problem{Path: "work.isolation", Err: err})
	}
	if err := runner.ValidateThreshold(c.Threshold); err != nil {
		all = append(all, runner.Problem{Path: "threshold", Err: err})
	}
	return all
}

func engineProblems(err error) []runner.Problem {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var problems []runner.Problem
	for _, err := range joined.Unwrap() {
		key, _, _ := strings.Cut(err.Error(), " ")
		problems = append(problems, runner.Problem{Path: strings.TrimPrefix(strings.TrimSuffix(key, ":"), "engine."), Err: err})
	}
	return problems
}

func (c *Config) resolvePaths(dir string) {
	for _, path := range []*string{&c.Models.Dir, &c.Work.Dir, &c.Engine.Dir, &c.Engine.Imatrix} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
}

// lineOf finds the line of a key given by its path; that of the nearest section
// where the key itself is not in the file.
func lineOf(root *yaml.Node, path string) int {
	node, line := root, 1
	if node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	for key := range strings.SplitSeq(path, ".") {
		found := false
		for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == key {
				line, node, found = node.Content[i].Line, node.Content[i+1], true
				break
			}
		}
		if !found {
			break
		}
	}
	return line
}

var (
	unknownField = regexp.MustCompile(`^line (\d+): field (.+) not found in type (\S+)$`)
	otherProblem = regexp.MustCompile(`^(?:yaml: )?line (\d+): (?:cannot unmarshal (?:!!(\w+) )?)?(.*)$`)
)

// decodeProblems turns what the YAML library says into lines that name the file, and
// for an unknown key the keys that are known there.
func decodeProblems(file string, err error) error {
	messages := []string{err.Error()}
	var typeError *yaml.TypeError
	if errors.As(err, &typeError) {
		messages = typeError.Errors
	}
	var problems []error
	for _, message := range messages {
		if m := unknownField.FindStringSubmatch(message); m != nil {
			problems = append(problems, fmt.Errorf("%s:%s: %s: there is no such key here; the keys are %s", file, m[1], m[2], knownKeys(m[3])))
		} else if m := otherProblem.FindStringSubmatch(message); m != nil {
			problems = append(problems, fmt.Errorf("%s:%s: %s", file, m[1], plainType(m[2], m[3])))
		} else {
			problems = append(problems, fmt.Errorf("%s: %s", file, message))
		}
	}
	return errors.Join(problems...)
}

var wrongType = regexp.MustCompile("^(`.*`) into (\\S+)$")

// plainType says which kind of value is wanted, in YAML's words instead of Go's.
func plainType(kind, message string) string {
	m := wrongType.FindStringSubmatch(message)
	if m == nil {
		return message
	}
	want := m[2]
	switch {
	case strings.HasPrefix(want, "int"), strings.HasPrefix(want, "uint"):
		want = "a whole number"
	case strings.HasPrefix(want, "float"):
		want = "a number"
	case want == "bool":
		want = "true or false"
	case strings.HasPrefix(want, "[]"):
		want = "a list"
	case strings.HasPrefix(want, "map"), strings.Contains(want, "."):
		want = "a section of keys"
	}
	if kind != "" {
		kind = " (" + kind + ")"
	}
	return fmt.Sprintf("%s%s is not %s", m[1], kind, want)
}

// knownKeys lists the keys of the type that the YAML library names.
func knownKeys(typeName string) string {
	var keys []string
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		if t.Kind() != reflect.Struct {
			return
		}
		for field := range fields(t) {
			if t.String() == typeName {
				keys = append(keys, field.key)
			}
			walk(field.typ)
		}
	}
	walk(reflect.TypeFor[Config]())
	slices.Sort(keys)
	if len(keys) == 0 {
		return "in the configuration reference of the README"
	}
	return strings.Join(slices.Compact(keys), ", ")
}

type field struct {
	key string
	typ reflect.Type
}

// fields gives the YAML keys of a struct type.
func fields(t reflect.Type) func(yield func(field) bool) {
	return func(yield func(field) bool) {
		for i := range t.NumField() {
			key, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			if key != "" && key != "-" && !yield(field{key, t.Field(i).Type}) {
				return
			}
		}
	}
}

// Keys lists every key there is as its path of names, such as
// "benchmark.rounds.min", in the order of the file; for the documentation's test.
func Keys() []string {
	var keys []string
	var walk func(prefix string, t reflect.Type)
	walk = func(prefix string, t reflect.Type) {
		for f := range fields(t) {
			path := prefix + f.key
			if f.typ.Kind() == reflect.Struct {
				walk(path+".", f.typ)
			} else {
				keys = append(keys, path)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	return keys
}

// ParseThreshold reads the threshold as a flag or the environment gives it; source
// names where it comes from in the error.
func ParseThreshold(source, text string) (float64, error) {
	t, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a number: write a ratio between 0 and 1, such as 0.12", source, text)
	}
	if err := runner.ValidateThreshold(t); err != nil {
		return 0, fmt.Errorf("%s: %w", source, err)
	}
	return t, nil
}
