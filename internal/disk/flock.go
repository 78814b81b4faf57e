package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// openFlags keep an opening from following a symbolic link that somebody planted
// under the file's name, and from hanging where a FIFO was.
const openFlags = os.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK

// openLockFile opens the existing lock file at path for reading and writing. It refuses
// symbolic links, whatever is not a regular file, and a file with a second name, since
// the caller is going to write to it. A file that is not there is fs.ErrNotExist.
//
// It never creates: in a sticky directory that everybody may write to, Linux
// (fs.protected_regular) lets nobody, root included, open another user's file with
// O_CREAT.
func openLockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, openFlags, 0)
	if err != nil {
		return nil, err
	}
	if err := plain(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// createLockFile makes the lock file at path, with these permissions whatever the umask. A
// file that is there already is fs.ErrExist.
func createLockFile(path string, perm fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, openFlags|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(perm); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// plain reports an error unless f is a regular file with no more than one name.
func plain(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s is not a regular file", f.Name())
	}
	if st.Nlink > 1 {
		return fmt.Errorf("%s has a second name (a hard link)", f.Name())
	}
	return nil
}

// TryLock takes the exclusive lock of f without waiting and reports whether it got it. An
// error means that the file system cannot lock. Closing f frees the lock.
func TryLock(f *os.File) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case errors.Is(err, unix.EINTR):
			continue
		default:
			return false, &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// stillNamed reports whether path still names f. A lock on a file that was removed, or
// replaced, after it was opened excludes nobody: ask after taking it.
func stillNamed(f *os.File, path string) (bool, error) {
	opened, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return os.SameFile(opened, there), nil
}
