package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"go.etcd.io/bbolt"
)

// addEvent completes an event and writes it: pending under the next number, or held
// while no bus was ever configured.
func (d *draft) addEvent(e Event) (*Event, error) {
	seq, err := d.bucket(bucketEvents).NextSequence()
	if err != nil {
		return nil, err
	}
	e.Seq, e.Created = seq, d.now
	if d.meta.Bus {
		return d.offer(&e)
	}
	e.Delivery = Held
	d.state.Outbox.Held++
	if err := d.putRaw(bucketHeld, number(seq), number(seq)); err != nil {
		return nil, err
	}
	return keep(d, bucketEvents, number(seq), &e)
}

// offer makes an event pending, under the next number of the producer.
func (d *draft) offer(e *Event) (*Event, error) {
	if err := d.enumerate(e); err != nil {
		return nil, err
	}
	e.Delivery = Pending
	if err := d.putRaw(bucketPending, number(e.Seq), number(e.Seq)); err != nil {
		return nil, err
	}
	if d.state.Outbox.Pending == 0 {
		d.state.Outbox.OldestPending = e.Created
	}
	d.state.Outbox.Pending++
	d.offered = true
	return keep(d, bucketEvents, number(e.Seq), e)
}

// enumerate returns an event the next number of the producer.
func (d *draft) enumerate(e *Event) error {
	d.meta.Newest++
	e.Producer, e.Number = d.meta.Producer, d.meta.Newest
	if err := d.putRaw(bucketNumbers, numberKey(e.Producer, e.Number), number(e.Seq)); err != nil {
		return err
	}
	return d.putMeta()
}

// SetBus records whether a bus is configured. With the first bus in the life of the
// store the latest held event of each pair becomes pending, in their order, and the older
// ones are superseded. Otherwise SetBus changes nothing: once there was a bus, events are
// numbered and pending without one, too, for the one to come.
func (s *Store) SetBus(bus bool) error {
	return s.update("getting the events ready for the bus", func(d *draft) error {
		if !bus {
			return nil
		}
		return d.firstBus()
	})
}

// firstBus makes the held events pending; it does nothing when there was a bus before.
func (d *draft) firstBus() error {
	if d.meta.Bus {
		return nil
	}
	d.meta.Bus = true
	if err := d.putMeta(); err != nil {
		return err
	}
	held, err := d.indexed(bucketHeld)
	if err != nil {
		return err
	}
	latest := map[PairID]uint64{}
	for _, e := range held {
		latest[e.PairID] = e.Seq
	}
	for _, e := range held {
		if err := d.delete(bucketHeld, number(e.Seq)); err != nil {
			return err
		}
		d.state.Outbox.Held--
		if e.Seq == latest[e.PairID] {
			if _, err := d.offer(e); err != nil {
				return err
			}
			continue
		}
		if err := d.settle(e, Superseded); err != nil {
			return err
		}
	}
	return nil
}

// settle writes an event that will not go out any more, because it has been delivered or
// never will be.
func (d *draft) settle(e *Event, delivery Delivery) error {
	e.Delivery = delivery
	d.settled++
	if err := d.putRaw(bucketSettled, number(e.Seq), number(uint64(d.now.Unix()))); err != nil {
		return err
	}
	return d.put(bucketEvents, number(e.Seq), e)
}

// EventQuery selects events; the zero value selects all of them.
type EventQuery struct {
	After    uint64   // only those after the event of this Seq
	Limit    int      // no more than so many, from the oldest on; 0 or less: no limit
	Delivery Delivery // only those with this one; "": any
}

