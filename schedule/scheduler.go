package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// maxWait is how long the scheduler sleeps at most. Timers do not run while the host is
// suspended, and do not follow a clock that is set.
const maxWait = 30 * time.Second

// State is what has to be remembered of an entry.
type State struct {
	// Spec is the schedule by which it was due. If it is another one now, the entry
	// starts afresh.
	Spec string `json:"spec"`
	// Last is up to when everything that was due is settled: when the entry was due
	// last, without jitter, or was first seen.
	Last time.Time `json:"last"`
}

// Memory keeps the states over restarts. A [Scheduler] calls Entry from Replace, and
// SetEntry from Run.
type Memory interface {
	Entry(name string) (State, bool)
	// SetEntry returns when the state is safe.
	SetEntry(name string, s State) error
}

// Reason says why an entry fires.
type Reason string

// The reasons.
const (
	Schedule Reason = "schedule" // it is time
	Start    Reason = "start"    // the process has started: run_on_start
	CatchUp  Reason = "catch-up" // it was time more than 30 seconds ago, and nobody was there
)

// Fire is an entry that is due.
type Fire struct {
	Entry string
	// Due is when the entry was due on this host: the time of its spec and the jitter
	// on top. At start, the time of the start.
	Due time.Time
	// Deadline is when a run that has not begun is to be dropped. Zero: never.
	Deadline time.Time
	Reason   Reason
}

// Options are what a [Scheduler] needs. Fire and Memory are required.
type Options struct {
	Clock  Clock // default SystemClock
	Memory Memory
	Host   string // name of the host, for jitter
	// Fire is called for each entry that is due, in order of due time, from one
	// goroutine. It must not block.
	Fire func(Fire)
	// Missed is called instead when a fire is past its deadline: once, however many
	// have been missed. It must not block. Default: nothing is done.
	Missed func(entry string, due time.Time)
	Logger *slog.Logger // default: none
}

// Scheduler fires entries when they are due. Its methods may be called at any time from
// any goroutine.
type Scheduler struct {
	options Options
	changed chan struct{} // has the loop look again

	mu       sync.Mutex
	replaced bool    // has had entries
	items    []*item // in the order of the entries; the loop alone moves them on
	started  bool    // run_on_start is done with
}

