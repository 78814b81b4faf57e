package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/quant-exporter/quant-exporter/internal/disk"
)

// Names in the directory of the state.
const (
	fileName  = "state.db"
	lockName  = "lock"
	freshName = fileName + ".new"                  // a state on its way to becoming the state
	tempGlob  = ".quant-exporter-backup-*.partial" // copies on their way out
)

const fileMode = 0o640

// initialMap is the address space, not memory, that a state is given at once on 64-bit
// systems. A write that needs more than there is waits for every reader to end, and a
// reader may be a slow client of an export.
const initialMap = strconv.IntSize / 64 << 30

// allocation is by how much the file grows: bbolt's own 16 MiB would be most of it.
const allocation = 1 << 20

// LockedError says that another process has the state.
type LockedError struct {
	Path    string    // the directory of the state
	PID     int       // 0: not known
	Command string    // program and subcommand
	Since   time.Time // when it opened the state
	URL     string    // at which it answers for the state: see Store.Announce; "": not known
}

// Error names the process.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("the state in %s is in use by another process, which is not known", e.Path)
	}
	return fmt.Sprintf("the state in %s is in use by pid %d (%s, since %s)",
		e.Path, e.PID, e.Command, e.Since.Local().Format(time.DateTime))
}

// Open opens the state in a directory, for this process alone, and makes both where
// there is none. A *LockedError says that another process has it.
//
// Cycles that were running when the state was last closed, or its process killed, end
// here: each of their targets without a result gets the failure "interrupted".
func Open(dir string, o Options) (*Store, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("making the folder of the state: %w", err)
	}
	unlock, err := acquire(dir)
	if err != nil {
		return nil, err
	}
	s := newStore(filepath.Join(dir, fileName), unlock, o)
	if err := s.open(o.Bus); err != nil {
		unlock()
		return nil, err
	}
	return s, nil
}

// OpenForReading opens a state that is there, for this process alone, and changes
// nothing about it: no cycle is ended, and methods that write return ErrReadOnly. If
// there is no state, the error wraps fs.ErrNotExist.
func OpenForReading(dir string) (*Store, error) {
	path := filepath.Join(dir, fileName)
	if _, err := os.Stat(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no state in %s (%w): name the folder of an exporter's state with --storage.path", dir, fs.ErrNotExist)
		}
		return nil, fmt.Errorf("opening the state: %w", err)
	}
	unlock, err := acquire(dir)
	if err != nil {
		return nil, err
	}
	s := newStore(path, unlock, Options{})
	s.readOnly = true
	if err = s.openFile(true); err == nil {
		err = s.load()
	}
	if err != nil {
		s.abandon()
		unlock()
		return nil, err
	}
	return s, nil
}

// orphanLimit is how long to wait for the lock if no process says that it holds it. A child
// of a killed process has it between its making and the start of its program, and dies.
const orphanLimit = 2 * time.Second

// acquire takes the lock of the state, under which this process writes its pid for
// others to see. What was announced is stale by then, and when it ends.
func acquire(dir string) (unlock func(), err error) {
	lock := disk.NewStateLock(filepath.Join(dir, lockName))
	release, err := lock.Acquire(context.Background(), false, nil)
	var held *disk.HeldError
	if errors.As(err, &held) && held.Holder.PID == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), orphanLimit)
		defer cancel()
		if late, lateErr := lock.Acquire(ctx, true, nil); lateErr == nil {
			release, err = late, nil
		}
	}
	var file *fs.PathError
	switch {
	case err == nil:
	case errors.As(err, &held):
		return nil, &LockedError{Path: dir, PID: held.Holder.PID, Command: held.Holder.Command, Since: held.Holder.Since, URL: announced(dir)}
	case errors.As(err, &file):
		return nil, fmt.Errorf("locking the state in %s: %w", dir, file)
	default:
		return nil, fmt.Errorf("locking the state in %s: %w", dir, err)
	}
	forget := func() error { return remove(filepath.Join(dir, announcedName)) }
	if err := forget(); err != nil {
		release()
		return nil, fmt.Errorf("removing what an earlier process left: %w", err)
	}
	return sync.OnceFunc(func() {
		_ = forget() // left behind, it only leads to an address where nobody answers
		release()
	}), nil
}

// open opens the file for writing and brings it up to date.
func (s *Store) open(bus bool) (err error) {
	defer func() {
		if err != nil {
			s.abandon()
		}
	}()
	if err := s.tidy(); err != nil {
		return err
	}
	// First for reading, so that nothing is ever written to a file that is not ours.
	if err := s.openFile(true); err != nil {
		return err
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("opening the state %s: %w", s.path, err)
	}
	if err := s.openFile(false); err != nil {
		return err
	}
	if err := s.load(); err != nil {
		return err
	}
	identity, err := identityOf(s.path)
	if err != nil {
		return err
	}
	err = s.update("bringing the state "+s.path+" up to date", func(d *draft) error {
		if err := s.recognize(d, identity); err != nil {
			return err
		}
		if bus {
			if err := d.firstBus(); err != nil {
				return err
			}
		}
		return s.interrupt(d)
	})
	if err == nil && s.State().Outbox.Pending > 0 {
		s.offer()
	}
	return err
}

