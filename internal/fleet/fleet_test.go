package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/redisconn"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/logbook"
	"github.com/quant-exporter/quant-exporter/internal/test/program"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// patience guards against hangs.
const patience = time.Minute

// bench is a Redis with a coordinator.
type bench struct {
	t           *testing.T
	redis       *servers.Redis
	config      config.Fleet
	times       fleet.Times
	coordinator *fleet.Coordinator
}

func newBench(t *testing.T, redis *servers.Redis) *bench {
	t.Helper()
	program.NotShort(t)
	cfg := config.DefaultFleet()
	cfg.URL = "redis://" + redis.Addr
	b := &bench{t: t, redis: redis, config: cfg, times: hasty}
	b.coordinator = b.another()
	return b
}

// another is the next process of the fleet's coordinator.
func (b *bench) another() *fleet.Coordinator { return b.named("coordinator") }

// named is a coordinator of the same fleet.
func (b *bench) named(name string) *fleet.Coordinator {
	b.t.Helper()
	c := fleet.NewCoordinator(name, redisconn.Secrets{}, b.times, slog.New(slog.DiscardHandler))
	prepared, err := c.Prepare(b.config)
	require.NoError(b.t, err)
	c.Set(prepared)
	return c
}

// worker runs a worker until stop is called, or the test is over.
func (b *bench) worker(host string, do fleet.Do, edits ...func(*fleet.WorkerOptions)) (log *logbook.Book, stop func()) {
	b.t.Helper()
	log = &logbook.Book{}
	o := fleet.WorkerOptions{Config: b.config, Class: "h100", Host: host, Times: b.times, Do: do, Logger: log.Logger()}
	for _, edit := range edits {
		edit(&o)
	}
	w, err := fleet.NewWorker(o)
	require.NoError(b.t, err)
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		assert.NoError(b.t, w.Run(ctx, false))
	}()
	stop = func() { cancel(); <-ended }
	b.t.Cleanup(stop)
	return log, stop
}

// queued waits until a cycle is in the queue.
func (b *bench) queued() {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.redis.CLI("llen", "asynq:{quant:h100}:pending") == "1" }, patience, 20*time.Millisecond)
}

// cycle is the key of the only cycle that there is.
func (b *bench) cycle() string {
	b.t.Helper()
	key := b.redis.CLI("keys", "quant:{*}:cycle")
	require.NotEmpty(b.t, key)
	require.NotContains(b.t, key, "\n")
	return key
}

// given is a cycle that a test gives.
type given struct {
	mu       sync.Mutex
	cycle    store.Cycle
	attempts int
	results  []runner.Result
	log      string
	ended    chan error
	begun    chan string

	fresh, withdrawn []string
	logger           *slog.Logger
}

func newCycle(edits ...func(*store.Cycle)) *given {
	g := &given{
		cycle: store.Cycle{ID: 1, Entry: "nightly", Model: "m", Class: "h100", Targets: []string{"Q2_K", "Q8_0"}, Due: time.Now(), Ticket: "ours"},
		ended: make(chan error, 1), begun: make(chan string, 100), logger: slog.New(slog.DiscardHandler),
	}
	for _, edit := range edits {
		edit(&g.cycle)
	}
	return g
}

// later makes it another cycle.
func later(c *store.Cycle) { c.Due = c.Due.Add(time.Hour) }

// by has a coordinator give the cycle, or follow it again.
func (g *given) by(ctx context.Context, c *fleet.Coordinator) *given {
	g.mu.Lock()
	cycle := g.cycle
	var targets []string
	for _, target := range cycle.Targets {
		if !slices.ContainsFunc(g.results, func(r runner.Result) bool { return r.TargetFormat == target }) {
			targets = append(targets, target)
		}
	}
	g.mu.Unlock()
	order := fleet.Order{
		Cycle: cycle, Engine: config.DefaultEngine(), Logger: g.logger,
		Attempt: func(n int) error { g.mu.Lock(); defer g.mu.Unlock(); g.attempts, g.cycle.Attempt = n, n; return nil },
		Begun: func(host string) {
			if host != "" {
				g.begun <- host
			}
		},
		Log: func(lines string) { g.mu.Lock(); defer g.mu.Unlock(); g.log += lines },
	}
	if g.fresh != nil {
		order.Fresh = func(fleet.Inputs) []string { return g.fresh }
		order.Withdraw = func(targets []string) { g.withdrawn = append(g.withdrawn, targets...) }
	}
	request := runner.Request{Model: model.Model{Name: cycle.Model}, Targets: targets, Settings: config.DefaultSettings()}
	go func() {
		g.ended <- c.Give(ctx, order, request, func(r runner.Result) { g.mu.Lock(); defer g.mu.Unlock(); g.results = append(g.results, r) })
	}()
	return g
}

