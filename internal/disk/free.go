package disk

import (
	"io/fs"
	"math"
	"math/bits"

	"golang.org/x/sys/unix"
)

// Free says how many bytes this user can still write to the file system that holds
// path, which has to exist. What is reserved for root counts for nobody; quotas are
// not seen.
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
