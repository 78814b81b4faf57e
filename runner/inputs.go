package runner

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
)

// Inputs are what a decision depends on, files by their content: where they are the same,
// measuring again would only find the same noise. Nobody changes one that is in use.
type Inputs struct {
	// Source is the SHA-256 of the model's file, in hexadecimal; for a split set, of the
	// lines with its files' own sums, in their order.
	Source string   `json:"source"`
	Engine EngineID `json:"engine"`
	// Hardware names the machine, and Driver its kernel and the drivers of its GPUs.
	Hardware string `json:"hardware,omitempty"`
	Driver   string `json:"driver,omitempty"`
	// Devices are the engine's: see EngineInfo.
	Devices string `json:"devices,omitempty"`
	// Method is how the rounds were measured; "" before one. What two methods time is not the
	// same, so that another one explains other figures.
	Method config.Method `json:"method,omitempty"`
	// Backends and GPU are what the measurement ran on; "" before one.
	Backends string `json:"backends,omitempty"`
	GPU      string `json:"gpu,omitempty"`
	// Arguments are the settings that files and figures depend on, and Decision those by
	// which a decision is made of the figures; both by their keys in the configuration.
	// A file that one names is there by its hash.
	Arguments map[string]string `json:"arguments,omitempty"`
	Decision  map[string]string `json:"decision,omitempty"`
	// ByTarget are further Arguments, of targets that are made by a recipe: see Of.
	ByTarget map[string]map[string]string `json:"by_target,omitempty"`
	// Corpus is the SHA-256 of the text; "" where quality is not evaluated.
	Corpus string `json:"corpus,omitempty"`
	// Attempt are the engine's settings on which no figure depends, but whether its tools can
	// do their work at all; see EngineInfo. Changes leaves it out: a decision stays fresh.
	Attempt string `json:"attempt,omitempty"`
}

// Of returns the inputs of a target: its own Arguments are among the others.
func (i Inputs) Of(target string) Inputs {
	if own := i.ByTarget[target]; own != nil {
		all := maps.Clone(own)
		maps.Copy(all, i.Arguments)
		i.Arguments = all
	}
	i.ByTarget = nil
	return i
}

// EngineID tells builds of an engine apart.
type EngineID struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Build   int    `json:"build,omitempty"` // 0 when the tool does not say
	Commit  string `json:"commit,omitempty"`
}

// known reports whether the tool said which build it is.
func (e EngineID) known() bool { return e.Version != "" || e.Build != 0 || e.Commit != "" }

// Input is a group of Inputs. The words are a contract: they are label values of
// quant_cycle_input_changes_total.
type Input string

// The groups, all there are.
const (
	InputSource    Input = "source"    // the model's content
	InputEngine    Input = "engine"    // the build of the tools
	InputHardware  Input = "hardware"  // CPU, cores, memory
	InputDriver    Input = "driver"    // kernel, GPU, its driver, backends
	InputArguments Input = "arguments" // what the tools are given
	InputDecision  Input = "decision"  // threshold, limits, error rate: no figure depends on them
	InputCorpus    Input = "corpus"    // the text that quality is evaluated on
)

// Change is one input that is not what it was.
type Change struct {
	Input Input  `json:"input"`
	Text  string `json:"text"` // "llama.cpp 11669 → 11702"
}

// Changes says in what these inputs differ from earlier ones. What only a measurement
// tells is compared where both know it.
func (i Inputs) Changes(before Inputs) []Change {
	var all []Change
	add := func(input Input, what, was, is string) {
		if was != is {
			all = append(all, Change{input, fmt.Sprintf("%s %s → %s", what, cmp.Or(was, "none"), cmp.Or(is, "none"))})
		}
	}
	measured := func(input Input, what, was, is string) {
		if was != "" && is != "" {
			add(input, what, was, is)
		}
	}
	add(InputSource, "model", shortHash(before.Source), shortHash(i.Source))
	if text := i.Engine.since(before.Engine); text != "" {
		all = append(all, Change{InputEngine, text})
	}
	add(InputHardware, "hardware", before.Hardware, i.Hardware)
	add(InputDriver, "driver", before.Driver, i.Driver)
	measured(InputDriver, "backends", before.Backends, i.Backends)
	if i.Devices == before.Devices { // else a measurement reports the same once more
		measured(InputDriver, "GPU", before.GPU, i.GPU)
	}
	measured(InputArguments, "method", string(before.Method), string(i.Method))
	add(InputDriver, "devices", before.Devices, i.Devices)
	for _, group := range []struct {
		input   Input
		was, is map[string]string
	}{{InputArguments, before.Arguments, i.Arguments}, {InputDecision, before.Decision, i.Decision}} {
		keys := maps.Clone(group.was)
		if keys == nil {
			keys = map[string]string{}
		}
		maps.Copy(keys, group.is)
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			add(group.input, key, group.was[key], group.is[key])
		}
	}
	add(InputCorpus, "text", shortHash(before.Corpus), shortHash(i.Corpus))
	return all
}