func (g *given) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-g.ended:
		return err
	case <-time.After(patience):
		require.Fail(t, "the cycle does not end")
		return nil
	}
}

// given is how often it was given.
func (g *given) given() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.attempts
}

// outcomes are the results, as "target outcome host".
func (g *given) outcomes() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []string
	for _, r := range g.results {
		word := string(r.Outcome())
		if r.Failure != nil {
			word = string(r.Failure.Reason)
		}
		all = append(all, fmt.Sprintf("%s %s %s", r.TargetFormat, word, r.Host))
	}
	return all
}

func kept(task fleet.Task, target string) runner.Result {
	return runner.Result{
		Model: task.Model, SourceFormat: "F16", TargetFormat: target, Threshold: 0.12, Started: time.Now(), Finished: time.Now(),
		Verdict: &verdict.Verdict{Outcome: verdict.Kept, Rounds: 3, Phases: []verdict.PhaseVerdict{{Phase: verdict.Generation, Outcome: verdict.Kept, Original: 100, Quantized: 100}}},
	}
}

// quick decides at once.
func quick(_ context.Context, task fleet.Task, out *fleet.Report) {
	for _, target := range task.Targets {
		fmt.Fprintf(out, "deciding %s\n", target)
		out.Result(kept(task, target))
	}
}

// untilCanceled decides the first target, and then works until it is stopped.
func untilCanceled(ctx context.Context, task fleet.Task, out *fleet.Report) {
	out.Result(kept(task, task.Targets[0]))
	<-ctx.Done()
	for _, target := range task.Targets[1:] {
		out.Result(runner.Result{Model: task.Model, TargetFormat: target, Failure: runner.AsFailure(ctx.Err())})
	}
}

