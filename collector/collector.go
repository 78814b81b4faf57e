// Package collector shows the latest decisions and figures as Prometheus metrics: the
// families named quant_cycle_, and those by which the exporter tells of itself.
//
// What is stored (decisions, figures, counters) is made into metrics once per change, as
// one immutable snapshot, and a scrape takes exactly one snapshot: all figures of a
// decision change together. It is made by the first scrape that wants it, because changes
// may follow each other faster than scrapes, and CPU time is what is measured on this host.
// What goes on at the moment (entries, progress, engine, bus) is asked for at each scrape.
//
// Every series known in advance starts at 0, because increase() cannot see a counter that
// is born at 1. Exported is what is scheduled: a model that the schedule no longer names
// is gone from the next scrape on, and its counters go on where they were should it come
// back. Gauges that have no value yet (a timestamp of what never happened, a throughput
// not measured) are absent, not 0.
package collector

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
)

// Live are the sources of what the state does not hold. They are asked at each scrape, by
// several goroutines at once, and must not block.
type Live struct {
	// Status of the dispatcher. Nil, or one that gives nil: nothing is shown of it.
	Status func() *dispatch.Status
	// Next gives when entries are due next. Nil: it is not known.
	Next func() map[string]time.Time
	// Bus says how the A2A bus is. Nil: none is configured.
	Bus func() a2a.Status
}

// Collector is a prometheus.Collector of the quant_cycle_ families. All its methods may be
// called by several goroutines at once.
type Collector struct {
	live            Live
	publishFailures []string
	descs           []*prometheus.Desc // by family

	// snapshot gives what is stored, and makes it when it is first asked; nil before there
	// is a plan and a state.
	snapshot atomic.Pointer[func() []*series]

	mu    sync.Mutex // guards what follows
	plan  *model.Plan
	state *store.State
}

// New makes a Collector, which shows nothing stored before its first Update.
// publishFailures are the reasons for which sending an event to the bus can fail: their
// counters start at 0.
func New(live Live, publishFailures []string) *Collector {
	c := &Collector{live: live, publishFailures: publishFailures}
	for f := range firstOfExporter {
		c.descs = append(c.descs, f.desc())
	}
	return c
}

// Update exchanges the plan and the state, neither of which may change afterwards: a scrape
// that begins later sees them. A nil one stays as it was last given: so who commits a
// state need not know the plan, nor who reloads the plan take an older state along. Nothing
// stored is shown before both were given. It does not block, so that a commit may call it.
// Which of two concurrent calls that give the same thing is the later one is for the
// callers to order.
func (c *Collector) Update(p *model.Plan, s *store.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p != nil {
		c.plan = p
	}
	if s != nil {
		c.state = s
	}
	if c.plan == nil || c.state == nil {
		return
	}
	p, s = c.plan, c.state
	snapshot := sync.OnceValue(func() []*series {
		b := builder{descs: c.descs}
		b.stored(p, s, c.publishFailures)
		return b.build()
	})
	c.snapshot.Store(&snapshot)
}

// Describe is part of prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range c.descs {
		ch <- desc
	}
}

// Collect is part of prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	if snapshot := c.snapshot.Load(); snapshot != nil {
		for _, s := range (*snapshot)() {
			ch <- s
		}
	}
	b := builder{descs: c.descs}
	b.current(c.live)
	for _, s := range b.build() {
		ch <- s
	}
}
