package store

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

// identity tells a file from a copy of it, on the same file system or another one. The
// device is not part of it: on btrfs, overlayfs, NFS or a volume that is attached again it
// is another one with each mount.
type identity struct {
	Inode uint64    `json:"inode"`
	Born  time.Time `json:"born,omitzero"` // zero if the system does not report it
}

// identityOf a file. That a copy is given the inode of a file that was removed is common;
// then it was born later.
func identityOf(path string) (identity, error) {
	info, err := os.Stat(path)
	if err != nil {
		return identity{}, fmt.Errorf("opening the state: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}, fmt.Errorf("opening the state %s: the system does not report its inode", path)
	}
	return identity{Inode: stat.Ino, Born: bornAt(path, stat)}, nil
}

// sameAs is by the inode alone where one of the two was taken without the time of birth.
func (i identity) sameAs(other identity) bool {
	return i.Inode == other.Inode && (i.Born.IsZero() || other.Born.IsZero() || i.Born.Equal(other.Born))
}

func (i identity) String() string {
	if i.Born.IsZero() {
		return fmt.Sprintf("inode %d", i.Inode)
	}
	return fmt.Sprintf("inode %d of %s", i.Inode, i.Born.Format(time.RFC3339Nano))
}
