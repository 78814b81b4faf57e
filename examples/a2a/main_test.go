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
		Gate: new(verdict.Prompt), Phase: verdict.Prompt, ThroughputDropPercent: 25, DropIntervalPercent: [2]*float64{new(22.0), new(28.0)}, ThresholdPercent: 12.5, TargetFormat: "Q2_K", Timestamp: 1782907200.25, EventID: &id,
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
	return "2026-07-01T12:00:00Z " + model + " Q2_K is rejected by prompt, before: kept (prompt at 0.75× [0.72–0.78] the original's speed, rejected at 0.875× or below)\n"
}

func TestDecisionsNameTheGate(t *testing.T) {
	// Made before events had limits, and by what is not made yet.
	const old = `{"decision":"rejected","gate":"quality","quality":{"exceeded_limits":["max_kl_divergence","max_later"]}}`
	const damaged = `{"decision":"rejected","gate":"quality","quality":{
		"kl_divergence_interval":[0.1,0.1764],"top1_agreement_interval_percent":[73.1,80],"kl_divergence_p999":2.654,
		"rms_delta_p_interval_percent":[9,10.64],"perplexity_increase_interval_percent":[5,12],
		"limits":{"max_kl_divergence":0.05,"min_top1_agreement":0.9,"max_kl_divergence_p999":1,"max_rms_dp":0.05,"max_perplexity_increase":0.1},
		"exceeded_limits":["max_kl_divergence","min_top1_agreement","max_kl_divergence_p999","max_rms_dp","max_perplexity_increase"]}}`
	for data, want := range map[string]string{
		`{"decision":"kept","gate":null,"quality":{"exceeded_limits":[]}}`:         "kept",
		`{"decision":"rejected","gate":"generation","quality":null}`:               "rejected by generation",
		`{"decision":"rejected","gate":"memory","quality":{"exceeded_limits":[]}}`: "rejected by memory",
		old:     "rejected by quality (max_kl_divergence; max_later)",
		damaged: "rejected by quality (KL divergence up to 0.176, limit 0.05; top token agrees in as little as 73.1 %, limit 90 %; KL divergence of 1 token in 1000 above 2.65, limit 1; RMS Δp up to 10.6 %, limit 5 %; perplexity higher by up to 12.0 %, limit 10 %)",
	} {
		var d decision
		require.NoError(t, json.Unmarshal([]byte(data), &d))
		assert.Equal(t, want, d.verdict())
	}
}

func TestSpeedOfNoise(t *testing.T) {
	assert.Equal(t, "open", speed(nil))
	for drop, want := range map[float64]string{-267.7: "3.7", -220787.2: "> 100", -900: "10", 25: "0.75", 99.5: "< 0.01"} {
		assert.Equal(t, want, speed(&drop), drop)
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
