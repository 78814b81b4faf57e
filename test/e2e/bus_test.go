package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/schemas"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

const stream = "{a2a}:events"

// A decision that changes while Redis is down, by an exporter that is killed before Redis
// is back, is on the stream once it is restarted: once, and after the one before it.
func TestEventArrivesOnceAlthoughRedisWasDownAndTheExporterKilled(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Args: []string{"--appendonly", "yes"}})
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: server.Socket, ReadTimeout: 2 * patience, Protocol: 2})
	t.Cleanup(func() { client.Close() })

	// The real tools, and a llama-bench by which the copy takes this many times as long.
	tools := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(shared.tools, "llama-quantize"), filepath.Join(tools, "llama-quantize")))
	require.NoError(t, os.Symlink(slow(t), filepath.Join(tools, "llama-bench")))
	config := func(factor float64, schedule string) string {
		return fmt.Sprintf(`
benchmark: {prompt_tokens: 32, generation_tokens: 16, max_disturbance: 1}
engine: {env: {SLOWBENCH_REAL: %q, SLOWBENCH_MODEL: F16.gguf, SLOWBENCH_FACTOR: "%g"}}
a2a: {url: "redis://%s"}
schedule: [{name: at start, cron: "@every 1h", targets: [F16], %s}]
`, filepath.Join(shared.tools, "llama-bench"), factor, server.Addr, schedule)
	}
	h := newServing(t, config(6, "run_on_start: true"), "--llamacpp.dir", tools)
	d := h.serve("--web.listen-address=127.0.0.1:0")
	first := nextEntry(t, client, "0")
	d.stop()

	server.Stop()
	h.configure(config(0.1, "run_on_start: true"))
	d = h.serve("--web.listen-address=127.0.0.1:0")
	d.logged("the decision has changed")
	d.logged("run finished")
	d.kill()
	// The first one is among them when the stop has cut off the answer to it.
	pending := h.events("--delivery", "pending")
	require.NotEmpty(t, pending)

	server.Restart()
	h.configure(config(1, "suspend: true"))
	d = h.serve("--web.listen-address=127.0.0.1:0")
	second := nextEntry(t, client, first.ID)
	d.stop()
	d = h.serve("--web.listen-address=127.0.0.1:0") // begins by looking whether Redis has all of it
	d.logged("connected to the event stream")
	d.stop()

	entries, err := client.XRange(t.Context(), stream, "-", "+").Result()
	require.NoError(t, err)
	assert.Equal(t, []redis.XMessage{first, second}, entries)
	assert.Empty(t, h.events("--delivery", "pending"))
	delivered := h.events("--delivery", "delivered")
	require.Len(t, delivered, 2)

	rejected, kept := dataOf(t, first), dataOf(t, second)
	assert.Equal(t, "rejected", rejected["decision"])
	assert.Nil(t, rejected["previous_decision"])
	assert.Equal(t, "kept", kept["decision"])
	assert.Equal(t, "rejected", kept["previous_decision"])
	assert.Equal(t, pending[len(pending)-1].ID, kept["event_id"])
	schema := schemas.Get(t, "quant-decision")
	for i, entry := range entries {
		data := dataOf(t, entry)
		require.NoError(t, schema.Validate(data))
		assert.Equal(t, map[string]any{"event_type": data["event_type"], "event_id": data["event_id"], "data": entry.Values["data"]}, entry.Values)
		assert.Equal(t, delivered[i].ID, data["event_id"])
		assert.Equal(t, "QUANT_DECISION", data["event_type"])
		assert.Equal(t, "BC-180", data["cycle_version"])
		assert.Equal(t, "kjv-4m-f16", data["model_name"])
		assert.Equal(t, "at start", data["entry"])
	}
}

// nextEntry waits for the entry of the stream after one.
func nextEntry(t *testing.T, client *redis.Client, after string) redis.XMessage {
	t.Helper()
	streams, err := client.XRead(t.Context(), &redis.XReadArgs{Streams: []string{stream, after}, Count: 1, Block: patience}).Result()
	require.NoError(t, err, "no event came")
	return streams[0].Messages[0]
}

func dataOf(t *testing.T, entry redis.XMessage) map[string]any {
	t.Helper()
	var data map[string]any
	text, _ := entry.Values["data"].(string)
	require.NoError(t, json.Unmarshal([]byte(text), &data), "%v", entry.Values)
	return data
}

// storedEvent is a line of the command events.
type storedEvent struct {
	ID string `json:"event_id"`
}

// events are those that the command of that name lists.
func (h *host) events(args ...string) []storedEvent {
	h.t.Helper()
	out, err := h.command(append([]string{"events", "--output", "json"}, args...)...).Output()
	require.NoError(h.t, err)
	var events []storedEvent
	for line := range strings.Lines(string(out)) {
		var e storedEvent
		require.NoError(h.t, json.Unmarshal([]byte(line), &e))
		events = append(events, e)
	}
	return events
}
