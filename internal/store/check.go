package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Check verifies every invariant of the state, for tests and for operators in doubt:
//
//   - the file is whole, and State is what it holds;
//   - each result has its evidence and its point in the history, and each of these its
//     result and its cycle;
//   - the counters of decisions, failures and rejections are the sums over all results,
//     and the counter of changed inputs is the sum over all cycles;
//   - a pair's standing decision is the last kept or rejected of its history, and it
//     changed exactly where the history says so;
//   - there is exactly one event for each change, of a standing decision or of a choice,
//     and it says what changed;
//   - the events of each producer are numbered without a gap, the delivered ones before
//     the pending ones, and each is in exactly one state of delivery;
//   - a cycle that has ended has a result for each of its targets that it did not pass over;
//   - the choice of a model is the choice of the cycle that it names.
//
// What Retention has removed is remembered in sums, and taken into account. The error
// joins everything that is wrong. Check reads the whole state, which takes seconds if it is
// large; writers wait meanwhile.
func (s *Store) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.view(func(tx *bbolt.Tx) error {
		var wrong []error
		for err := range tx.Check() {
			wrong = append(wrong, err)
		}
		if len(wrong) > 0 {
			return errors.Join(wrong...) // reading on might not end well
		}
		c := checker{tx: tx}
		if err := c.read(); err != nil {
			return err
		}
		if !reflect.DeepEqual(c.content, s.content) || s.State() != s.content.state {
			c.report("State is not what the file holds: %+v and %+v", s.content, c.content)
		}
		c.cycles()
		c.results()
		c.counters()
		c.pairs()
		c.events()
		return errors.Join(c.wrong...)
	})
	if err != nil {
		return fmt.Errorf("checking the state %s: %w", s.path, err)
	}
	return nil
}

// checker is a state, read whole.
type checker struct {
	content content
	tx      *bbolt.Tx
	wrong   []error

	allCycles map[uint64]*Cycle
	records   map[string]*Record          // by their keys, without evidence
	evidence  map[string]bool             // the keys of what there is
	points    map[PairID]map[uint64]Point // by cycles
	pruned    map[Counter]uint64
	allEvents []*Event // by Seq
	last      uint64   // Seq ever given
}

func (c *checker) report(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Errorf(format, args...))
}

func (c *checker) read() error {
	var err error
	if c.content, err = load(c.tx); err != nil {
		return err
	}
	c.allCycles, c.records, c.evidence = map[uint64]*Cycle{}, map[string]*Record{}, map[string]bool{}
	c.points = map[PairID]map[uint64]Point{}
	pruned, err := readCounters(c.tx, bucketPruned)
	if err != nil {
		return err
	}
	c.pruned = maps.Collect(pruned.All())
	c.last = c.tx.Bucket([]byte(bucketEvents)).Sequence()
	return errors.Join(
		each(c.tx, bucketCycles, func(cycle *Cycle) { c.allCycles[cycle.ID] = cycle }),
		c.tx.Bucket([]byte(bucketResults)).ForEach(func(k, v []byte) error {
			record, err := decode[Record](bucketResults, k, v)
			c.records[string(k)] = record
			return err
		}),
		c.tx.Bucket([]byte(bucketEvidence)).ForEach(func(k, v []byte) error {
			_, err := decode[runner.Evidence](bucketEvidence, k, v)
			c.evidence[string(k)] = true
			return err
		}),
		c.readPoints(bucketDecided),
		c.readPoints(bucketFailed),
		each(c.tx, bucketEvents, func(e *Event) { c.allEvents = append(c.allEvents, e) }),
	)
}

func (c *checker) readPoints(bucket string) error {
	return c.tx.Bucket([]byte(bucket)).ForEach(func(k, v []byte) error {
		point, err := decode[Point](bucket, k, v)
		if err != nil {
			return err
		}
		model, rest, _ := strings.Cut(string(k), "\x00")
		target, _, _ := strings.Cut(rest, "\x00")
		target, class, _ := strings.Cut(target, classMark)
		id := PairID{model, target, class}
		if !bytes.Equal(k, historyKey(id, point.Cycle)) || point.history() != bucket {
			c.report("the point of cycle %d of %v is under %q of %s", point.Cycle, id, k, bucket)
		}
		if c.points[id] == nil {
			c.points[id] = map[uint64]Point{}
		}
		c.points[id][point.Cycle] = *point
		return nil
	})
}

