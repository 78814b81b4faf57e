package model

import (
	"cmp"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
)

// extension is what models are found by, in this case only.
const extension = ".gguf"

// Found is what Discover found. The zero value is a Found without a model directory:
// Select then takes paths only.
type Found struct {
	Dir             string    // absolute; "" without a model directory
	AllowRequantize bool      // quantized models are models, too
	Models          []Model   // sorted by name
	Skipped         []Skipped // what was passed over, sorted by name

	places    map[fileKey]string // name by file, for what is asked for by another path
	quantized []Model            // Skipped for being quantized already, and nothing else
}

// Skipped is a file that was passed over.
type Skipped struct {
	Name   string // as a model's would be
	Path   string // absolute
	Reason string // why, to follow the file's name and a colon
	// Err says why a file that should be a model cannot be read: it is cut off, damaged,
	// part of a set that is not complete, of a kind that llama.cpp does not read. Nil when
	// it is something else.
	Err error
	// older says that nothing but its age is a reason: whoever names it gets it.
	older bool
}

// Discover finds the models under dir: every "*.gguf", recursively, through symbolic
// links to files and to directories. Hidden files and directories are not looked at.
// Each directory is searched once, by the way it is found first, so that loops end.
//
// A file under several names, through symbolic or hard links, is one model, named by
// the path that goes through no symbolic link, else by the first in byte order; Select
// finds it by the others, too.
//
// It passes over files that are not language models which generate text (encoders, draft
// heads, adapters, projectors, importance matrices), files that are quantized already unless
// allowRequantize, and what cannot be read. The reason is in Skipped, and in logger at debug
// level; logger may be nil. It returns an error if dir itself cannot be searched. With dir ""
// it finds nothing.
//
// The directories in without, which need not exist, and working directories of cycles are
// never searched, by whichever way they are reached: what is in them was made from models. A
// directory that contains dir is searched all the same.
func Discover(dir string, allowRequantize bool, logger *slog.Logger, without ...string) (Found, error) {
	found := Found{AllowRequantize: allowRequantize, places: map[fileKey]string{}}
	if dir == "" {
		return found, nil
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return Found{}, fmt.Errorf("searching the model folder %q: %w", dir, err)
	}
	found.Dir = absolute
	s := search{dir: absolute, seen: map[fileKey]bool{}, files: map[string]file{}, hubs: hubs{}, ollama: map[string]string{}}
	s.leaveOut(without)
	if err := s.run(); err != nil {
		return Found{}, err
	}
	found.Skipped = s.skipped
	found.read(distinct(s.units()))
	if logger != nil {
		for _, skipped := range found.Skipped {
			logger.Debug("passed over", "name", skipped.Name, "path", skipped.Path, "reason", skipped.Reason)
		}
	}
	return found, nil
}

// headersAtOnce bounds how many headers are read at the same time: enough to hide the
// latency of a network file system.
const headersAtOnce = 8

