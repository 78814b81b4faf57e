package disk

import (
	"errors"
	"io/fs"
	"math"
	"math/bits"
	"os"

	"golang.org/x/sys/unix"
)

// Free says how many bytes this user can still write to the file system that holds
// path, which has to exist. What is reserved for root counts for nobody; quotas are
// not seen: see IsFull.
func Free(path string) (bytes int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	high, low := bits.Mul64(available(st))
	if high > 0 || low > math.MaxInt64 { // network file systems without a limit
		return math.MaxInt64, nil
	}
	return int64(low), nil
}

// fullBelow is how little room, in bytes, there is where a file was cut off for want of it.
const fullBelow = 1 << 20

// IsFull reports whether a directory has no room for another megabyte. It tries to write one, which
// tells of quotas, too.
func IsFull(dir string) bool {
	if free, err := Free(dir); err == nil && free < fullBelow {
		return true
	}
	f, err := os.CreateTemp(dir, ".room-*")
	if err == nil {
		_, err = f.Write(make([]byte, fullBelow))
		err = errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
	}
	return NoSpace(err)
}

// NoSpace reports whether an error says that a disk is full, or a quota used up.
func NoSpace(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
