package publish

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"

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
	for at := range d.below(dir) {
		err := os.Mkdir(at, 0o755)
		if errors.Is(err, fs.ErrExist) {
			err = noForeignLink(at)
		}
		if err != nil {
			return err
		}
		if err := d.system.sync(filepath.Dir(at)); err != nil {
			return err
		}
	}
	return nil
}

// below yields the directories from the one to publish in down to another one, which is the
// last.
func (d *Directory) below(dir string) iter.Seq[string] {
	return func(yield func(string) bool) {
		relative, err := filepath.Rel(d.path, dir)
		if err != nil { // never: both are absolute
			return
		}
		at := d.path
		for part := range strings.SplitSeq(relative, string(filepath.Separator)) {
			if at = filepath.Join(at, part); !yield(at) {
				return
			}
		}
	}
}

// noForeignLinks fails where somebody else's symbolic link is on the way to a directory: it
// would decide where we write. Our own links, and the administrator's, are meant.
func (d *Directory) noForeignLinks(dir string) error {
	for at := range d.below(dir) {
		if err := noForeignLink(at); err != nil {
			return err
		}
	}
	return nil
}

func noForeignLink(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if ok && (owner.Uid == 0 || int(owner.Uid) == os.Geteuid()) {
		return nil
	}
	return fmt.Errorf("%s is a symbolic link of another user, which is not followed: move it elsewhere", path)
}
