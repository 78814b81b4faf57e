package model

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// FileID is what tells whether a file is still the same. The time of the last change
// of the inode (ctime) is not part of it: making a hard link to the file moves that.
type FileID struct {
	Path     string    `json:"path"`
	Device   uint64    `json:"device"`
	Inode    uint64    `json:"inode"`
	Size     int64     `json:"size"` // bytes
	Modified time.Time `json:"modified"`
}

// Identity looks at the model's files, following symbolic links, in the order of Files.
func (m Model) Identity() ([]FileID, error) {
	ids := make([]FileID, 0, len(m.Files))
	for _, path := range m.Files {
		id, err := Identify(path)
		if err != nil {
			return nil, fmt.Errorf("looking at the model's file: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// Identify looks at a file, following symbolic links.
func Identify(path string) (FileID, error) {
	info, err := os.Stat(path)
	if err != nil {
		return FileID{}, err
	}
	key := keyOf(info)
	return FileID{Path: path, Device: key.device, Inode: key.inode, Size: info.Size(), Modified: info.ModTime()}, nil
}

// Touched returns when a file, or anything that the file system notes of it, last changed
// (ctime): no program can set that back, and a link to the file moves it, too.
func Touched(path string) (time.Time, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return time.Time{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return time.Unix(stat.Ctim.Unix()), nil
}

// SameFiles compares what Identity gave at two times. The error names the first file
// that is not the same and what changed.
func SameFiles(before, now []FileID) error {
	if len(before) != len(now) {
		return fmt.Errorf("the model had %d files and has %d now", len(before), len(now))
	}
	for i, was := range before {
		is := now[i]
		switch {
		case was.Path != is.Path:
			return fmt.Errorf("the file was %q and is %q now", was.Path, is.Path)
		case was.Device != is.Device, was.Inode != is.Inode:
			return fmt.Errorf("%q is another file now: it was inode %d on device %d and is inode %d on device %d", is.Path, was.Inode, was.Device, is.Inode, is.Device)
		case was.Size != is.Size:
			return fmt.Errorf("the size of %q was %d bytes and is %d now", is.Path, was.Size, is.Size)
		case !was.Modified.Equal(is.Modified):
			return fmt.Errorf("%q was modified at %s; its last modification had been at %s", is.Path, is.Modified.Format(time.RFC3339Nano), was.Modified.Format(time.RFC3339Nano))
		}
	}
	return nil
}

// Renumbered reports whether nothing but the number of the file differs from what it was: its
// inode, or the device of a file system that was mounted anew. It is another file of the same
// size and time, or the same one on a file system that gives files new numbers, as FUSE, SMB
// and NFS do. Only the content tells.
func (id FileID) Renumbered(now FileID) bool {
	other := id.Device != now.Device || id.Inode != now.Inode
	return other && id.Path == now.Path && id.Size == now.Size && id.Modified.Equal(now.Modified)
}

// fileKey identifies a file or a directory on this host.
type fileKey struct{ device, inode uint64 }

// keyOf reads the key from what os.Stat gave; it is zero on a system that has none.
func keyOf(info fs.FileInfo) fileKey {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileKey{}
	}
	return fileKey{device: uint64(stat.Dev), inode: stat.Ino} //nolint:unconvert // an int32 on darwin
}
