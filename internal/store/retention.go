package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

// Bounds of what a transaction prunes and of the events that are kept.
const (
	maxPruned     = 16 // results of a pair and kind, and twice as many events, in one transaction
	settledWindow = 7 * 24 * time.Hour
	settledKept   = 10_000
)

// failures returns the bounds for failed results: twice the bounds for decided ones.
func failures(r config.Retention) config.Retention {
	return config.Retention{Age: 2 * r.Age, Cycles: 2 * r.Cycles}
}

// prune removes what is beyond the bounds: of this pair, of the next one in turn, and
// of the events.
func (d *draft) prune(id PairID) error {
	if err := d.pruneResults(id); err != nil {
		return err
	}
	pairs := d.bucket(bucketPairs).Cursor()
	k, v := pairs.Seek(d.sweep)
	if k == nil {
		k, v = pairs.First()
	}
	if k != nil {
		var next PairID
		if err := json.Unmarshal(v, &next); err != nil {
			return fmt.Errorf("the pair %q: %w", k, err)
		}
		d.sweep = append(bytes.Clone(k), 0)
		if err := d.pruneResults(next); err != nil {
			return err
		}
	}
	return d.pruneEvents()
}

func (d *draft) pruneResults(id PairID) error {
	return errors.Join(d.pruneHistory(id, bucketDecided, d.retention), d.pruneHistory(id, bucketFailed, failures(d.retention)))
}

func (d *draft) pruneHistory(id PairID, bucket string, bounds config.Retention) error {
	if bounds == (config.Retention{}) {
		return nil
	}
	var keys [][]byte // oldest first
	prefix := pairKey(id)
	c := d.bucket(bucket).Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	excess := 0
	if bounds.Cycles > 0 {
		excess = len(keys) - bounds.Cycles
	}
	for i, k := range keys[:min(max(len(keys)-1, 0), maxPruned)] {
		point, err := get[Point](d.tx, bucket, k)
		if err != nil {
			return err
		}
		expired := bounds.Age > 0 && d.now.Sub(point.Time) > time.Duration(bounds.Age)
		if i >= excess && !expired {
			break
		}
		if err := d.pruneResult(id, bucket, k, point); err != nil {
			return err
		}
	}
	return nil
}

// pruneResult removes one result, and its cycle with the last one of it.
func (d *draft) pruneResult(id PairID, bucket string, key []byte, point *Point) error {
	for _, counter := range point.counters(id) {
		if err := d.countPruned(counter); err != nil {
			return err
		}
	}
	if point.Changed {
		if err := d.countPruned(Counter{Kind: countChange, Model: id.Model, Target: id.Target, Class: id.Class}); err != nil {
			return err
		}
	}
	if err := errors.Join(d.delete(bucket, key), d.delete(bucketResults, resultKey(point.Cycle, id.Target)), d.delete(bucketEvidence, resultKey(point.Cycle, id.Target))); err != nil {
		return err
	}
	of := number(point.Cycle)
	if k, _ := d.bucket(bucketResults).Cursor().Seek(of); bytes.HasPrefix(k, of) {
		return nil
	}
	cycle, err := get[Cycle](d.tx, bucketCycles, of)
	if err != nil || cycle.Ended == nil {
		return err
	}
	for _, input := range changedInputs(cycle.Changes) {
		if err := d.countPruned(Counter{Kind: CountInputChange, Model: cycle.Model, Class: cycle.Class, By: string(input)}); err != nil {
			return err
		}
	}
	if cycle.ChoiceSeq > 0 {
		if err := d.countPruned(Counter{Kind: countChange, Model: cycle.Model, Class: cycle.Class}); err != nil {
			return err
		}
	}
	return errors.Join(d.delete(bucketCycles, of), d.delete(bucketLogs, of))
}

// pruneEvents removes settled events, the oldest first. The last one stays: when the
// current producer has any on the bus, that is its newest, by which the relay sees whether
// the bus still has what it had.
func (d *draft) pruneEvents() error {
	for range 2 * maxPruned {
		c := d.bucket(bucketSettled).Cursor()
		seq, since := c.First()
		if d.settled <= 1 || seq == nil {
			return nil
		}
		at, err := numberAt(since)
		if err != nil {
			return err
		}
		if d.settled <= d.window && d.now.Sub(time.Unix(int64(at), 0)) <= settledWindow {
			return nil
		}
		e, err := get[Event](d.tx, bucketEvents, seq)
		if err != nil {
			return err
		}
		if err := d.countPruned(Counter{Kind: countEvent, By: string(e.Delivery)}); err != nil {
			return err
		}
		if e.Number > 0 {
			if err := d.delete(bucketNumbers, numberKey(e.Producer, e.Number)); err != nil {
				return err
			}
		}
		if err := errors.Join(d.delete(bucketEvents, number(e.Seq)), d.delete(bucketSettled, number(e.Seq))); err != nil {
			return err
		}
		d.settled--
	}
	return nil
}
