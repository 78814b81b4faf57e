package a2a

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// patience is the timeout of tests in which the server answers: it guards against hangs.
const patience = model.Duration(time.Minute)

func configOf(url string) config.A2A {
	cfg := config.DefaultA2A()
	cfg.URL, cfg.Timeout = url, patience
	return cfg
}

// relayTo is a relay that is not running.
func relayTo(t *testing.T, cfg config.A2A, outbox Outbox) *Relay {
	t.Helper()
	require.Empty(t, cfg.Validate())
	relay, err := New(cfg, Secrets{}, outbox, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { _ = relay.server.close() })
	return relay
}

// deliver makes one attempt that has to succeed.
func deliver(t *testing.T, relay *Relay) {
	t.Helper()
	require.NoError(t, relay.attempt(t.Context(), true))
	assert.True(t, relay.Up())
}

// run runs the relay until the function that it returns is called, or the test is over.
func run(t *testing.T, relay *Relay) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		assert.NoError(t, relay.Run(ctx))
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// observer is a client beside the relay.
func observer(t *testing.T, server *servers.Redis) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: server.Socket, ReadTimeout: time.Minute, Protocol: 2})
	t.Cleanup(func() { client.Close() })
	return client
}

// onBus are the event IDs in the stream, in its order.
func onBus(t *testing.T, client redis.UniversalClient) []string {
	t.Helper()
	entries, err := client.XRange(t.Context(), config.DefaultA2A().Stream, "-", "+").Result()
	require.NoError(t, err)
	ids := make([]string, len(entries))
	for i, entry := range entries {
		ids[i] = entry.Values["event_id"].(string)
	}
	return ids
}

const (
	stream = "{a2a}:events"
	marks  = "{a2a}:events:producers"
)