// Events reads the events that the query selects, the oldest first.
func (s *Store) Events(q EventQuery) ([]Event, error) {
	var events []Event
	if q.After == math.MaxUint64 {
		return nil, nil
	}
	err := s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket([]byte(bucketEvents)).Cursor()
		for k, v := c.Seek(number(q.After + 1)); k != nil && (q.Limit <= 0 || len(events) < q.Limit); k, v = c.Next() {
			e, err := decode[Event](bucketEvents, k, v)
			if err != nil {
				return err
			}
			if q.Delivery == "" || e.Delivery == q.Delivery {
				events = append(events, *e)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the events: %w", err)
	}
	return events, nil
}

// NextPending reads up to limit of the oldest pending events, all of one producer: the batch
// ends where the producer changes. A limit of 0 or less means no limit.
func (s *Store) NextPending(limit int) ([]Event, error) {
	var events []Event
	err := s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket([]byte(bucketPending)).Cursor()
		for seq, _ := c.First(); seq != nil && (limit <= 0 || len(events) < limit); seq, _ = c.Next() {
			e, err := get[Event](tx, bucketEvents, seq)
			if err != nil {
				return err
			}
			if len(events) > 0 && e.Producer != events[0].Producer {
				return nil
			}
			events = append(events, *e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the pending events: %w", err)
	}
	return events, nil
}

// Producers reads the names under which numbered events are kept, delivered ones too, in
// the order of those events.
func (s *Store) Producers() ([]string, error) {
	var names []string
	first := map[string]uint64{} // Seq of its oldest event
	err := s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket([]byte(bucketNumbers)).Cursor()
		for k, seq := c.First(); k != nil; {
			name, _, _ := strings.Cut(string(k), "\x00")
			names = append(names, name)
			first[name] = binary.BigEndian.Uint64(seq)
			k, seq = c.Seek([]byte(name + "\x01")) // beyond its numbers
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the producers of events: %w", err)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(first[a], first[b]) })
	return names, nil
}

// Window reads the oldest and the newest of a producer's events that are kept, delivered
// ones too; false when none is.
func (s *Store) Window(producer string) (oldest, newest Event, ok bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		prefix := producerPrefix(producer)
		first, seq := tx.Bucket([]byte(bucketNumbers)).Cursor().Seek(prefix)
		if !bytes.HasPrefix(first, prefix) {
			return nil
		}
		e, err := get[Event](tx, bucketEvents, seq)
		if err != nil {
			return err
		}
		oldest, ok = *e, true
		return newestFirst(tx.Bucket([]byte(bucketNumbers)), prefix, func(_, seq []byte) (bool, error) {
			e, err := get[Event](tx, bucketEvents, seq)
			if err == nil {
				newest = *e
			}
			return false, err
		})
	})
	if err != nil {
		return Event{}, Event{}, false, fmt.Errorf("reading the events of the producer %s: %w", producer, err)
	}
	return oldest, newest, ok, nil
}

// From reads up to limit events of a producer from a number on, delivered ones too, in
// their order: what a bus that lost its newest entries has to get again. A limit of 0 or
// less means no limit.
func (s *Store) From(producer string, n uint64, limit int) ([]Event, error) {
	var events []Event
	err := s.db.View(func(tx *bbolt.Tx) error {
		prefix := producerPrefix(producer)
		c := tx.Bucket([]byte(bucketNumbers)).Cursor()
		for k, seq := c.Seek(numberKey(producer, n)); bytes.HasPrefix(k, prefix) && (limit <= 0 || len(events) < limit); k, seq = c.Next() {
			e, err := get[Event](tx, bucketEvents, seq)
			if err != nil {
				return err
			}
			events = append(events, *e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the events of the producer %s: %w", producer, err)
	}
	return events, nil
}

// MarkDelivered marks the producer's pending events up to a number as delivered, and
// counts them. It does not count again what was delivered before, and it is not an error when
// nothing up to there is pending.
func (s *Store) MarkDelivered(producer string, through uint64) error {
	return s.update("marking events as delivered", func(d *draft) error {
		delivered, err := d.pendingOf(producer, through)
		if err != nil {
			return err
		}
		for _, e := range delivered {
			e.Delivered = &d.now
			if err := d.delete(bucketPending, number(e.Seq)); err != nil {
				return err
			}
			if err := d.settle(e, Delivered); err != nil {
				return err
			}
		}
		if n := len(delivered); n > 0 {
			if err := d.count(Counter{Kind: CountDelivered}, uint64(n)); err != nil {
				return err
			}
			d.state.Outbox.Pending -= n
			if d.state.Outbox.OldestPending, err = oldestPending(d.tx); err != nil {
				return err
			}
		}
		return d.pruneEvents()
	})
}

// pendingOf reads the pending events of a producer up to a number, in their order.
func (d *draft) pendingOf(producer string, through uint64) ([]*Event, error) {
	var events []*Event
	c := d.bucket(bucketPending).Cursor()
	for seq, _ := c.First(); seq != nil; seq, _ = c.Next() {
		e, err := get[Event](d.tx, bucketEvents, seq)
		if err != nil {
			return nil, err
		}
		if e.Producer != producer {
			continue
		}
		if e.Number > through {
			break // numbers of a producer ascend as Seq does
		}
		events = append(events, e)
	}
	return events, nil
}

// CountDeliveryFailure counts a failed attempt to hand events to the bus.
func (s *Store) CountDeliveryFailure(reason string) error {
	return s.update("counting a failure to deliver", func(d *draft) error {
		if err := checkName("a reason", reason); err != nil {
			return err
		}
		return d.count(Counter{Kind: CountDeliveryFailure, By: reason}, 1)
	})
}

// NewProducer gives coming events a new producer, under which they are numbered from 1,
// and moves all pending ones to it, in their order. why is kept and logged.
//
// The relay calls it when the bus shows that another copy of this state has used our
// numbers: the mark of our producer on the bus is above our newest number, or the event
// at the mark is, by its id, not the one that has that number here. The numbers then no
// longer say which of the pending events the bus has: offered under them, events would be
// taken for duplicates and lost. An event that was pending when the copy was made, and was
// delivered by the copy, goes out a second time under the same event_id.
func (s *Store) NewProducer(why string) error {
	return s.update("taking a new producer", func(d *draft) error {
		pending, err := d.indexed(bucketPending)
		if err != nil {
			return err
		}
		for _, e := range slices.Backward(pending) {
			if err := d.delete(bucketNumbers, numberKey(e.Producer, e.Number)); err != nil {
				return err
			}
		}
		s.logger.Warn("coming events have a new producer", "reason", why, "before", d.meta.Producer, "renumbered", len(pending))
		if err := d.newProducer(why); err != nil {
			return err
		}
		for _, e := range pending {
			if err := d.enumerate(e); err != nil {
				return err
			}
			if err := d.put(bucketEvents, number(e.Seq), e); err != nil {
				return err
			}
		}
		d.offered = len(pending) > 0
		return nil
	})
}

// indexed reads the events of an index by Seq, in their order.
func (d *draft) indexed(bucket string) ([]*Event, error) {
	var events []*Event
	err := d.bucket(bucket).ForEach(func(seq, _ []byte) error {
		e, err := get[Event](d.tx, bucketEvents, seq)
		events = append(events, e)
		return err
	})
	return events, err
}

func (d *draft) newProducer(why string) error {
	d.meta.Producer, d.meta.Newest = newProducerName(), 0
	d.meta.ProducerSince, d.meta.ProducerWhy = d.now, why
	return d.putMeta()
}
