//go:build !linux

package store

import (
	"syscall"
	"time"
)

// bornAt is when the file was made.
func bornAt(_ string, stat *syscall.Stat_t) time.Time {
	return time.Unix(stat.Birthtimespec.Unix()).UTC()
}