// read reads the units' headers and sorts them into models and others.
func (f *Found) read(units []*unit) {
	downloads := arrivals{}
	for _, unit := range units {
		unit.arriving(f.Dir, downloads)
	}
	type outcome struct {
		model Model
		err   error
	}
	outcomes := make([]outcome, len(units))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(headersAtOnce, len(units)) {
		workers.Go(func() {
			for i := range next {
				outcomes[i].model, outcomes[i].err = units[i].read(f.Dir)
			}
		})
	}
	for i := range units {
		next <- i
	}
	close(next)
	workers.Wait()

	for i, unit := range units {
		f.add(outcomes[i].model, unit.older, outcomes[i].err)
		for _, key := range unit.keys {
			if _, taken := f.places[key]; !taken { // a file may belong to two sets
				f.places[key] = outcomes[i].model.Name
			}
		}
	}
	slices.SortFunc(f.Models, func(a, b Model) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(f.Skipped, func(a, b Skipped) int { return strings.Compare(a.Name, b.Name) })
}

// add takes in one model, or what turned out to be none.
func (f *Found) add(model Model, older string, err error) {
	if err != nil {
		f.Skipped = append(f.Skipped, Skipped{Name: model.Name, Path: model.Path, Reason: "unusable: " + err.Error(), Err: err})
		return
	}
	if reason := unsuited(model.Header, f.AllowRequantize); reason != "" {
		f.Skipped = append(f.Skipped, Skipped{Name: model.Name, Path: model.Path, Reason: reason})
		if older == "" && unsuited(model.Header, true) == "" {
			f.quantized = append(f.quantized, model)
		}
		return
	}
	if older != "" {
		f.Skipped = append(f.Skipped, Skipped{
			Name: model.Name, Path: model.Path, older: true,
			Reason: fmt.Sprintf("an older revision of %s in a cache of Hugging Face, as refs/main leads to another: name it, to judge it", older),
		})
		return
	}
	f.Models = append(f.Models, model)
}

// requantized is what would have been found if quantized models were allowed.
func (f Found) requantized() Found {
	if f.AllowRequantize {
		return f
	}
	f.AllowRequantize = true
	f.Models = slices.Concat(f.Models, f.quantized)
	slices.SortFunc(f.Models, byName)
	f.Skipped = slices.DeleteFunc(slices.Clone(f.Skipped), func(s Skipped) bool {
		return slices.ContainsFunc(f.quantized, func(m Model) bool { return m.Name == s.Name })
	})
	f.quantized = nil
	return f
}

// file is a "*.gguf" that was found.
type file struct {
	key    fileKey
	linked bool // reached through a symbolic link
	err    error
}

// search walks a model directory.
type search struct {
	dir     string
	seen    map[fileKey]bool // directories
	files   map[string]file  // by path relative to dir
	links   []string         // directories behind symbolic links, yet to be searched
	skipped []Skipped
	without []string // directories that hold no models, without symbolic links in their paths
	hubs    hubs
	ollama  map[string]string // names of Ollama's blobs, by path relative to dir
}

// leaveOut notes the directories that hold no models.
func (s *search) leaveOut(folders []string) {
	dir, err := filepath.EvalSymlinks(s.dir)
	if err != nil {
		return // which run will say
	}
	for _, folder := range folders {
		absolute, err := filepath.Abs(folder)
		if folder == "" || err != nil {
			continue
		}
		resolved, err := filepath.EvalSymlinks(absolute)
		if err != nil || isBelow(dir, resolved) {
			continue
		}
		s.without = append(s.without, resolved)
	}
}

// holdsNone reports whether a path, which is relative to dir, leads to where no models are.
func (s *search) holdsNone(path string) bool {
	resolved, err := filepath.EvalSymlinks(filepath.Join(s.dir, path))
	if err != nil {
		return false
	}
	return disk.InWorkingDir(resolved) || slices.ContainsFunc(s.without, func(folder string) bool { return isBelow(resolved, folder) })
}

// isBelow reports whether a path is a directory, or in it.
func isBelow(path, folder string) bool {
	relative, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(relative)
}

// run walks what is under the directory itself first and what is behind links to
// directories after that, so that a file's plain path is known before another one.
func (s *search) run() error {
	info, err := os.Stat(s.dir)
	switch {
	case err != nil:
		return fmt.Errorf("searching the model folder: %w: name the folder that holds your models with --model-dir (or MODEL_DIR)", err)
	case !info.IsDir():
		return fmt.Errorf("the model folder %q is not a folder: name one with --model-dir (or MODEL_DIR), and a single file with --model", s.dir)
	}
	s.seen[keyOf(info)] = true
	if err := s.walk(".", false); err != nil {
		return fmt.Errorf("searching the model folder: %w: is this user allowed to read it?", err)
	}
	for len(s.links) > 0 {
		link := s.links[0]
		s.links = s.links[1:]
		s.enter(link, true)
	}
	return nil
}

// enter walks a directory below the first one, once; one that cannot be read is passed
// over ("lost+found" is not a failure).
func (s *search) enter(path string, linked bool) {
	info, err := os.Stat(filepath.Join(s.dir, path))
	if err == nil {
		key := keyOf(info)
		if s.seen[key] {
			return
		}
		s.seen[key] = true
		err = s.walk(path, linked)
	}
	if err != nil {
		s.skipped = append(s.skipped, Skipped{Name: modelName(path), Path: filepath.Join(s.dir, path), Reason: fmt.Sprintf("a folder that cannot be searched: %v", err)})
	}
}

func (s *search) walk(dir string, linked bool) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, dir))
	if err != nil {
		return err
	}
	if isOllama(entries) {
		s.takeOllama(dir, linked)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		switch {
		case entry.IsDir():
			if !s.holdsNone(path) {
				s.enter(path, linked)
			}
		case entry.Type()&fs.ModeSymlink != 0:
			if !s.holdsNone(path) {
				s.follow(path)
			}
		case entry.Type().IsRegular() && strings.HasSuffix(path, extension):
			s.take(path, linked)
		}
	}
	return nil
}