// Same reports whether nothing has changed, as far as that shows before a measurement. It is
// false for an engine that does not report its build, because that may have changed.
func (i Inputs) Same(before Inputs) bool {
	return i.Source != "" && i.Engine.known() && len(i.Changes(before)) == 0
}

// SameAttempt reports whether a cycle on the inputs would fare as one on those before: they are
// the Same, and so is the Attempt.
func (i Inputs) SameAttempt(before Inputs) bool { return i.Same(before) && i.Attempt == before.Attempt }

// String names the build as people would.
func (e EngineID) String() string {
	return EngineInfo{Name: e.Name, Version: e.Version, Build: e.Build}.String()
}

// since names the change of an engine by the shortest of its names that differs; "" when
// it is the same.
func (e EngineID) since(before EngineID) string {
	var from, to string
	switch {
	case e == before:
		return ""
	case before.Name != e.Name:
		return before.String() + " → " + e.String()
	case before.Build != e.Build:
		from, to = build(before), build(e)
	case before.Version != e.Version:
		from, to = before.Version, e.Version
	default:
		from, to = before.Commit, e.Commit
	}
	return fmt.Sprintf("%s %s → %s", e.Name, cmp.Or(from, "unknown"), cmp.Or(to, "unknown"))
}

// build returns the number, or what there is in its place.
func build(e EngineID) string {
	if e.Build == 0 {
		return e.Version
	}
	return strconv.Itoa(e.Build)
}

// shortHash is enough of a hash to tell two apart.
func shortHash(hash string) string { return hash[:min(len(hash), 12)] }

// Hashes remember what files hold, so that each is read once. It may be used by several
// goroutines.
type Hashes interface {
	// Hash is the SHA-256, in hexadecimal, that was remembered of the file; false when
	// none was, or of another size or time. Its path does not count.
	Hash(model.FileID) (hash string, known bool)
	// RememberHash takes one in.
	RememberHash(id model.FileID, hash string) error
}

// Inputs finds what a cycle of the request would depend on, as far as that is known before
// a measurement, and starts none. A file whose hash is not remembered is read with the host
// to itself. Targets of the request are not used.
func (r *Runner) Inputs(ctx context.Context, req Request) (Inputs, error) {
	c := newCycle(r, req, nil)
	if err := c.usable(); err != nil {
		return Inputs{}, err
	}
	info, err := r.engine.Probe(ctx)
	if err != nil {
		return Inputs{}, fmt.Errorf("looking at the engine: %w", err)
	}
	c.info = info
	c.ownMatrix()
	if err := c.resolveBaseline(); err != nil {
		return Inputs{}, err
	}
	if !c.hashesKnown() {
		release, err := c.waitForHost(ctx)
		if err != nil {
			return Inputs{}, err
		}
		defer release()
	}
	inputs, err := c.findInputs(ctx)
	if err != nil {
		return Inputs{}, err
	}
	return *inputs, nil
}

// hashesKnown reports whether every hash is remembered, so that nothing has to be read.
func (c *cycle) hashesKnown() bool {
	if c.Hashes == nil {
		return false
	}
	ids := slices.Clone(c.Model.IDs)
	if c.Against != nil {
		ids = append(ids, c.Against.IDs...)
	}
	paths := slices.Collect(maps.Values(c.info.Files))
	for i := range c.Recipes {
		files, err := recipeFiles(&c.Recipes[i], c.Model)
		if err != nil {
			return true // likewise
		}
		paths = slices.AppendSeq(paths, maps.Values(files))
	}
	if c.Quality.Enabled() {
		paths = append(paths, c.Quality.Corpus)
	}
	for _, path := range paths {
		id, err := model.Identify(path)
		if err != nil {
			return true // which findInputs will say
		}
		ids = append(ids, id)
	}
	return !slices.ContainsFunc(ids, func(id model.FileID) bool { _, known := c.Hashes.Hash(id); return !known })
}

