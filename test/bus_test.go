package test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/schemas"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// deliveries are what has become of the place's events, oldest first.
func (p *place) deliveries() (all []store.Delivery) {
	p.t.Helper()
	got := p.start("events", "--output", "json")
	require.Zero(p.t, got.status, got.stderr)
	for _, event := range eventLines(p.t, got.stdout) {
		all = append(all, event.Delivery)
	}
	return all
}

// decisionsOn are the changes in the stream, by the words of their data, which fits its
// schema.
func decisionsOn(t *testing.T, server *servers.Redis) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(server.CLI("xrange", "{a2a}:events", "-", "+")) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var o outcome
		require.NoError(t, json.Unmarshal([]byte(line), &o), line)
		schemas.Check(t, schemas.Of(o.EventType), line)
		all = append(all, strings.TrimSpace(strings.Join([]string{o.Target, string(o.Decision), o.Previous}, " ")))
	}
	return all
}

// Of what was decided without a bus, the latest of each pair goes out with the first one,
// and everything onward. Its user and password come from the environment, and have the
// rights that the documentation names.
func TestTheFirstBusGetsTheLatestOfEachPair(t *testing.T) {
	t.Parallel()
	p := decidedTwice(t)
	assert.Equal(t, []store.Delivery{store.Held, store.Held, store.Held}, p.deliveries())
	redis := servers.StartRedis(t, servers.RedisOptions{})
	redis.CLI("acl", "setuser", "exporter", "on", ">hunter2", "resetkeys", "~{a2a}:*", "-@all", "+eval", "+evalsha", "+xadd", "+hget", "+hset")
	p.env = []string{"A2A_USERNAME=exporter", "A2A_PASSWORD=hunter2"}

	p.configure(never)
	s := p.serve()
	_, found := s.value("quant_cycle_bus_up")
	assert.False(t, found, "there is none")
	s.shows(0, "quant_cycle_events_pending")
	bus := "a2a: {url: 'redis://" + redis.Addr + "'}\n"
	p.configure(never + bus)
	s.reload()
	s.mustLog("connected to the event stream")
	s.shows(1, "quant_cycle_bus_up")
	s.shows(2, "quant_cycle_events_published_total")
	s.shows(0, "quant_cycle_events_pending")
	require.Zero(t, s.stop(), s.log())
	assert.Equal(t, []string{"Q8_0 kept", "Q2_K rejected kept"}, decisionsOn(t, redis))
	assert.Equal(t, []store.Delivery{store.Superseded, store.Delivered, store.Delivered}, p.deliveries())

	fakellama.Set(t, p.tools, fakellama.Behaviour{})
	got := p.run()
	assert.Contains(t, got.stdout, "1 event was raised, and sent to the event stream.", got.stderr)
	redis.Stop()
	fakellama.Set(t, p.tools, fakellama.Behaviour{Factors: []fakellama.Factor{slowed}})
	got = p.run()
	assert.NotContains(t, got.stdout, "sent to the event stream")
	assert.Contains(t, got.stderr, "some events have not reached the event stream: they are stored")
	assert.Equal(t, []store.Delivery{store.Superseded, store.Delivered, store.Delivered, store.Delivered, store.Pending}, p.deliveries())
}
