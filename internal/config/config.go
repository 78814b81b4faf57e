// Package config reads quant-exporter.yml.
//
// The file is decoded strictly: a key that is not known is an error, and so is a
// value that cannot be used. Every problem found in a file is reported at once, in the
// order of its lines, each with the file, the line, the key and what to write instead.
// No message contains a password. Every key has a default, so that an empty file is valid.
//
// The types of all sections are here, and are passed on as they are to the packages that use
// them. What only such a package can judge it says through [Checks].
package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// Config is the whole file. Nobody changes it once it is in use.
type Config struct {
	Models  Models  `yaml:"models"`
	Work    Work    `yaml:"work"`
	Cache   Cache   `yaml:"cache"`
	Storage Storage `yaml:"storage"`
	Engine  Engine  `yaml:"engine"`
	// Settings of cycles, which each entry may change for itself.
	Settings `yaml:",inline"`
	A2A      A2A   `yaml:"a2a"`
	Fleet    Fleet `yaml:"fleet"`
	// Schedule has no entries by default: nothing is due.
	Schedule []Entry `yaml:"schedule"`

	hash string
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
	// Copy has a model copied there. Default false: it is cloned without a copy, by the first
	// of reflink, hard link and symbolic link that works.
	Copy bool `yaml:"copy"`
}

// Storage says what is remembered, and where.
type Storage struct {
	// Path is the directory of the state. Default data, in the current directory.
	Path string `yaml:"path"`
	// Retention bounds what is kept of the past.
	Retention Retention `yaml:"retention"`
}

// Default returns the configuration of an empty file.
func Default() Config {
	return Config{
		Work:     Work{Dir: filepath.Join("data", "work")},
		Cache:    DefaultCache(),
		Storage:  Storage{Path: "data", Retention: DefaultRetention()},
		Engine:   DefaultEngine(),
		Settings: DefaultSettings(),
		A2A:      DefaultA2A(),
		Fleet:    DefaultFleet(),
	}
}

// Checks find what cannot be used in a section, as only the packages know that use it.
type Checks struct {
	Engine func(Engine) []Problem
	// QuantizeArgs checks the arguments of a recipe.
	QuantizeArgs func([]string) error
	A2A          func(A2A) []Problem
	Fleet        func(Fleet) []Problem
}

// Load reads a file. Relative paths in it are taken from the file's own directory, as
// Prometheus does; of the models of an entry, those that begin with ./ or ../ are paths,
// and the others names. The error joins all problems of the file, one a line.
func Load(file string, checks Checks) (*Config, error) {
	opened, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer opened.Close()
	text, err := io.ReadAll(io.LimitReader(opened, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("reading the configuration: %s has more than %d bytes: is it the right file? Patterns such as \"*\" name many models at once", file, maxFile)
	}
	return Parse(file, text, checks)
}

// Limits of a file: reading one takes some hundred times its size in memory.
const (
	maxFile    = 1 << 20 // bytes
	maxEntries = 2000
)

// Parse reads the text of the named file; see [Load].
func Parse(file string, text []byte, checks Checks) (*Config, error) {
	document, err := parseDocument(file, text)
	if err != nil {
		return nil, err
	}
	c := Default()
	hash := sha256.Sum256(text)
	c.hash = hex.EncodeToString(hash[:])
	dir := filepath.Dir(file)
	r := reader{document: document, dir: dir, checks: checks}

	r.section("", document.root, reflect.ValueOf(&c).Elem())
	c.Baseline = gguf.Canonical(c.Baseline)
	r.rebase(c.paths())
	c.A2A.TLS.SetDirectory(dir)
	c.Fleet.TLS.SetDirectory(dir)
	problems := c.problems(checks)
	r.object(problems)
	// The entries start from the sections, so these have to be complete, wherever they
	// stand in the file.
	r.schedule(&c, problems)
	if err := r.err(file); err != nil {
		return nil, err
	}
	return &c, nil
}

// Hash tells files apart: SHA-256 of the text that was read, in hexadecimal; "" of the
// defaults.
func (c *Config) Hash() string { return c.hash }

// problems collects what each section says of its values; of the schedule, each entry
// does.
func (c *Config) problems(checks Checks) []Problem {
	found := problems(slices.Concat(
		below("engine", append(c.Engine.Validate(), checks.Engine(c.Engine)...)),
		c.Settings.Validate(), //nolint:staticcheck // c.Validate() would read as if it were all of it
		below("cache", c.Cache.Validate()),
		below("storage.retention", c.Storage.Retention.Validate()),
		below("a2a", append(c.A2A.Validate(), checks.A2A(c.A2A)...)),
		below("fleet", append(c.Fleet.Validate(), checks.Fleet(c.Fleet)...)),
	))
	found.check("publish.dir", c.apart(c.Publish.Dir))
	if c.Work.Dir == "" {
		found.add("work.dir", "it is empty: name a folder, such as data/work")
	}
	if c.Storage.Path == "" {
		found.add("storage.path", "it is empty: name a folder, such as data")
	}
	return found
}

// paths returns the values that are paths of files, by their keys.
func (c *Config) paths() map[string]*string {
	return map[string]*string{
		"models.dir":                   &c.Models.Dir,
		"work.dir":                     &c.Work.Dir,
		"storage.path":                 &c.Storage.Path,
		"engine.dir":                   &c.Engine.Dir,
		"engine.imatrix":               &c.Engine.Imatrix,
		"quality.corpus":               &c.Quality.Corpus,
		"publish.dir":                  &c.Publish.Dir,
		"a2a.password_file":            &c.A2A.PasswordFile,
		"a2a.sentinel_password_file":   &c.A2A.SentinelPasswordFile,
		"fleet.password_file":          &c.Fleet.PasswordFile,
		"fleet.sentinel_password_file": &c.Fleet.SentinelPasswordFile,
	}
}

// ParseThreshold reads the threshold as a flag or the environment gives it; source
// names where it comes from in the error.
func ParseThreshold(source, text string) (float64, error) {
	t, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a number%s", source, text, cmp.Or(percentage(text, reflect.Float64), ": write a ratio between 0 and 1, such as 0.12"))
	}
	if err := verdict.ValidateThreshold(t); err != nil {
		return 0, fmt.Errorf("%s: %w", source, err)
	}
	return t, nil
}
