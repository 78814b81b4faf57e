package store

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Committed says what a result changed.
type Committed struct {
	Changed bool   // the standing decision
	Event   *Event // of the change; nil if there was none
	// Changes are the differences from the inputs of the pair's decision before.
	Changes []runner.Change
}

// BeginCycle records that a cycle begins, before it does anything, and returns its id. It
// ignores c.ID, and takes a zero Started as now. A pair is in one cycle at a time; so a
// cycle that still runs and has not decided one of these pairs was given up, because its
// end could not be stored, on a full disk say. It ends here, and its targets without a
// result get the failure "internal".
func (s *Store) BeginCycle(c Cycle) (id uint64, err error) {
	err = s.update(fmt.Sprintf("storing that a cycle of %q begins", c.Model), func(d *draft) error {
		if err := checkCycle(&c); err != nil {
			return err
		}
		if err := s.giveUp(d, &c); err != nil {
			return err
		}
		if id, err = d.bucket(bucketCycles).NextSequence(); err != nil {
			return err
		}
		c.ID, c.Ended, c.Undecided, c.Published = id, nil, c.Targets, nil
		if c.Choose != choice.None && len(c.Candidates) == 0 {
			c.Candidates = c.Targets
		}
		if c.Started.IsZero() {
			c.Started = d.now
		}
		c.Started, c.Due = c.Started.UTC(), c.Due.UTC()
		return d.putCycle(&c)
	})
	if err != nil {
		return 0, err
	}
	return id, nil
}

func checkCycle(c *Cycle) error {
	if err := errors.Join(checkName("a model", c.Model), checkFleet(c)); err != nil {
		return err
	}
	if len(c.Targets) == 0 {
		return errors.New("it has no targets")
	}
	for _, names := range [][]string{c.Targets, c.Candidates} {
		for i, target := range names {
			if err := checkName("a target", target); err != nil {
				return err
			}
			if slices.Contains(names[:i], target) {
				return fmt.Errorf("it names %s twice", target)
			}
		}
	}
	return c.Choose.Validate()
}

