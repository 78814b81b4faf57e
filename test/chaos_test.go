package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// chaosIsLong reports whether the loops of kills are to have their full length, for which
// continuous integration has no time: see make chaos.
func chaosIsLong() bool { return os.Getenv("CHAOS") == "long" }

// chaosEvents is how many events each run of TestChaos makes at least.
func chaosEvents() int {
	if chaosIsLong() {
		return 100
	}
	return 20
}

// Whatever becomes of the whole exporter, of Redis and of the network between them: each
// change of a decision is on the stream, once, and after the one before it of its pair.
// internal/a2a has the same for the relay alone, with many more events.
func TestChaos(t *testing.T) {
	t.Parallel()
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-kill-seed %d", seed)
	var rows sync.Map
	t.Run("Redis", func(t *testing.T) {
		for name, args := range map[string][]string{
			"AOF everysec": {"--appendonly", "yes", "--appendfsync", "everysec"},
			"RDB only":     {"--save", "1 1"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := newChaos(t, args, rand.New(rand.NewPCG(seed, 0)))
				c.disturb()
				c.calm()
				c.compare()
				rows.Store(name, c.row())
			})
		}
	})
	table := []string{
		"| Redis | events | exporter killed | Redis killed | frozen | answers lost | came back older | sent again | lost | twice | out of order |",
		"|---|---|---|---|---|---|---|---|---|---|---|",
	}
	rows.Range(func(name, row any) bool {
		table = append(table, fmt.Sprintf("| %s %s", name, row))
		return true
	})
	slices.Sort(table[2:])
	t.Logf("as a table:\n%s", strings.Join(table, "\n"))
}

// chaos is an exporter, a Redis, a proxy between them, and who disturbs them.
type chaos struct {
	*place
	random   *rand.Rand
	program  string
	redis    *servers.Redis
	client   *redis.Client
	proxy    *servers.Proxy
	exporter *server

	events                                   int // that were made so far
	exporterKills, redisKills, freezes, cuts int
	older                                    int   // restarts of Redis that lost entries
	resent                                   int64 // the entries that Redis came back without: in the end they are there
	lost, twice, disordered                  int
}

func newChaos(t *testing.T, args []string, random *rand.Rand) *chaos {
	server := servers.StartRedis(t, servers.RedisOptions{Args: args})
	c := &chaos{
		place: newPlace(t, fakellama.Behaviour{}), random: random, program: plain(t), redis: server, proxy: servers.StartProxy(t, server.Addr),
		client: redis.NewClient(&redis.Options{Network: "unix", Addr: server.Socket, ReadTimeout: time.Minute, Protocol: 2}),
	}
	t.Cleanup(func() {
		c.client.Close()
		if c.exporter != nil {
			c.exporter.kill()
			if t.Failed() {
				t.Log(c.exporter.log())
			}
		}
	})
	gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(c.models, "n.gguf"))
	c.schedule(`{name: flip, cron: "@every 1s", run_on_start: true, targets: [Q2_K, Q8_0]}`)
	return c
}

func (c *chaos) schedule(entry string) {
	c.t.Helper()
	c.configure(fmt.Sprintf("%s\na2a: {url: 'redis://%s'}\nschedule: [%s]\n", quick, c.proxy.Addr, entry))
}

// start starts the exporter, with tools of its own: they read all that they have logged
// each time. Where the last one measured that copies are slow they are fast now.
func (c *chaos) start() {
	c.t.Helper()
	behaviour := fakellama.Behaviour{}
	if c.exporterKills%2 == 0 {
		behaviour.Factors = []fakellama.Factor{slowed}
	}
	c.tools = fakellama.BuildWith(c.t, behaviour)
	c.exporter = c.launch(c.program, "--model-dir", c.models, "--llamacpp.dir", c.tools)
}

// disturb goes on until there are enough events.
func (c *chaos) disturb() {
	c.t.Helper()
	faults := []func(){c.killRedis, c.freeze, c.cut, c.save}
	c.start()
	for i := 0; c.events < chaosEvents() || i < 2*len(faults); i++ {
		<-c.after(100, 500)
		if i < len(faults) {
			faults[i]() // each at least once
		} else {
			faults[c.random.IntN(len(faults))]()
		}
		if i%2 == 1 {
			c.killExporter()
		}
	}
}

