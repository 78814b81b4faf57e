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
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

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
	// data/work, in the current directory. On the file system of the models nothing
	// has to be copied.
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
	document, err := parseDocument(file, text)
	if err != nil {
		return nil, err
	}
	c := Default()
	problems := document.decode(&c)
	for _, p := range c.problems() {
		problems = append(problems, problem{document.lineOf(p.Path), p.Path, p.Err})
	}
	if len(problems) > 0 {
		slices.SortStableFunc(problems, func(a, b problem) int { return a.line - b.line })
		errs := make([]error, len(problems))
		for i, p := range problems {
			errs[i] = fmt.Errorf("%s:%d: %s: %w", file, p.line, p.path, p.err)
		}
		return nil, errors.Join(errs...)
	}
	for path, value := range c.paths() {
		if document.has(path) && *value != "" && !filepath.IsAbs(*value) {
			*value = filepath.Join(filepath.Dir(file), *value)
		}
	}
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
	section("engine", c.Engine.Validate())
	section("benchmark", c.Benchmark.Validate())
	if err := c.Work.Isolation.Validate(); err != nil {
		all = append(all, runner.Problem{Path: "work.isolation", Err: err})
	}
	if c.Work.Dir == "" {
		all = append(all, runner.Problem{Path: "work.dir", Err: errors.New("it is empty: name a folder, such as data/work")})
	}
	if err := runner.ValidateThreshold(c.Threshold); err != nil {
		all = append(all, runner.Problem{Path: "threshold", Err: err})
	}
	return all
}

// paths are the values that are paths of files, by their keys.
func (c *Config) paths() map[string]*string {
	return map[string]*string{
		"models.dir":     &c.Models.Dir,
		"work.dir":       &c.Work.Dir,
		"engine.dir":     &c.Engine.Dir,
		"engine.imatrix": &c.Engine.Imatrix,
	}
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
