package a2a

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func newTestBus(outbox Outbox) *Bus {
	return NewBus(outbox, Secrets{}, slog.New(slog.DiscardHandler))
}

// A reload that changes nothing of the bus must not cut its connections.
func TestRelayOfTheSameConfigurationStays(t *testing.T) {
	bus := newTestBus(newMemory())
	prepare := func(cfg config.A2A) *Relay {
		relay, err := bus.Prepare(cfg)
		require.NoError(t, err)
		if relay != nil {
			t.Cleanup(func() { _ = relay.server.close() })
		}
		return relay
	}
	cfg := configOf("redis://h")
	first := prepare(cfg)
	assert.NotSame(t, first, prepare(cfg), "it is not in force")
	bus.Set(first)
	assert.Same(t, first, prepare(cfg))
	other := cfg
	other.MaxLen++
	assert.NotSame(t, first, prepare(other))
	assert.Nil(t, prepare(config.DefaultA2A()))
	bad := cfg
	bad.TLS.CAFile, bad.URL = "none", "rediss://h"
	_, err := bus.Prepare(bad)
	require.ErrorContains(t, err, "a2a.tls_config: ")
	assert.Same(t, first, prepare(cfg), "what was prepared changes nothing")
}

func TestBusRunsTheRelayInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outbox := newMemory()
		bus := newTestBus(outbox)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); bus.Run(ctx) }()
		synctest.Wait()
		assert.Zero(t, bus.Status())

		first, second := &script{}, &script{err: io.EOF}
		bus.Set(newRelay(first, stream, outbox, slog.New(slog.DiscardHandler)))
		synctest.Wait()
		assert.True(t, bus.Status().Configured)
		assert.True(t, bus.Status().Up)
		bus.Set(newRelay(second, stream, outbox, slog.New(slog.DiscardHandler)))
		synctest.Wait()
		before := len(first.offers)
		outbox.add(1)
		synctest.Wait()
		assert.Len(t, first.offers, before, "it is not in force any more")
		assert.NotEmpty(t, second.offers)
		assert.True(t, bus.Status().Configured)
		assert.Equal(t, "EOF", bus.Status().Err)
		bus.Set(nil)
		synctest.Wait()
		assert.Zero(t, bus.Status())
		cancel()
		<-ended
	})
}
