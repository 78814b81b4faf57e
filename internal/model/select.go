package model

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

// Select returns the models that the patterns name, each once, sorted by name; without
// patterns, all. A pattern is, in this order,
//
//   - the name of a model, or another path to it under the model directory, with or
//     without ".gguf";
//   - the path of a "*.gguf", relative to the current directory or absolute, inside the
//     model directory or not; any file of a split set will do;
//   - a glob over names: * matches anything, also nothing and across slashes, ? one
//     character, [a-z] one of a range, and \ takes the next character as it is. A glob
//     that fits itself, such as *, or a model, is never taken for the name of a file.
//
// A pattern behind an exclamation mark excludes models from what the others name, or from
// all models.
//
// A model that was asked for and cannot be read comes back with its Err set, so that the
// others are not held up. Globs pass over files that are still being written or that
// llama.cpp does not read, and bring others that cannot be read with their Err set: a
// damaged model is to be seen. Select fails if a pattern names nothing that could be a
// model; the message says what is there instead.
func (f Found) Select(patterns []string) ([]Model, error) {
	if len(patterns) == 0 {
		patterns = []string{"*"}
	}
	leftOut, err := f.leftOut(patterns)
	if err != nil {
		return nil, err
	}
	var all []Model
	for _, s := range f.selectEach(config.Included(patterns)) {
		if s.err != nil {
			return nil, s.err
		}
		all = append(all, slices.DeleteFunc(s.models, leftOut)...)
	}
	slices.SortFunc(all, byName)
	return slices.CompactFunc(all, func(a, b Model) bool { return a.Name == b.Name }), nil
}

// leftOut makes the test by which patterns behind an exclamation mark leave models out.
func (f Found) leftOut(patterns []string) (func(Model) bool, error) {
	var tests []func(Model) bool
	for _, pattern := range patterns {
		of, excluded := config.Excluded(pattern)
		if !excluded {
			continue
		}
		fits, err := globbed(of)
		if err != nil {
			return nil, err
		}
		tests = append(tests, func(m Model) bool {
			if m.Name == strings.TrimSuffix(of, extension) || fits(m.Name) {
				return true
			}
			return slices.ContainsFunc(f.paths(of), func(path string) bool {
				absolute, err := filepath.Abs(path)
				return err == nil && (absolute == m.Path || slices.Contains(m.Files, absolute))
			})
		})
	}
	return func(m Model) bool {
		return slices.ContainsFunc(tests, func(test func(Model) bool) bool { return test(m) })
	}, nil
}

// selected is what one pattern names: models, or nothing, and why.
type selected struct {
	models []Model
	err    error
}

// selectEach selects by each pattern, as Select does by all; a model has the same name in
// each of them.
func (f Found) selectEach(patterns []string) []selected {
	all := make([]selected, len(patterns))
	var outside []*Model
	for i, pattern := range patterns {
		inside, file, err := f.match(pattern)
		all[i] = selected{inside, err}
		if file != nil {
			all[i].models = []Model{*file}
			outside = append(outside, &all[i].models[0])
		}
	}
	f.nameOutside(outside)
	return all
}

func byName(a, b Model) int { return strings.Compare(a.Name, b.Name) }

// File finds one file to compare a model with, quantized or not, by its name or path:
// see Select, which also names what is not to be found. A file that is there and cannot be
// used, such as one that is cut off, comes back with its Err set.
func (f Found) File(name string) (Model, error) {
	if config.IsGlob(name) {
		return Model{}, fmt.Errorf("%q is a pattern: name one file, or a link to it", name)
	}
	f.AllowRequantize = true // a quantized file is not passed over
	inside, outside, err := f.match(name)
	switch {
	case err != nil:
		return Model{}, err
	case outside != nil:
		f.nameOutside([]*Model{outside})
		return *outside, nil
	default:
		return inside[0], nil
	}
}

// match finds what one pattern names: models of the directory, or one file beside them,
// which is named by its absolute path.
func (f Found) match(pattern string) (inside []Model, outside *Model, err error) {
	if f.isPattern(pattern) { // whatever a file is called: it takes the place of no pattern
		inside, err = f.glob(pattern)
		return inside, nil, err
	}
	if model, ok, err := f.named(pattern); ok {
		return []Model{model}, nil, err
	}
	for _, file := range f.paths(pattern) {
		info, err := os.Stat(file)
		if err != nil || info.IsDir() {
			continue
		}
		absolute, err := filepath.Abs(file)
		if err != nil {
			return nil, nil, fmt.Errorf("finding the model %q: %w", file, err)
		}
		if model, ok, err := f.named(f.nameOf(absolute, keyOf(info))); ok {
			return []Model{model}, nil, err
		}
		if !strings.HasSuffix(file, extension) {
			if config.IsGlob(pattern) {
				continue
			}
			return nil, nil, fmt.Errorf("%q is not named *%s, as models are: give it such a name, or name a link to it", file, extension)
		}
		model, err := f.load(absolute)
		return nil, &model, err
	}
	if !config.IsGlob(pattern) {
		return nil, nil, f.notFound(pattern)
	}
	inside, err = f.glob(pattern)
	return inside, nil, err
}

