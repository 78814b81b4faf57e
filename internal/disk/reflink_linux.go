package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reflink makes dst share the blocks of source, by the ioctl FICLONE (ioctl_ficlone(2)).
func reflink(source *os.File, dst string) error {
	target, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := unix.IoctlFileClone(int(target.Fd()), int(source.Fd())); err != nil {
		return errors.Join(os.NewSyscallError("FICLONE", err), target.Close(), os.Remove(dst))
	}
	return target.Close()
}