// after a number of milliseconds between the two.
func (c *chaos) after(least, most int) <-chan time.Time {
	return time.After(time.Duration(least+c.random.IntN(most-least)) * time.Millisecond)
}

// killExporter kills it once it has made an event, and starts another one. On a slow
// host that takes its time.
func (c *chaos) killExporter() {
	c.t.Helper()
	c.exporter.mustLog("the decision has changed")
	<-c.after(0, 300)
	c.exporter.kill()
	c.exporterKills++
	fakellama.NoneLeft(c.t, c.tools)
	opened, err := store.OpenForReading(c.state())
	require.NoError(c.t, err)
	events, err := opened.Events(store.EventQuery{})
	require.NoError(c.t, err)
	c.events = len(events)
	require.NoError(c.t, opened.Close())
	c.start()
}

func (c *chaos) killRedis() {
	before := c.entries()
	c.redis.Kill()
	c.redisKills++
	<-c.after(0, 300)
	c.redis.Restart()
	if lost := before - c.entries(); lost > 0 {
		c.older++
		c.resent += lost
	}
}

func (c *chaos) freeze() {
	c.redis.Freeze()
	c.freezes++
	<-c.after(100, 800) // the timeout lies between
	c.redis.Thaw()
}

func (c *chaos) cut() {
	c.proxy.Swallow()
	c.cuts++
	<-c.after(50, 500)
	c.proxy.Pass()
}

// save makes the snapshot that an RDB-only server comes back to.
func (c *chaos) save() { c.redis.CLI("bgsave") }

func (c *chaos) entries() int64 {
	c.t.Helper()
	n, err := c.client.XLen(c.t.Context(), "{a2a}:events").Result()
	require.NoError(c.t, err)
	return n
}

// calm lets an exporter that decides nothing any more send what is left, and what the
// server has lost: the first that a relay does is to look for that.
func (c *chaos) calm() {
	c.t.Helper()
	c.exporter.kill()
	c.schedule(`{name: flip, cron: "@every 1s", suspend: true, targets: [Q2_K, Q8_0]}`)
	opened, err := store.OpenForReading(c.state())
	require.NoError(c.t, err)
	require.NoError(c.t, opened.Close())
	c.start()
	c.exporter.mustLog("connected to the event stream")
	require.Zero(c.t, c.exporter.stop(), c.exporter.log())
	c.nothingLeft()
}

// compare holds the stream against the state.
func (c *chaos) compare() {
	c.t.Helper()
	opened := c.opened()
	require.NoError(c.t, opened.Check())
	events, err := opened.Events(store.EventQuery{})
	require.NoError(c.t, err)
	c.events = len(events)
	assert.Zero(c.t, opened.State().Outbox.Pending)
	assert.EqualValues(c.t, len(events), opened.State().Delivered())

	entries, err := c.client.XRange(c.t.Context(), "{a2a}:events", "-", "+").Result()
	require.NoError(c.t, err)
	seen := map[string]int{}
	standing := map[store.PairID]*verdict.Outcome{}
	for _, entry := range entries {
		var data struct {
			store.PairID
			ID       string           `json:"event_id"`
			Decision verdict.Outcome  `json:"decision"`
			Previous *verdict.Outcome `json:"previous_decision"`
		}
		text, _ := entry.Values["data"].(string)
		require.NoError(c.t, json.Unmarshal([]byte(text), &data))
		seen[data.ID]++
		if !assert.ObjectsAreEqual(standing[data.PairID], data.Previous) {
			c.disordered++
		}
		standing[data.PairID] = &data.Decision
	}
	for _, event := range events {
		switch n := seen[event.ID]; {
		case n == 0:
			c.lost++
		case n > 1:
			c.twice += n - 1
		}
	}
	assert.Len(c.t, seen, len(events), "nothing else is in the stream")
	assert.Zero(c.t, c.lost, "lost")
	assert.Zero(c.t, c.twice, "twice")
	assert.Zero(c.t, c.disordered, "out of order")
}

func (c *chaos) row() string {
	return fmt.Sprintf("| %d | %d | %d | %d | %d | %d | %d | %d | %d | %d |",
		c.events, c.exporterKills, c.redisKills, c.freezes, c.cuts, c.older, c.resent, c.lost, c.twice, c.disordered)
}
