// Package collector shows the latest decisions and figures as Prometheus metrics: the
// families named quant_cycle_, and the ones about the exporter itself.
//
// A scrape asks for the plan and for the state. What they say (decisions, figures, counters)
// is made into metrics once, by the first scrape that meets them, as one immutable snapshot,
// and a scrape takes exactly one snapshot: all figures of a decision change together. No
// commit pays for it, because changes may follow each other faster than scrapes, and CPU
// time is what is measured on this host. What goes on at the moment (entries, progress,
// engine, bus) is asked for at each scrape.
//
// Every series known in advance starts at 0, because increase() cannot see a counter that
// is born at 1. Exported is what is scheduled: a model that the schedule no longer names
// is gone from the next scrape on, and its counters go on where they were should it come
// back. Gauges that have no value yet (a timestamp of what never happened, a throughput
// not measured) are absent, not 0.
package collector

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
)

// Sources are what a Collector shows. They are asked at each scrape, by several goroutines
// at once, and must not block.
type Sources struct {
	Store      Store
	Dispatcher Dispatcher
	Scheduler  Scheduler
	Bus        Bus
}

// Store has what was committed: *store.Store. Another state is another pointer, and nobody
// changes what it points to.
type Store interface {
	State() *store.State
}

// Dispatcher knows what is scheduled, and what goes on: *dispatch.Dispatcher. Another plan is
// another pointer, and nobody changes what it points to.
type Dispatcher interface {
	Plan() *model.Plan
	Status() *dispatch.Status
}

// Scheduler knows when entries are due: *schedule.Scheduler.
type Scheduler interface {
	Next() map[string]time.Time
}

// Bus takes the events: *a2a.Bus.
type Bus interface {
	Status() a2a.Status
}

// Collector is a prometheus.Collector of the quant_cycle_ families. All its methods may be
// called by several goroutines at once.
type Collector struct {
	sources          Sources
	deliveryFailures []string
	descs            []*prometheus.Desc // by family
	classDescs       []*prometheus.Desc // of series of a fleet's entries

	mu     sync.Mutex // guards the snapshot: the series of what is stored, by what they were made of
	plan   *model.Plan
	state  *store.State
	series []*series
}

// New makes a Collector. deliveryFailures are the reasons for which sending an event to the
// bus can fail: their counters start at 0.
func New(sources Sources, deliveryFailures []string) *Collector {
	c := &Collector{sources: sources, deliveryFailures: deliveryFailures}
	for f := range firstOfExporter {
		c.descs, c.classDescs = append(c.descs, f.desc()), append(c.classDescs, f.classDesc())
	}
	return c
}

func (c *Collector) builder() builder {
	return builder{descs: c.descs, classDescs: c.classDescs}
}

// stored returns the series of what is stored. They are made again only when the plan or the
// state is another one, and nobody changes them.
func (c *Collector) stored() []*series {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, s := c.sources.Dispatcher.Plan(), c.sources.Store.State()
	if p != c.plan || s != c.state {
		b := c.builder()
		b.stored(p, s, c.deliveryFailures)
		c.plan, c.state, c.series = p, s, b.build()
	}
	return c.series
}

// Describe is part of prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range c.descs {
		ch <- desc
	}
}

// Collect is part of prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.stored() {
		ch <- s
	}
	b := c.builder()
	b.current(c.sources)
	for _, s := range b.build() {
		ch <- s
	}
}
