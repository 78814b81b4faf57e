package a2a

import (
	"context"
	"log/slog"
	"reflect"
	"sync"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

// Bus delivers the events of an outbox by the configuration in force, which a reload
// exchanges: Prepare does all that can fail, Set none of it. Its methods are safe for
// concurrent use.
type Bus struct {
	outbox  Outbox
	secrets Secrets
	log     *slog.Logger

	mu      sync.Mutex
	relay   *Relay        // nil without a bus
	changed chan struct{} // closed, and replaced, with the relay
}

// NewBus makes a Bus without a configuration: it delivers nothing before Set and Run.
func NewBus(outbox Outbox, secrets Secrets, log *slog.Logger) *Bus {
	return &Bus{outbox: outbox, secrets: secrets, log: log, changed: make(chan struct{})}
}

// Prepare makes a relay for a configuration that [Validate] accepts. It returns the relay in
// force if the configuration is the same and names no CA file, which may have changed. The
// relay is nil if no bus is configured. Prepare does not connect; it fails as [New] does.
func (b *Bus) Prepare(c config.A2A) (*Relay, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case c.URL == "":
		return nil, nil
	case b.relay != nil && reflect.DeepEqual(b.relay.config, c) && c.TLS.CAFile == "":
		return b.relay, nil
	}
	return New(c, b.secrets, b.outbox, b.log)
}

// Set puts a relay that Prepare returned in force, or none if it is nil. Run ends the relay
// before and starts this one.
func (b *Bus) Set(relay *Relay) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if relay == b.relay {
		return
	}
	b.relay = relay
	close(b.changed)
	b.changed = make(chan struct{})
}

// Run runs the relay in force, each once, until the context ends. It is called once.
func (b *Bus) Run(ctx context.Context) {
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

// Status returns what is known of the bus; it never waits for the bus.
func (b *Bus) Status() Status {
	relay, _ := b.current()
	if relay == nil {
		return Status{}
	}
	return relay.Status()
}

// current returns the relay in force, and the channel that is closed when it no longer is.
func (b *Bus) current() (*Relay, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.relay, b.changed
}
