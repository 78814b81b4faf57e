package store

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// Stats describe the state's file.
type Stats struct {
	FileBytes int64 // as the file system reports it; 0 if it does not
	// WriteFailures counts the calls of methods whose write failed, for a full disk say,
	// since the state was opened. Calls that had nothing to write, ErrCommitted and
	// ErrReadOnly do not count.
	WriteFailures uint64
}

// Stats reads the figures of the file.
func (s *Store) Stats() Stats {
	stats := Stats{WriteFailures: s.failed.Load()}
	if info, err := os.Stat(s.path); err == nil {
		stats.FileBytes = info.Size()
	}
	return stats
}

// Backup writes a copy of the state as of now to w, and returns how many bytes it has. The
// copy takes a new producer when it is opened as a state. Backup first makes a copy of that
// size beside the state, and removes it at the end, so that a slow w holds up nothing.
func (s *Store) Backup(w io.Writer) (n int64, err error) {
	temp, err := newTemp(filepath.Dir(s.path), s.copyInto)
	if err != nil {
		return 0, fmt.Errorf("backing up the state: %w", err)
	}
	defer func() { err = errors.Join(err, remove(temp)) }()
	f, err := os.Open(temp)
	if err != nil {
		return 0, fmt.Errorf("backing up the state: %w", err)
	}
	defer f.Close()
	if n, err = io.Copy(w, f); err != nil {
		return n, fmt.Errorf("backing up the state: %w", err)
	}
	return n, nil
}

// BackupFile writes a copy of the state as of now to a new file, as SaveBackup does.
func (s *Store) BackupFile(path string) error { return SaveBackup(path, s.copyInto) }

// SaveBackup makes a new file with what write writes to it, readable by its owner alone. The
// file is whole and on the disk, or not there. If a file of this name exists, or appears
// meanwhile, it is left alone, and the error wraps fs.ErrExist. A process that is killed
// meanwhile may leave a useless file .quant-exporter-backup-*.partial in the same directory,
// and, on a file system without hard links, a part of the copy under path.
func SaveBackup(path string, write func(*os.File) error) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return fmt.Errorf("backing up the state to %s: %w: name a new file", path, err)
	}
	temp, err := newTemp(filepath.Dir(path), write)
	if err != nil {
		return fmt.Errorf("backing up the state to %s: %w", path, err)
	}
	if err := errors.Join(giveName(temp, path), remove(temp)); err != nil {
		return fmt.Errorf("backing up the state to %s: %w", path, err)
	}
	return nil
}

// newTemp makes a file in a directory and syncs it to the disk. If it fails, it leaves none.
func newTemp(dir string, write func(*os.File) error) (path string, err error) {
	f, err := os.CreateTemp(dir, tempGlob)
	if err != nil {
		return "", err
	}
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, remove(f.Name()))
	}
	return f.Name(), nil
}

// giveName gives a file a second, unused name, durably. rename(2) would replace a file that
// has the name.
func giveName(file, name string) error {
	err := os.Link(file, name)
	if err != nil && !errors.Is(err, fs.ErrExist) { // a file system without hard links, or without room
		err = copyNew(file, name)
	}
	return errors.Join(err, disk.Sync(filepath.Dir(name)))
}

// copyNew copies a file to a new one, all of it or nothing.
func copyNew(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, remove(to))
	}
	return nil
}

// copyInto writes a copy of the state, marked as a copy, into an empty file.
func (s *Store) copyInto(f *os.File) error {
	err := s.db.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(f)
		return err
	})
	if err != nil {
		return err
	}
	db, err := openBolt(f.Name(), false)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		m, err := get[meta](tx, bucketMeta, []byte(metaState))
		if err != nil {
			return err
		}
		now := s.clock().UTC()
		m.Backup = &now
		return (&draft{tx: tx}).put(bucketMeta, []byte(metaState), m)
	})
	return errors.Join(err, db.Close())
}

// Export writes the whole state as of now as JSON, one object a line. Its first field,
// kind, says what it is: meta, entry, cycle, log, result, pair, model, counter or event. A
// slow w holds up no other method, but while it lasts the file may grow.
func (s *Store) Export(w io.Writer) error {
	out := bufio.NewWriter(w)
	err := s.db.View(func(tx *bbolt.Tx) error {
		if err := exportMeta(out, tx); err != nil {
			return err
		}
		for _, kind := range []struct{ name, bucket string }{
			{"entry", bucketEntries},
			{"cycle", bucketCycles},
			{"log", bucketLogs},
			{"result", bucketResults},
			{"pair", bucketPairs},
			{"model", bucketModels},
			{"counter", bucketCounters},
			{"event", bucketEvents},
		} {
			err := tx.Bucket([]byte(kind.bucket)).ForEach(func(k, v []byte) error {
				line, err := exported(tx, kind.bucket, k, v)
				if err != nil {
					return fmt.Errorf("the %s %q: %w", kind.name, k, err)
				}
				return writeLine(out, kind.name, line)
			})
			if err != nil {
				return err
			}
		}
		return out.Flush()
	})
	if err != nil {
		return fmt.Errorf("exporting the state: %w", err)
	}
	return nil
}

func exportMeta(w io.Writer, tx *bbolt.Tx) error {
	version, err := versionOf(tx)
	if err != nil {
		return err
	}
	m, err := get[meta](tx, bucketMeta, []byte(metaState))
	if err != nil {
		return err
	}
	line, err := json.Marshal(struct {
		Schema int `json:"schema"`
		*meta
	}{version, m})
	if err != nil {
		return err
	}
	return writeLine(w, "meta", line)
}

// exported returns a value as a JSON object with its key, and a result with its evidence.
func exported(tx *bbolt.Tx, bucket string, key, value []byte) ([]byte, error) {
	switch bucket {
	case bucketEntries:
		entry, err := decode[schedule.State](bucket, key, value)
		if err != nil {
			return nil, err
		}
		return json.Marshal(struct {
			Entry string `json:"entry"`
			*schedule.State
		}{string(key), entry})
	case bucketResults:
		record, err := decode[Record](bucket, key, value)
		if err == nil {
			err = readEvidence(tx, record)
		}
		if err != nil {
			return nil, err
		}
		return json.Marshal(record)
	case bucketLogs:
		text, err := unpacked(value)
		if err != nil {
			return nil, err
		}
		return json.Marshal(struct {
			Cycle uint64 `json:"cycle"`
			Text  string `json:"text"`
		}{binary.BigEndian.Uint64(key), text})
	case bucketCounters:
		counter, err := counterAt(key)
		if err != nil {
			return nil, err
		}
		n, err := numberAt(value)
		if err != nil {
			return nil, err
		}
		return exportedCounter(counter, n)
	default:
		return value, nil
	}
}

// writeLine puts kind before the other fields of a JSON object.
func writeLine(w io.Writer, kind string, object []byte) error {
	if len(object) < 3 || object[0] != '{' || !json.Valid(object) {
		return errors.New("what is stored is not a JSON object")
	}
	_, err := fmt.Fprintf(w, "{\"kind\":%q,%s\n", kind, object[1:])
	return err
}
