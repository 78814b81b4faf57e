package store

import (
	"fmt"
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
}

func hashKey(id model.FileID) []byte { return append(number(id.Device), number(id.Inode)...) }

// Hash is the SHA-256, in hexadecimal, that was remembered of a file; false when none was,
// or when it has another size or time of modification now. Its path does not count: it may
// have been renamed. A hash that cannot be read is none, which is logged.
func (s *Store) Hash(id model.FileID) (hash string, known bool) {
	err := s.db.View(func(tx *bbolt.Tx) error {
		stored, ok, err := find[fileHash](tx, bucketHashes, hashKey(id))
		if ok && stored.Size == id.Size && stored.Modified.Equal(id.Modified) {
			hash, known = stored.SHA256, true
		}
		return err
	})
	if err != nil {
		s.logger.Error("What is remembered of a file cannot be read", "file", id.Path, "err", err)
	}
	return hash, known
}

// RememberHash remembers the SHA-256 of a file, in place of an earlier one.
func (s *Store) RememberHash(id model.FileID, hash string) error {
	return s.update(fmt.Sprintf("remembering what %s holds", id.Path), func(d *draft) error {
		if err := d.put(bucketHashes, hashKey(id), &fileHash{id.Size, id.Modified.UTC(), hash, d.now}); err != nil {
			return err
		}
		return d.pruneHashes()
	})
}

func (d *draft) pruneHashes() error {
	n := 0
	var oldest []byte
	var since time.Time
	err := d.bucket(bucketHashes).ForEach(func(k, v []byte) error {
		stored, err := decode[fileHash](bucketHashes, k, v)
		if err != nil {
			return err
		}
		if n++; oldest == nil || stored.Since.Before(since) {
			oldest, since = append([]byte(nil), k...), stored.Since
		}
		return nil
	})
	if err != nil || n <= maxHashes {
		return err
	}
	return d.delete(bucketHashes, oldest)
}
