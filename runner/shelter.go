package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/model"
)

// sheltered moves a hard link out of the folder that confined tools may write to, where it
// would be a second name by which they could write to the model, and leaves a symbolic link
// to it. Where the file system has no symbolic links it stays, and false is returned.
func (c *cycle) sheltered(name string) (bool, error) {
	if c.shelter == nil {
		dir, err := disk.NewDir(c.WorkDir)
		if err != nil {
			return false, fmt.Errorf("making a folder for links to the model: %w", spaceFailure(err))
		}
		c.shelter = dir
	}
	link, hidden := filepath.Join(c.dir, name), filepath.Join(c.shelter.Path(), name)
	if err := os.Rename(link, hidden); err != nil {
		return false, fmt.Errorf("moving a link to the model to where no tool writes: %w", err)
	}
	err := os.Symlink(hidden, link)
	if err == nil {
		return true, nil
	}
	if back := os.Rename(hidden, link); back != nil || !disk.NoSymlinks(err) {
		return false, fmt.Errorf("linking to the model where no tool writes: %w", errors.Join(err, back))
	}
	return false, nil
}

// removed removes a working directory of the cycle; what stays is for the next start.
func (c *cycle) removed(dir *disk.Dir) {
	if err := dir.Remove(); err != nil {
		c.Logger.Error("the working folder stays behind until the next start", "dir", dir.Path(), "err", err)
	}
}

// linked sees that no tool writes to the model through a hard link that was made in the working
// directory.
func (c *cycle) linked(name, path string) error {
	if c.info.Confined() {
		sheltered, err := c.sheltered(name)
		if sheltered || err != nil {
			return err
		}
		c.exposed = true
	}
	c.watchFile(path) // the link touched it
	return nil
}

// watched is a file of the model that a tool may write to.
type watched struct {
	touched time.Time // by whoever: see model.Touched
	proved  int       // how often it was touched without being changed
}

// mostProofs is how often the content of a file is read because the file was touched: some file
// systems make up the time.
const mostProofs = 3

// unharmed fails where a file was written to although its size and time of modification are what
// they were. A file that was only touched (a link, a mode) is the same: its content tells, which
// hash reads. A file that nobody watches, or of which nobody knows what it held, is not looked at.
func (w *watched) unharmed(path, held string, hash func() (string, error)) error {
	if w.touched.IsZero() || held == "" || w.proved == mostProofs {
		return nil
	}
	touched, err := model.Touched(path)
	if err != nil || touched.Equal(w.touched) {
		return err
	}
	holds, err := hash()
	if err != nil {
		return err
	}
	if holds != held {
		return fmt.Errorf("%q holds something else, although its size and time of modification are what they were: it was written to at %s", path, touched.Format(time.RFC3339Nano))
	}
	w.touched = touched
	w.proved++
	return nil
}

// watchSource notes when the files of the model were last touched. A tool that is not confined
// can write to them, and then set back the time of their modification; not this one.
func (c *cycle) watchSource() {
	files := c.Model.IDs
	if c.Against != nil {
		files = slices.Concat(files, c.Against.IDs)
	}
	for _, id := range files {
		c.watchFile(id.Path)
	}
}

func (c *cycle) watchFile(path string) {
	if c.info.Confined() && !c.exposed {
		return
	}
	touched, err := model.Touched(path)
	if err != nil { // whoever looks at the file next says so
		return
	}
	if c.watch == nil {
		c.watch = map[string]*watched{}
	}
	if c.watch[path] == nil {
		c.watch[path] = &watched{}
	}
	c.watch[path].touched = touched
}

// untouched fails where a file of the model was written to: see unharmed.
func (c *cycle) untouched(ctx context.Context, m *model.Model) error {
	for _, id := range m.IDs {
		file := c.watch[id.Path]
		if file == nil {
			continue
		}
		err := file.unharmed(id.Path, c.contents[id.Path], func() (string, error) {
			c.Logger.Debug("a file of the model was touched by somebody else: its content decides whether it is the same", "file", id.Path)
			return c.hash(ctx, id, false, func(int64) {})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
