//go:build !linux

package disk

import "golang.org/x/sys/unix"

// available returns the free blocks and their size. Some BSDs count below zero once a
// user is in root's reserve.
func available(st unix.Statfs_t) (blocks, size uint64) {
	return uint64(max(st.Bavail, 0)), uint64(st.Bsize)
}