// tidy removes what a killed process may have left, and makes a state if there is none. It
// makes it under another name first, so that a file with the final name is always whole.
func (s *Store) tidy() error {
	dir := filepath.Dir(s.path)
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("opening the state: %w", err)
	}
	for _, file := range files {
		partial, err := filepath.Match(tempGlob, file.Name())
		if err == nil && (partial || file.Name() == freshName) {
			err = remove(filepath.Join(dir, file.Name()))
		}
		if err != nil {
			return fmt.Errorf("removing what an earlier process left: %w", err)
		}
	}
	if _, err := os.Lstat(s.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := filepath.Join(dir, freshName)
	if err := s.create(fresh); err != nil {
		return errors.Join(fmt.Errorf("making the state %s: %w", s.path, err), remove(fresh))
	}
	return nil
}

func (s *Store) create(fresh string) error {
	db, err := bbolt.Open(fresh, fileMode, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets() {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		d := &draft{tx: tx, content: content{state: &State{}}}
		d.meta = meta{Producer: newProducerName(), ProducerSince: s.clock().UTC(), ProducerWhy: "a new state"}
		return errors.Join(d.putMeta(), d.putRaw(bucketMeta, []byte(metaSchema), []byte(strconv.Itoa(schemaVersion))))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	return rename(fresh, s.path)
}

// openFile opens the file. One whose layout is not ours is an error.
func (s *Store) openFile(readOnly bool) error {
	info, err := os.Stat(s.path)
	if err != nil {
		return fmt.Errorf("opening the state: %w", err)
	}
	if info.Size() == 0 { // which bbolt would fill
		return s.damaged(errors.New("it is empty"))
	}
	s.db, err = openBolt(s.path, readOnly)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return &LockedError{Path: filepath.Dir(s.path)}
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("opening the state: %w", err)
	case err != nil:
		return s.damaged(err)
	}
	var version int
	err = s.view(func(tx *bbolt.Tx) error {
		if tx.Size() > info.Size() {
			return fmt.Errorf("it is cut off: %d of %d bytes", info.Size(), tx.Size())
		}
		version, err = versionOf(tx)
		return err
	})
	switch {
	case errors.Is(err, errUnreleased):
		return fmt.Errorf("the state %s was made by a build of quant-exporter from before its first release, which this version cannot read, and was left as it is: move the folder %s away to start afresh, or name another one with --storage.path",
			s.path, filepath.Dir(s.path))
	case err != nil:
		return s.damaged(err)
	case version > schemaVersion:
		return fmt.Errorf("the state %s was made by a newer version of this program (schema %d; this one reads up to %d) and was left as it is: run that version, or restore a backup made by this one",
			s.path, version, schemaVersion)
	}
	return nil
}

// openBolt opens a bbolt file. If bbolt panics, it returns an error.
func openBolt(path string, readOnly bool) (db *bbolt.DB, err error) {
	var file *os.File
	options := &bbolt.Options{
		Timeout: time.Second, ReadOnly: readOnly,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			file, err = os.OpenFile(name, flag&^os.O_CREATE, mode)
			return file, err
		},
	}
	if !readOnly {
		options.InitialMmapSize = initialMap
	}
	err = guard(func() error {
		db, err = bbolt.Open(path, fileMode, options)
		return err
	})
	if err != nil {
		if file != nil {
			_ = file.Close() // open still, with its lock, after a panic
		}
		return nil, err
	}
	db.AllocSize = allocation
	return db, nil
}

// guard turns panics and memory faults into errors: bbolt answers damaged pages with them.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return f()
}

// view reads a file that may be damaged.
func (s *Store) view(f func(*bbolt.Tx) error) error {
	return guard(func() error { return s.db.View(f) })
}

func (s *Store) load() error {
	err := s.view(func(tx *bbolt.Tx) (err error) {
		for _, name := range buckets() {
			if tx.Bucket([]byte(name)) == nil {
				return fmt.Errorf("the bucket %s is missing", name)
			}
		}
		s.content, err = load(tx)
		return err
	})
	if err != nil {
		return s.damaged(err)
	}
	s.current.Store(s.content.state)
	return nil
}

// abandon closes a file that turned out to be unusable.
func (s *Store) abandon() {
	if s.db != nil {
		_ = s.db.Close()
	}
}

func (s *Store) damaged(err error) error {
	return fmt.Errorf("the state %s is damaged, or is the file of another program (%w); it was left as it is: restore a backup in its place, or move it away to start afresh", s.path, err)
}

// recognize takes a new producer if this is not the same file as at the last start.
func (s *Store) recognize(d *draft, now identity) error {
	var why string
	before := d.meta.Identity
	switch {
	case d.meta.Backup != nil:
		why = "this is a backup of " + d.meta.Backup.Format(time.RFC3339)
	case before == identity{}: // it is new
	case !before.sameAs(now):
		why = fmt.Sprintf("the file was copied or restored: it was %v and is %v", before, now)
	case before == now:
		return nil
	}
	d.meta.Identity, d.meta.Backup = now, nil
	if why == "" {
		return d.putMeta()
	}
	s.logger.Warn("the state is a copy: coming events have a new producer", "file", s.path, "reason", why)
	return d.newProducer(why)
}

// rename gives a file its final name, durably. Its content is on the disk already.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return disk.Sync(filepath.Dir(to))
}

// remove removes a file that may not be there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
