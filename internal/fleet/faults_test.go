package fleet_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	prom "github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/program"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
	"github.com/quant-exporter/quant-exporter/runner"
)

// The keys of asynq's queue of the class h100.
const (
	pendingKey = "asynq:{quant:h100}:pending"
	activeKey  = "asynq:{quant:h100}:active"
	leaseKey   = "asynq:{quant:h100}:lease"
	taskPrefix = "asynq:{quant:h100}:t:"
)

// Tasks that asynq has lost sight of are given again.
func TestTasksThatAsynqHasLost(t *testing.T) {
	program.NotShort(t)
	redis := servers.StartRedis(t, servers.RedisOptions{})
	activate := func(t *testing.T, lease ...string) {
		t.Helper()
		id := redis.CLI("rpoplpush", pendingKey, activeKey)
		redis.CLI("hset", taskPrefix+id, "state", "active")
		for _, until := range lease {
			redis.CLI("zadd", leaseKey, until, id)
		}
	}
	for name, lose := range map[string]func(*testing.T){
		"active, and never leased": func(t *testing.T) { activate(t) },
		"active, and the lease has expired": func(t *testing.T) {
			activate(t, strconv.FormatInt(time.Now().Add(-time.Minute).Unix(), 10))
		},
		"archived": func(*testing.T) {
			id := redis.CLI("rpop", pendingKey)
			redis.CLI("hset", taskPrefix+id, "state", "archived")
			redis.CLI("zadd", "asynq:{quant:h100}:archived", strconv.FormatInt(time.Now().Unix(), 10), id)
		},
		"gone": func(*testing.T) { redis.CLI("del", taskPrefix+redis.CLI("rpop", pendingKey)) },
	} {
		t.Run(name, func(t *testing.T) {
			redis.CLI("flushall")
			b := newBench(t, redis)
			g := newCycle().by(t.Context(), b.coordinator)
			b.queued()
			lose(t)
			b.worker("w", quick)
			require.NoError(t, g.wait(t))
			assert.Equal(t, []string{"Q2_K kept w", "Q8_0 kept w"}, g.outcomes())
			assert.Equal(t, 2, g.attempts)
		})
	}
	t.Run("a lease that holds is left alone", func(t *testing.T) {
		redis.CLI("flushall")
		b := newBench(t, redis)
		ctx, cancel := context.WithCancelCause(t.Context())
		g := newCycle().by(ctx, b.coordinator)
		b.queued()
		activate(t, strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10))
		log, _ := b.worker("w", quick)
		after := newCycle(func(c *store.Cycle) { c.Due = c.Due.Add(time.Hour) }).by(t.Context(), b.coordinator)
		require.NoError(t, after.wait(t), log.String())
		assert.Never(t, func() bool { return g.given() > 1 }, 2*hasty.Task, 50*time.Millisecond)
		cancel(fleet.ErrLeft)
		require.ErrorIs(t, g.wait(t), fleet.ErrLeft)
	})
}