// findInputs reads what has to be read.
func (c *cycle) findInputs(ctx context.Context) (*Inputs, error) {
	i := &Inputs{
		Engine:   EngineID{c.info.Name, c.info.Version, c.info.Build, c.info.Commit},
		Hardware: c.Host.Machine(),
		Driver:   c.Host.Driver(),
		Devices:  c.info.Devices,
		Attempt:  c.info.Attempt,
	}
	i.Arguments, i.Decision = c.Settings.Inputs()
	for name, value := range c.info.Arguments {
		i.Arguments["engine."+name] = value
	}
	if c.info.Threads > 0 {
		i.Arguments["engine.threads"] = strconv.Itoa(c.info.Threads)
	}
	var err error
	if i.Source, err = c.hashModel(ctx, c.Model); err != nil {
		return nil, c.blameSource(ctx, err)
	}
	if c.Against != nil {
		if i.Arguments["against"], err = c.hashModel(ctx, *c.Against); err != nil {
			return nil, c.blameSource(ctx, err)
		}
	}
	for name, path := range c.info.Files {
		if i.Arguments["engine."+name], err = c.hashPath(ctx, path); err != nil {
			return nil, Failf(ReasonQuantize, "engine.%s: %w", name, err)
		}
	}
	if c.imatrix != "" {
		if i.Arguments["engine.imatrix"], err = c.hashPath(ctx, c.imatrix); err != nil {
			return nil, Failf(ReasonQuantize, "engine.imatrix: %w", err)
		}
	}
	for n := range c.Recipes {
		recipe := &c.Recipes[n]
		own := map[string]string{"recipe.format": recipe.Format, "recipe.args": fmt.Sprint(config.RedactArgs(recipe.Args))}
		files, err := recipeFiles(recipe, c.Model)
		if err != nil {
			return nil, Failf(ReasonQuantize, "the recipe %s %w", recipe.Name, err)
		}
		for name, path := range files {
			if own["recipe."+name], err = c.hashPath(ctx, path); err != nil {
				return nil, Failf(ReasonQuantize, "%s of the recipe %s: %w", name, recipe.Name, err)
			}
		}
		if i.ByTarget == nil {
			i.ByTarget = map[string]map[string]string{}
		}
		i.ByTarget[recipe.Name] = own
	}
	if c.Quality.Enabled() {
		_, err := CheckCorpus(c.Quality.Corpus)
		if err == nil {
			i.Corpus, err = c.hashPath(ctx, c.Quality.Corpus)
		}
		if err != nil {
			return nil, Failf(ReasonEvaluate, "quality.corpus: %w", err)
		}
	}
	return i, nil
}

// recipeFiles returns the files that a recipe names, as far as they are there: its importance
// matrix, and what its arguments name.
func recipeFiles(r *config.Recipe, m model.Model) (map[string]string, error) {
	all := map[string]string{}
	if matrix, err := recipeMatrix(r, m); err == nil && matrix != "" {
		all["imatrix"] = matrix
	}
	named, err := NamedFiles(r.Args)
	for _, path := range named {
		all["args "+path] = path
	}
	return all, err
}

func (c *cycle) hashModel(ctx context.Context, m model.Model) (string, error) {
	done := int64(0)
	all := sha256.New()
	for _, id := range m.IDs {
		hash, err := c.hash(ctx, id, true, func(read int64) {
			fraction := float64(done+read) / float64(max(m.Size, 1))
			c.Progress(Progress{Model: c.Model.Name, Operation: OperationIsolate, Detail: "reading what the model holds", Done: fraction})
		})
		if err != nil {
			return "", err
		}
		c.contents[id.Path] = hash
		if len(m.IDs) == 1 {
			return hash, nil
		}
		done += id.Size
		fmt.Fprintln(all, hash)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

func (c *cycle) hashPath(ctx context.Context, path string) (string, error) {
	id, err := model.Identify(path)
	if err != nil {
		return "", err
	}
	return c.hash(ctx, id, false, func(int64) {})
}

// settled is how old a file's last modification has to be for its time to tell it from
// the next one: file systems count in steps of up to two seconds.
const settled = 3 * time.Second

// hash returns the SHA-256 of a file, remembered or read. Of a model's file that is read it sees
// whether its weights are there.
func (c *cycle) hash(ctx context.Context, id model.FileID, weights bool, report func(read int64)) (string, error) {
	if c.Hashes != nil {
		if hash, known := c.Hashes.Hash(id); known {
			return hash, nil
		}
	}
	began := time.Now()
	blank := &gguf.Blank{} // to which nothing is missing
	if weights {
		header, err := gguf.Read(id.Path)
		if err != nil {
			return "", err
		}
		blank = header.NewBlank()
	}
	hash, _, err := disk.HashInto(ctx, id.Path, blank, report)
	if err != nil {
		return "", err
	}
	// Whether a file with another number is the same one is asked later, by what was read here.
	now, err := model.Identify(id.Path)
	if err == nil && !id.Renumbered(now) {
		err = model.SameFiles([]model.FileID{id}, []model.FileID{now})
	}
	if err != nil {
		return "", fmt.Errorf("the file changed while it was read: %w", err)
	}
	if err := blank.Err(); err != nil {
		return "", Failf(ReasonBadModel, "%q: %w", id.Path, err)
	}
	if c.Hashes != nil && began.Sub(id.Modified) > settled {
		if err := c.Hashes.RememberHash(id, hash); err != nil {
			c.Logger.Warn("the hash of a file cannot be stored, and will be computed again", "file", id.Path, "err", err)
		}
	}
	return hash, nil
}

// inputsOf returns the inputs of a pair, with what its measurements reported; nil if the
// cycle did not get that far.
func (c *cycle) inputsOf(p *pair) *Inputs {
	if c.inputs == nil {
		return nil
	}
	i := c.inputs.Of(p.target)
	if len(p.rounds) == 0 {
		return &i
	}
	last := p.rounds[len(p.rounds)-1]
	m := last.Original.Measurement
	i.Method, i.Backends, i.GPU = last.Method, m.Backends, m.GPU
	if !i.Engine.known() {
		i.Engine.Build, i.Engine.Commit = m.Build, m.Commit
	}
	return &i
}
