// Package model knows which models there are, and what is to be decided of them. Discover
// makes models of the files in a directory, Found.Select makes models of the patterns that
// somebody writes, and NewPlan makes pairs of the entries of the schedule: a model and a
// target, each pair under one entry.
package model

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
)

// Model is one GGUF file, or one split set.
//
// Its name is its path relative to the model directory, with slashes, without ".gguf"; a
// split set is named by its first file. Files in a cache of huggingface_hub are named after
// repository and file, and Ollama's files as Ollama names them, so that their names outlast a
// new revision. So a name is unique, and stays the same whatever else comes or goes. A model
// outside of the model directory is named by its absolute path. Without a model directory it
// is named by its base name, or by its absolute path if another model of the same selection
// has that base name. Bytes in a file's name that are not UTF-8 are written \xff, and a
// backslash before an x is written \x5c, so that a name can be a label and is still unique.
type Model struct {
	Name  string
	Path  string   // absolute, of the first file
	Files []string // all files in order; the first is Path
	Size  int64    // bytes, all files together
	IDs   []FileID // the files as they were when Header was read
	// Header is the model's header; for a split set, of all its files together. Nil
	// when Err is set.
	Header *gguf.Header
	// Err says why the model, which was asked for, cannot be used: it is cut off, a file of
	// its set is missing, it cannot be read. Nothing but Name and Path is set then.
	Err error
}

// OriginalFormat returns the format that copies of the model are compared in: the baseline, or the
// model's own where that is ""; "" when the model cannot be read.
func (m Model) OriginalFormat(baseline string) string {
	if m.Header == nil {
		return ""
	}
	return cmp.Or(baseline, m.Header.Format)
}

// ComparableWith returns an error that says why a file cannot be a copy of the model; nil
// where it may be one, or where either cannot be read.
func (m Model) ComparableWith(file Model) error {
	if m.Header == nil || file.Header == nil {
		return nil
	}
	is, was := file.Header, m.Header
	switch {
	case is.Architecture != was.Architecture:
		return fmt.Errorf("%s is of the architecture %q and %s of %q: they cannot be compared, so name a quantized file of that model",
			file.Path, is.Architecture, m.Path, was.Architecture)
	case is.Vocabulary != was.Vocabulary:
		return fmt.Errorf("%s has a vocabulary of %d tokens and %s one of %d: they cannot be compared, so name a quantized file of that model",
			file.Path, is.Vocabulary, m.Path, was.Vocabulary)
	}
	return nil
}

// modelName makes a name of a path.
func modelName(path string) string {
	return printable(strings.TrimSuffix(filepath.ToSlash(path), extension))
}

// printable writes a file's name so that it is valid UTF-8, and no two alike.
func printable(name string) string {
	if utf8.ValidString(name) && !strings.Contains(name, `\x`) {
		return name
	}
	var out strings.Builder
	for len(name) > 0 {
		r, size := utf8.DecodeRuneInString(name)
		if r == utf8.RuneError && size == 1 || strings.HasPrefix(name, `\x`) {
			fmt.Fprintf(&out, `\x%02x`, name[0])
		} else {
			out.WriteString(name[:size])
		}
		name = name[size:]
	}
	return out.String()
}

// unit is what makes one model: a file, or the files of a split set.
type unit struct {
	path    string   // relative to the model directory, or absolute; of the first file
	files   []string // likewise, those that are there, in order
	keys    []fileKey
	missing []string // base names of the files of the set that are not there
	linked  bool     // at least one was reached through a symbolic link
	err     error    // why the only file cannot be looked at
	beside  string   // path of what stands beside a file that is still arriving; "" for none
	naming
}

// key identifies the unit by its files, or by its path where none is there.
func (u *unit) key() string {
	if len(u.keys) == 0 {
		return u.path
	}
	return fmt.Sprint(u.keys, u.missing)
}

// arriving looks for a download of the unit's files that goes on; dir is what its paths are
// relative to.
func (u *unit) arriving(dir string, downloads arrivals) {
	paths := func(names []string, below string) []string {
		all := make([]string, len(names))
		for i, name := range names {
			all[i] = under(dir, filepath.Join(below, name))
		}
		return all
	}
	u.beside = downloads.of(paths(u.files, ""), paths(u.missing, filepath.Dir(u.path)))
}

// read reads the unit's header; dir is what its paths are relative to.
func (u *unit) read(dir string) (Model, error) {
	model := Model{Name: u.name, Path: under(dir, u.path)}
	if u.beside != "" {
		return model, fmt.Errorf("%w: it is still arriving, as %q is there: wait until the download has ended, or remove that if it has", gguf.ErrIncomplete, u.beside)
	}
	if len(u.missing) > 0 {
		for _, file := range u.files { // the last one may still be written, and others come after it
			if _, err := gguf.Read(under(dir, file)); errors.Is(err, gguf.ErrIncomplete) {
				return model, err
			}
		}
		err := fmt.Errorf("%q is a split model of which files are missing: %s", model.Path, list(u.missing, 3))
		if age := time.Since(u.newest(dir)); 0 <= age && age < youngSet {
			err = fmt.Errorf("%w: %w, and the last one came within a day, so they may still arrive", gguf.ErrIncomplete, err)
		}
		return model, err
	}
	if u.err != nil {
		return model, u.err
	}
	files := make([]string, len(u.files))
	for i, file := range u.files {
		files[i] = under(dir, file)
	}
	header, err := gguf.ReadSet(files)
	if err != nil {
		return model, err
	}
	model.Files = files
	model.Header = header
	ids, err := model.Identity()
	if err != nil {
		return model, err
	}
	model.IDs = ids
	for _, id := range ids {
		model.Size += id.Size
	}
	return model, nil
}

// newest returns when the last of the files came, or was written to; zero when nobody knows.
func (u *unit) newest(dir string) time.Time {
	var last time.Time
	for _, file := range u.files {
		if info, err := os.Stat(under(dir, file)); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last
}

func under(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// list quotes at most limit of the names and counts the rest.
func list(names []string, limit int) string {
	quoted := make([]string, 0, limit)
	for i, name := range names {
		if i == limit {
			return fmt.Sprintf("%s and %d more", strings.Join(quoted, ", "), len(names)-limit)
		}
		quoted = append(quoted, fmt.Sprintf("%q", name))
	}
	return strings.Join(quoted, ", ")
}
