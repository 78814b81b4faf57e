package a2a

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/program"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

var (
	chaosEvents = flag.Int("chaos-events", 200, "events of each run of TestChaos, at most what the store keeps of delivered ones (10000)")
	chaosSeed   = flag.Uint64("chaos-seed", 0, "seed of the faults of TestChaos; 0 is another one each time")
)

// producerEnv makes the test binary a producer; it holds a production.
const producerEnv = "A2A_TEST_PRODUCER"

func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv(producerEnv); ok {
		if err := produce(text, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "producer:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// production is what a producer is to do.
type production struct {
	Dir, URL string
	Events   uint64 // in all, earlier producers' included
}

// made is what a producer says when there are all the events.
const made = "made"

// produce decides pairs, each time other than before, until the store has all the events,
// with the relay running as in the exporter. It says so and, once in is at its end, sees
// that the bus has them all.
func produce(text string, in io.Reader, out io.Writer) (err error) {
	var p production
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	s, err := store.Open(p.Dir, store.Options{Bus: true, Host: "chaos", Retention: config.DefaultRetention()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	cfg := configOf(p.URL)
	cfg.Timeout = model.Duration(300 * time.Millisecond)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	relay, err := New(cfg, Secrets{}, s, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	running.Go(func() { _ = relay.Run(ctx) })
	if err := decideAll(s, p.Events); err != nil {
		return err
	}
	fmt.Fprintln(out, made)
	_, _ = io.Copy(io.Discard, in)
	cancel()
	running.Wait()

	// What the server lost after it was sent comes back within a minute. We do not wait.
	last, err := New(cfg, Secrets{}, s, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	for done := false; !done; {
		done = last.attempt(context.Background(), true) == nil
	}
	return last.server.close()
}

// decideAll makes cycles over five targets of four models, as many as are missing.
func decideAll(s *store.Store, events uint64) error {
	targets := []string{"Q2_K", "Q3_K_M", "Q4_K_M", "Q6_K", "Q8_0"}
	for i := 0; decided(s) < events; i++ {
		name := fmt.Sprintf("model-%d", i%4)
		id, err := s.BeginCycle(store.Cycle{Entry: "chaos", Model: name, Targets: targets})
		if err != nil {
			return err
		}
		for _, target := range targets {
			if decided(s) == events {
				break
			}
			if _, err := s.Commit(id, otherwise(s, name, target)); err != nil {
				return err
			}
		}
		if err := s.EndCycle(id, nil); err != nil {
			return err
		}
	}
	return nil
}

// decided counts the decisions, each of which is a change and made an event.
func decided(s *store.Store) uint64 {
	var n uint64
	for counter, count := range s.State().Counters.All() {
		if counter.Kind == store.CountDecision {
			n += count
		}
	}
	return n
}

// otherwise is a decision that changes the one that stands.
func otherwise(s *store.Store, name, target string) *runner.Result {
	outcome, drop := verdict.Kept, 0.0
	if s.State().Standing(store.PairID{Model: name, Target: target}) == verdict.Kept {
		outcome, drop = verdict.Rejected, 0.5
	}
	now := time.Now()
	return &runner.Result{
		Model: name, SourceFormat: "F16", TargetFormat: target, Threshold: 0.12, Started: now, Finished: now,
		Verdict: &verdict.Verdict{Outcome: outcome, Rounds: 3, Phases: []verdict.PhaseVerdict{
			{Phase: verdict.Generation, Outcome: outcome, Drop: drop, Original: 100, Quantized: 100 * (1 - drop)},
		}},
	}
}

// Whatever is killed, frozen or cut off: all events are in the stream, once, and in order.
func TestChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-chaos-seed %d", seed)
	table := &strings.Builder{}
	fmt.Fprintln(table, "| Redis | events | exporter killed | producers | Redis killed | frozen | answers lost | came back older | sent again | lost | twice | out of order |")
	fmt.Fprintln(table, "|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, mode := range []struct {
		name string
		args []string
	}{
		{"AOF everysec", []string{"--appendonly", "yes", "--appendfsync", "everysec"}},
		{"RDB only", []string{"--save", "1 1"}},
	} {
		t.Run(mode.name, func(t *testing.T) {
			c := newChaos(t, mode.args, rand.New(rand.NewPCG(seed, 0)))
			c.run()
			c.compare()
			fmt.Fprintf(table, "| %s | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d |\n", mode.name, *chaosEvents,
				c.producerKills, c.producers, c.redisKills, c.freezes, c.cuts, c.older, c.resent, c.lost, c.twice, c.disordered)
		})
	}
	t.Logf("as a table:\n%s", table)
}

// chaos is a producer, a server, a proxy between them, and who disturbs them.
type chaos struct {
	t      *testing.T
	random *rand.Rand
	redis  *servers.Redis
	proxy  *servers.Proxy
	dir    string

	producer *exec.Cmd
	stdin    io.Closer
	made     bool          // all events are
	said     <-chan string // what the producer says; closed when it says no more

	producerKills, redisKills, freezes, cuts int
	producers                                int // that have events: one, and one for each copy of the state that made some
	older                                    int // restarts of Redis that lost entries
	resent                                   int // the entries that it lost then, all of which are there in the end
	lost, twice, disordered                  int
}

func newChaos(t *testing.T, args []string, random *rand.Rand) *chaos {
	redis := servers.StartRedis(t, servers.RedisOptions{Args: args})
	c := &chaos{t: t, random: random, redis: redis, proxy: servers.StartProxy(t, redis.Addr), dir: t.TempDir()}
	t.Cleanup(func() {
		if c.producer != nil {
			c.killProducer()
		}
	})
	return c
}

func (c *chaos) startProducer() {
	c.t.Helper()
	text, err := json.Marshal(production{c.dir, "redis://" + c.proxy.Addr, uint64(*chaosEvents)})
	require.NoError(c.t, err)
	c.producer = exec.Command(os.Args[0])
	c.producer.Env = append(os.Environ(), producerEnv+"="+string(text))
	c.producer.Stderr = os.Stderr
	c.stdin, err = c.producer.StdinPipe()
	require.NoError(c.t, err)
	c.said = program.Lines(c.t, c.producer)
}

func (c *chaos) killProducer() {
	_ = c.producer.Process.Kill()
	for range c.said {
	}
	_ = c.producer.Wait()
	c.producer = nil
}

// run disturbs until all events are made, and each fault has been there twice, then lets
// things calm down.
func (c *chaos) run() {
	faults := []func(){c.killExporter, c.copyState, c.killRedis, c.freeze, c.cut, c.save}
	c.startProducer()
	for i := 0; !c.made || i < 2*len(faults); i++ {
		if i < 2*len(faults) {
			faults[i%len(faults)]()
		} else {
			faults[c.random.IntN(len(faults))]()
		}
		select {
		case line, ok := <-c.said:
			require.True(c.t, ok, "the producer ended by itself")
			require.Equal(c.t, made, line)
			c.made = true
		case <-c.after(20, 400):
		}
	}
	c.finish()
}

func (c *chaos) finish() {
	require.NoError(c.t, c.stdin.Close())
	for range c.said {
	}
	require.NoError(c.t, c.producer.Wait())
	c.producer = nil
}

// after a number of milliseconds between the two.
func (c *chaos) after(least, most int) <-chan time.Time {
	return time.After(time.Duration(least+c.random.IntN(most-least)) * time.Millisecond)
}

func (c *chaos) killExporter() {
	c.killProducer()
	c.producerKills++
	c.startProducer()
}

// copyState has the exporter go on with a copy of its state, under a new producer.
func (c *chaos) copyState() {
	c.killProducer()
	file := filepath.Join(c.dir, "state.db")
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) { // killed before it made one
		c.startProducer()
		return
	}
	require.NoError(c.t, err)
	require.NoError(c.t, os.WriteFile(file+".copy", content, 0o600))
	require.NoError(c.t, os.Rename(file+".copy", file))
	c.startProducer()
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

func (c *chaos) entries() int {
	var n int
	_, err := fmt.Sscan(c.redis.CLI("xlen", stream), &n)
	require.NoError(c.t, err)
	return n
}

// compare holds the stream against the store, and, pair by pair, each event against the
// one before it.
func (c *chaos) compare() {
	s, err := store.OpenForReading(c.dir)
	require.NoError(c.t, err)
	defer s.Close()
	events, err := s.Events(store.EventQuery{})
	require.NoError(c.t, err)
	require.Len(c.t, events, *chaosEvents)
	assert.Zero(c.t, s.State().Outbox.Pending)
	assert.Equal(c.t, uint64(*chaosEvents), s.State().Delivered())
	producers, err := s.Producers()
	require.NoError(c.t, err)
	c.producers = len(producers)

	entries, err := observer(c.t, c.redis).XRange(c.t.Context(), stream, "-", "+").Result()
	require.NoError(c.t, err)
	seqs := map[string]uint64{}
	for _, event := range events {
		seqs[event.ID] = event.Seq
	}
	seen := map[string]int{}
	latest := map[store.PairID]uint64{}
	standing := map[store.PairID]any{}
	for _, entry := range entries {
		id := entry.Values["event_id"].(string)
		seen[id]++
		var data struct {
			store.PairID
			Decision any `json:"decision"`
			Previous any `json:"previous_decision"`
		}
		require.NoError(c.t, json.Unmarshal([]byte(entry.Values["data"].(string)), &data))
		if seqs[id] <= latest[data.PairID] && seen[id] == 1 || data.Previous != standing[data.PairID] {
			c.disordered++
		}
		latest[data.PairID], standing[data.PairID] = seqs[id], data.Decision
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
