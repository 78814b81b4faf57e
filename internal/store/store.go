package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// Errors of the store that a caller may want to tell apart.
var (
	// ErrReadOnly is returned by methods that would change a state of OpenForReading.
	ErrReadOnly = errors.New("the state was opened for reading only")
	// ErrCommitted is returned by Commit for a target of the cycle that has a result.
	ErrCommitted = errors.New("it has a result already")
)

// Options of a Store.
type Options struct {
	Retention config.Retention
	Bus       bool             // one is configured: see SetBus
	Host      string           // where results are from, for events and records
	Now       func() time.Time // default: time.Now
	Logger    *slog.Logger     // default: none
}

// Store is the state on disk. Its methods are safe for concurrent use: those that write
// wait for each other, those that read the file wait for nobody, and State reads memory
// alone. The methods that write return when the data is on the disk.
type Store struct {
	path     string // of the file
	db       *bbolt.DB
	unlock   func()
	readOnly bool
	host     string
	clock    func() time.Time
	logger   *slog.Logger
	failed   atomic.Uint64 // Stats.WriteFailures
	current  atomic.Pointer[State]
	pending  chan struct{}
	window   int // settled events that are kept: settledKept

	mu        sync.Mutex // one writer at a time; guards what follows
	content   content
	retention config.Retention
	sweep     []byte
}

func newStore(path string, unlock func(), o Options) *Store {
	s := &Store{
		path: path, unlock: unlock, host: o.Host, clock: o.Now, logger: o.Logger,
		retention: o.Retention, pending: make(chan struct{}, 1), window: settledKept,
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	return s
}

// Close waits for open transactions and releases the state. Afterwards State still returns
// what was last known, and all other methods fail. Only the first Close does anything.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.db.Close()
	s.unlock()
	if err != nil {
		return fmt.Errorf("closing the state %s: %w", s.path, err)
	}
	return nil
}

// State returns what was last committed. It never blocks. Callers must not change what it
// points to.
func (s *Store) State() *State { return s.current.Load() }

// errUnchanged ends a transaction that had nothing to write.
var errUnchanged = errors.New("unchanged")

// update runs f in a transaction. What f changed of the draft becomes the state once the
// transaction is on the disk. doing is for the error.
func (s *Store) update(doing string, f func(*draft) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readOnly {
		return fmt.Errorf("%s: %w", doing, ErrReadOnly)
	}
	var d *draft
	complete := false // all that is left is to commit
	err := s.db.Update(func(tx *bbolt.Tx) error {
		d = s.content.begin(tx)
		d.now, d.retention, d.window, d.host, d.sweep = s.clock().UTC().Round(0), s.retention, s.window, s.host, s.sweep
		if err := f(d); err != nil {
			return err
		}
		if !d.dirty {
			return errUnchanged
		}
		complete = true
		return nil
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	if err != nil {
		if !errors.Is(err, ErrCommitted) {
			s.failed.Add(1)
		}
		if complete {
			s.reload()
		}
		return fmt.Errorf("%s: %w", doing, err)
	}
	s.sweep = d.sweep
	s.set(d.content)
	if d.offered {
		s.offer()
	}
	return nil
}

// reload reads the state from the file. After a failed commit this is the state from before.
// But if the system took the data and then failed to say that it is on the disk, the file
// holds the new state, and the next transaction builds on it.
func (s *Store) reload() {
	var c content
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		c, err = load(tx)
		return err
	})
	if err != nil {
		s.logger.Error("the state cannot be read again after a failed write", "file", s.path, "err", err)
		return
	}
	s.set(c)
}

// set makes a content the current one.
func (s *Store) set(c content) {
	s.content = c
	s.current.Store(c.state)
}

// Changed gets a value whenever there are new pending events, and at the start when there
// are any. Several changes make one value: it is for one receiver, which then calls
// NextPending until there are no more.
func (s *Store) Changed() <-chan struct{} { return s.pending }

func (s *Store) offer() {
	select {
	case s.pending <- struct{}{}:
	default: // not yet taken: it will stand for this one, too
	}
}

// SetRetention changes the bounds, which take effect over the next commits.
func (s *Store) SetRetention(r config.Retention) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retention = r
}

// CountSkipped counts n runs or pairs of an entry that were due and did not run.
func (s *Store) CountSkipped(entry string, reason SkipReason, n uint64) error {
	return s.update(fmt.Sprintf("counting what was skipped of the entry %q", entry), func(d *draft) error {
		if n == 0 {
			return nil
		}
		if err := errors.Join(checkName("an entry", entry), checkName("a reason", string(reason))); err != nil {
			return err
		}
		return d.count(Counter{Kind: CountSkipped, Entry: entry, By: string(reason)}, n)
	})
}

// Entry returns what SetEntry stored. It is also unknown if the file cannot be read, which is
// logged.
func (s *Store) Entry(name string) (schedule.State, bool) {
	var entry schedule.State
	known := false
	err := s.db.View(func(tx *bbolt.Tx) error {
		stored, ok, err := find[schedule.State](tx, bucketEntries, []byte(name))
		if ok {
			entry, known = *stored, true
		}
		return err
	})
	if err != nil {
		s.logger.Error("the state of an entry cannot be read", "entry", name, "err", err)
	}
	return entry, known
}

// SetEntry remembers the state of an entry of the schedule.
func (s *Store) SetEntry(name string, e schedule.State) error {
	return s.update(fmt.Sprintf("storing the state of the entry %q", name), func(d *draft) error {
		if err := checkName("an entry", name); err != nil {
			return err
		}
		e.Last = e.Last.UTC()
		return d.put(bucketEntries, []byte(name), &e)
	})
}

// newProducerName is 26 letters and digits at random.
func newProducerName() string { return rand.Text() }
