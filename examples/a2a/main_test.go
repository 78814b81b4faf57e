package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

const (
	stream = "{a2a}:events"
	group  = "agents"
)

// publish adds an entry as the exporter's relay does.
func publish(t *testing.T, server *servers.Redis, id, model string) {
	t.Helper()
	data, err := json.Marshal(event.Decision{
		EventType: event.TypeDecision, ModelName: model, Decision: verdict.Rejected, PreviousDecision: new(verdict.Kept),
		Gate: new(verdict.Prompt), Phase: verdict.Prompt, ThroughputDropPercent: 25, ThresholdPercent: 12.5, TargetFormat: "Q2_K", Timestamp: 1782907200.25, EventID: &id,
	})
	require.NoError(t, err)
	server.CLI("xadd", stream, "*", "event_type", event.TypeDecision, "event_id", id, "data", string(data))
}

// publishChoice adds the entry of a choice.
func publishChoice(t *testing.T, server *servers.Redis, id string, chosen, previous *string) {
	t.Helper()
	data, err := json.Marshal(event.Choice{
		EventType: event.TypeChoice, ModelName: "one", ChosenFormat: chosen, PreviousFormat: previous, Choose: "smallest", Timestamp: 1782907200.25, EventID: &id,
	})
	require.NoError(t, err)
	server.CLI("xadd", stream, "*", "event_type", event.TypeChoice, "event_id", id, "data", string(data))
}

func TestChoicesArePrinted(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	c, out := started(t, server, "first")
	publishChoice(t, server, "a", new("Q3_K_M"), nil)
	publishChoice(t, server, "b", nil, new("Q3_K_M"))
	publishChoice(t, server, "a", new("Q3_K_M"), nil)
	require.NoError(t, c.step(t.Context()))
	assert.Equal(t, "2026-07-01T12:00:00Z one is to be served as Q3_K_M (smallest), before: nothing\n"+
		"2026-07-01T12:00:00Z one is to be served as nothing (smallest), before: Q3_K_M\na handled before\n", out.String())
	assert.Equal(t, "0", unacknowledged(server))
}

func line(model string) string {
	return "2026-07-01T12:00:00Z " + model + " Q2_K is rejected by prompt, before: kept (prompt at 0.75× the original's speed, rejected at 0.875× or below)\n"
}

func TestDecisionsNameTheGate(t *testing.T) {
	for data, want := range map[string]string{
		`{"decision":"kept","gate":null,"quality":{"exceeded_limits":[]}}`:                         "kept",
		`{"decision":"rejected","gate":"generation","quality":null}`:                               "rejected by generation",
		`{"decision":"rejected","gate":"quality","quality":{"exceeded_limits":["max_a","max_b"]}}`: "rejected by quality (max_a, max_b)",
	} {
		var d decision
		require.NoError(t, json.Unmarshal([]byte(data), &d))
		assert.Equal(t, want, d.verdict())
	}
}

// started is a consumer whose group exists. It waits for nothing, and takes over at once
// what others leave.
func started(t *testing.T, server *servers.Redis, name string) (*consumer, *strings.Builder) {
	t.Helper()
	out := &strings.Builder{}
	c := &consumer{
		redis:  redis.NewClient(&redis.Options{Network: "unix", Addr: server.Socket}),
		stream: stream, group: group, name: name, block: -1, remember: time.Hour, out: out,
	}
	t.Cleanup(func() { c.redis.Close() })
	server.CLI("xgroup", "create", stream, group, "0", "mkstream")
	return c, out
}

// unacknowledged is what the group has begun and not ended.
func unacknowledged(server *servers.Redis) string {
	count, _, _ := strings.Cut(server.CLI("xpending", stream, group), "\n")
	return count
}

