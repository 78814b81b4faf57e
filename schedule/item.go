package schedule

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// setBack is how far the clock has to be set back for entries to go on from now, and
// not wait until it shows the time of their last fire again. It is what ISC cron takes
// for more than a change of daylight saving time.
const setBack = 3 * time.Hour

// suspended is what takes the place of the spec in the state of a suspended entry: when
// the entry is no longer suspended it is as with any changed spec, it starts afresh.
const suspended = "suspended"

// item is an entry on its way through time.
type item struct {
	entry  Entry
	spec   Spec
	jitter time.Duration // of this entry on this host

	last  time.Time // up to here everything that was due is settled, jitter left out
	next  time.Time // when it is due next, jitter left out; zero when suspended
	saved bool      // the memory has last
}

// newItem wants a valid entry.
func newItem(e Entry, host string) (*item, error) {
	spec, err := Parse(e.Cron, e.Timezone)
	if err != nil {
		return nil, err
	}
	return &item{entry: e, spec: spec, jitter: jitter(e, host)}, nil
}

// jitter returns the part of the entry's jitter that falls to this entry on this host: a
// hash, so that it is the same after a restart. Whole milliseconds.
func jitter(e Entry, host string) time.Duration {
	if e.Jitter <= 0 {
		return 0
	}
	hash := sha256.Sum256([]byte(e.Name + "\x00" + host))
	share := binary.BigEndian.Uint64(hash[:]) % uint64(e.Jitter)
	return time.Duration(share).Truncate(time.Millisecond)
}

// identity changes when the entry has to start afresh.
func (it *item) identity() string {
	if it.entry.Suspend {
		return suspended
	}
	return it.spec.String()
}

func (it *item) state() State { return State{Spec: it.identity(), Last: it.last} }

// due is when the entry is due next, on this host.
func (it *item) due() time.Time { return it.next.Add(it.jitter) }

// settle notes that everything up to last is done with.
func (it *item) settle(last time.Time) {
	it.last, it.saved = last, false
	it.plan()
}

func (it *item) plan() {
	it.next = time.Time{}
	if !it.entry.Suspend {
		it.next = it.spec.Next(it.last)
	}
}

// look settles what is due now; at the start of the process, RunOnStart as well. It
// returns the fire, if any, and whether that is too late.
func (it *item) look(now time.Time, start bool) (fire Fire, late, ok bool) {
	if it.entry.Suspend {
		return Fire{}, false, false
	}
	_, every := it.spec.Every()
	if ahead := it.last.Sub(now); ahead >= setBack || every && ahead > 0 {
		it.settle(now.Truncate(time.Second))
	}
	if start && it.entry.RunOnStart {
		it.settle(now.Truncate(time.Second))
		return it.fire(now, Start), false, true
	}
	upto := now.Add(-it.jitter)
	if it.next.After(upto) {
		return Fire{}, false, false
	}
	latest := it.spec.latest(it.next, upto)
	it.settle(latest)
	fire = it.fire(latest.Add(it.jitter), Schedule)
	if now.Sub(fire.Due) > maxWait {
		fire.Reason = CatchUp
	}
	if !fire.Deadline.IsZero() && now.After(fire.Deadline) {
		return fire, true, true
	}
	if every {
		// It counts from this fire, late as it may be, but not from the moment by
		// which a timer is late: that would add up.
		it.settle(upto.Truncate(time.Second))
	}
	return fire, false, true
}

func (it *item) fire(due time.Time, reason Reason) Fire {
	fire := Fire{Entry: it.entry.Name, Due: due, Reason: reason}
	if it.entry.StartingDeadline > 0 {
		fire.Deadline = due.Add(time.Duration(it.entry.StartingDeadline))
	}
	return fire
}
