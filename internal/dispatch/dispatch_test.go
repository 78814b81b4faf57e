package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	prom "github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// memory is a fake store.
type memory struct {
	mu      sync.Mutex
	full    bool // every write fails
	panics  bool // every Commit does
	state   store.State
	began   []store.Cycle
	begun   []bool // of attempts
	results []runner.Result
	// passedOver are targets, as "target for target".
	passedOver []string
	published  []store.Publication
	ended      []uint64
	skipped    map[store.Counter]uint64
	logs       map[uint64]string
}

var errFull = errors.New("no space left on device")

func (m *memory) write(f func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return errFull
	}
	f()
	return nil
}

func (m *memory) State() *store.State { return &m.state }

func (m *memory) BeginCycle(c store.Cycle) (id uint64, err error) {
	err = m.write(func() { m.began = append(m.began, c); id = uint64(len(m.began)) })
	return id, err
}

func (m *memory) Commit(_ uint64, r *runner.Result) (store.Committed, error) {
	return store.Committed{}, m.write(func() {
		if m.panics {
			panic("a defect of the store")
		}
		m.results = append(m.results, *r)
	})
}

func (m *memory) Cycle(uint64) (store.Cycle, []store.Record, bool, error) {
	return store.Cycle{}, nil, true, nil
}

func (m *memory) Published(_ uint64, all []store.Publication) error {
	return m.write(func() { m.published = append(m.published, all...) })
}

func (m *memory) EndCycle(id uint64, _ map[runner.Operation]time.Duration) error {
	return m.write(func() { m.ended = append(m.ended, id) })
}

func (m *memory) PassOver(_ uint64, by string, targets []string) error {
	return m.write(func() {
		for _, target := range targets {
			m.passedOver = append(m.passedOver, target+" for "+by)
		}
	})
}

func (m *memory) PutLog(cycle uint64, text string) error {
	return m.write(func() { m.logs[cycle] = text })
}

func (m *memory) Log(cycle uint64) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.logs[cycle], nil
}

func (m *memory) CountSkipped(entry string, reason store.SkipReason, n uint64) error {
	return m.write(func() { m.skipped[store.Counter{Kind: store.CountSkipped, Entry: entry, By: string(reason)}] += n })
}

func (m *memory) SetAttempt(_ uint64, _ int, begun bool) error {
	return m.write(func() { m.begun = append(m.begun, begun) })
}

// attempts are whether a worker had begun the cycle, at each attempt.
func (m *memory) attempts() []bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.begun
}

// endings are the cycles that have ended.
func (m *memory) endings() []uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.ended)
}

func (m *memory) Withdraw(uint64, []string, store.SkipReason) error { return m.write(func() {}) }

func (m *memory) Hash(model.FileID) (string, bool) { return "", false }

func (m *memory) setFull(full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = full
}

// models of the results, in order.
func (m *memory) models() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for _, r := range m.results {
		names = append(names, r.Model)
	}
	return names
}

func (m *memory) result(i int) runner.Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.results[i]
}

// engine is a Runner whose cycles take an hour, unless a test wants something else.
type engine func(ctx context.Context, req runner.Request, emit func(runner.Result))

func (e engine) Run(ctx context.Context, req runner.Request, emit func(runner.Result)) {
	e(ctx, req, emit)
}

// Inputs are not known, unless a test says so.
func (e engine) Inputs(context.Context, runner.Request) (runner.Inputs, error) {
	return runner.Inputs{}, errors.New("nobody knows")
}

func hour(ctx context.Context, req runner.Request, emit func(runner.Result)) {
	var failure *runner.Failure
	select {
	case <-time.After(time.Hour):
	case <-ctx.Done():
		failure = runner.AsFailure(ctx.Err())
	}
	for _, target := range req.Targets {
		r := runner.Result{Model: req.Model.Name, TargetFormat: target, Finished: time.Now(), Failure: failure}
		if failure == nil {
			r.Verdict = &verdict.Verdict{Outcome: verdict.Kept, Phases: []verdict.PhaseVerdict{{Phase: verdict.Generation}}}
		}
		emit(r)
	}
}

// bench is a Dispatcher under test, in a bubble of synctest.
type bench struct {
	t *testing.T
	*Dispatcher
	memory *memory
	find   func() (*model.Plan, error)
	stop   func()
}

