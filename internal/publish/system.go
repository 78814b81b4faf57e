package publish

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/disk"
)

// system is what makes a publication visible and lasting. Tests watch it, and are killed
// within.
type system struct {
	sync    func(path string) error // of a file, or of the names in a directory
	rename  func(from, to string) error
	symlink func(to, path string) error
}

func realSystem() system { return system{disk.Sync, os.Rename, os.Symlink} }

// makeDirs makes a directory below the one to publish in, and those between, and sees that
// their names last: whoever made them may have been killed before that.
func (d *Directory) makeDirs(dir string) error {
	below, err := filepath.Rel(d.path, dir)
	if err != nil {
		return err
	}
	at := d.path
	for part := range strings.SplitSeq(below, string(filepath.Separator)) {
		parent := at
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := d.system.sync(parent); err != nil {
			return err
		}
	}
	return nil
}