// named finds a model, or what was passed over, by its name.
func (f Found) named(name string) (model Model, ok bool, err error) {
	if i, ok := slices.BinarySearchFunc(f.Models, name, func(m Model, name string) int { return strings.Compare(m.Name, name) }); ok {
		return f.Models[i], true, nil
	}
	for i := range f.Skipped {
		if s := &f.Skipped[i]; s.Name == name {
			model, err := f.asModel(s)
			return model, true, err
		}
	}
	return Model{}, false, nil
}

// asModel returns what becomes of a passed-over file that someone asks for: it may have been
// passed over for being quantized.
func (f Found) asModel(s *Skipped) (Model, error) {
	if s.Err != nil || !f.AllowRequantize && !s.older {
		return s.asModel()
	}
	model, err := f.load(s.Path)
	model.Name = s.Name
	return model, err
}

func (s *Skipped) asModel() (Model, error) {
	if s.Err != nil {
		return Model{Name: s.Name, Path: s.Path, Err: s.Err}, nil
	}
	return Model{}, fmt.Errorf("%q cannot be used: it is %s", s.Path, s.Reason)
}

// paths returns the files that a pattern may mean.
func (f Found) paths(pattern string) []string {
	var paths []string
	if f.Dir != "" && !explicit(pattern) {
		file := filepath.Join(f.Dir, filepath.FromSlash(pattern))
		paths = append(paths, file+extension, file)
	}
	return append(paths, pattern)
}

// explicit reports whether a pattern is a path, and no name.
func explicit(pattern string) bool {
	return filepath.IsAbs(pattern) || strings.HasPrefix(pattern, "./") || strings.HasPrefix(pattern, "../")
}

// isPattern reports whether a glob is one, even if a file has its name: it fits a model, or a
// model of its own name.
func (f Found) isPattern(pattern string) bool {
	if !config.IsGlob(pattern) || explicit(pattern) {
		return false
	}
	fits, err := globbed(pattern)
	if err != nil {
		return false
	}
	return fits(strings.TrimSuffix(pattern, extension)) ||
		slices.ContainsFunc(f.Models, func(m Model) bool { return fits(m.Name) })
}

// nameOf returns the name under which Discover knows a file: by its path, else by the file
// itself, as two sets may have one in common. "" when Discover did not see it.
func (f Found) nameOf(absolute string, key fileKey) string {
	if f.Dir != "" {
		if relative, err := filepath.Rel(f.Dir, absolute); err == nil {
			first, _ := shards(relative)
			name := modelName(first)
			if n, ok := (hubs{}).name(f.Dir, first); ok {
				name = n.name
			}
			if _, ok, _ := f.named(name); ok {
				return name
			}
		}
	}
	return f.places[key]
}

// missing returns the model that a pattern names and that is not there, under the name that it
// would have.
func (f Found) missing(pattern string, err error) Model {
	name := modelName(pattern)
	if f.Dir == "" {
		name = path.Base(name)
	} else if relative, err := filepath.Rel(f.Dir, pattern); filepath.IsAbs(pattern) && err == nil && filepath.IsLocal(relative) {
		name = modelName(relative)
	}
	return Model{Name: name, Path: pattern, Err: err}
}

// load reads a model that Discover did not see.
func (f Found) load(absolute string) (Model, error) {
	unit := newUnit(absolute, statFile)
	if n, ok := (hubs{}).name("", unit.path); ok {
		unit.naming = n
	}
	unit.arriving("", arrivals{})
	model, err := unit.read("")
	if err != nil {
		return Model{Name: model.Name, Path: model.Path, Err: err}, nil
	}
	if reason := unsuited(model.Header, f.AllowRequantize); reason != "" {
		skipped := Skipped{Path: model.Path, Reason: reason}
		return skipped.asModel()
	}
	return model, nil
}

