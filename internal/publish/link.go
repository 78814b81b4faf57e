package publish

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var versionName = regexp.MustCompile(`^[0-9a-f]{12}$`)

// link is a stable link: that of a pair, which leads to VERSION, or that of a model, which
// leads to TARGET/VERSION.
type link struct {
	path  string
	parts int // of where it leads to
}

func (p pair) link(chosen bool) link {
	if chosen {
		return link{filepath.Join(p.modelDir, stableLink), 2}
	}
	return link{filepath.Join(p.dir, stableLink), 1}
}

// target is the directory that the link leads to.
func (l link) target(to string) string { return filepath.Join(filepath.Dir(l.path), to) }

// check refuses a link that is not ours, or another model's. One whose version was removed
// by hand is ours by its form.
func (l link) check(model string) error {
	info, err := os.Lstat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("%s is no symbolic link, so not ours: move it elsewhere", l.path)
	}
	to, err := os.Readlink(l.path)
	if err != nil {
		return err
	}
	parts := strings.Split(to, "/")
	if len(parts) != l.parts || !filepath.IsLocal(to) || !versionName.MatchString(parts[len(parts)-1]) {
		return fmt.Errorf("the link %s leads to %q, which is not ours: move the link elsewhere", l.path, to)
	}
	v, err := readVersion(l.target(to))
	switch {
	case errors.Is(err, errNoVersion):
		return nil
	case err != nil:
		return fmt.Errorf("where the link %s leads to: %w", l.path, err)
	case v.Model != model:
		return fmt.Errorf("the link %s is that of the model %q: publish this one elsewhere", l.path, v.Model)
	}
	return nil
}

// point makes the link lead to a version, and reports whether it led elsewhere.
func (d *Directory) point(l link, v Version, incoming string) (moved bool, err error) {
	to, err := filepath.Rel(filepath.Dir(l.path), v.Dir)
	if err != nil {
		return false, err
	}
	// Who watches the link is not to be told of nothing.
	if now, err := os.Readlink(l.path); err != nil || now != to {
		made := filepath.Join(incoming, stableLink)
		if err := os.Symlink(to, made); err != nil {
			return false, err
		}
		if err := d.system.rename(made, l.path); err != nil {
			return false, err
		}
		moved = true
	}
	return moved, d.system.sync(filepath.Dir(l.path))
}
