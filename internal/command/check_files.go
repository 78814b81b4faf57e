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
		_, err := runner.CheckCorpus(entry.Quality.Corpus)
		check("quality.corpus", err)
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
