package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// DropCache puts a file on the disk, and drops the pages of it that the kernel keeps in memory, so that
// whoever reads it next has it from the disk. Pages that a process has mapped stay. (Linux's
// posix_fadvise(2): POSIX_FADV_DONTNEED drops no page that is not on the disk yet.) It does nothing on
// other systems. An error says that the file is not on the disk.
func DropCache(path string) error {
	if err := Sync(path); err != nil && !unsupported(err) { // as some file systems on FUSE say
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	_ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED) // where it cannot be, they stay
	return file.Close()
}
