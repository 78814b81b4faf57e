package disk

import "golang.org/x/sys/unix"

// available returns the free blocks and their size: the fragment size, as in glibc's
// statvfs, if the file system reports one.
func available(st unix.Statfs_t) (blocks, size uint64) {
	if st.Frsize > 0 {
		return st.Bavail, uint64(st.Frsize)
	}
	return st.Bavail, uint64(st.Bsize)
}