// nameOutside names models beside the model directory. A file has one name, whichever of
// its paths a pattern is. Where there is no model directory, that is the base name, unless
// another file has the same.
func (f Found) nameOutside(models []*Model) {
	slices.SortStableFunc(models, func(a, b *Model) int { return byName(*a, *b) })
	first := map[fileKey]*Model{}
	var distinct []*Model
	for _, model := range models {
		file := statFile(model.Path)
		if one := first[file.key]; file.err == nil && one != nil {
			*model = *one
			continue
		}
		first[file.key] = model
		distinct = append(distinct, model)
	}
	if f.Dir != "" {
		return
	}
	count := map[string]int{}
	for _, model := range distinct {
		count[path.Base(model.Name)]++
	}
	for _, model := range models {
		if base := path.Base(model.Name); count[base] == 1 {
			model.Name = base
		}
	}
}

// globbed makes the test of a glob over names; path.Match keeps * from slashes, so both
// sides get another byte instead, which no file's name can have.
func globbed(pattern string) (fits func(name string) bool, err error) {
	unslash := strings.NewReplacer("/", "\x00")
	glob := unslash.Replace(strings.TrimSuffix(pattern, extension)) // names have none
	if _, err := path.Match(glob, ""); err != nil {
		return nil, fmt.Errorf("the model pattern %q is malformed: a [ needs its ], and a \\ something after it", strings.TrimSuffix(pattern, extension))
	}
	return func(name string) bool {
		ok, err := path.Match(glob, unslash.Replace(name))
		return ok && err == nil
	}, nil
}

// glob finds the models whose names fit.
func (f Found) glob(pattern string) ([]Model, error) {
	matches, err := globbed(pattern)
	if err != nil {
		return nil, err
	}
	pattern = strings.TrimSuffix(pattern, extension)
	var models []Model
	for _, model := range f.Models {
		if matches(model.Name) {
			models = append(models, model)
		}
	}
	for i := range f.Skipped {
		s := &f.Skipped[i]
		if !s.quiet() && matches(s.Name) {
			models = append(models, Model{Name: s.Name, Path: s.Path, Err: s.Err})
		}
	}
	if len(models) > 0 {
		return models, nil
	}
	var passed []string
	for _, s := range f.Skipped {
		if matches(s.Name) {
			passed = append(passed, fmt.Sprintf("%q: %s", s.Name, s.Reason))
		}
	}
	return nil, f.noMatch(pattern, passed)
}

// noMatch returns the error of a glob that no model fits.
func (f Found) noMatch(pattern string, passed []string) error {
	const most = 10
	switch {
	case len(passed) > most:
		passed = append(passed[:most:most], fmt.Sprintf("and %d more (--log.level=debug lists all)", len(passed)-most))
		fallthrough
	case len(passed) > 0:
		return fmt.Errorf("no model in %q fits %q; passed over: %s", f.Dir, pattern, strings.Join(passed, "; "))
	case f.Dir == "":
		return fmt.Errorf("no model fits %q, as there is no model folder: name one with --model-dir (or MODEL_DIR)", pattern)
	case len(f.Models) == 0:
		return fmt.Errorf("no model in %q: there is no *%s in it or below it", f.Dir, extension)
	}
	return f.notFound(pattern)
}

// notFound returns the error of a pattern that names nothing.
func (f Found) notFound(pattern string) error {
	if info, err := os.Stat(pattern); err == nil && info.IsDir() {
		return fmt.Errorf("%q is a folder: name it with --model-dir, or a file in it with --model", pattern)
	}
	if f.Dir == "" {
		return fmt.Errorf("there is no file %q, and no model folder to look for the name in: check the path, or name a folder with --model-dir (or MODEL_DIR)", pattern)
	}
	var names, near []string
	for i := range f.Models {
		name := f.Models[i].Name
		names = append(names, name)
		if similar(name, pattern) {
			near = append(near, name)
		}
	}
	for i := range f.Skipped {
		if s := &f.Skipped[i]; f.AllowRequantize && s.Err == nil && similar(s.Name, pattern) {
			near = append(near, s.Name)
		}
	}
	switch {
	case len(near) > 0:
		return fmt.Errorf("no model in %q and no file is named %q: did you mean %s?", f.Dir, pattern, list(near, 5))
	case len(names) == 1:
		return fmt.Errorf("no model in %q and no file is named %q: the only model is %q", f.Dir, pattern, names[0])
	case len(names) > 0:
		return fmt.Errorf("no model in %q and no file is named %q: the models are %s", f.Dir, pattern, list(names, 5))
	}
	return fmt.Errorf("no file is named %q, and there is no model in %q", pattern, f.Dir)
}

// similar reports whether one of two names, without directory, extension and case, is part
// of the other.
func similar(a, b string) bool {
	bare := func(name string) string {
		return strings.ToLower(strings.TrimSuffix(path.Base(name), extension))
	}
	a, b = bare(a), bare(b)
	return strings.Contains(a, b) || strings.Contains(b, a)
}
