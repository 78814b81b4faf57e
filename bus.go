package main

import (
	"context"
	"log/slog"
	"os"
	"reflect"
	"sync"

	"github.com/quant-exporter/quant-exporter/collector"
	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/web"
)

// bus runs the relay of the configuration in force.
type bus struct {
	outbox *store.Store
	logger *slog.Logger

	mu      sync.Mutex
	config  config.A2A
	relay   *a2a.Relay    // nil without a bus
	changed chan struct{} // closed, and replaced, with the relay
}

func newBus(outbox *store.Store, logger *slog.Logger) *bus {
	return &bus{outbox: outbox, logger: logger, changed: make(chan struct{})}
}

// relayFor makes the relay of a configuration; nil without a bus. It stays the same with
// the configuration, unless there is a CA file, which may have changed.
func (b *bus) relayFor(c config.A2A) (*a2a.Relay, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case c.URL == "":
		return nil, nil
	case b.relay != nil && reflect.DeepEqual(b.config, c) && c.TLS.CAFile == "":
		return b.relay, nil
	}
	return newRelay(c, b.outbox, b.logger)
}

func newRelay(c config.A2A, outbox *store.Store, logger *slog.Logger) (*a2a.Relay, error) {
	return a2a.New(c, a2a.Secrets{Username: os.Getenv("A2A_USERNAME"), Password: os.Getenv("A2A_PASSWORD")}, outbox, logger)
}

// set exchanges the relay.
func (b *bus) set(c config.A2A, relay *a2a.Relay) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if relay == b.relay {
		return
	}
	b.config, b.relay = c, relay
	close(b.changed)
	b.changed = make(chan struct{})
}

// current is the relay of the moment, and what is closed when that is over.
func (b *bus) current() (*a2a.Relay, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.relay, b.changed
}

// run runs the relay of the moment, each once, until the context ends.
func (b *bus) run(ctx context.Context) {
	for ctx.Err() == nil {
		relayCtx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		relay, changed := b.current()
		if relay != nil {
			running.Go(func() { _ = relay.Run(relayCtx) })
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
		cancel()
		running.Wait()
	}
}

// live is the state of the bus for the metrics.
func (b *bus) live() collector.Bus {
	relay, _ := b.current()
	return collector.Bus{Configured: relay != nil, Up: relay != nil && relay.Up()}
}

// status is the state of the bus for people.
func (b *bus) status() web.BusStatus {
	relay, _ := b.current()
	if relay == nil {
		return web.BusStatus{}
	}
	status := relay.Status()
	return web.BusStatus{Configured: true, Up: status.Up, Error: status.Err}
}
