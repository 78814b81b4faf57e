package test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// attacker can write to the Redis of a fleet, and knows how tasks look.
type attacker struct {
	t     *testing.T
	redis *servers.Redis
	queue *asynq.Client
}

func newAttacker(t *testing.T, redis *servers.Redis) *attacker {
	queue := asynq.NewClient(asynq.RedisClientOpt{Addr: redis.Addr})
	t.Cleanup(func() { _ = queue.Close() })
	return &attacker{t, redis, queue}
}

// give puts a task for the class a into the queue, as what a coordinator would give but for
// what edit changes.
func (a *attacker) give(cycle string, edit func(*fleet.Task)) {
	a.t.Helper()
	task := fleet.Task{
		Version: 1, Cycle: cycle, Token: "t", Attempt: 1, Class: "a", Entry: "e", Due: time.Now(), Model: "m", Targets: []string{"Q2_K"},
		Settings: config.DefaultSettings(), Engine: fleet.TaskEngine{Timeouts: config.DefaultEngine().Timeouts},
	}
	edit(&task)
	payload, err := json.Marshal(task)
	require.NoError(a.t, err)
	a.redis.CLI("hset", "quant:{"+cycle+"}:cycle", "token", "t", "attempt", "1")
	a.enqueue(cycle, payload)
}

func (a *attacker) enqueue(id string, payload []byte) {
	a.t.Helper()
	_, err := a.queue.Enqueue(asynq.NewTask("quant:cycle", payload), asynq.Queue("quant:a"), asynq.TaskID(id), asynq.MaxRetry(0))
	require.NoError(a.t, err)
}

// answered waits until the results of a cycle say something.
func (a *attacker) answered(cycle, says string) {
	a.t.Helper()
	require.Eventually(a.t, func() bool {
		return strings.Contains(a.redis.CLI("xrange", "quant:{"+cycle+"}:results", "-", "+"), says)
	}, patience, 100*time.Millisecond, "%s says nothing of %q", cycle, says)
}

// Whoever can write to Redis has a worker run nothing but its own tools, on its own models, as a
// configuration could; and the worker goes on.
func TestWorkersRefuseHostileTasks(t *testing.T) {
	t.Parallel()
	redis := servers.StartRedis(t, servers.RedisOptions{})
	p := newPlace(t, fakellama.Behaviour{})
	host := p.fleetHost(redis, fakellama.Behaviour{})
	worker := host.worker("a")
	a := newAttacker(t, redis)

	outside := t.TempDir()
	secret := filepath.Join(outside, "secret.gguf")
	gguftest.Model(gguftest.Tiny()).Write(t, secret)
	above, err := filepath.Rel(p.models, secret)
	require.NoError(t, err)
	for cycle, test := range map[string]struct {
		edit func(*fleet.Task)
		says string
	}{
		"above":        {func(task *fleet.Task) { task.Model = strings.TrimSuffix(above, ".gguf") }, "there is no model"},
		"above-file":   {func(task *fleet.Task) { task.Model = above }, "there is no model"},
		"around":       {func(task *fleet.Task) { task.Model = "m/../" + strings.TrimSuffix(above, ".gguf") }, "there is no model"},
		"absolute":     {func(task *fleet.Task) { task.Model = strings.TrimSuffix(secret, ".gguf") }, "there is no model"},
		"url":          {func(task *fleet.Task) { task.Model = "https://example.org/secret" }, "there is no model"},
		"an-option":    {func(task *fleet.Task) { task.Model = "--help" }, "there is no model"},
		"an-argument":  {func(task *fleet.Task) { task.Engine.QuantizeArgs = []string{secret} }, "which may name a file"},
		"the-network":  {func(task *fleet.Task) { task.Engine.BenchArgs = []string{"--rpc", "example.org:1"} }, "refuses the cycle"},
		"a-target":     {func(task *fleet.Task) { task.Targets = []string{above} }, `"failure":{`},
		"no-threshold": {func(task *fleet.Task) { task.Settings.Threshold = 7 }, "settings that cannot be used"},
	} {
		a.give(cycle, test.edit)
		a.answered(cycle, test.says)
	}
	for id, payload := range map[string]string{
		"garbage": "\x00\xff{", "huge": `{"version":1,"cycle":"huge","model":"` + strings.Repeat("m", 5<<20) + `"}`,
		"other-class": `{"version":1,"cycle":"other-class","class":"b"}`, "a-command": `{"version":1,"cycle":"a-command","class":"a","command":"touch /tmp/x"}`,
	} {
		a.enqueue(id, []byte(payload))
	}
	for _, call := range fakellama.Calls(t, host.tools) {
		assert.NotContains(t, strings.Join(call.Args, " "), "original", "no tool was given a model")
	}

	published := filepath.Join(outside, "published")
	a.give("last", func(task *fleet.Task) { task.Settings.Publish.Dir = published })
	a.answered("last", `"outcome":"kept"`)
	assert.NoDirExists(t, published, "publishing is the worker's own affair")
	for _, call := range fakellama.Calls(t, host.tools) {
		assert.NotContains(t, strings.Join(call.Args, " ")+call.Dir, "secret")
	}
	require.Zero(t, worker.stop(), worker.log())
}
