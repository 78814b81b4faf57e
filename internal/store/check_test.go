package store

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// tamper changes what is stored under a key.
func tamper[T any](bucket string, key []byte, change func(*T)) func(*draft) error {
	return func(d *draft) error {
		value, err := get[T](d.tx, bucket, key)
		if err != nil {
			return err
		}
		change(value)
		return d.put(bucket, key, value)
	}
}

func TestCheckFinds(t *testing.T) {
	id := PairID{Model: "m", Target: "Q2_K"}
	remove := func(bucket string, key []byte) func(*draft) error {
		return func(d *draft) error { return d.delete(bucket, key) }
	}
	for message, tampering := range map[string]func(*draft) error{
		"3 results and 4 points":                   remove(bucketResults, resultKey(1, "Q2_K")),
		"4 results and 3 points":                   remove(bucketDecided, historyKey(id, 1)),
		"belongs to the cycle <nil>":               remove(bucketCycles, number(1)),
		"has no evidence":                          remove(bucketEvidence, resultKey(1, "Q2_K")),
		"there is evidence of no result":           func(d *draft) error { return d.put(bucketEvidence, resultKey(4, "Q8_0"), &runner.Evidence{}) },
		"has a history and is not a pair":          remove(bucketPairs, pairKey(id)),
		"not in the index":                         remove(bucketPending, number(2)),
		"it has a result since it was passed over": tamper(bucketPairs, pairKey(id), func(p *Pair) { p.PassedOver = &PassedOver{Cycle: 4} }),
		"which it calls passed over":               tamper(bucketCycles, number(1), func(c *Cycle) { c.PassedOver = map[string]string{"Q2_K": "Q8_0"} }),
		"the choice of m is Q8_0, but cycle 4 chose Q2_K": func(d *draft) error {
			model := *d.state.Models[ModelID{Name: "m"}]
			model.Choice = &Choice{Format: "Q8_0", Cycle: 4}
			cycle, err := get[Cycle](d.tx, bucketCycles, number(4))
			if err != nil {
				return err
			}
			cycle.Chosen = "Q2_K"
			return errors.Join(d.putModel(&model), d.putCycle(cycle))
		},
		"there were 3 changes and 2 events":             tamper(bucketCycles, number(4), func(c *Cycle) { c.ChoiceSeq = 3 }),
		"belongs to the choice of cycle 4":              tamper(bucketCycles, number(4), func(c *Cycle) { c.ChoiceSeq = 2 }),
		"has the number 2 of":                           remove(bucketNumbers, numberKey("producer", 2)),
		"there were 2 changes and 2 events, of which 1": remove(bucketEvents, number(1)),
		"the sums over all results": func(d *draft) error {
			return d.count(decisions(verdict.Kept), 1)
		},
		`"kept" stands, and the last of its history is "rejected"`: tamper(bucketPairs, pairKey(id), func(p *Pair) { p.Standing = verdict.Kept }),
		"the latest decision is not the decision of cycle 3":       tamper(bucketPairs, pairKey(id), func(p *Pair) { p.Decided.Cycle = 1 }),
		"the latest failure is not the failure of cycle 4":         tamper(bucketPairs, pairKey(id), func(p *Pair) { p.Failed = nil }),
		"and changed: false":               tamper(bucketDecided, historyKey(id, 3), func(p *Point) { p.Changed = false }),
		"has the point":                    tamper(bucketDecided, historyKey(id, 3), func(p *Point) { p.Bytes++ }),
		"belongs to the result of cycle 3": tamper(bucketEvents, number(2), func(e *Event) { e.ID = "another" }),
		"after 1":                          tamper(bucketEvents, number(2), func(e *Event) { e.Number = 3 }),
		"is delivered before 1": func(d *draft) error {
			for seq, delivery := range map[uint64]Delivery{1: Pending, 2: Delivered} {
				if err := tamper(bucketEvents, number(seq), func(e *Event) { e.Delivery = delivery })(d); err != nil {
					return err
				}
			}
			return nil
		},
		"the newest number of producer is 7":   tamper(bucketMeta, []byte(metaState), func(m *meta) { m.Newest = 7 }),
		"has ended without a result of [Q8_0]": tamper(bucketCycles, number(1), func(c *Cycle) { c.Undecided = []string{"Q8_0"} }),
		"in the index of those that run: true": func(d *draft) error { return d.putRaw(bucketRunning, number(1), number(1)) },
		"which it calls undecided":             tamper(bucketCycles, number(1), func(c *Cycle) { c.Undecided = []string{"Q2_K"} }),
		"cycle 9 is out of the 4 begun": func(d *draft) error {
			return d.put(bucketCycles, number(9), &Cycle{ID: 9, Ended: &d.now})
		},
	} {
		s, err := Open(t.TempDir(), Options{Bus: true, Now: (&clock{start()}).Now})
		require.NoError(t, err)
		require.NoError(t, s.update("naming the producer", func(d *draft) error { d.meta.Producer = "producer"; return d.putMeta() }))
		record(t, s, decided("m", "Q2_K", verdict.Kept))
		record(t, s, decided("m", "Q2_K", verdict.Kept))
		record(t, s, decided("m", "Q2_K", verdict.Rejected))
		record(t, s, failed("m", "Q2_K", runner.ReasonCrash))
		require.NoError(t, s.MarkDelivered("producer", 1))
		require.NoError(t, s.Check())

		require.NoError(t, s.db.Update(func(tx *bbolt.Tx) error {
			d := s.content.begin(tx)
			d.now = start().Add(time.Hour)
			return tampering(d)
		}))
		s.mu.Lock()
		s.reload() // else it is State that differs
		s.mu.Unlock()
		require.ErrorContains(t, s.Check(), message)
		require.NoError(t, s.Close())
	}
}

func TestCheckComparesStateWithTheFile(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	require.NoError(t, err)
	defer s.Close()
	s.set(content{state: &State{}})
	require.ErrorContains(t, s.Check(), "State is not what the file holds")
}
