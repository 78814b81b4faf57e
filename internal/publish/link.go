package publish

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/disk"
)

var versionName = regexp.MustCompile(`^[0-9a-f]{12}$`)

// link is a stable link: a pair's, which leads to VERSION, or a model's, which leads to
// TARGET/VERSION. On a file system without symbolic links it is a regular file, of one line
// that says where.
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

// target returns the directory that the link leads to.
func (l link) target(to string) string { return filepath.Join(filepath.Dir(l.path), to) }

// maxLink bounds, in bytes, a file that says where a link would lead.
const maxLink = 4096

// read gives where the link leads.
func (l link) read() (to string, err error) {
	info, err := os.Lstat(l.path)
	switch {
	case err != nil:
		return "", err
	case info.Mode()&fs.ModeSymlink != 0:
		return os.Readlink(l.path)
	case !info.Mode().IsRegular() || info.Size() > maxLink:
		return "", fmt.Errorf("%s is neither a symbolic link nor a file that says where one would lead, so it was not made by quant-exporter: move it elsewhere", l.path)
	}
	line, err := disk.ReadSmall(l.path, maxLink)
	return strings.TrimSuffix(string(line), "\n"), err
}

// check refuses a link that is not ours, or another model's. One whose version was removed
// by hand is ours by its form.
func (l link) check(model string) error {
	to, err := l.read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	parts := strings.Split(to, "/")
	if len(parts) != l.parts || !filepath.IsLocal(to) || !versionName.MatchString(parts[len(parts)-1]) {
		return fmt.Errorf("%s leads to %q, which was not made by quant-exporter: move it elsewhere", l.path, to)
	}
	v, err := readVersion(l.target(to))
	switch {
	case errors.Is(err, errNoVersion):
		return nil
	case err != nil:
		return fmt.Errorf("where the link %s leads to: %w", l.path, err)
	case v.Model != model:
		return fmt.Errorf("the link %s belongs to the model %q: publish this one elsewhere", l.path, v.Model)
	}
	return nil
}

// point makes the link lead to a version, and reports whether it led elsewhere.
func (d *Directory) point(l link, v Version, incoming string) (moved bool, err error) {
	to, err := filepath.Rel(filepath.Dir(l.path), v.Dir)
	if err != nil {
		return false, err
	}
	// Leave a correct link alone: a rename would wake its watchers.
	if now, err := l.read(); err != nil || now != to {
		made := filepath.Join(incoming, stableLink)
		if err := d.lead(made, to); err != nil {
			return false, err
		}
		if err := d.system.rename(made, l.path); err != nil {
			return false, err
		}
		moved = true
	}
	return moved, d.system.sync(filepath.Dir(l.path))
}

// lead makes a link, or the file in its place.
func (d *Directory) lead(path, to string) error {
	err := d.system.symlink(to, path)
	if err == nil || !disk.NoSymlinks(err) {
		return err
	}
	if err := os.WriteFile(path, []byte(to+"\n"), 0o644); err != nil {
		return err
	}
	return d.system.sync(path)
}