// What a worker has asked is lost before anybody has read it: it asks again.
func TestRedisLosesWhatAWorkerAsks(t *testing.T) {
	program.NotShort(t)
	redis := servers.StartRedis(t, servers.RedisOptions{})
	for name, lose := range map[string]func(cycle string){
		"all that it has": func(string) { redis.CLI("flushall") },
		"the results":     func(cycle string) { redis.CLI("del", strings.TrimSuffix(cycle, "cycle")+"results") },
	} {
		t.Run(name, func(t *testing.T) {
			redis.CLI("flushall")
			b := newBench(t, redis)
			let := make(chan struct{})
			b.worker("w", func(ctx context.Context, task fleet.Task, out *fleet.Report) {
				<-let
				_, err := out.Fresh(ctx, fleet.Inputs{Inputs: runner.Inputs{Source: "s"}})
				assert.NoError(t, err)
				out.Result(kept(task, "Q8_0"))
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			g := newCycle()
			g.fresh = []string{"Q2_K"}
			g.by(ctx, b.coordinator)
			<-g.begun
			cancel(fleet.ErrLeft)
			require.ErrorIs(t, g.wait(t), fleet.ErrLeft)
			close(let)
			cycle := b.cycle()
			require.Eventually(t, func() bool {
				return strings.Contains(redis.CLI("xrange", strings.TrimSuffix(cycle, "cycle")+"results", "-", "+"), "inputs")
			}, patience, 20*time.Millisecond)
			lose(cycle)
			require.NoError(t, g.by(t.Context(), b.another()).wait(t))
			assert.Equal(t, []string{"Q8_0 kept w"}, g.outcomes())
			assert.Equal(t, []string{"Q2_K"}, g.withdrawn)
			assert.Equal(t, 1, g.given())
		})
	}
}

// distant has everybody reach Redis through a proxy.
func distant(t *testing.T, redis *servers.Redis) (*bench, *servers.Proxy) {
	t.Helper()
	proxy := servers.StartProxy(t, redis.Addr)
	b := newBench(t, redis)
	b.config.URL = "redis://" + proxy.Addr
	b.coordinator = b.another()
	return b, proxy
}

// working decides the first target, says so, and the second one when it may.
func working(first chan<- string, let <-chan struct{}) fleet.Do {
	return func(ctx context.Context, task fleet.Task, out *fleet.Report) {
		out.Result(kept(task, task.Targets[0]))
		first <- task.Targets[0]
		select {
		case <-let:
			out.Result(kept(task, task.Targets[1]))
		case <-ctx.Done():
		}
	}
}

// Redis is away for longer than a lease of asynq lasts, which is half a minute, and than a worker
// may be silent: the cycle goes on, and counts.
func TestACycleOutlivesItsLease(t *testing.T) {
	program.NotShort(t)
	b, proxy := distant(t, servers.StartRedis(t, servers.RedisOptions{}))
	b.times.Silent = 10 * time.Second // with Redis back, which this machine may take its time to see
	b.coordinator = b.another()
	first, let := make(chan string, 9), make(chan struct{})
	log, _ := b.worker("w", working(first, let))
	g := newCycle().by(t.Context(), b.coordinator)
	<-first
	proxy.Disconnect()
	require.Eventually(t, func() bool {
		return strings.Contains(log.String(), "the queue has given up on the cycle, which goes on")
	}, 2*patience, 100*time.Millisecond)
	b.worker("idle", quick) // would take it
	close(let)
	proxy.Connect()
	require.NoError(t, g.wait(t))
	assert.Equal(t, []string{"Q2_K kept w", "Q8_0 kept w"}, g.outcomes())
	assert.Equal(t, 1, g.attempts, "it was not given again")

	after := newCycle(func(c *store.Cycle) { c.Due = c.Due.Add(time.Hour) }).by(t.Context(), b.coordinator)
	require.NoError(t, after.wait(t), "the worker takes the next one")
}

// What is canceled while Redis is away is over when it is back, also in the queue.
func TestACycleIsCanceledWhileRedisIsAway(t *testing.T) {
	program.NotShort(t)
	b, proxy := distant(t, servers.StartRedis(t, servers.RedisOptions{}))
	b.times.Cancel = time.Second
	b.coordinator = b.another()
	go b.coordinator.Run(t.Context(), func() {})
	ctx, cancel := context.WithCancelCause(t.Context())
	g := newCycle().by(ctx, b.coordinator)
	b.queued()
	key := b.cycle()
	proxy.Disconnect()
	cancel(errors.New("somebody asked"))
	require.NoError(t, g.wait(t))
	assert.Equal(t, []string{"Q2_K canceled ", "Q8_0 canceled "}, g.outcomes())
	require.Error(t, b.coordinator.End(t.Context(), &g.cycle))
	assert.Equal(t, "1", b.redis.CLI("llen", pendingKey))
	proxy.Connect()
	require.Eventually(t, func() bool { return b.redis.CLI("hget", key, "ended") == "stored" }, patience, 50*time.Millisecond)
	require.Eventually(t, func() bool { return b.redis.CLI("llen", pendingKey) == "0" }, patience, 50*time.Millisecond)
}

// Connections are cut, and answers lost, at any time: nothing is lost, and nothing twice.
func TestConnectionsAreCut(t *testing.T) {
	program.NotShort(t)
	b, proxy := distant(t, servers.StartRedis(t, servers.RedisOptions{}))
	b.config.Timeout = prom.Duration(500 * time.Millisecond)
	b.coordinator = b.another()
	b.worker("w", quick)
	cutting := make(chan struct{})
	go func() {
		defer close(cutting)
		for n := range 60 {
			<-time.After(60 * time.Millisecond)
			if proxy.Cut(); n%3 == 0 { // what was asked is done, and nobody learns of that
				proxy.Swallow()
				<-time.After(20 * time.Millisecond)
				proxy.Pass()
			}
		}
	}()
	var all []*given
	for i := range 10 {
		all = append(all, newCycle(func(c *store.Cycle) { c.Due = c.Due.Add(time.Duration(i) * time.Hour) }).by(t.Context(), b.coordinator))
	}
	<-cutting
	for _, g := range all {
		require.NoError(t, g.wait(t))
		assert.Equal(t, []string{"Q2_K kept w", "Q8_0 kept w"}, g.outcomes())
	}
}
