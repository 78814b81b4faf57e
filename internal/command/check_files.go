package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/runner"
)

// checkFiles finds what an entry names and a cycle would miss at night: the text that
// quality is evaluated on, importance matrices of recipes, and a directory to publish in.
func (p *Program) checkFiles(entry config.Entry) error {
	var bad []error
	check := func(key string, err error) {
		if err != nil {
			bad = append(bad, fmt.Errorf("%s:%d: schedule: entry %q: %s: %w", p.flags.ConfigFile, entry.Line, entry.Name, key, err))
		}
	}
	if entry.Quality.Enabled() {
		check("quality.corpus", readable(entry.Quality.Corpus))
	}
	for _, recipe := range entry.Recipes {
		if recipe.Imatrix == "" || runner.PerModel(recipe.Imatrix) {
			continue
		}
		if _, err := runner.MatrixFile(recipe.Imatrix); err != nil {
			check("targets", fmt.Errorf("imatrix of %s: %w", recipe.Name, err))
		}
	}
	if entry.Publish.Enabled() {
		check("publish.dir", writable(entry.Publish.Dir))
	}
	return errors.Join(bad...)
}

func readable(file string) error {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return fmt.Errorf("%w: name the file of a text", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file: name a text file", file)
	}
	if err := unix.Access(file, unix.R_OK); err != nil {
		return fmt.Errorf("%s cannot be read: %w", file, err)
	}
	return nil
}

// writable reports whether something can be put into a directory, which need not exist yet.
func writable(dir string) error {
	at, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	info, err := os.Stat(at)
	for errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		info, err = os.Stat(at)
	}
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder: name another one", at)
	}
	if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("%s cannot be written to: %w: give this user the right, or name another folder", at, err)
	}
	return nil
}
