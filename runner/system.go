package runner

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/model"
)

// refused gives an error of the system its reason. An error that has a reason already keeps
// it, unless the working directory was removed during the cycle.
func (c *cycle) refused(err error) error {
	if err == nil {
		return nil
	}
	var failure *Failure
	reasoned := errors.As(err, &failure)
	stopped := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || reasoned && failure.Reason == ReasonCanceled
	if _, gone := os.Lstat(c.dir); c.dir != "" && !stopped && errors.Is(gone, fs.ErrNotExist) {
		return Failf(ReasonWorkDir, "the working folder of the cycle was removed while it ran: see that nothing cleans up in %s (which led to: %w)", c.WorkDir, withoutReason{err})
	}
	if reasoned || stopped {
		return err
	}
	switch {
	case disk.NoSpace(err):
		return spaceFailure(err)
	case isOneOf(err, syscall.EMFILE, syscall.ENFILE):
		return Failf(ReasonHostLimit, "too few files may be open at a time: raise the limit (ulimit -n, LimitNOFILE= of the service): %w", err)
	case c.ofModel(err) && isOffline(err):
		return offline(err)
	case !c.inWorkDir(err):
		return err
	case isOneOf(err, syscall.EROFS, syscall.EACCES, syscall.EPERM):
		return Failf(ReasonWorkDir, "the folder %s, in which cycles work, cannot be written to: see its mount and its owner, or name another with --work.dir: %w", c.WorkDir, err)
	case isOneOf(err, syscall.ENOENT, syscall.ENOTDIR, syscall.ESTALE, syscall.EIO):
		return Failf(ReasonWorkDir, "the folder %s, in which cycles work, has gone or is broken: see its mount, or name another with --work.dir: %w", c.WorkDir, err)
	}
	return err
}

// withoutReason hides the reason of an error, so that another one's counts.
type withoutReason struct{ err error }

func (e withoutReason) Error() string { return e.err.Error() }

func isOneOf(err error, those ...error) bool {
	for _, one := range those {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// inWorkDir reports whether an error of the file system is of the directory in which cycles
// work, or of one that it lies in.
func (c *cycle) inWorkDir(err error) bool {
	work, absent := filepath.Abs(c.WorkDir)
	if absent != nil {
		return false
	}
	concerns := func(path string) bool {
		inside, err := filepath.Rel(work, path)
		outside, err2 := filepath.Rel(path, work)
		return err == nil && filepath.IsLocal(inside) || err2 == nil && filepath.IsLocal(outside)
	}
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return concerns(path.Path)
	case errors.As(err, &link):
		return concerns(link.New)
	}
	return false
}

// isOffline reports whether an error is of the medium below a file system, or of the way to it, and
// says nothing of the file.
func isOffline(err error) bool {
	return isOneOf(err, syscall.EIO, syscall.ESTALE, syscall.ENOTCONN, syscall.ETIMEDOUT, syscall.EHOSTDOWN)
}

// offline gives such an error about the model its reason, which is one that passes.
func offline(err error) error {
	return Failf(ReasonSourceChanged, "the disk or the mount that holds the model cannot be read now: see what the kernel has logged of it: %w", err)
}

// ofModel reports whether an error of the file system is of a file of the model, or of the one that
// it is compared with.
func (c *cycle) ofModel(err error) bool {
	path, found := errors.AsType[*fs.PathError](err)
	of := func(m *model.Model) bool {
		return m != nil && (path.Path == m.Path || slices.Contains(m.Files, path.Path))
	}
	return found && (of(&c.Model) || of(c.Against))
}

// spaceFailure gives the error of a full disk its reason.
func spaceFailure(err error) error {
	if disk.NoSpace(err) {
		return Failf(ReasonNoSpace, "the disk is full: %w", err)
	}
	return err
}