// newBench has an entry of each name, with one model of the same name.
func newBench(t *testing.T, run engine, names ...string) *bench {
	b := &bench{t: t, memory: &memory{skipped: map[store.Counter]uint64{}, logs: map[uint64]string{}, state: store.State{Pairs: map[store.PairID]*store.Pair{}}}}
	b.Dispatcher = New(b.memory, cycle.NewLog(slog.DiscardHandler))
	c := Config{Runners: map[string]cycle.Runner{}}
	var p model.Plan
	for _, name := range names {
		c.Entries = append(c.Entries, config.Entry{Entry: schedule.Entry{Name: name}, Overlap: config.Forbid, Settings: config.Settings{Threshold: 0.12}})
		c.Runners[name] = run
		p.Entries = append(p.Entries, resolved(name, name))
	}
	b.find = func() (*model.Plan, error) { return &p, nil }
	c.Models = finder{b}
	c.Engine = usable
	b.Configure(c, &p)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx)
	}()
	b.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(b.stop)
	return b
}

// finder is the Models of a bench, which a test exchanges.
type finder struct{ *bench }

func (f finder) Plan(map[string]string) (*model.Plan, error) { return f.find() }

// probe is an Engine.
type probe func(context.Context) (runner.EngineInfo, error)

func (p probe) Probe(ctx context.Context) (runner.EngineInfo, error) { return p(ctx) }

// usable is an Engine that is always there.
var usable = probe(func(context.Context) (runner.EngineInfo, error) { return runner.EngineInfo{Name: "fake"}, nil })

func resolved(entry string, models ...string) model.Resolved {
	r := model.Resolved{Entry: config.Entry{Entry: schedule.Entry{Name: entry}}}
	for _, name := range models {
		r.Models = append(r.Models, model.Planned{Model: model.Model{Name: name}, Targets: []string{"Q2_K"}})
	}
	return r
}

// change applies a change to the configuration as a reload does.
func (b *bench) change(f func(*Config)) {
	b.mu.Lock()
	c, p := b.config, b.plan
	b.mu.Unlock()
	c.Entries = append([]config.Entry(nil), c.Entries...)
	f(&c)
	b.Configure(c, p)
}

func (b *bench) due(entry string) {
	b.Due(schedule.Fire{Entry: entry, Due: time.Now(), Deadline: time.Now().Add(90 * time.Minute)})
	synctest.Wait()
}

// pass lets time pass.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

func (b *bench) skips(entry string, reason store.SkipReason) uint64 {
	b.memory.mu.Lock()
	defer b.memory.mu.Unlock()
	return b.memory.skipped[store.Counter{Kind: store.CountSkipped, Entry: entry, By: string(reason)}]
}

func TestOneAtATimeInTheOrderOfTheirDueTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a", "b", "c")
		b.due("a")
		later := time.Now().Add(time.Minute)
		b.Due(schedule.Fire{Entry: "c", Due: later})
		b.Due(schedule.Fire{Entry: "b", Due: later.Add(-time.Second)})
		synctest.Wait()
		status := b.Status()
		assert.Equal(t, "a", status.Running.Entry)
		require.Len(t, status.Queue, 2)
		assert.Equal(t, "b", status.Queue[0].Entry, "what was due first is first")
		assert.True(t, status.Entries[0].Running)
		assert.Equal(t, 1, status.Entries[1].Queued)
		b.pass(3 * time.Hour)
		assert.Equal(t, []string{"a", "b", "c"}, b.memory.models())
		assert.Nil(t, b.Status().Running)
	})
}

func TestOverlap(t *testing.T) {
	for overlap, runs := range map[config.Overlap]int{config.Forbid: 1, config.Queue: 2} {
		t.Run(string(overlap), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, hour, "a")
				b.change(func(c *Config) { c.Entries[0].Overlap = overlap })
				for range 4 {
					b.due("a")
				}
				assert.EqualValues(t, 4-runs, b.skips("a", store.SkipOverlap))
				b.pass(4 * time.Hour)
				assert.Len(t, b.memory.models(), runs)
			})
		})
	}
}

func TestWhatWaitsAndIsDueAgainWaitsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a", "b")
		b.due("a")
		b.due("b")
		b.due("b")
		assert.Len(t, b.Status().Queue, 1)
		assert.EqualValues(t, 1, b.skips("b", store.SkipOverlap))
	})
}

func TestWhatWaitedTooLongIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a", "b", "c")
		b.due("a")
		b.due("b")
		b.due("c") // its turn would come after two hours, and 90 minutes are allowed
		b.pass(5 * time.Hour)
		assert.Equal(t, []string{"a", "b"}, b.memory.models())
		assert.EqualValues(t, 1, b.skips("c", store.SkipDeadline))
	})
}

func TestWhatIsTooLateDoesNotCostTheNextFire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(ctx context.Context, req runner.Request, emit func(runner.Result)) {
			hour(ctx, req, func(runner.Result) {})
			hour(ctx, req, emit)
		}, "a", "b")
		b.due("a")
		b.due("b")
		b.pass(91 * time.Minute)
		b.due("b")
		assert.EqualValues(t, 1, b.skips("b", store.SkipDeadline))
		assert.Zero(t, b.skips("b", store.SkipOverlap))
		b.pass(3 * time.Hour)
		assert.Equal(t, []string{"a", "b"}, b.memory.models())
	})
}

func TestAPanicFailsThatCycleOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(ctx context.Context, req runner.Request, emit func(runner.Result)) {
			if req.Model.Name == "a" {
				panic("a defect")
			}
			hour(ctx, req, emit)
		}, "a", "b")
		b.due("a")
		b.due("b")
		b.due("a")
		b.pass(3 * time.Hour)
		require.Equal(t, []string{"a", "b", "a"}, b.memory.models(), "every pair of the cycle has its failure, and the entry runs again")
		assert.Equal(t, runner.ReasonInternal, b.memory.result(0).Failure.Reason)
		assert.ErrorContains(t, b.memory.result(0).Failure, "a defect")
		assert.Equal(t, []uint64{1, 2, 3}, b.memory.ended)
	})
}

func TestATimeoutEndsTheRunAndTheNextGoesOnWhereItEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a")
		b.find = func() (*model.Plan, error) {
			return &model.Plan{Entries: []model.Resolved{resolved("a", "m1", "m2", "m3", "m4")}}, nil
		}
		b.change(func(c *Config) { c.Entries[0].Timeout = prom.Duration(90 * time.Minute) })
		b.due("a")
		b.pass(2 * time.Hour)
		require.Equal(t, []string{"m1", "m2"}, b.memory.models())
		failure := b.memory.result(1).Failure
		assert.Equal(t, runner.ReasonTimeout, failure.Reason)
		assert.ErrorContains(t, failure, "1h30m")
		assert.Nil(t, b.Status().Running)

		b.memory.state.Pairs[store.PairID{Model: "m1", Target: "Q2_K"}] = &store.Pair{Decided: &store.Record{Result: runner.Result{Finished: b.memory.result(0).Finished}}}
		b.memory.state.Pairs[store.PairID{Model: "m2", Target: "Q2_K"}] = &store.Pair{Failed: &store.Failed{Finished: b.memory.result(1).Finished}}
		b.due("a")
		b.pass(2 * time.Hour)
		assert.Equal(t, []string{"m1", "m2", "m3", "m4"}, b.memory.models(), "the ones that were not reached come first")
	})
}

func TestWhatIsPassedOverIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rules []choice.Rule
		b := newBench(t, func(ctx context.Context, req runner.Request, emit func(runner.Result)) {
			rules = append(rules, req.Choose)
			targets := req.Targets
			req.Targets = targets[:1]
			hour(ctx, req, emit)
			req.PassedOver(targets[0], targets[1:2])
			panic("a defect")
		}, "a")
		r := resolved("a", "m1", "m2")
		for i := range r.Models {
			r.Models[i].Targets = []string{"Q2_K", "Q8_0", "Q6_K"}
		}
		r.Models[0].Choose = choice.Smallest // and another entry chooses a format of m2
		b.find = func() (*model.Plan, error) {
			return &model.Plan{Entries: []model.Resolved{r}, Conflicts: []model.Conflict{{Model: "m2", First: "b", Second: "a"}}}, nil
		}
		b.change(func(c *Config) { c.Entries[0].Choose = choice.Smallest })
		b.due("a")
		b.pass(3 * time.Hour)
		assert.Equal(t, []choice.Rule{choice.Smallest, choice.None}, rules)
		require.Len(t, b.memory.began, 2)
		assert.Equal(t, choice.Smallest, b.memory.began[0].Choose)
		assert.Equal(t, []string{"Q2_K", "Q8_0", "Q6_K"}, b.memory.began[0].Candidates)
		assert.Empty(t, b.memory.began[1].Choose)
		assert.Equal(t, []string{"Q8_0 for Q2_K", "Q8_0 for Q2_K"}, b.memory.passedOver)
		require.Equal(t, []string{"m1", "m1", "m2", "m2"}, b.memory.models())
		assert.Equal(t, "Q6_K", b.memory.result(1).TargetFormat, "what is passed over does not fail")
		assert.Equal(t, runner.ReasonInternal, b.memory.result(1).Failure.Reason)
		assert.Zero(t, b.skips("a", store.SkipConflict), "both pairs are decided")
	})
}