func TestCyclesOfAFleet(t *testing.T) {
	program.NotShort(t)
	redis := servers.StartRedis(t, servers.RedisOptions{})
	for name, test := range map[string]func(*testing.T, *bench){
		"a worker does a cycle": func(t *testing.T, b *bench) {
			begin := time.Now()
			g := newCycle().by(t.Context(), b.coordinator)
			log, _ := b.worker("w", quick)
			require.NoError(t, g.wait(t))
			assert.Equal(t, []string{"Q2_K kept w", "Q8_0 kept w"}, g.outcomes())
			assert.Equal(t, "deciding Q2_K\ndeciding Q8_0\n", g.log)
			assert.Equal(t, 1, g.attempts)
			require.NoError(t, b.coordinator.End(t.Context(), &g.cycle))
			assert.NotContains(t, log.String(), "level=ERROR")
			t.Logf("from giving to the last result: %v", time.Since(begin))
		},
		"a worker that is asked to end gives its cycle back": func(t *testing.T, b *bench) {
			_, stop := b.worker("first", untilCanceled)
			g := newCycle().by(t.Context(), b.coordinator)
			<-g.begun
			stop()
			assert.Equal(t, "0", b.redis.CLI("hlen", "quant:{workers}:said"), "it is not there any more")
			b.worker("second", quick)
			require.NoError(t, g.wait(t))
			assert.Equal(t, []string{"Q2_K kept first", "Q8_0 kept second"}, g.outcomes(), "what was sent counts")
			assert.Equal(t, 2, g.attempts)
		},
		"a cycle is canceled on its worker": func(t *testing.T, b *bench) {
			b.worker("w", untilCanceled)
			ctx, cancel := context.WithCancelCause(t.Context())
			g := newCycle().by(ctx, b.coordinator)
			<-g.begun
			begin := time.Now()
			cancel(errors.New("somebody asked"))
			require.NoError(t, g.wait(t))
			assert.Less(t, time.Since(begin), 10*time.Second)
			assert.Equal(t, []string{"Q2_K kept w", "Q8_0 canceled w"}, g.outcomes())
		},
		"a cycle is canceled before a worker has begun it": func(t *testing.T, b *bench) {
			ctx, cancel := context.WithCancelCause(t.Context())
			g := newCycle().by(ctx, b.coordinator)
			cancel(errors.New("somebody asked"))
			require.NoError(t, g.wait(t))
			assert.Equal(t, []string{"Q2_K canceled ", "Q8_0 canceled "}, g.outcomes())
		},
		"nobody begins a cycle in time": func(t *testing.T, b *bench) {
			g := newCycle(func(c *store.Cycle) { c.Until = time.Now() }).by(t.Context(), b.coordinator)
			require.ErrorIs(t, g.wait(t), fleet.ErrLate)
			assert.Empty(t, g.outcomes())
			after := newCycle(func(c *store.Cycle) { c.Due = c.Due.Add(time.Hour) }).by(t.Context(), b.coordinator)
			b.worker("w", quick)
			require.NoError(t, after.wait(t))
			assert.Equal(t, 1, after.attempts)
		},
		"nobody begins a cycle in time that a reload has had given again": func(t *testing.T, b *bench) {
			g := newCycle(func(c *store.Cycle) { c.Until, c.Attempt = time.Now(), 2 }).by(t.Context(), b.coordinator)
			require.ErrorIs(t, g.wait(t), fleet.ErrLate)
		},
		"nobody begins a cycle in time while its coordinator is away": func(t *testing.T, b *bench) {
			ctx, cancel := context.WithCancelCause(t.Context())
			until := time.Now().Add(time.Hour)
			g := newCycle(func(c *store.Cycle) { c.Until = until }).by(ctx, b.coordinator)
			b.queued()
			cancel(fleet.ErrLeft)
			require.ErrorIs(t, g.wait(t), fleet.ErrLeft)
			require.Equal(t, strconv.FormatInt(until.UnixMilli(), 10), b.redis.CLI("hget", b.cycle(), "until"))
			b.redis.CLI("hset", b.cycle(), "until", strconv.FormatInt(time.Now().UnixMilli()-1, 10)) // an hour goes by
			log, _ := b.worker("w", quick)
			require.Eventually(t, func() bool { return strings.Contains(log.String(), "it is too late") }, patience, 20*time.Millisecond)
			g.cycle.Until = time.Now()
			require.ErrorIs(t, g.by(t.Context(), b.another()).wait(t), fleet.ErrLate)
			assert.Empty(t, g.outcomes())
		},
		"a cycle that was begun in time is given again later": func(t *testing.T, b *bench) {
			_, stop := b.worker("first", untilCanceled)
			g := newCycle(func(c *store.Cycle) { c.Until = time.Now().Add(time.Hour) }).by(t.Context(), b.coordinator)
			<-g.begun
			stop()
			require.Eventually(t, func() bool { return g.given() == 2 }, patience, 20*time.Millisecond)
			b.queued()
			assert.Equal(t, "2", b.redis.CLI("hmget", b.cycle(), "attempt", "until"), "the second attempt, which may begin at any time")
			b.worker("second", quick)
			require.NoError(t, g.wait(t))
			assert.Equal(t, []string{"Q2_K kept first", "Q8_0 kept second"}, g.outcomes())
		},
		"a coordinator stops after it has taken a cycle back": func(t *testing.T, b *bench) {
			ctx, cancel := context.WithCancelCause(t.Context())
			g := newCycle(func(c *store.Cycle) { c.Until = time.Now().Add(time.Hour) }).by(ctx, b.coordinator)
			b.queued()
			cancel(fleet.ErrLeft)
			require.ErrorIs(t, g.wait(t), fleet.ErrLeft)
			taken, err := b.coordinator.TakeBack(t.Context(), &g.cycle)
			require.NoError(t, err)
			require.True(t, taken)
			b.worker("w", quick)
			require.NoError(t, g.by(t.Context(), b.another()).wait(t), "it is given again")
			assert.Equal(t, []string{"Q2_K kept w", "Q8_0 kept w"}, g.outcomes())
			assert.Equal(t, 2, g.given())
		},
		"a coordinator stops after it has canceled a cycle": func(t *testing.T, b *bench) {
			ctx, cancel := context.WithCancelCause(t.Context())
			g := newCycle().by(ctx, b.coordinator)
			cancel(errors.New("somebody asked"))
			require.NoError(t, g.wait(t))
			g.results = nil // which were not stored
			require.NoError(t, g.by(t.Context(), b.another()).wait(t))
			assert.Equal(t, []string{"Q2_K canceled ", "Q8_0 canceled "}, g.outcomes())
			assert.Equal(t, 1, g.given())
		},
		"a coordinator stops after it was too late": func(t *testing.T, b *bench) {
			g := newCycle(func(c *store.Cycle) { c.Until = time.Now() }).by(t.Context(), b.coordinator)
			require.ErrorIs(t, g.wait(t), fleet.ErrLate)
			require.ErrorIs(t, g.by(t.Context(), b.another()).wait(t), fleet.ErrLate)
			assert.Equal(t, 1, g.given())
		},
		"a cycle whose end another state has": func(t *testing.T, b *bench) {
			b.worker("w", quick)
			g := newCycle().by(t.Context(), b.coordinator)
			require.NoError(t, g.wait(t))
			require.NoError(t, b.coordinator.End(t.Context(), &g.cycle))
			g.results = nil // as in a copy that was made before
			require.ErrorIs(t, g.by(t.Context(), b.another()).wait(t), fleet.ErrForeign)
		},
		"a result is too large for a reply of Redis": func(t *testing.T, b *bench) {
			b.worker("w", func(_ context.Context, task fleet.Task, out *fleet.Report) {
				large := kept(task, "Q2_K")
				large.Evidence.Rounds = make([]runner.Round, 40000)
				out.Result(large)
				larger := kept(task, "Q8_0")
				larger.Evidence.Isolation = strings.Repeat("x", 5<<20)
				out.Result(larger)
			})
			g := newCycle().by(t.Context(), b.coordinator)
			require.NoError(t, g.wait(t))
			assert.Equal(t, []string{"Q2_K kept w", "Q8_0 internal w"}, g.outcomes())
			assert.Empty(t, g.results[0].Evidence.Rounds)
		},
		"results that cannot be stored are left out": func(t *testing.T, b *bench) {
			b.worker("w", func(ctx context.Context, task fleet.Task, out *fleet.Report) {
				for _, edit := range []func(*runner.Result){
					func(r *runner.Result) { r.Verdict = nil },
					func(r *runner.Result) { r.Failure = runner.Failf(runner.ReasonCrash, "and kept") },
					func(r *runner.Result) { r.Verdict, r.Failure = nil, runner.Failf("", "for no reason") },
					func(r *runner.Result) { r.Verdict.Outcome = verdict.GoOn },
					func(r *runner.Result) { r.Started = time.Date(0, 1, 1, 0, 0, 0, 0, time.FixedZone("east", 3600)) },
					func(r *runner.Result) {
						r.Finished = time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("west", -7200))
					},
				} {
					r := kept(task, "Q2_K")
					edit(&r)
					out.Result(r)
				}
				quick(ctx, task, out)
			})
			g := newCycle().by(t.Context(), b.coordinator)
			require.NoError(t, g.wait(t))
			assert.Equal(t, []string{"Q2_K kept w", "Q8_0 kept w"}, g.outcomes())
			for _, r := range g.results {
				assert.NoError(t, store.CheckContent(&r))
			}
		},
		"a second coordinator gives the same cycle": func(t *testing.T, b *bench) {
			g := newCycle()
			other := newCycle(func(c *store.Cycle) { *c = g.cycle; c.Ticket = "theirs" })
			g.by(t.Context(), b.coordinator)
			b.queued()
			require.ErrorIs(t, other.by(t.Context(), b.another()).wait(t), fleet.ErrForeign)
			b.worker("w", quick)
			require.NoError(t, g.wait(t))
			assert.Len(t, g.outcomes(), 2)
		},
		"a second coordinator gives others, until the first one has stopped": func(t *testing.T, b *bench) {
			ctx, stop := context.WithCancel(t.Context())
			stopped := make(chan struct{})
			go func() { defer close(stopped); b.coordinator.Run(ctx, func() {}) }()
			b.worker("w", quick)
			require.NoError(t, newCycle().by(t.Context(), b.coordinator).wait(t))
			second := b.named("the one by mistake")
			require.ErrorIs(t, newCycle(later).by(t.Context(), second).wait(t), fleet.ErrForeign)
			stop()
			<-stopped
			require.NoError(t, newCycle(later).by(t.Context(), second).wait(t))
		},
		"a second coordinator gives others when the first one has died": func(t *testing.T, b *bench) {
			b.worker("w", quick)
			require.NoError(t, newCycle().by(t.Context(), b.coordinator).wait(t)) // which does not run, and so says nothing of itself
			require.NoError(t, newCycle(later).by(t.Context(), b.named("the one by mistake")).wait(t))
		},
		"a second coordinator cancels the same cycle": func(t *testing.T, b *bench) {
			first, let := make(chan string, 1), make(chan struct{})
			b.worker("w", working(first, let))
			g := newCycle()
			other := newCycle(func(c *store.Cycle) { *c = g.cycle; c.Ticket, c.Attempt = "theirs", 1 })
			g.by(t.Context(), b.coordinator)
			<-first
			canceled, cancel := context.WithCancel(t.Context())
			cancel() // before it has looked at what Redis has
			require.ErrorIs(t, other.by(canceled, b.another()).wait(t), fleet.ErrForeign)
			close(let)
			require.NoError(t, g.wait(t))
			assert.Equal(t, []string{"Q2_K kept w", "Q8_0 kept w"}, g.outcomes())
		},
		"the coordinator stops, and its next process follows the cycle": func(t *testing.T, b *bench) {
			let := make(chan struct{})
			b.worker("w", func(_ context.Context, task fleet.Task, out *fleet.Report) {
				out.Result(kept(task, task.Targets[0]))
				<-let
				out.Result(kept(task, task.Targets[1]))
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			g := newCycle().by(ctx, b.coordinator)
			<-g.begun
			cancel(fleet.ErrLeft)
			require.ErrorIs(t, g.wait(t), fleet.ErrLeft)
			g.by(t.Context(), b.another())
			close(let)
			require.NoError(t, g.wait(t))
			assert.Equal(t, []string{"Q2_K kept w", "Q8_0 kept w"}, g.outcomes())
			assert.Equal(t, 1, g.attempts)
		},
		"the coordinator stops between the last result and the end": func(t *testing.T, b *bench) {
			let := make(chan struct{})
			b.worker("w", func(ctx context.Context, task fleet.Task, out *fleet.Report) {
				quick(ctx, task, out)
				<-let
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			g := newCycle().by(ctx, b.coordinator)
			require.Eventually(t, func() bool { return len(g.outcomes()) == 2 }, patience, 20*time.Millisecond)
			cancel(fleet.ErrLeft)
			require.ErrorIs(t, g.wait(t), fleet.ErrLeft)
			g.by(t.Context(), b.another())
			close(let)
			require.NoError(t, g.wait(t))
			assert.Len(t, g.outcomes(), 2)
			assert.Equal(t, 1, g.attempts)
		},
		"some targets are decided, and the rest is found fresh by the next process": func(t *testing.T, b *bench) {
			let := make(chan struct{})
			b.worker("w", func(ctx context.Context, task fleet.Task, out *fleet.Report) {
				out.Result(kept(task, "Q2_K"))
				<-let
				_, err := out.Fresh(ctx, fleet.Inputs{Inputs: runner.Inputs{Source: "s"}})
				assert.NoError(t, err)
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			g := newCycle()
			g.fresh = []string{"Q8_0"}
			g.by(ctx, b.coordinator)
			require.Eventually(t, func() bool { return len(g.outcomes()) == 1 }, patience, 20*time.Millisecond)
			cancel(fleet.ErrLeft)
			require.ErrorIs(t, g.wait(t), fleet.ErrLeft)
			g.by(t.Context(), b.another())
			close(let)
			require.NoError(t, g.wait(t), "the cycle has a result, and is to be ended")
			assert.Equal(t, []string{"Q8_0"}, g.withdrawn)
		},
		"a worker takes one cycle and exits": func(t *testing.T, b *bench) {
			w, err := fleet.NewWorker(fleet.WorkerOptions{Config: b.config, Class: "h100", Host: "w", Times: hasty, Do: quick, Logger: slog.New(slog.DiscardHandler)})
			require.NoError(t, err)
			ended := make(chan error, 1)
			go func() { ended <- w.Run(t.Context(), true) }()
			g := newCycle().by(t.Context(), b.coordinator)
			require.NoError(t, g.wait(t))
			select {
			case err := <-ended:
				require.NoError(t, err)
			case <-time.After(patience):
				require.Fail(t, "the worker does not exit")
			}
			assert.Equal(t, "0", b.redis.CLI("hlen", "quant:{workers}:said"), "it is not there any more")
		},
		"a host that was thought dead comes back": func(t *testing.T, b *bench) {
			let := make(chan struct{})
			log, _ := b.worker("mute", func(_ context.Context, task fleet.Task, out *fleet.Report) {
				<-let
				quick(context.Background(), task, out)
			}, func(o *fleet.WorkerOptions) { o.Times.Beat = time.Hour })
			g := newCycle().by(t.Context(), b.coordinator)
			<-g.begun
			b.worker("second", quick)
			require.NoError(t, g.wait(t))
			close(let)
			require.Eventually(t, func() bool { return strings.Contains(log.String(), "what this worker found does not count") }, patience, 20*time.Millisecond)
			assert.Equal(t, []string{"Q2_K kept second", "Q8_0 kept second"}, g.outcomes())
			assert.Equal(t, 2, g.attempts)
		},
		"what is fresh is not decided": func(t *testing.T, b *bench) {
			g := newCycle()
			g.fresh = []string{"Q2_K"}
			log, _ := b.worker("w", func(ctx context.Context, task fleet.Task, out *fleet.Report) {
				fresh, err := out.Fresh(ctx, fleet.Inputs{Inputs: runner.Inputs{Source: "s"}})
				assert.NoError(t, err)
				task.Targets = slices.DeleteFunc(task.Targets, func(target string) bool { return slices.Contains(fresh, target) })
				quick(ctx, task, out)
			})
			require.NoError(t, g.by(t.Context(), b.coordinator).wait(t))
			assert.Equal(t, []string{"Q8_0 kept w"}, g.outcomes())
			assert.Equal(t, []string{"Q2_K"}, g.withdrawn)

			all := newCycle(func(c *store.Cycle) { c.Due = c.Due.Add(time.Hour) })
			all.fresh = []string{"Q2_K", "Q8_0"}
			require.ErrorIs(t, all.by(t.Context(), b.coordinator).wait(t), fleet.ErrFresh)
			require.Eventually(t, func() bool { return strings.Count(log.String(), "the cycle is over") == 2 }, patience, 20*time.Millisecond, "the worker learns of that, too")
		},
		"Redis loses which worker has begun a cycle": func(t *testing.T, b *bench) {
			b.times.Task, b.times.Silent = time.Minute, time.Minute
			b.coordinator = b.another()
			first, let := make(chan string, 1), make(chan struct{})
			b.worker("w", working(first, let), func(o *fleet.WorkerOptions) { o.Times.Beat = time.Hour }) // a result is the next that it says
			log := &logbook.Book{}
			g := newCycle()
			g.logger = log.Logger()
			g.by(t.Context(), b.coordinator)
			require.Eventually(t, func() bool { return len(g.outcomes()) == 1 }, patience, 20*time.Millisecond)
			b.redis.CLI("flushall")
			require.Eventually(t, func() bool { return b.redis.CLI("keys", "quant:{*}:cycle") != "" }, patience, 20*time.Millisecond, "the coordinator says again what it gives")
			close(let)
			require.NoError(t, g.wait(t))
			assert.Equal(t, []string{"Q2_K kept w", "Q8_0 kept w"}, g.outcomes())
			assert.NotContains(t, log.String(), `host=""`)
		},
		"a worker is gone as soon as all is found fresh": func(t *testing.T, b *bench) {
			b.worker("w", func(ctx context.Context, _ fleet.Task, out *fleet.Report) {
				_, _ = out.Fresh(ctx, fleet.Inputs{Inputs: runner.Inputs{Source: "s"}})
				<-ctx.Done() // nothing more is heard of it
			}, func(o *fleet.WorkerOptions) { o.Times.Beat = time.Hour })
			g := newCycle()
			g.fresh = []string{"Q2_K", "Q8_0"}
			require.ErrorIs(t, g.by(t.Context(), b.coordinator).wait(t), fleet.ErrFresh)
			assert.Equal(t, []string{"Q2_K", "Q8_0"}, g.withdrawn)
			assert.Equal(t, 1, g.given(), "the cycle is forgotten, and cannot be given again")
		},
		"all is found fresh, and the coordinator says so at once": func(t *testing.T, b *bench) {
			log, _ := b.worker("w", func(ctx context.Context, _ fleet.Task, out *fleet.Report) {
				_, _ = out.Fresh(ctx, fleet.Inputs{Inputs: runner.Inputs{Source: "s"}})
				<-ctx.Done()
			})
			g := newCycle()
			g.fresh = []string{"Q2_K", "Q8_0"}
			require.ErrorIs(t, g.by(t.Context(), b.coordinator).wait(t), fleet.ErrFresh)
			require.NoError(t, b.coordinator.End(t.Context(), &g.cycle))
			require.Eventually(t, func() bool { return strings.Contains(log.String(), "the coordinator has ended the cycle") }, patience, 20*time.Millisecond)
			assert.NotContains(t, log.String(), "level=WARN")
		},
		"Redis loses all that it has": func(t *testing.T, b *bench) {
			g := newCycle().by(t.Context(), b.coordinator)
			b.queued()
			b.redis.CLI("flushall")
			b.worker("w", quick)
			require.NoError(t, g.wait(t))
			assert.Equal(t, []string{"Q2_K kept w", "Q8_0 kept w"}, g.outcomes())
		},
	} {
		t.Run(name, func(t *testing.T) {
			redis.CLI("flushall")
			test(t, newBench(t, redis))
		})
	}
}

// A user of Redis with the rights that the documentation names is enough.
func TestRightsThatAreDocumented(t *testing.T) {
	program.NotShort(t)
	redis := servers.StartRedis(t, servers.RedisOptions{})
	redis.CLI(append([]string{"acl", "setuser", "fleet", "on", ">hunter2"}, rights(t)...)...)
	b := newBench(t, redis)
	b.config.URL = "redis://fleet:hunter2@" + redis.Addr
	b.coordinator = b.another()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go b.coordinator.Run(ctx, func() {})
	require.NoError(t, fleet.Check(t.Context(), b.config, redisconn.Secrets{}))
	_, stop := b.worker("first", untilCanceled)
	g := newCycle().by(t.Context(), b.coordinator)
	<-g.begun
	b.worker("second", quick)
	stop()
	require.NoError(t, g.wait(t))
	assert.Len(t, g.outcomes(), 2)
	require.NoError(t, b.coordinator.End(t.Context(), &g.cycle))
	require.Eventually(t, func() bool { s := b.coordinator.Status(); return s.Up && s.Count("h100") > 0 }, patience, 50*time.Millisecond)
	assert.Empty(t, strings.TrimSpace(redis.CLI("acl", "log")))
}

func TestRedisThatCannotHoldAFleet(t *testing.T) {
	program.NotShort(t)
	redis := servers.StartRedis(t, servers.RedisOptions{Args: []string{"--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"}})
	b := newBench(t, redis)
	err := fleet.Check(t.Context(), b.config, redisconn.Secrets{})
	assert.ErrorContains(t, err, "set maxmemory-policy noeviction")
	w, err := fleet.NewWorker(fleet.WorkerOptions{Config: b.config, Class: "h100", Host: "w", Do: quick, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	assert.ErrorContains(t, w.Run(t.Context(), true), "set maxmemory-policy noeviction")
}

// rights are those that the documentation gives a user of the prefix quant.
func rights(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/fleet.md")
	require.NoError(t, err)
	_, line, found := strings.Cut(string(page), "ACL SETUSER NAME on >PASSWORD ")
	require.True(t, found)
	line, _, _ = strings.Cut(line, "```")
	return strings.Fields(line)
}
