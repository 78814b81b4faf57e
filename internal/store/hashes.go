package store

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/quant-exporter/quant-exporter/internal/model"
)

// maxHashes are remembered; the ones remembered for longest go first.
const maxHashes = 4096

// fileHash is what a file held when it had this size and time.
type fileHash struct {
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	SHA256   string    `json:"sha256"`
	Since    time.Time `json:"since"` // when it was remembered
	Path     string    `json:"path,omitempty"`
	// Device and Inode stand in what is remembered by path, and Renumbered says there that the
	// file was found to hold the same under two of them: its file system gives new ones.
	Device     uint64 `json:"device,omitempty"`
	Inode      uint64 `json:"inode,omitempty"`
	Renumbered bool   `json:"renumbered,omitempty"`
}

// of reports whether the file has the size and time that it had.
func (f *fileHash) of(id model.FileID) bool {
	return f.Size == id.Size && f.Modified.Equal(id.Modified)
}

func hashKey(id model.FileID) []byte { return append(number(id.Device), number(id.Inode)...) }

// pathKey begins unlike any number of a device.
func pathKey(id model.FileID) []byte { return []byte("path " + id.Path) }

// Hash is the SHA-256, in hexadecimal, that was remembered of a file; false when none was,
// or when it has another size or time of modification now. A file may have been renamed
// since. It may have another inode, too, where it was found to hold the same under two of
// them. A hash that cannot be read is none, which is logged.
func (s *Store) Hash(id model.FileID) (hash string, known bool) {
	var byNumber, byPath *fileHash
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		if byNumber, _, err = find[fileHash](tx, bucketHashes, hashKey(id)); err != nil {
			return err
		}
		byPath, _, err = find[fileHash](tx, bucketHashes, pathKey(id))
		return err
	})
	switch {
	case err != nil:
		s.logger.Error("the remembered hash of a file cannot be read", "file", id.Path, "err", err)
		return "", false
	case byNumber != nil && byNumber.of(id) && !exchanged(byNumber.Path, id):
		return byNumber.SHA256, true
	case byPath != nil && byPath.Renumbered && byPath.of(id):
		return byPath.SHA256, true
	}
	return "", false
}

// exchanged reports whether the file that had this number is still there, at its path, under
// another number: file systems that give new ones give each to one file after another.
func exchanged(path string, id model.FileID) bool {
	if path == "" || path == id.Path {
		return false
	}
	now, err := model.Identify(path)
	return err == nil && (now.Device != id.Device || now.Inode != id.Inode)
}

// RememberHash remembers the SHA-256 of a file, in place of an earlier one.
func (s *Store) RememberHash(id model.FileID, hash string) error {
	return s.update(fmt.Sprintf("remembering what %s holds", id.Path), func(d *draft) error {
		now := fileHash{Size: id.Size, Modified: id.Modified.UTC(), SHA256: hash, Since: d.now, Path: id.Path}
		if err := d.put(bucketHashes, hashKey(id), &now); err != nil {
			return err
		}
		if id.Path != "" {
			now.Device, now.Inode = id.Device, id.Inode
			before, ok, err := find[fileHash](d.tx, bucketHashes, pathKey(id))
			if err != nil {
				return err
			}
			same := ok && before.of(id) && before.SHA256 == hash
			now.Renumbered = same && (before.Renumbered || before.Device != id.Device || before.Inode != id.Inode)
			if err := d.put(bucketHashes, pathKey(id), &now); err != nil {
				return err
			}
		}
		return d.pruneHashes()
	})
}

func (d *draft) pruneHashes() error {
	type age struct {
		key   []byte
		since time.Time
	}
	var all []age
	err := d.bucket(bucketHashes).ForEach(func(k, v []byte) error {
		stored, err := decode[fileHash](bucketHashes, k, v)
		if err == nil {
			all = append(all, age{bytes.Clone(k), stored.Since})
		}
		return err
	})
	if err != nil || len(all) <= maxHashes {
		return err
	}
	slices.SortFunc(all, func(a, b age) int { return a.since.Compare(b.since) })
	for _, oldest := range all[:len(all)-maxHashes] {
		if err := d.delete(bucketHashes, oldest.key); err != nil {
			return err
		}
	}
	return nil
}
