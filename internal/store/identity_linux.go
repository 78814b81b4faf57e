package store

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bornAt is when the file was made; zero where the kernel (before 4.11), a sandbox or the
// file system does not report it.
func bornAt(path string, _ *syscall.Stat_t) time.Time {
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BTIME, &stat); err != nil || stat.Mask&unix.STATX_BTIME == 0 {
		return time.Time{}
	}
	return time.Unix(stat.Btime.Sec, int64(stat.Btime.Nsec)).UTC()
}