// takeOllama takes the models of a folder of Ollama's. Of a blob with several names the first is
// taken.
func (s *search) takeOllama(dir string, linked bool) {
	blobs := ollama(filepath.Join(s.dir, dir))
	for _, name := range slices.Sorted(maps.Keys(blobs)) {
		blob := filepath.Join(dir, blobs[name])
		if _, named := s.ollama[blob]; named || statFile(filepath.Join(s.dir, blob)).err != nil { // or it was removed, or has yet to come
			continue
		}
		s.ollama[blob] = printable(path.Join(filepath.ToSlash(dir), name))
		s.take(blob, linked)
	}
}

// follow looks at where a symbolic link leads.
func (s *search) follow(path string) {
	info, err := os.Stat(filepath.Join(s.dir, path))
	switch {
	case err == nil && info.IsDir():
		s.links = append(s.links, path)
	case strings.HasSuffix(path, extension) && (err != nil || info.Mode().IsRegular()):
		s.take(path, true)
	}
}

func (s *search) take(path string, linked bool) {
	f := statFile(filepath.Join(s.dir, path))
	f.linked = linked
	s.files[path] = f
}

// statFile looks at a file that is there, or should be.
func statFile(path string) file {
	info, err := os.Stat(path)
	if err != nil { // a link to nothing, or a file that has gone since
		return file{err: fmt.Errorf("looking at the model's file: %w", err)}
	}
	return file{key: keyOf(info)}
}

// units puts the files of split sets together.
func (s *search) units() []*unit {
	units := map[string]*unit{}
	for path := range s.files {
		first, _ := shards(path)
		if units[first] == nil {
			units[first] = s.unit(path)
		}
	}
	all := make([]*unit, 0, len(units))
	names := map[string]int{}
	for _, unit := range units {
		all = append(all, unit)
		names[unit.name]++
	}
	for _, unit := range all {
		if plain := modelName(unit.path); names[unit.name] > 1 && plain != unit.name {
			unit.naming = naming{name: plain, later: true} // another file has that path
		}
	}
	return all
}

// unit makes the unit that the file at path belongs to.
func (s *search) unit(path string) *unit {
	u := newUnit(path, func(path string) file {
		if found, ok := s.files[path]; ok {
			return found
		}
		return file{err: fs.ErrNotExist}
	})
	if name, ok := s.ollama[path]; ok {
		u.naming = naming{name: name}
	} else if n, ok := s.hubs.name(s.dir, u.path); ok {
		u.naming = n
	}
	return u
}

// newUnit makes the unit that the file at path belongs to; look gives the file at a
// path.
func newUnit(path string, look func(path string) file) *unit {
	first, paths := shards(path)
	u := &unit{path: first, naming: naming{name: modelName(first)}}
	_, _, _, split := gguf.ShardName(filepath.Base(path))
	for path := range paths {
		file := look(path)
		switch {
		case file.err != nil && split:
			u.missing = append(u.missing, filepath.Base(path))
			continue
		case file.err != nil:
			u.err = file.err
			continue
		}
		u.files = append(u.files, path)
		u.keys = append(u.keys, file.key)
		u.linked = u.linked || file.linked
	}
	return u
}

// shards returns the paths of the set that the file at path belongs to, the first of them
// by itself; a file that is not split is a set of its own.
func shards(path string) (first string, all func(yield func(string) bool)) {
	dir, base := filepath.Split(path)
	prefix, _, count, ok := gguf.ShardName(base)
	if !ok {
		return path, func(yield func(string) bool) { yield(path) }
	}
	shard := func(no int) string { return dir + gguf.ShardPath(prefix, no, count) }
	return shard(1), func(yield func(string) bool) {
		for no := range count {
			if !yield(shard(no + 1)) {
				return
			}
		}
	}
}

// distinct keeps one of the units with the same files: one that is not behind a symbolic
// link, else one that a main revision leads to, else the first by path.
func distinct(units []*unit) []*unit {
	slices.SortFunc(units, func(a, b *unit) int {
		return cmp.Or(falseFirst(a.linked, b.linked), falseFirst(a.later, b.later), strings.Compare(a.path, b.path))
	})
	seen := map[string]bool{}
	units = slices.DeleteFunc(units, func(u *unit) bool {
		duplicate := seen[u.key()]
		seen[u.key()] = true
		return duplicate
	})
	return units
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