// New makes a scheduler without entries.
func New(options Options) *Scheduler {
	if options.Clock == nil {
		options.Clock = SystemClock{}
	}
	if options.Missed == nil {
		options.Missed = func(string, time.Time) {}
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	return &Scheduler{options: options, changed: make(chan struct{}, 1)}
}

// Replace sets the entries. Those whose name, spec and timezone are as before go on as
// if nothing had happened; the others count from now. The first time, what the memory
// knows of them counts as before. If an entry is invalid, or two have the same name,
// nothing changes. A fire that was due before may still come just after.
func (s *Scheduler) Replace(entries []Entry) error {
	items, err := s.newItems(entries)
	if err != nil {
		return err
	}
	now := s.now()

	s.mu.Lock()
	defer s.mu.Unlock()
	before := make(map[string]*item, len(s.items))
	for _, it := range s.items {
		before[it.entry.Name] = it
	}
	for _, it := range items {
		old := before[it.entry.Name]
		if old != nil && old.identity() == it.identity() {
			it.last, it.next, it.saved = old.last, old.next, old.saved
			continue
		}
		it.last = now.Truncate(time.Second)
		if !s.replaced {
			if state, ok := s.options.Memory.Entry(it.entry.Name); ok && state.Spec == it.identity() && !state.Last.IsZero() {
				it.last, it.saved = state.Last.Round(0), true
			}
		}
		it.plan()
	}
	s.items, s.replaced = items, true
	select {
	case s.changed <- struct{}{}:
	default: // it is going to look anyway
	}
	return nil
}

// newItems returns the entries, where all of them are valid.
func (s *Scheduler) newItems(entries []Entry) ([]*item, error) {
	var items []*item
	var problems []error
	names := map[string]bool{}
	for _, e := range entries {
		if names[e.Name] {
			problems = append(problems, fmt.Errorf("schedule: two entries have the name %q", e.Name))
		}
		names[e.Name] = true
		e.Check(func(key string, err error) {
			problems = append(problems, fmt.Errorf("schedule: entry %q: %s: %w", e.Name, key, err))
		})
		if len(problems) > 0 {
			continue
		}
		it, err := newItem(e, s.options.Host)
		if err != nil {
			problems = append(problems, fmt.Errorf("schedule: entry %q: %w", e.Name, err))
		}
		items = append(items, it)
	}
	return items, errors.Join(problems...)
}

// Run fires entries until the context is canceled. It is to be called once.
func (s *Scheduler) Run(ctx context.Context) {
	for ctx.Err() == nil {
		next := s.pass(ctx)
		timer, stop := s.options.Clock.NewTimer(min(maxWait, max(0, next.Sub(s.now()))))
		select {
		case <-ctx.Done():
		case <-timer:
		case <-s.changed:
		}
		stop()
	}
}

// outcome is what is to be done about an item: to save its state, and then to fire.
type outcome struct {
	item  *item
	state State
	fire  Fire
	late  bool // the fire is past its deadline
}

// pass does what is to be done now, and returns when there is something to do again.
func (s *Scheduler) pass(ctx context.Context) time.Time {
	due, unsaved, next := s.look(s.now())
	slices.SortStableFunc(due, func(a, b outcome) int { return a.fire.Due.Compare(b.fire.Due) })
	for _, o := range due {
		if ctx.Err() != nil {
			return next
		}
		s.save(o) // an error is logged, and tried again at the next pass
		if o.late {
			s.options.Logger.Warn("a run is skipped: it was due longer ago than its starting_deadline allows",
				"entry", o.fire.Entry, "due", o.fire.Due, "deadline", o.fire.Deadline)
			s.options.Missed(o.fire.Entry, o.fire.Due)
			continue
		}
		s.options.Fire(o.fire)
	}
	for _, o := range unsaved {
		if ctx.Err() != nil || !s.save(o) {
			break // the others would fail as well
		}
	}
	return next
}

// look finds the items that are due, and those that are only not saved yet.
func (s *Scheduler) look(now time.Time) (due, unsaved []outcome, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	start := s.replaced && !s.started
	s.started = s.started || start
	next = now.Add(maxWait)
	for _, it := range s.items {
		if fire, late, ok := it.look(now, start); ok {
			due = append(due, outcome{it, it.state(), fire, late})
		} else if !it.saved {
			unsaved = append(unsaved, outcome{item: it, state: it.state()})
		}
		if !it.entry.Suspend && it.due().Before(next) {
			next = it.due()
		}
	}
	return due, unsaved, next
}

// save has to come before the fire: see the package's documentation.
func (s *Scheduler) save(o outcome) bool {
	name := o.item.entry.Name
	if err := s.options.Memory.SetEntry(name, o.state); err != nil {
		s.options.Logger.Error("the state of an entry could not be saved; after a restart it may be due again",
			"entry", name, "err", err)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.item.saved = true
	return true
}

// Next is when each entry that is not suspended is due next, on this host.
func (s *Scheduler) Next() map[string]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[string]time.Time, len(s.items))
	for _, it := range s.items {
		if !it.entry.Suspend {
			next[it.entry.Name] = it.due()
		}
	}
	return next
}

// now returns the time on the wall, which Go otherwise leaves aside when it compares times.
func (s *Scheduler) now() time.Time { return s.options.Clock.Now().Round(0) }

// Upcoming is when an entry is due on a host, the n next times after from; for @every,
// when it fires at from. None if the entry is suspended or invalid.
func Upcoming(e Entry, host string, from time.Time, n int) []time.Time {
	it, err := newItem(e, host)
	if err != nil || e.Suspend {
		return nil
	}
	at := from
	if _, every := it.spec.Every(); !every {
		at = from.Add(-it.jitter)
	}
	var times []time.Time
	for range n {
		at = it.spec.Next(at)
		times = append(times, at.Add(it.jitter))
	}
	return times
}
