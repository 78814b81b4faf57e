package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unique"

	"go.etcd.io/bbolt"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

// content is what the store has in memory of the file.
type content struct {
	state   *State
	meta    meta
	settled int // events in Delivered or Superseded
}

// load reads it.
func load(tx *bbolt.Tx) (content, error) {
	state := &State{Pairs: map[PairID]*Pair{}, Models: map[ModelID]*Model{}}
	c := content{state: state}
	m, err := get[meta](tx, bucketMeta, []byte(metaState))
	if err != nil {
		return content{}, err
	}
	c.meta = *m
	if state.Counters, err = readCounters(tx, bucketCounters); err != nil {
		return content{}, err
	}
	err = errors.Join(
		each(tx, bucketPairs, func(p *Pair) { state.Pairs[p.PairID] = p }),
		each(tx, bucketModels, func(m *Model) { state.Models[m.ModelID] = m }),
		loadRunning(tx, state),
	)
	if err != nil {
		return content{}, err
	}
	state.Outbox = OutboxState{Producer: c.meta.Producer, Pending: count(tx, bucketPending), Held: count(tx, bucketHeld)}
	c.settled = count(tx, bucketSettled)
	state.Outbox.OldestPending, err = oldestPending(tx)
	return c, err
}

// loadRunning finds the cycles that have not ended.
func loadRunning(tx *bbolt.Tx, state *State) error {
	return tx.Bucket([]byte(bucketRunning)).ForEach(func(id, _ []byte) error {
		c, err := get[Cycle](tx, bucketCycles, id)
		if err == nil {
			state.Running = append(state.Running, c)
		}
		return err
	})
}

func oldestPending(tx *bbolt.Tx) (time.Time, error) {
	seq, _ := tx.Bucket([]byte(bucketPending)).Cursor().First()
	if seq == nil {
		return time.Time{}, nil
	}
	e, err := get[Event](tx, bucketEvents, seq)
	if err != nil {
		return time.Time{}, err
	}
	return e.Created, nil
}

// count counts keys; it reads them all.
func count(tx *bbolt.Tx, bucket string) int {
	n := 0
	c := tx.Bucket([]byte(bucket)).Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		n++
	}
	return n
}

// get reads the JSON under a key, which has to be there.
func get[T any](tx *bbolt.Tx, bucket string, key []byte) (*T, error) {
	value, ok, err := find[T](tx, bucket, key)
	if err == nil && !ok {
		err = fmt.Errorf("nothing is stored under %q in %s", key, bucket)
	}
	return value, err
}

// find reads the JSON under a key.
func find[T any](tx *bbolt.Tx, bucket string, key []byte) (*T, bool, error) {
	data := tx.Bucket([]byte(bucket)).Get(key)
	if data == nil {
		return nil, false, nil
	}
	value, err := decode[T](bucket, key, data)
	return value, err == nil, err
}

func decode[T any](bucket string, key, data []byte) (*T, error) {
	value := new(T)
	if err := json.Unmarshal(data, value); err != nil {
		return nil, fmt.Errorf("reading %q of %s: %w", key, bucket, err)
	}
	return value, nil
}

// each reads every JSON value of a bucket.
func each[T any](tx *bbolt.Tx, bucket string, f func(*T)) error {
	return tx.Bucket([]byte(bucket)).ForEach(func(k, data []byte) error {
		value, err := decode[T](bucket, k, data)
		if err == nil {
			f(value)
		}
		return err
	})
}

// draft is a transaction and the content as it will be once it is committed.
type draft struct {
	content

	tx        *bbolt.Tx
	now       time.Time // UTC
	retention config.Retention
	window    int
	host      string
	sweep     []byte // where the pruning goes on

	offered bool // there are new pending events
	dirty   bool // something was written
}

// begin makes a draft of content. It shares nothing that the draft changes.
func (c content) begin(tx *bbolt.Tx) *draft {
	next := *c.state
	next.Pairs = maps.Clone(next.Pairs)
	next.Models = maps.Clone(next.Models)
	next.Counters = maps.Clone(next.Counters)
	next.Running = slices.Clone(next.Running)
	c.state = &next
	return &draft{content: c, tx: tx}
}

func (d *draft) bucket(name string) *bbolt.Bucket { return d.tx.Bucket([]byte(name)) }

// put writes a value as JSON.
func (d *draft) put(bucket string, key []byte, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("writing %q of %s: %w", key, bucket, err)
	}
	return d.putRaw(bucket, key, data)
}

// keep writes a value and returns it as the next start will load it: without what its
// JSON leaves out, and without any memory shared with the caller's.
func keep[T any](d *draft, bucket string, key []byte, value *T) (*T, error) {
	if err := d.put(bucket, key, value); err != nil {
		return nil, err
	}
	return get[T](d.tx, bucket, key)
}

func (d *draft) putRaw(bucket string, key, value []byte) error {
	d.dirty = true
	if err := d.bucket(bucket).Put(key, value); err != nil {
		return fmt.Errorf("writing %q of %s: %w", key, bucket, err)
	}
	return nil
}

func (d *draft) delete(bucket string, key []byte) error {
	d.dirty = true
	if err := d.bucket(bucket).Delete(key); err != nil {
		return fmt.Errorf("deleting %q of %s: %w", key, bucket, err)
	}
	return nil
}

func (d *draft) putMeta() error {
	d.state.Outbox.Producer = d.meta.Producer
	return d.put(bucketMeta, []byte(metaState), &d.meta)
}

// count adds to a counter.
func (d *draft) count(c Counter, n uint64) error {
	counter := unique.Make(c)
	d.state.Counters[counter] += n
	return d.putRaw(bucketCounters, c.key(), number(d.state.Counters[counter]))
}

// countPruned adds one to the counter of something that is removed.
func (d *draft) countPruned(c Counter) error {
	n := uint64(1)
	if before := d.bucket(bucketPruned).Get(c.key()); before != nil {
		old, err := numberAt(before)
		if err != nil {
			return err
		}
		n += old
	}
	return d.putRaw(bucketPruned, c.key(), number(n))
}

func (d *draft) putPair(p *Pair) error {
	stored, err := keep(d, bucketPairs, pairKey(p.PairID), p)
	if err == nil {
		d.state.Pairs[p.PairID] = stored
	}
	return err
}

func (d *draft) putModel(m *Model) error {
	stored, err := keep(d, bucketModels, modelKey(m.ModelID), m)
	if err == nil {
		d.state.Models[m.ModelID] = stored
	}
	return err
}

// putCycle writes a cycle and keeps it among the running ones until it has ended.
func (d *draft) putCycle(c *Cycle) error {
	stored, err := keep(d, bucketCycles, number(c.ID), c)
	if err != nil {
		return err
	}
	running := slices.DeleteFunc(d.state.Running, func(r *Cycle) bool { return r.ID == c.ID })
	if stored.Ended != nil {
		err = d.delete(bucketRunning, number(c.ID))
	} else {
		err = d.putRaw(bucketRunning, number(c.ID), number(c.ID))
		running = append(running, stored)
		slices.SortFunc(running, func(a, b *Cycle) int { return bytes.Compare(number(a.ID), number(b.ID)) })
	}
	if len(running) == 0 {
		running = nil
	}
	d.state.Running = running
	return err
}