func (c *checker) cycles() {
	newest := c.tx.Bucket([]byte(bucketCycles)).Sequence()
	for id, cycle := range c.allCycles {
		if id == 0 || id > newest {
			c.report("cycle %d is out of the %d begun", id, newest)
		}
		if indexed := c.tx.Bucket([]byte(bucketRunning)).Get(number(id)) != nil; indexed != (cycle.Ended == nil) {
			c.report("cycle %d ended at %v, and is in the index of those that run: %t", id, cycle.Ended, indexed)
		}
		if cycle.Ended != nil && len(cycle.Undecided) > 0 {
			c.report("cycle %d has ended without a result of %v", id, cycle.Undecided)
		}
		for _, target := range cycle.Undecided {
			if c.records[string(resultKey(id, target))] != nil {
				c.report("cycle %d has a result of %s, which it calls undecided", id, target)
			}
		}
		for target := range cycle.PassedOver {
			if c.records[string(resultKey(id, target))] != nil || !slices.Contains(cycle.Targets, target) || slices.Contains(cycle.Undecided, target) {
				c.report("cycle %d of %v has a result of %s, or none yet, which it calls passed over", id, cycle.Targets, target)
			}
		}
	}
	for _, model := range c.content.state.Models {
		if chosen := model.Choice; chosen != nil {
			if cycle := c.allCycles[chosen.Cycle]; cycle != nil && (cycle.Chosen != chosen.Format || cycle.Choose != chosen.Rule) {
				c.report("the choice of %s is %s, but cycle %d chose %s", model.Name, chosen.Format, cycle.ID, cycle.Chosen)
			}
		}
	}
}

func (c *checker) results() {
	points := 0
	for _, of := range c.points {
		points += len(of)
	}
	if points != len(c.records) {
		c.report("there are %d results and %d points of history", len(c.records), points)
	}
	for key := range c.evidence {
		if c.records[key] == nil {
			c.report("there is evidence of no result under %q", key)
		}
	}
	for key, r := range c.records {
		if !c.evidence[key] {
			c.report("the result of cycle %d of %v has no evidence", r.Cycle, r.PairID())
		}
		if key != string(resultKey(r.Cycle, r.TargetFormat)) {
			c.report("the result of cycle %d of %v is under %q", r.Cycle, r.PairID(), key)
		}
		if point, ok := c.points[r.PairID()][r.Cycle]; !ok || !reflect.DeepEqual(point, r.point()) {
			c.report("the result of cycle %d of %v has the point %+v", r.Cycle, r.PairID(), point)
		}
		if cycle := c.allCycles[r.Cycle]; cycle == nil || cycle.Model != r.Model || !slices.Contains(cycle.Targets, r.TargetFormat) {
			c.report("the result of cycle %d of %v belongs to the cycle %+v", r.Cycle, r.PairID(), cycle)
		}
	}
}

// counters compares the counters with the sums over results and what was pruned.
func (c *checker) counters() {
	sums := maps.Clone(c.pruned)
	maps.DeleteFunc(sums, func(counter Counter, _ uint64) bool { return counter.Kind == countChange || counter.Kind == countEvent })
	for id, points := range c.points {
		for _, point := range points {
			for _, counter := range point.counters(id) {
				sums[counter]++
			}
		}
	}
	for _, cycle := range c.allCycles {
		for _, input := range changedInputs(cycle.Changes) {
			sums[Counter{Kind: CountInputChange, Model: cycle.Model, Class: cycle.Class, By: string(input)}]++
		}
	}
	delivered := c.pruned[Counter{Kind: countEvent, By: string(Delivered)}]
	for _, e := range c.allEvents {
		if e.Delivery == Delivered {
			delivered++
		}
	}
	if delivered > 0 {
		sums[Counter{Kind: CountDelivered}] = delivered
	}
	stored := maps.Collect(c.content.state.Counters.All())
	maps.DeleteFunc(stored, func(counter Counter, _ uint64) bool { // of nothing that is stored
		return counter.Kind == CountSkipped || counter.Kind == CountDeliveryFailure || counter.Kind == CountPublishFailure
	})
	if !maps.Equal(sums, stored) {
		c.report("the counters are %v and the sums over all results %v", stored, sums)
	}
}

func (c *checker) pairs() {
	for id := range c.points {
		if c.content.state.Pairs[id] == nil {
			c.report("%v has a history and is not a pair", id)
		}
	}
	prunedStanding := map[PairID]uint64{}
	for counter, n := range c.pruned {
		if counter.Kind == CountDecision && standingOutcome(verdict.Outcome(counter.By)) {
			prunedStanding[PairID{counter.Model, counter.Target, counter.Class}] += n
		}
	}
	for id, pair := range c.content.state.Pairs {
		c.pair(id, pair, prunedStanding[id])
	}
}

// pair follows the history of a pair.
func (c *checker) pair(id PairID, pair *Pair, pruned uint64) {
	var standing verdict.Outcome
	known := pruned == 0 // what stood before the first of the history
	lastDecided, lastFailed := uint64(0), uint64(0)
	for _, cycle := range slices.Sorted(maps.Keys(c.points[id])) {
		point := c.points[id][cycle]
		if point.Reason != "" {
			lastFailed = cycle
		} else {
			lastDecided = cycle
		}
		changes := standingOutcome(point.Outcome) && point.Outcome != standing
		if known && changes != point.Changed {
			c.report("%v: cycle %d says %q after %q, and changed: %t", id, cycle, point.Outcome, standing, point.Changed)
		}
		if standingOutcome(point.Outcome) {
			standing, known = point.Outcome, true
		}
	}
	if known && pair.Standing != standing {
		c.report("%v: %q stands, and the last of its history is %q", id, pair.Standing, standing)
	}
	if pruned > 0 && pair.Standing == "" {
		c.report("%v was decided, and nothing stands", id)
	}
	if lastDecided > 0 && (pair.Decided == nil || pair.Decided.Cycle != lastDecided) {
		c.report("%v: the latest decision is not the decision of cycle %d: %+v", id, lastDecided, pair.Decided)
	}
	if pair.PassedOver != nil && pair.PassedOver.Cycle <= max(lastDecided, lastFailed) {
		c.report("%v: it has a result since it was passed over in cycle %d", id, pair.PassedOver.Cycle)
	}
	if failed := lastFailed > lastDecided; failed != (pair.Failed != nil) || failed && pair.Failed.Cycle != lastFailed {
		c.report("%v: the latest failure is not the failure of cycle %d: %+v", id, lastFailed, pair.Failed)
	}
}

