package cache

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// device is the file system that holds a path.
func device(path string) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return uint64(stat.Dev), nil //nolint:unconvert // an int32 on darwin
}
