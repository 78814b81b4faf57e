package a2a

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/store"
)

// memory is an outbox without a disk, for tests that need to see and bend what it holds.
// Its methods are safe for concurrent use.
type memory struct {
	mu        sync.Mutex
	events    []store.Event // kept, by Seq
	seq       uint64
	number    uint64 // of the producer's newest
	producer  string
	whys      []string // of new producers
	failures  []string // reasons
	delivered int
	broken    error // what every call fails with
	changed   chan struct{}
}

func newMemory() *memory {
	return &memory{producer: rand.Text(), changed: make(chan struct{})}
}

// notify wakes who waits for a change; mu is held.
func (m *memory) notify() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// add makes n events.
func (m *memory) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range n {
		m.seq++
		m.number++
		m.events = append(m.events, store.Event{
			Seq: m.seq, Producer: m.producer, Number: m.number, ID: rand.Text(), Type: "QUANT_DECISION",
			Data: json.RawMessage(fmt.Sprintf(`{"seq":%d}`, m.seq)), Created: time.Now(), Delivery: store.Pending,
		})
	}
	m.notify()
}

// keep drops all delivered events but the last n.
func (m *memory) keep(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	drop := m.pendingFrom() - n
	m.events = slices.Clone(m.events[max(drop, 0):])
}

// pendingFrom is the index of the first pending event; mu is held.
func (m *memory) pendingFrom() int {
	for i, e := range m.events {
		if e.Delivery == store.Pending {
			return i
		}
	}
	return len(m.events)
}

// copied is the outbox of a store that was restored from a backup taken now.
func (m *memory) copied() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memory{
		events: slices.Clone(m.events), seq: m.seq, number: m.number, producer: m.producer,
		changed: make(chan struct{}),
	}
}

// ids of all kept events, by Seq.
func (m *memory) ids() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := make([]string, len(m.events))
	for i, e := range m.events {
		ids[i] = e.ID
	}
	return ids
}

func (m *memory) NextPending(limit int) ([]store.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	pending := m.events[m.pendingFrom():]
	for i, e := range pending {
		if i == limit || e.Producer != pending[0].Producer {
			pending = pending[:i]
			break
		}
	}
	return slices.Clone(pending), m.broken
}

func (m *memory) Producers() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var producers []string
	for _, e := range m.events {
		if !slices.Contains(producers, e.Producer) {
			producers = append(producers, e.Producer)
		}
	}
	return producers, m.broken
}

func (m *memory) Window(producer string) (oldest, newest store.Event, ok bool, err error) {
	events, err := m.From(producer, 0, len(m.ids()))
	if len(events) == 0 {
		return oldest, newest, false, err
	}
	return events[0], events[len(events)-1], true, err
}

func (m *memory) From(producer string, number uint64, limit int) ([]store.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var events []store.Event
	for _, e := range m.events {
		if e.Producer == producer && e.Number >= number && len(events) < limit {
			events = append(events, e)
		}
	}
	return events, m.broken
}

func (m *memory) MarkDelivered(producer string, through uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.events {
		e := &m.events[i]
		if e.Producer == producer && e.Number <= through && e.Delivery == store.Pending {
			e.Delivery = store.Delivered
			m.delivered++
		}
	}
	m.notify()
	return m.broken
}

func (m *memory) NewProducer(why string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.producer, m.number = rand.Text(), 0
	for i := m.pendingFrom(); i < len(m.events); i++ {
		m.number++
		m.events[i].Producer, m.events[i].Number = m.producer, m.number
	}
	m.whys = append(m.whys, why)
	return m.broken
}

func (m *memory) CountDeliveryFailure(reason string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures = append(m.failures, reason)
	m.notify()
	return m.broken
}

func (m *memory) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m *memory) State() *store.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &store.State{Outbox: store.OutboxState{Producer: m.producer, Pending: len(m.events) - m.pendingFrom()}}
}

// wait blocks until the condition, called with mu held, is true.
func (m *memory) wait(condition func() bool) {
	for {
		m.mu.Lock()
		done, changed := condition(), m.changed
		m.mu.Unlock()
		if done {
			return
		}
		<-changed
	}
}
