package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
)

// incomingDir is where versions are made, below the directory.
const incomingDir = ".incoming"

// stableLink is the name of the links.
const stableLink = "stable"

// versionLength of a version's name, of the 64 digits of the hash.
const versionLength = 12

// Directory is one to publish in. Its methods may be called by several goroutines.
type Directory struct {
	path   string // absolute
	logger *slog.Logger
	system system
}

// Open makes the directory where it is not there, sees that it can be written to, and
// removes what killed publications left in it. logger may be nil.
func Open(path string, logger *slog.Logger) (*Directory, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("finding the folder to publish in: %w", err)
	}
	d := &Directory{path: absolute, logger: logger, system: realSystem()}
	if err := os.MkdirAll(absolute, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder to publish in: %w", err)
	}
	d.sweep()
	incoming, err := d.incoming()
	if err == nil {
		err = errors.Join(d.tryLink(incoming.Path()), incoming.Remove())
	}
	if err != nil {
		return nil, fmt.Errorf("the folder to publish in cannot be used: %w", err)
	}
	return d, nil
}

// tryLink says so where the file system has no symbolic links.
func (d *Directory) tryLink(dir string) error {
	err := d.system.symlink("nothing", filepath.Join(dir, stableLink))
	if err != nil && disk.NoSymlinks(err) {
		d.logger.Info("the folder to publish in has no symbolic links: the files named stable say in one line where they would lead", "dir", d.path)
		return nil
	}
	return err
}

// Copy is what to publish.
type Copy struct {
	// File is the copy. It is the caller's own, and nobody may write to it any more: if the
	// file system allows, it is published under a second name and not copied.
	File string
	// Manifest is what the caller knows of the copy: all but File, Bytes and Published. A copy
	// that does not have its SHA256, where that is known, is not published.
	Manifest Manifest
	// Chosen says that the model has one stable link, and not one for each target.
	Chosen bool
	// Keep is how many versions of the pair stay, not counting those that a stable link
	// leads to; 0: all.
	Keep int
	// Load reports whether a server could load the file of this name in a directory; it may
	// leave other files there.
	Load func(ctx context.Context, dir, file string) error
}

// Publish makes the copy the stable version of its pair or, where it is chosen, of its
// model. Content that is there already is not written again, and only its manifest renewed.
// When it fails the link leads to where it did, and nothing of the copy stays; where only the
// very last step failed, which is to see that the link lasts, it leads to the new copy, which
// is whole.
func (d *Directory) Publish(ctx context.Context, c Copy) (Version, error) {
	v, err := d.publish(ctx, c)
	if err != nil {
		return Version{}, fmt.Errorf("publishing %s of %q in %s: %w", c.Manifest.TargetFormat, c.Manifest.Model, d.path, err)
	}
	return v, nil
}

func (d *Directory) publish(ctx context.Context, c Copy) (Version, error) {
	pair, err := d.pair(c.Manifest.Model, c.Manifest.TargetFormat)
	if err != nil {
		return Version{}, err
	}
	if err := d.noForeignLinks(pair.dir); err != nil {
		return Version{}, err
	}
	link := pair.link(c.Chosen)
	if err := link.check(pair.model); err != nil {
		return Version{}, err
	}
	d.sweep()
	incoming, err := d.incoming()
	if err != nil {
		return Version{}, err
	}
	defer d.remove(incoming)

	m := c.Manifest
	m.File = fileName(m.Model, m.TargetFormat)
	if m.SHA256, m.Bytes, err = disk.Hash(ctx, c.File, nil); err != nil {
		return Version{}, fmt.Errorf("reading the copy: %w", err)
	}
	if made := c.Manifest.SHA256; made != "" && made != m.SHA256 {
		return Version{}, fmt.Errorf("%s does not hold what was measured: its SHA-256 was %s, and is %s now", c.File, made, m.SHA256)
	}
	if err := d.makeDirs(pair.dir); err != nil {
		return Version{}, err
	}
	m.Published = time.Now().UTC()
	v := Version{Dir: filepath.Join(pair.dir, m.SHA256[:versionLength]), Manifest: m}
	_, missing := os.Lstat(v.Dir)
	if errors.Is(missing, fs.ErrNotExist) {
		err = d.bring(ctx, c, v, incoming.Path())
	} else {
		err = d.renew(ctx, v, incoming.Path())
	}
	moved := false
	if err == nil {
		moved, err = d.point(link, v, incoming.Path())
	}
	if err != nil {
		if missing != nil && !moved {
			d.withdraw(v, incoming.Path())
		}
		return Version{}, err
	}
	v.Stable = link.path
	if err := d.retain(pair, v, c.Keep, incoming.Path()); err != nil { // the copy is published
		d.logger.Warn("versions that should be removed stay until the next publication", "dir", pair.dir, "err", err)
	}
	return v, nil
}