func TestDecisionsArePrintedOnce(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	publish(t, server, "a", "one")
	c, out := started(t, server, "first")
	publish(t, server, "b", "two")
	publish(t, server, "a", "one") // again, as after a server that came back older
	require.NoError(t, c.step(t.Context()))
	assert.Equal(t, line("one")+line("two")+"a handled before\n", out.String())
	assert.Equal(t, "0", unacknowledged(server))

	t.Run("nothing new", func(t *testing.T) {
		require.NoError(t, c.step(t.Context()))
		assert.Equal(t, 3, strings.Count(out.String(), "\n"))
	})
	t.Run("also by another of the group", func(t *testing.T) {
		another, out := started(t, server, "second")
		publish(t, server, "b", "two")
		require.NoError(t, another.step(t.Context()))
		assert.Equal(t, "b handled before\n", out.String())
	})
	t.Run("what was handled long ago is forgotten", func(t *testing.T) {
		c.remember = -time.Hour
		publish(t, server, "c", "three")
		require.NoError(t, c.step(t.Context()))
		assert.Equal(t, "0", server.CLI("zcard", stream+":"+group+":seen"))
	})
}

// A consumer reads with XREADGROUP, by redis-cli here, and dies: another one takes over
// with XAUTOCLAIM.
func TestCrashedConsumer(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	c, out := started(t, server, "survivor")
	publish(t, server, "a", "one")
	publish(t, server, "b", "two")
	publish(t, server, "c", "three")
	read := server.CLI("xreadgroup", "group", group, "crashed", "count", "2", "streams", stream, ">")
	assert.Contains(t, read, "\nevent_id\na\n")
	assert.Contains(t, read, "\nevent_id\nb\n")
	assert.NotContains(t, read, "\nevent_id\nc\n")
	entry := strings.Split(read, "\n")[1]
	assert.Equal(t, "1", server.CLI("xack", stream, group, entry), "it had done the first")
	assert.Equal(t, "1", unacknowledged(server))

	c.idle = time.Hour
	require.NoError(t, c.step(t.Context()))
	assert.Equal(t, line("three"), out.String(), "the other may still be at work")
	c.idle = 0
	require.NoError(t, c.step(t.Context()))
	assert.Equal(t, line("three")+line("two"), out.String())
	assert.Equal(t, "0", unacknowledged(server))
}

func TestEntriesOfOthers(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	c, out := started(t, server, "first")
	server.CLI("xadd", stream, "*", "event_type", "OTHER", "event_id", "x", "data", "?")
	bad := server.CLI("xadd", stream, "*", "event_type", event.TypeDecision, "event_id", "y", "data", "?")
	publish(t, server, "a", "one")
	require.NoError(t, c.step(t.Context()))
	assert.Equal(t, bad+" is left out: invalid character '?' looking for beginning of value\n"+line("one"), out.String())
	assert.Equal(t, "0", unacknowledged(server))
}

// Entries without an event_id are not duplicates of each other.
func TestEntriesWithoutID(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	c, out := started(t, server, "first")
	for range 2 {
		server.CLI("xadd", stream, "*", "event_type", "OTHER", "data", "?")
		publish(t, server, "", "one")
	}
	require.NoError(t, c.step(t.Context()))
	assert.Equal(t, line("one")+line("one"), out.String())
	assert.Equal(t, "0", unacknowledged(server))
	assert.Equal(t, "0", server.CLI("zcard", stream+":"+group+":seen"))
}

// The rules of the README suffice for all of it.
func TestACL(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	rules := "~{a2a}:* -@all +xgroup|create +xreadgroup +xautoclaim +xack +zscore +zadd +zremrangebyscore +multi +exec"
	server.CLI(append([]string{"acl", "setuser", "agent", "reset", "on", ">hunter2"}, strings.Fields(rules)...)...)
	c, out := started(t, server, "first")
	options, err := redis.ParseURL(fmt.Sprintf("redis://agent:hunter2@%s/0", server.Addr))
	require.NoError(t, err)
	c.redis = redis.NewClient(options)
	defer c.redis.Close()
	publish(t, server, "a", "one")
	require.NoError(t, c.redis.XGroupCreateMkStream(t.Context(), stream, group+"2", "0").Err())
	require.NoError(t, c.step(t.Context()))
	assert.Equal(t, line("one"), out.String())
}