func (c *checker) events() {
	var changes uint64
	changed := map[uint64]*Record{}
	for counter, n := range c.pruned {
		if counter.Kind == countChange {
			changes += n
		}
	}
	chosen := map[uint64]*Cycle{}
	for _, cycle := range c.allCycles {
		if cycle.ChoiceSeq > 0 {
			changes++
			chosen[cycle.ChoiceSeq] = cycle
		}
	}
	for _, r := range c.records {
		if r.Changed {
			changes++
			changed[r.EventSeq] = r
		}
		if r.Changed != (r.EventSeq > 0) || r.Changed != (r.EventID != "") {
			c.report("the result of cycle %d of %v: changed: %t, event: %d %q", r.Cycle, r.PairID(), r.Changed, r.EventSeq, r.EventID)
		}
	}
	kept := uint64(len(c.allEvents))
	for _, delivery := range []Delivery{Delivered, Superseded} {
		kept += c.pruned[Counter{Kind: countEvent, By: string(delivery)}]
	}
	if changes != c.last || kept != c.last {
		c.report("there were %d changes and %d events, of which %d are kept or known to be pruned", changes, c.last, kept)
	}

	indexed := map[Delivery]string{Held: bucketHeld, Pending: bucketPending, Delivered: bucketSettled, Superseded: bucketSettled}
	count := map[string]int{}
	numbered := 0
	newest := map[string]*Event{}
	for _, e := range c.allEvents {
		if r := changed[e.Seq]; r != nil && (r.EventID != e.ID || r.PairID() != e.PairID) {
			c.report("event %d of %v belongs to the result of cycle %d of %v", e.Seq, e.PairID, r.Cycle, r.PairID())
		}
		if cycle := chosen[e.Seq]; cycle != nil && (cycle.ChoiceID != e.ID || e.PairID != PairID{Model: cycle.Model, Class: cycle.Class}) {
			c.report("event %d of %v belongs to the choice of cycle %d of %s", e.Seq, e.PairID, cycle.ID, cycle.Model)
		}
		bucket, ok := indexed[e.Delivery]
		if !ok || c.tx.Bucket([]byte(bucket)).Get(number(e.Seq)) == nil {
			c.report("event %d is %q and not in the index %q", e.Seq, e.Delivery, bucket)
		}
		count[bucket]++
		if (e.Delivered != nil) != (e.Delivery == Delivered) {
			c.report("event %d is %q, delivered at %v", e.Seq, e.Delivery, e.Delivered)
		}
		if (e.Number > 0) != (e.Delivery == Pending || e.Delivery == Delivered) || (e.Number > 0) != (e.Producer != "") {
			c.report("event %d is %q and has the number %d of %q", e.Seq, e.Delivery, e.Number, e.Producer)
		}
		if e.Number == 0 {
			continue
		}
		numbered++
		if seq := c.tx.Bucket([]byte(bucketNumbers)).Get(numberKey(e.Producer, e.Number)); !bytes.Equal(seq, number(e.Seq)) {
			c.report("event %d has the number %d of %s, which belongs to %x", e.Seq, e.Number, e.Producer, seq)
		}
		if before := newest[e.Producer]; before != nil {
			if e.Number != before.Number+1 {
				c.report("event %d has the number %d of %s, after %d", e.Seq, e.Number, e.Producer, before.Number)
			}
			if e.Delivery == Delivered && before.Delivery == Pending {
				c.report("event %d is delivered before %d", e.Seq, before.Seq)
			}
		}
		newest[e.Producer] = e
	}
	count[bucketNumbers] = numbered
	for _, bucket := range []string{bucketHeld, bucketPending, bucketSettled, bucketNumbers} {
		entries := 0
		_ = c.tx.Bucket([]byte(bucket)).ForEach(func(_, _ []byte) error { entries++; return nil })
		if entries != count[bucket] {
			c.report("the index %s has %d entries for %d events", bucket, entries, count[bucket])
		}
	}
	if last := newest[c.content.meta.Producer]; last != nil && last.Number != c.content.meta.Newest {
		c.report("the newest number of %s is %d, of its events %d", c.content.meta.Producer, c.content.meta.Newest, last.Number)
	}
}