// withdraw takes away what a publication that failed has made: the version, and the
// directories above it as far as they hold nothing else.
func (d *Directory) withdraw(v Version, incoming string) {
	err := d.system.rename(v.Dir, filepath.Join(incoming, "withdrawn"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.logger.Warn("a version that could not be published stays behind: remove it by hand", "dir", v.Dir, "err", err)
		return
	}
	for dir := filepath.Dir(v.Dir); dir != d.path && os.Remove(dir) == nil; {
		dir = filepath.Dir(dir)
	}
}

// Choose makes the newest version of a target the stable one of its model; ok is false when
// there is none, and moved when that was so already.
func (d *Directory) Choose(model, target string) (v Version, ok, moved bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("making %s the stable copy of %q in %s: %w", target, model, d.path, err)
		}
	}()
	pair, err := d.pair(model, target)
	if err != nil {
		return Version{}, false, false, err
	}
	if err := d.noForeignLinks(pair.dir); err != nil {
		return Version{}, false, false, err
	}
	versions, err := pair.versions()
	if err != nil || len(versions) == 0 {
		return Version{}, false, false, err
	}
	v = versions[0]
	link := pair.link(true)
	if err := link.check(model); err != nil {
		return Version{}, false, false, err
	}
	incoming, err := d.incoming()
	if err != nil {
		return Version{}, false, false, err
	}
	defer d.remove(incoming)
	v.Stable = link.path
	moved, err = d.point(link, v, incoming.Path())
	return v, err == nil, moved, err
}

// fileName of a copy. A split model's copy is one file, which is not to look like a part.
func fileName(model, target string) string {
	base := path.Base(model)
	if prefix, _, _, split := gguf.ShardName(base + ".gguf"); split {
		base = prefix
	}
	return base + "-" + target + ".gguf"
}

// staged is the name under which the engine loads a copy: safe on any command line.
const staged = "copy.gguf"

// bring makes a version that is not there.
func (d *Directory) bring(ctx context.Context, c Copy, v Version, incoming string) error {
	file := filepath.Join(incoming, staged)
	if err := clone(ctx, c.File, file, v.SHA256); err != nil {
		return err
	}
	if err := c.Load(ctx, incoming, staged); err != nil {
		return fmt.Errorf("the copy does not load: %w", err)
	}
	// A tool had the file, with the right to write to it.
	if err := holds(ctx, file, v.SHA256); err != nil {
		return fmt.Errorf("after the engine loaded it, the copy is not what was measured: %w", err)
	}
	made := filepath.Join(incoming, filepath.Base(v.Dir))
	if err := os.Mkdir(made, 0o755); err != nil {
		return err
	}
	if err := d.writeManifest(filepath.Join(made, manifestFile), v.Manifest); err != nil {
		return err
	}
	whole := filepath.Join(made, v.File)
	if err := os.Rename(file, whole); err != nil {
		return err
	}
	if err := sameMode(whole, filepath.Join(made, manifestFile)); err != nil {
		return err
	}
	if err := errors.Join(d.system.sync(whole), d.system.sync(made), ctx.Err()); err != nil {
		return err
	}
	if err := d.system.rename(made, v.Dir); err != nil {
		return err
	}
	return d.system.sync(filepath.Dir(v.Dir))
}

// errChanged says that a file holds something else than it should.
var errChanged = errors.New("it holds something else")

// holds fails where a file is not a regular one of its own with this content; it follows no
// link.
func holds(ctx context.Context, path, sha256 string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	}
	sum, _, err := disk.Hash(ctx, path, nil)
	if err == nil && sum != sha256 {
		err = fmt.Errorf("%w: its SHA-256 was %s, and is %s now", errChanged, sha256, sum)
	}
	return err
}

// clone brings the copy into a directory: without copying it, if that is possible.
func clone(ctx context.Context, from, to, sha256 string) error {
	how, err := disk.Keep(ctx, from, to)
	if err != nil || how != disk.Copy {
		return err
	}
	if err := holds(ctx, to, sha256); err != nil {
		return fmt.Errorf("the disk did not give back what was written to it: %w", err)
	}
	return nil
}

// sameMode lets everybody read a file who may read another one, which was made as the umask
// wants it.
func sameMode(file, as string) error {
	info, err := os.Stat(as)
	if err != nil {
		return err
	}
	if is, err := os.Stat(file); err == nil && is.Mode() == info.Mode() { // SMB and exFAT may know one mode only
		return nil
	}
	return os.Chmod(file, info.Mode().Perm())
}