// giveUp ends the running cycles that have yet to decide a pair of c.
func (s *Store) giveUp(d *draft, c *Cycle) error {
	for _, other := range slices.Clone(d.state.Running) {
		same := func(target string) bool { return slices.Contains(c.Targets, target) }
		if other.ModelID() != c.ModelID() || !slices.ContainsFunc(other.Undecided, same) {
			continue
		}
		s.logger.Warn("a cycle had not ended when the next one of its pair began", "cycle", other.ID, "model", other.Model, "undecided", other.Undecided)
		err := d.end(other, nil, func() *runner.Failure {
			return runner.Failf(runner.ReasonInternal, "no result of the cycle that began at %s was stored; the exporter's log says why", other.Started.Format(time.RFC3339))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Commit stores the result of one target of a running cycle: see the package's
// guarantees. r is not changed, and nothing of it is kept. For a target that already has a
// result it returns ErrCommitted and changes nothing.
func (s *Store) Commit(cycle uint64, r *runner.Result) (Committed, error) {
	var committed Committed
	err := s.update(fmt.Sprintf("storing the result of %s of %q", r.TargetFormat, r.Model), func(d *draft) error {
		c, err := d.running(cycle)
		if err != nil {
			return err
		}
		if err := checkResult(c, r); err != nil {
			return err
		}
		if committed, err = d.commit(c, r); err != nil {
			return err
		}
		return d.prune(c.PairID(r.TargetFormat))
	})
	if err != nil {
		return Committed{}, err
	}
	return committed, nil
}

// running finds a cycle that has not ended.
func (d *draft) running(id uint64) (*Cycle, error) {
	for _, c := range d.state.Running {
		if c.ID == id {
			return c, nil
		}
	}
	c, ok, err := find[Cycle](d.tx, bucketCycles, number(id))
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("there is no cycle %d", id)
	default:
		return nil, fmt.Errorf("cycle %d ended at %s: %w", id, c.Ended.Format(time.RFC3339), ErrCommitted)
	}
}

func checkResult(c *Cycle, r *runner.Result) error {
	switch {
	case r.Model != c.Model || !slices.Contains(c.Targets, r.TargetFormat):
		return fmt.Errorf("cycle %d decides %v of %q", c.ID, c.Targets, c.Model)
	case !slices.Contains(c.Undecided, r.TargetFormat):
		return fmt.Errorf("cycle %d: %w", c.ID, ErrCommitted)
	}
	return CheckContent(r)
}

// CheckContent returns an error if Commit refuses a result whatever its cycle is.
func CheckContent(r *runner.Result) error {
	switch {
	case (r.Verdict == nil) == (r.Failure == nil):
		return errors.New("it has to be a decision or a failure")
	case r.Failure != nil && r.Failure.Reason == "":
		return errors.New("the failure has no reason")
	case r.Verdict != nil && !standingOutcome(r.Verdict.Outcome) && r.Verdict.Outcome != verdict.Inconclusive:
		return fmt.Errorf("%q is not a decision", r.Verdict.Outcome)
	}
	if _, err := json.Marshal([]time.Time{r.Started.UTC(), r.Finished.UTC()}); err != nil {
		return fmt.Errorf("its times cannot be stored: %w", err)
	}
	return nil
}

// commit writes all that a result changes.
func (d *draft) commit(c *Cycle, r *runner.Result) (Committed, error) {
	id := c.PairID(r.TargetFormat)
	pair := Pair{PairID: id}
	if known := d.state.Pairs[id]; known != nil {
		pair = *known
	}
	record := newRecord(c, d.host, r, &pair)
	var e *Event
	if record.Changed {
		var err error
		if e, err = d.emit(c, &record); err != nil {
			return Committed{}, err
		}
		record.EventSeq, record.EventID = e.Seq, e.ID
		pair.Standing, pair.StandingSince = r.Verdict.Outcome, record.Finished
	}
	point := record.point()
	for _, counter := range point.counters(id) {
		if err := d.count(counter, 1); err != nil {
			return Committed{}, err
		}
	}

	model := Model{ModelID: c.ModelID()}
	if known := d.state.Models[c.ModelID()]; known != nil {
		model = *known
	}
	if r.Failure != nil {
		pair.Failed = newFailed(c, &record, pair.Failed)
	} else {
		pair.Failed = nil
		pair.Decided = record.withoutEvidence()
		model.Latest = id
	}
	model.Hosts = found(model.Hosts, &record)
	pair.PassedOver = nil
	if pair.Standing != verdict.Kept { // there is nothing to publish any more
		pair.Unpublished = nil
	}

	rest := *c
	if r.Failure == nil {
		if err := d.countChanges(&rest, record.Changes); err != nil {
			return Committed{}, err
		}
	}
	rest.Undecided = slices.DeleteFunc(slices.Clone(c.Undecided), func(target string) bool { return target == id.Target })

	err := errors.Join(
		d.put(bucketResults, resultKey(c.ID, id.Target), record.withoutEvidence()),
		d.put(bucketEvidence, resultKey(c.ID, id.Target), &record.Evidence),
		d.put(point.history(), historyKey(id, c.ID), &point),
		d.putPair(&pair), d.putModel(&model), d.putCycle(&rest),
	)
	return Committed{Changed: record.Changed, Event: e, Changes: record.Changes}, err
}

// countChanges takes changes of inputs into the cycle. The targets of a ladder share their
// inputs: each of these counts once.
func (d *draft) countChanges(c *Cycle, changes []runner.Change) error {
	for _, change := range changes {
		if slices.Contains(c.Changes, change) {
			continue
		}
		counted := slices.Contains(changedInputs(c.Changes), change.Input)
		c.Changes = append(slices.Clone(c.Changes), change)
		if counted {
			continue
		}
		if err := d.count(Counter{Kind: CountInputChange, Model: c.Model, Class: c.Class, By: string(change.Input)}, 1); err != nil {
			return err
		}
	}
	return nil
}

// changedInputs returns the groups of the changes, each once.
func changedInputs(changes []runner.Change) []runner.Input {
	var inputs []runner.Input
	for _, change := range changes {
		if !slices.Contains(inputs, change.Input) {
			inputs = append(inputs, change.Input)
		}
	}
	return inputs
}

// emit writes the event of a change.
func (d *draft) emit(c *Cycle, r *Record) (*Event, error) {
	data := event.NewDecision(&r.Result, event.Origin{Host: r.Host, Entry: c.Entry, Chosen: d.state.Chosen(c), Class: c.Class})
	data.EventID = new(rand.Text())
	text, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("writing the event: %w", err)
	}
	return d.addEvent(Event{
		ID:     *data.EventID,
		Type:   event.TypeDecision,
		PairID: r.PairID(),
		Data:   text,
	})
}

// EndCycle records that a cycle has ended, and the durations of its operations: its results'
// and the extra ones of the cycle itself. A target without a result gets the failure
// "internal". If no target failed, this is the model's LastSuccess. If the cycle chooses a
// format, it is chosen now; a choice other than before gets an event. Ending a cycle again
// returns ErrCommitted.
func (s *Store) EndCycle(cycle uint64, extra map[runner.Operation]time.Duration) error {
	return s.update(fmt.Sprintf("storing the end of cycle %d", cycle), func(d *draft) error {
		c, err := d.running(cycle)
		if err != nil {
			return err
		}
		return d.end(c, extra, func() *runner.Failure {
			return runner.Failf(runner.ReasonInternal, "the cycle ended without a result for this target; this is a defect, please report it with the exporter's log")
		})
	})
}

// end closes the cycle; targets without a result fail.
func (d *draft) end(c *Cycle, extra map[runner.Operation]time.Duration, missing func() *runner.Failure) error {
	for _, target := range c.Undecided {
		_, err := d.commit(c, &runner.Result{
			Model: c.Model, TargetFormat: target, Failure: missing(), Started: c.Started, Finished: d.now,
		})
		if err != nil {
			return err
		}
		if c, err = d.running(c.ID); err != nil {
			return err
		}
	}
	records, err := resultsOf[outline](d.tx, c.ID)
	if err != nil {
		return err
	}
	model := *d.state.Models[c.ModelID()] // there since its first result
	model.LastRun = d.now
	success := len(records)+len(c.PassedOver) == len(c.Targets)
	for _, r := range records {
		success = success && r.Failure == nil
	}
	if success {
		model.LastSuccess = d.now
	}
	if durations := durationsOf(records, extra); len(durations) > 0 {
		model.Durations = durations
	}
	ended := *c
	ended.Ended = &d.now
	if c.Choose != choice.None {
		if err := d.choose(&ended, &model); err != nil {
			return err
		}
	}
	return errors.Join(d.putModel(&model), d.putCycle(&ended))
}

// outline is what the end of a cycle needs of a Record.
type outline struct {
	Failure   *runner.Failure                    `json:"failure"`
	Durations map[runner.Operation]time.Duration `json:"durations_ns"`
}

// durationsOf a cycle: quantizing is done for each target, and what its targets share is
// counted whole in the largest.
func durationsOf(records []outline, extra map[runner.Operation]time.Duration) map[runner.Operation]time.Duration {
	durations := map[runner.Operation]time.Duration{}
	for _, r := range records {
		for operation, duration := range r.Durations {
			if operation == runner.OperationQuantize {
				durations[operation] += duration
			} else {
				durations[operation] = max(durations[operation], duration)
			}
		}
	}
	maps.Copy(durations, extra)
	return durations
}

// interrupt ends the cycles that an earlier process began on its host and did not end.
func (s *Store) interrupt(d *draft) error {
	for _, c := range slices.Clone(d.state.Running) {
		if c.Class != "" { // it goes on, on another host
			continue
		}
		s.logger.Warn("a cycle was interrupted", "cycle", c.ID, "entry", c.Entry, "model", c.Model, "begun", c.Started, "undecided", c.Undecided)
		err := d.end(c, nil, func() *runner.Failure {
			return runner.Failf(runner.ReasonInterrupted,
				"the exporter was stopped or killed during the cycle that began at %s; it is not run again by itself: the entry's next run, or quant-exporter run, decides the pair",
				c.Started.Format(time.RFC3339))
		})
		if err != nil {
			return err
		}
	}
	return nil
}
