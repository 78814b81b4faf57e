package store

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/bbolt"
)

// PutLog stores what was logged during a cycle, in place of what was there. It goes with
// the cycle.
func (s *Store) PutLog(cycle uint64, text string) error {
	return s.update(fmt.Sprintf("storing the log of cycle %d", cycle), func(d *draft) error {
		_, found, err := find[Cycle](d.tx, bucketCycles, number(cycle))
		switch {
		case err != nil:
			return err
		case !found: // Retention was faster
			return errUnchanged
		}
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err = io.WriteString(w, text)
		if err := errors.Join(err, w.Close()); err != nil {
			return fmt.Errorf("compressing it: %w", err)
		}
		return d.putRaw(bucketLogs, number(cycle), packed.Bytes())
	})
}

// Log returns what was logged during a cycle; "" when nothing was stored.
func (s *Store) Log(cycle uint64) (text string, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		packed := tx.Bucket([]byte(bucketLogs)).Get(number(cycle))
		if packed == nil {
			return nil
		}
		text, err = unpacked(packed)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("reading the log of cycle %d: %w", cycle, err)
	}
	return text, nil
}

func unpacked(packed []byte) (string, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(r)
	return string(text), err
}