func TestAFullDiskLosesNothingAndHoldsFurtherCycles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a", "b")
		b.find = func() (*model.Plan, error) {
			return &model.Plan{Entries: []model.Resolved{resolved("a", "m1", "m2"), resolved("b", "m3")}}, nil
		}
		b.due("a")
		b.memory.setFull(true)
		b.pass(time.Hour)
		assert.Empty(t, b.memory.models())
		assert.Equal(t, "a", b.Status().Running.Entry, "the run waits for room")
		for range 50 {
			b.due("a")
		}
		b.Missed("b", time.Now())
		b.pass(10 * time.Minute)
		assert.Len(t, b.memory.began, 1, "a cycle that cannot be recorded does not begin")

		b.memory.setFull(false)
		b.pass(15 * time.Second)
		assert.Equal(t, []string{"m1"}, b.memory.models())
		assert.EqualValues(t, 50, b.skips("a", store.SkipOverlap))
		assert.EqualValues(t, 1, b.skips("b", store.SkipDeadline))
		b.pass(time.Hour)
		assert.Equal(t, []string{"m1", "m2"}, b.memory.models(), "and goes on")
	})
}

func TestAFullDiskDoesNotHoldUpTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a")
		b.memory.setFull(true)
		b.due("a")
		b.stop()
		assert.Empty(t, b.memory.began)
	})
}

func TestAPanicOfTheStoreEndsNoProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a", "b")
		b.memory.panics = true
		b.due("a")
		b.pass(time.Hour)
		b.memory.mu.Lock()
		b.memory.panics = false
		b.memory.mu.Unlock()
		b.due("b")
		b.pass(time.Hour)
		assert.Equal(t, []string{"b"}, b.memory.models())
	})
}

func TestReloadLetsTheRunGoOnAndDropsWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a", "b", "c")
		b.due("a")
		b.due("b")
		b.due("c")
		b.change(func(c *Config) { c.Entries = c.Entries[2:] })
		b.pass(3 * time.Hour)
		assert.Equal(t, []string{"a", "c"}, b.memory.models())
		b.due("a")
		assert.Nil(t, b.Status().Running)
	})
}

// An entry that is taken out of robfig/cron and put in again has two runs at once.
func TestReloadForgetsNothingOfARunningEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a")
		b.due("a")
		b.change(func(*Config) {})
		b.due("a")
		assert.EqualValues(t, 1, b.skips("a", store.SkipOverlap))

		var entries []config.Entry
		b.change(func(c *Config) { entries, c.Entries = c.Entries, nil })
		b.change(func(c *Config) { c.Entries = entries })
		b.due("a")
		assert.EqualValues(t, 2, b.skips("a", store.SkipOverlap))
		b.pass(3 * time.Hour)
		assert.Equal(t, []string{"a"}, b.memory.models())
	})
}

func TestReloadThatSuspendsDropsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a", "b", "c")
		b.due("a")
		b.due("b")
		require.NoError(t, b.RunNow("c", nil))
		b.change(func(c *Config) { c.Entries[1].Suspend, c.Entries[2].Suspend = true, true })
		b.pass(4 * time.Hour)
		assert.Equal(t, []string{"a", "c"}, b.memory.models(), "what somebody asked for runs all the same")
	})
}

