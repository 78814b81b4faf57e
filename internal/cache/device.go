package cache

import (
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func stat(path string) (s unix.Stat_t, err error) {
	if err := unix.Stat(path, &s); err != nil {
		return s, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return s, nil
}

// device returns the file system that holds a path.
func device(path string) (uint64, error) {
	s, err := stat(path)
	return uint64(s.Dev), err //nolint:unconvert // an int32 on darwin
}

// known returns when a file was last used, and whether it has other names, such as a
// published one. The time is its time of access, because other names share its time of
// modification.
func known(path string) (used time.Time, shared bool, err error) {
	s, err := stat(path)
	return time.Unix(s.Atim.Unix()), s.Nlink > 1, err
}

// use says that a file is used now.
func use(path string) error { return os.Chtimes(path, time.Now(), time.Time{}) }