// renew takes a version that is there already, if it is still what its manifest says, and
// exchanges the manifest.
func (d *Directory) renew(ctx context.Context, v Version, incoming string) error {
	there, err := readVersion(v.Dir)
	switch {
	case err != nil:
		return fmt.Errorf("%w: it was not made by quant-exporter, and is in the way: move it elsewhere", err)
	case there.Model != v.Model || there.TargetFormat != v.TargetFormat || there.File != v.File:
		return fmt.Errorf("%s is a version of %s of %q: publish that elsewhere", v.Dir, there.TargetFormat, there.Model)
	}
	err = holds(ctx, v.Path(), v.SHA256)
	if errors.Is(err, errChanged) {
		return fmt.Errorf("%s was changed after it was published: remove the folder, for it to be made again", v.Path())
	}
	if err != nil {
		return fmt.Errorf("reading the version that is there: %w; remove the folder, for it to be made again", err)
	}
	made := filepath.Join(incoming, manifestFile)
	if err := errors.Join(d.writeManifest(made, v.Manifest), ctx.Err()); err != nil {
		return err
	}
	if err := d.system.rename(made, filepath.Join(v.Dir, manifestFile)); err != nil {
		return err
	}
	// The directory above, too: whoever made the version may have been killed before.
	return errors.Join(d.system.sync(v.Dir), d.system.sync(filepath.Dir(v.Dir)))
}

// retain removes versions of a pair: all but the newest and those that links lead to.
func (d *Directory) retain(p pair, now Version, keep int, incoming string) error {
	versions, err := p.versions()
	if err != nil || keep <= 0 {
		return err
	}
	linked := []string{now.Dir}
	for _, chosen := range []bool{false, true} {
		l := p.link(chosen)
		if to, err := l.read(); err == nil {
			linked = append(linked, l.target(to))
		}
	}
	removed := 0
	for _, v := range versions[min(keep, len(versions)):] {
		if slices.Contains(linked, v.Dir) {
			continue
		}
		removed++
		if err := d.system.rename(v.Dir, filepath.Join(incoming, fmt.Sprintf("old-%d", removed))); err != nil {
			return err
		}
		d.logger.Info("a published version is removed", "dir", v.Dir, "keep", keep)
	}
	if removed == 0 {
		return nil
	}
	return d.system.sync(p.dir)
}

// pair is where the versions of a pair are.
type pair struct {
	model, target string
	modelDir, dir string
}

// pair finds the directories of a pair. Names of models outside of the model directory are
// absolute paths: they become relative ones.
func (d *Directory) pair(model, target string) (pair, error) {
	name := strings.TrimLeft(model, "/")
	first, _, _ := strings.Cut(name, "/")
	if !filepath.IsLocal(name) || path.Clean(name) != name || name == "." || first == incomingDir {
		return pair{}, fmt.Errorf("the model's name %q cannot be a folder here: give the file another one", model)
	}
	if strings.ContainsAny(target, "/\x00") || !filepath.IsLocal(target) || target == "." || target == stableLink {
		return pair{}, fmt.Errorf("the target %q cannot be a folder", target)
	}
	modelDir := filepath.Join(d.path, filepath.FromSlash(name))
	return pair{model, target, modelDir, filepath.Join(modelDir, target)}, nil
}

// versions of the pair that are there, the newest first. What else is in its directory is
// passed over.
func (p pair) versions() ([]Version, error) {
	entries, err := os.ReadDir(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Version
	for _, entry := range entries {
		if !entry.IsDir() || !versionName.MatchString(entry.Name()) {
			continue
		}
		v, err := readVersion(filepath.Join(p.dir, entry.Name()))
		if err == nil && v.Model == p.model && v.TargetFormat == p.target {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b Version) int {
		return cmp.Or(b.Published.Compare(a.Published), strings.Compare(a.SHA256, b.SHA256))
	})
	return all, nil
}

// incoming makes a directory for a publication, which is removed when that ends, or is
// killed.
func (d *Directory) incoming() (*disk.Dir, error) {
	parent := filepath.Join(d.path, incomingDir)
	if err := noForeignLink(parent); err != nil {
		return nil, err
	}
	return disk.NewDir(parent)
}

func (d *Directory) remove(incoming *disk.Dir) {
	if err := incoming.Remove(); err != nil {
		d.logger.Warn("temporary files of a publication stay until the next one", "dir", incoming.Path(), "err", err)
	}
}

// sweep removes what killed publications left.
func (d *Directory) sweep() {
	removed, err := Sweep(d.path)
	for _, dir := range removed {
		d.logger.Info("removed what a killed publication left", "dir", dir)
	}
	if err != nil {
		d.logger.Warn("cannot remove what killed publications left", "err", err)
	}
}

// Sweep removes what killed publications left in a directory to publish in, and returns the
// paths of the folders in which they made their versions: processes may still run there.
func Sweep(dir string) (removed []string, err error) {
	incoming := filepath.Join(dir, incomingDir)
	if err := noForeignLink(incoming); err != nil {
		return nil, err
	}
	return disk.Sweep(incoming)
}