func TestReloadWhileModelsAreLookedForIsNotUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a")
		before := &model.Plan{Entries: []model.Resolved{resolved("a", "old")}}
		b.find = func() (*model.Plan, error) {
			time.Sleep(time.Minute) // of the bubble: a large folder
			return before, nil
		}
		b.due("a")
		after := &model.Plan{Entries: []model.Resolved{resolved("a", "new")}}
		b.mu.Lock()
		c := b.config
		b.mu.Unlock()
		b.Configure(c, after)
		b.pass(2 * time.Minute)
		assert.Same(t, after, b.Plan())
		assert.Equal(t, "new", b.Status().Running.Model)
	})
}

func TestWhatIsDueIsNotSwallowedByARunOfSomeModels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a", "b")
		b.find = func() (*model.Plan, error) {
			return &model.Plan{Entries: []model.Resolved{resolved("a", "m1", "m2"), resolved("b", "m3")}}, nil
		}
		first, err := b.find()
		require.NoError(t, err)
		b.mu.Lock()
		b.plan = first
		b.mu.Unlock()
		require.NoError(t, b.RunNow("a", []string{"m2"}))
		synctest.Wait()
		b.due("a") // while some of it runs: it waits
		b.pass(4 * time.Hour)
		assert.Equal(t, []string{"m2", "m1", "m2"}, b.memory.models())

		b.due("b")
		require.NoError(t, b.RunNow("a", []string{"m2"}))
		b.due("a") // while some of it waits: that becomes all of it
		b.pass(5 * time.Hour)
		assert.Equal(t, []string{"m2", "m1", "m2", "m3", "m1", "m2"}, b.memory.models())
		assert.Zero(t, b.skips("a", store.SkipOverlap))
	})
}

func TestTheStopCancelsTheCycleAndKeepsItsResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a", "b")
		b.due("a")
		b.due("b")
		b.stop()
		require.Equal(t, []string{"a"}, b.memory.models(), "nothing new begins")
		assert.Equal(t, runner.ReasonCanceled, b.memory.result(0).Failure.Reason)
		assert.Equal(t, []uint64{1}, b.memory.ended)
	})
}

func TestTheEngineIsLookedForUntilItIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a")
		missing := runner.Failf(runner.ReasonEngineMissing, "llama-bench is not on PATH")
		var mu sync.Mutex
		b.change(func(c *Config) {
			c.Engine = probe(func(context.Context) (runner.EngineInfo, error) {
				mu.Lock()
				defer mu.Unlock()
				if missing != nil {
					return runner.EngineInfo{}, missing
				}
				return runner.EngineInfo{Name: "llama.cpp", Build: 7}, nil
			})
		})
		synctest.Wait()
		engine := b.Status().Engine
		assert.False(t, engine.Up)
		assert.Equal(t, "llama-bench is not on PATH", engine.Err)
		mu.Lock()
		missing = nil
		mu.Unlock()
		b.pass(lookEvery)
		engine = b.Status().Engine
		assert.True(t, engine.Up)
		assert.Equal(t, 7, engine.Info.Build)
		assert.Empty(t, engine.Err)

		mu.Lock()
		missing = runner.Failf(runner.ReasonEngineMissing, "llama-bench is being updated")
		mu.Unlock()
		b.pass(lookEvery)
		assert.False(t, b.Status().Engine.Up)
		mu.Lock()
		missing = nil
		mu.Unlock()
		b.due("a")
		assert.NotNil(t, b.Status().Running)
		assert.True(t, b.Status().Engine.Up, "at the latest when it is to work")
	})
}

func TestByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a")
		b.find = func() (*model.Plan, error) {
			return &model.Plan{Entries: []model.Resolved{resolved("a", "m1", "m2", "m3")}}, nil
		}
		found, err := b.find()
		require.NoError(t, err)
		b.mu.Lock()
		b.plan = found
		b.mu.Unlock()
		require.ErrorContains(t, b.RunNow("other", nil), `"other"`)
		require.ErrorContains(t, b.RunNow("a", []string{"m9"}), `"m9"`)
		changes, stop := b.Watch()
		defer stop()
		require.NoError(t, b.RunNow("a", []string{"m2", "m3"}))
		synctest.Wait()
		require.Len(t, changes, 1, "watchers are notified")
		require.ErrorContains(t, b.RunNow("a", []string{"m1"}), "is running already")
		assert.Zero(t, b.skips("a", store.SkipOverlap), "what was due counts, not what was asked for")

		require.Error(t, b.Cancel(7))
		require.NoError(t, b.Cancel(b.Status().Running.Cycle))
		b.pass(time.Minute)
		assert.Equal(t, []string{"m2"}, b.memory.models())
		assert.Equal(t, runner.ReasonCanceled, b.memory.result(0).Failure.Reason)
		require.ErrorContains(t, b.memory.result(0).Failure, "somebody asked")
		b.pass(time.Hour)
		assert.Equal(t, []string{"m2", "m3"}, b.memory.models(), "the run goes on")
	})
}

func TestTheLogOfACycleIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *bench
		b = newBench(t, func(ctx context.Context, req runner.Request, emit func(runner.Result)) {
			logger := slog.New(b.log).With("tool", "llama-bench")
			logger.Debug("said something of " + req.Model.Name)
			hour(ctx, req, emit)
		}, "a", "b")
		slog.New(b.log).Info("before everything")
		b.due("a")
		running, err := b.CycleLog(1)
		require.NoError(t, err)
		assert.Contains(t, running, "level=DEBUG msg=\"said something of a\" tool=llama-bench", "while it runs, too")
		b.due("b")
		b.pass(3 * time.Hour)
		for cycle, name := range map[uint64]string{1: "a", 2: "b"} {
			log, err := b.CycleLog(cycle)
			require.NoError(t, err)
			assert.Contains(t, log, "something of "+name)
			assert.Contains(t, log, "msg=decision ")
			assert.Equal(t, 1, strings.Count(log, "something of"))
			assert.NotContains(t, log, "before everything")
		}
	})
}

func TestConflictsAndProblemsOfTheModels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hour, "a", "b")
		first := b.Plan()
		second := &model.Plan{
			Entries: []model.Resolved{first.Entries[0], {Entry: config.Entry{Entry: schedule.Entry{Name: "b"}}, Unresolved: []error{errors.New("no such model")}}},
			Conflicts: []model.Conflict{
				{Model: "x", Target: "Q2_K", First: "a", Second: "b"},
				{Model: "y", Target: "Q2_K", First: "a", Second: "b"},
			},
		}
		b.find = func() (*model.Plan, error) { return second, nil }
		b.due("b")
		assert.EqualValues(t, 2, b.skips("b", store.SkipConflict))
		assert.Zero(t, b.skips("a", store.SkipConflict))
		assert.Same(t, second, b.Plan())
		assert.Len(t, b.Status().Entries[1].Problems, 3)

		b.find = func() (*model.Plan, error) { return nil, errors.New("input/output error") }
		b.due("a")
		b.pass(time.Hour)
		require.Len(t, b.Status().Entries[0].Problems, 1)
		assert.Contains(t, b.Status().Entries[0].Problems[0], "input/output error")
		b.find = func() (*model.Plan, error) { panic("a defect in reading headers") }
		b.due("a")
		b.pass(time.Hour)
		assert.Equal(t, []string{"a", "a"}, b.memory.models(), "the models of before")
	})
}

func TestStatusFollowsTheCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		steps := make(chan runner.Progress)
		b := newBench(t, func(ctx context.Context, req runner.Request, emit func(runner.Result)) {
			for p := range steps {
				req.Progress(p)
			}
			hour(ctx, req, emit)
		}, "a")
		b.due("a")
		for _, step := range []struct {
			runner.Progress
			ratio float64
		}{
			{runner.Progress{Operation: runner.OperationWait, Detail: "another measurement"}, 0},
			{runner.Progress{Operation: runner.OperationIsolate, Done: 0.5}, 0},
			{runner.Progress{Operation: runner.OperationQuantize, Done: 0.5}, 0.1},
			{runner.Progress{Operation: runner.OperationBenchmark, Done: 0.5}, 0.6},
			{runner.Progress{Operation: runner.OperationBenchmark, Done: 2}, 1},
			{runner.Progress{Operation: runner.OperationBenchmark, Done: 0.25}, 0.4}, // the look decided nothing
		} {
			steps <- step.Progress
			synctest.Wait()
			running := b.Status().Running
			assert.InDelta(t, step.ratio, running.Ratio, 1e-9)
			assert.Equal(t, step.Progress, running.Progress)
			assert.EqualValues(t, 1, running.Cycle)
			assert.Equal(t, "a", running.Model)
		}
		close(steps)
		b.pass(time.Hour)
	})
}
