package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// SetAttempt records that a running cycle of a fleet is given to the workers of its class for
// the n-th time, and whether one of them has begun it before. The results of earlier times do
// not count any more. A lower n than before is an error.
func (s *Store) SetAttempt(cycle uint64, n int, begun bool) error {
	return s.update(fmt.Sprintf("storing attempt %d at cycle %d", n, cycle), func(d *draft) error {
		c, err := d.running(cycle)
		if err != nil {
			return err
		}
		if n < c.Attempt {
			return fmt.Errorf("attempt %d has begun", c.Attempt)
		}
		next := *c
		next.Attempt, next.Begun = n, begun
		return d.putCycle(&next)
	})
}

// Withdraw takes targets out of a running cycle of a fleet that has no result of them, and
// counts them, or the cycle if none of its targets is left, as skipped for its entry, unless
// why is "". A cycle of which no target is left is forgotten.
func (s *Store) Withdraw(cycle uint64, targets []string, why SkipReason) error {
	return s.update(fmt.Sprintf("withdrawing %v from cycle %d", targets, cycle), func(d *draft) error {
		c, err := d.running(cycle)
		if err != nil {
			return err
		}
		open := func(target string) bool {
			return slices.Contains(targets, target) && slices.Contains(c.Undecided, target)
		}
		next := *c
		next.Targets = slices.DeleteFunc(slices.Clone(c.Targets), open)
		next.Undecided = slices.DeleteFunc(slices.Clone(c.Undecided), open)
		n := uint64(len(c.Targets) - len(next.Targets))
		switch {
		case n == 0:
			return nil
		case len(next.Targets) > 0:
			err = d.putCycle(&next)
		default:
			n = 1
			err = errors.Join(d.delete(bucketCycles, number(c.ID)), d.delete(bucketRunning, number(c.ID)), d.delete(bucketLogs, number(c.ID)))
			d.state.Running = slices.DeleteFunc(d.state.Running, func(r *Cycle) bool { return r.ID == c.ID })
		}
		if err != nil || c.Entry == "" || why == "" {
			return err
		}
		return d.count(Counter{Kind: CountSkipped, Entry: c.Entry, By: string(why)}, n)
	})
}

// checkFleet returns an error if a cycle of a class cannot be kept apart from others.
func checkFleet(c *Cycle) error {
	if c.Class == "" {
		return nil
	}
	for _, name := range append([]string{c.Model, c.Class}, c.Targets...) {
		if strings.Contains(name, classMark) {
			return fmt.Errorf("%q has a control character, which no name in a fleet has", name)
		}
	}
	return checkName("a class", c.Class)
}
