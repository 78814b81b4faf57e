package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Mode is a way to bring a model into a working directory.
type Mode string

// The modes. None of them ever writes to the source.
const (
	// Auto takes the first that works of Reflink, Link, Symlink and Copy.
	Auto Mode = "auto"
	// Shared takes the first that works of Symlink, Reflink and Link. It copies nothing.
	Shared Mode = "shared"
	// Reflink makes a file of its own that shares the source's blocks until either is
	// written to: at once, and safe from whatever happens to the source. Btrfs, XFS,
	// bcachefs, OCFS2, ZFS 2.2 and APFS do it, within one file system.
	Reflink Mode = "reflink"
	// Link makes a hard link, within one file system. It is the source's own inode
	// under a second name: writing to it writes to the source, so tools must get
	// it as input only. It keeps the content when the source is deleted, and changes
	// the source's status-change time (ctime) when it is made and when it is removed.
	Link Mode = "link"
	// Symlink makes a symbolic link to the source's absolute path, which is thus read
	// in place.
	Symlink Mode = "symlink"
	// Copy copies every byte.
	Copy Mode = "copy"
)

// Validate reports whether m is one of the modes.
func (m Mode) Validate() error {
	switch m {
	case Auto, Shared, Reflink, Link, Symlink, Copy:
		return nil
	default:
		return fmt.Errorf("%q is not a way to isolate a model: use auto, reflink, link, symlink, copy or shared", string(m))
	}
}

// ErrNotShared says that a file cannot be had in a folder without copying its bytes.
var ErrNotShared = errors.New("the file systems allow neither a symbolic link, a hard link nor a reflink")

// copyChunk is what is copied between two looks at the context.
const copyChunk = 4 << 20

// Clone brings the file src, or what it leads to if it is a symbolic link, to dst, which
// must not exist. It returns the mode that it used, which is never Auto or Shared. If it
// fails, it leaves nothing at dst. Errors wrap the file system's: fs.ErrNotExist and
// fs.ErrPermission if the source cannot be read, fs.ErrExist if dst is taken, ErrNotShared if
// the mode shares the source's bytes and the file systems do not let it.
//
// ctx and progress matter to Copy alone: it stops soon after ctx ends, and calls progress,
// which may be nil, from the caller's goroutine, with the bytes copied so far and in all.
// Nothing is synced to the disk: the clone need not survive a crash.
func Clone(ctx context.Context, mode Mode, src, dst string, progress func(done, total int64)) (Mode, error) {
	return cloneBy(ctx, cheap, mode, src, dst, progress)
}

// cloneBy is Clone; cheap clones by one of the modes that copy nothing.
func cloneBy(ctx context.Context, cheap func(Mode, *os.File, string) error, mode Mode, src, dst string, progress func(done, total int64)) (Mode, error) {
	if err := mode.Validate(); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("cloning %s: %w", src, err)
	}
	source, err := openSource(src)
	if err != nil {
		return "", err
	}
	defer source.Close()
	if _, err := os.Lstat(dst); err == nil {
		return "", &fs.PathError{Op: "clone", Path: dst, Err: fs.ErrExist}
	}

	switch mode {
	case Auto:
		how, err := share(cheap, source, dst, Reflink, Link, Symlink)
		if !errors.Is(err, ErrNotShared) {
			return how, err
		}
		return Copy, copyFile(ctx, source, dst, progress)
	case Shared:
		return share(cheap, source, dst, Symlink, Reflink, Link)
	case Copy:
		return Copy, copyFile(ctx, source, dst, progress)
	default:
		if err := cheap(mode, source, dst); err != nil {
			return "", fmt.Errorf("a %s is not possible from %s to %s: %s (%w)",
				mode, source.Name(), filepath.Dir(dst), because(mode, err), err)
		}
		return mode, nil
	}
}

// Keep clones a file that nobody writes to any more to where it is to stay, without copying
// it where that is possible: never by Symlink, which would lead to nothing once src is
// removed. Otherwise it is as Clone.
func Keep(ctx context.Context, src, dst string) (how Mode, err error) {
	var all []error
	for _, mode := range []Mode{Reflink, Link, Copy} {
		how, err := Clone(ctx, mode, src, dst, nil)
		if err == nil {
			return how, nil
		}
		all = append(all, err)
	}
	return "", errors.Join(all...)
}

// openSource opens the regular file that path leads to, for reading only. The name of
// the file it returns is the absolute one without symbolic links.
func openSource(path string) (*os.File, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("finding the file to clone: %w", err)
	}
	if resolved, err = filepath.Abs(resolved); err != nil {
		return nil, fmt.Errorf("finding the file to clone: %w", err)
	}
	f, _, err := OpenRegular(resolved)
	if err != nil {
		return nil, fmt.Errorf("opening the file to clone: %w", err)
	}
	return f, nil
}

// share clones by the first of the modes that works; do clones by one.
func share(do func(Mode, *os.File, string) error, source *os.File, dst string, modes ...Mode) (Mode, error) {
	var all []error
	for _, mode := range modes {
		err := do(mode, source, dst)
		if err == nil {
			return mode, nil
		}
		all = append(all, fmt.Errorf("%s: %w", mode, err))
	}
	return "", fmt.Errorf("bringing %s to %s: %w: %w", source.Name(), filepath.Dir(dst), ErrNotShared, errors.Join(all...))
}

// cheap clones without copying anything.
func cheap(mode Mode, source *os.File, dst string) error {
	switch mode {
	case Reflink:
		return reflink(source, dst)
	case Link:
		return os.Link(source.Name(), dst)
	default:
		return os.Symlink(source.Name(), dst)
	}
}

// because says in plain words why a mode that was asked for is not possible.
func because(mode Mode, err error) string {
	switch {
	case errors.Is(err, unix.EXDEV):
		return "the two are on different file systems"
	case mode == Link && errors.Is(err, unix.EPERM):
		return "the file system has no hard links, or the file is another user's that this one may not write to (fs.protected_hardlinks)"
	case mode == Link && errors.Is(err, unix.EMLINK):
		return "the file has as many names as its file system allows"
	case mode == Reflink && unsupported(err):
		return "the file system cannot share blocks between files"
	default:
		return "the system refused it"
	}
}

// unsupported reports whether the error means that the file system, or the system, does not
// know what was asked for; which error does is a matter of the file system.
func unsupported(err error) bool {
	for _, e := range []error{unix.EOPNOTSUPP, unix.ENOTSUP, unix.ENOTTY, unix.ENOSYS, unix.EINVAL, errors.ErrUnsupported} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// NoSymlinks reports whether the error of making a symbolic link means that the file system
// has none, as on SMB, exFAT and object stores.
func NoSymlinks(err error) bool { return errors.Is(err, unix.EPERM) || unsupported(err) }

// copyFile copies source to the new file dst and sees that it got all of it.
func copyFile(ctx context.Context, source *os.File, dst string, progress func(done, total int64)) (err error) {
	info, err := source.Stat()
	if err != nil {
		return fmt.Errorf("copying: %w", err)
	}
	target, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("copying %s: %w", source.Name(), err)
	}
	defer func() {
		err = errors.Join(err, target.Close())
		if err != nil {
			err = errors.Join(fmt.Errorf("copying %s: %w", source.Name(), err), os.Remove(dst))
		}
	}()

	total, done := info.Size(), int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(target, source, copyChunk)
		done += n
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if progress != nil && n > 0 {
			progress(done, total)
		}
		if err != nil { // the end
			break
		}
	}
	if done != total {
		return fmt.Errorf("it has %d bytes and had %d when the copy began: it is being written to", done, total)
	}
	return nil
}
