package dispatch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/runner"
)

// workers is a fake Fleet.
type workers struct {
	give func(ctx context.Context, order fleet.Order, request runner.Request, emit func(runner.Result)) error

	mu        sync.Mutex
	given     []fleet.Order
	ended     int
	takeBacks []error // why the next calls of TakeBack fail
}

func (w *workers) Give(ctx context.Context, order fleet.Order, request runner.Request, emit func(runner.Result)) error {
	w.mu.Lock()
	w.given = append(w.given, order)
	w.mu.Unlock()
	return w.give(ctx, order, request, emit)
}

func (w *workers) End(context.Context, *store.Cycle) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended++
	return nil
}

func (w *workers) TakeBack(context.Context, *store.Cycle) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.takeBacks) > 0 {
		err := w.takeBacks[0]
		w.takeBacks = w.takeBacks[1:]
		return false, err
	}
	return true, nil
}

func (w *workers) Status() fleet.Status { return fleet.Status{Configured: true} }

func (w *workers) endings() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended
}

func (w *workers) orders() []fleet.Order {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.given
}

// newRemoteBench has entries whose cycles of the model m are for workers of the class h100.
func newRemoteBench(t *testing.T, w *workers, names ...string) *bench {
	b := newBench(t, hour, names...)
	b.change(func(c *Config) {
		for i := range c.Entries {
			c.Entries[i].On = []string{"h100"}
		}
		c.Fleet = w
	})
	b.find = func() (*model.Plan, error) {
		var p model.Plan
		for _, name := range names {
			r := resolved(name, "m")
			r.Models[0].Class = "h100"
			p.Entries = append(p.Entries, r)
		}
		return &p, nil
	}
	return b
}

// untilItEnds is a worker that begins no cycle.
func untilItEnds(ctx context.Context, _ fleet.Order, _ runner.Request, _ func(runner.Result)) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// A disk that is full leaves the only copy of results in Redis.
func TestRedisKeepsResultsUntilTheyAreStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		w := &workers{give: func(ctx context.Context, _ fleet.Order, request runner.Request, emit func(runner.Result)) error {
			<-let
			hour(ctx, request, emit)
			return nil
		}}
		b := newRemoteBench(t, w, "a")
		b.due("a")
		b.memory.setFull(true)
		close(let)
		b.pass(2 * time.Hour)
		assert.Zero(t, w.endings())
		assert.Len(t, b.Status().Remote, 1)
		b.memory.setFull(false)
		b.pass(time.Minute)
		assert.Equal(t, 1, w.endings())
		assert.Empty(t, b.Status().Remote)
		assert.Equal(t, []string{"m"}, b.memory.models())
	})
}

func TestACycleThatCannotBeGivenIsTriedAgainAtIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &workers{give: func(context.Context, fleet.Order, runner.Request, func(runner.Result)) error {
			return errors.New("the attempt cannot be stored")
		}}
		b := newRemoteBench(t, w, "a")
		b.due("a")
		require.NoError(t, b.Cancel(1))
		b.pass(time.Minute)
		assert.LessOrEqual(t, len(w.orders()), 7)
	})
}

func TestACycleOfAnotherEntryThatWorkersHaveIsNotDoubled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &workers{give: untilItEnds}
		b := newRemoteBench(t, w, "before", "renamed")
		b.due("before")
		b.due("renamed")
		assert.Len(t, w.orders(), 1)
		assert.EqualValues(t, 1, b.skips("renamed", store.SkipOverlap))
	})
}

func TestRedisIsAwayWhileACycleIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("connection refused")
		w := &workers{give: untilItEnds, takeBacks: []error{away, away}}
		b := newRemoteBench(t, w, "a")
		b.due("a")
		b.change(func(c *Config) { c.Entries[0].Threshold = 0.5 })
		b.pass(time.Minute)
		orders := w.orders()
		require.Len(t, orders, 2)
		assert.Equal(t, orders[0].Cycle.Attempt+1, orders[1].Cycle.Attempt, "it is given again when Redis is back")
	})
}

// The deadline is for cycles that no worker has begun, however often they were given, and in
// whichever process.
func TestDeadlineOfACycleThatWasGivenAgainHoldsInTheNextProcess(t *testing.T) {
	for _, begun := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := &workers{give: untilItEnds}
			b := newRemoteBench(t, w, "a")
			targets := []string{"Q2_K"}
			b.resume(t.Context(), store.Cycle{ID: 9, Entry: "a", Model: "m", Class: "h100", Targets: targets, Undecided: targets, Attempt: 2, Begun: begun})
			b.pass(time.Second)
			require.Len(t, w.orders(), 1)
			assert.Equal(t, begun, w.orders()[0].Started)
		})
	}
}

// What is given again after a reload has not been begun by that.
func TestAReloadBeginsNoCycle(t *testing.T) {
	for _, begun := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := &workers{give: func(ctx context.Context, order fleet.Order, request runner.Request, emit func(runner.Result)) error {
				if begun {
					order.Begun("gpu1")
					order.Begun("") // it has died
				}
				return untilItEnds(ctx, order, request, emit)
			}}
			b := newRemoteBench(t, w, "a")
			b.due("a")
			b.change(func(c *Config) { c.Entries[0].Threshold = 0.5 })
			b.pass(time.Minute)
			require.Len(t, w.orders(), 2)
			assert.Equal(t, []bool{begun}, b.memory.attempts())
		})
	}
}

// A reload that comes while a run is prepared applies to its cycles, too.
func TestAReloadWhileARunIsPrepared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var thresholds []float64
		w := &workers{give: func(ctx context.Context, order fleet.Order, request runner.Request, emit func(runner.Result)) error {
			if ctx.Err() == nil {
				thresholds = append(thresholds, request.Threshold)
			}
			return untilItEnds(ctx, order, request, emit)
		}}
		b := newRemoteBench(t, w, "a")
		p, err := b.find()
		require.NoError(t, err)
		b.Configure(b.config, p)
		reload := sync.OnceFunc(func() { b.change(func(c *Config) { c.Entries[0].Threshold = 0.5 }) })
		b.find = func() (*model.Plan, error) { reload(); return p, nil }
		b.due("a")
		b.pass(time.Minute)
		assert.Equal(t, []float64{0.5}, thresholds)
		b.change(func(*Config) {})
		b.pass(time.Minute)
		assert.Len(t, thresholds, 1, "nothing has changed")
	})
}

// What is decided of a cycle stays when the rest of it is taken back, and the cycle ends.
func TestACycleWithResultsEndsWhenItsEntryIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &workers{give: untilItEnds}
		b := newRemoteBench(t, w, "a")
		b.resume(t.Context(), store.Cycle{ID: 9, Entry: "a", Model: "m", Class: "h100", Targets: []string{"Q2_K", "Q8_0"}, Undecided: []string{"Q8_0"}, Attempt: 2})
		b.pass(time.Second)
		b.change(func(c *Config) { c.Entries = nil })
		b.pass(time.Second)
		assert.Empty(t, b.Status().Remote)
		assert.Equal(t, []uint64{9}, b.memory.endings())
	})
}

// A pair that fails on a worker is left alone as one of this host is.
func TestPairsThatWouldFailAgainOnAWorkerAreLeftAlone(t *testing.T) {
	before := inputsOf(11669)
	crashed := store.Failed{Reason: runner.ReasonCrash, Times: 2, Inputs: &before}
	missing := store.Failed{Reason: runner.ReasonBadModel, Times: 1, Error: "there is no model"}
	for name, test := range map[string]struct {
		failed *store.Failed
		on     fleet.Inputs
		edit   func(*bench)
		asked  bool
		rests  []string
	}{
		"it has never failed":  {},
		"a crash":              {failed: &store.Failed{Reason: runner.ReasonCrash, Times: 1, Inputs: &before}},
		"the same crash twice": {failed: &crashed, on: fleet.Inputs{Inputs: before}, asked: true, rests: []string{"Q2_K"}},
		"by another build":     {failed: &crashed, on: fleet.Inputs{Inputs: inputsOf(11700)}, asked: true},
		"no model there":       {failed: &missing, on: fleet.Inputs{Cannot: "there is no model"}, asked: true, rests: []string{"Q2_K"}},
		"the model has come":   {failed: &missing, on: fleet.Inputs{Inputs: before}, asked: true},
		"another one is wrong": {failed: &missing, on: fleet.Inputs{Cannot: "it has 7 bytes"}, asked: true},
		"of this host, unreadable": {failed: &crashed, on: fleet.Inputs{Inputs: before}, asked: true, rests: []string{"Q2_K"}, edit: func(b *bench) {
			b.model().Err = errors.New("the header is damaged, here")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := false
				var rests []string
				w := &workers{give: func(_ context.Context, order fleet.Order, _ runner.Request, _ func(runner.Result)) error {
					if asked = order.Fresh != nil; asked {
						rests = order.Fresh(test.on)
					}
					return fleet.ErrFresh
				}}
				b := newRemoteBench(t, w, "a")
				p, err := b.find()
				require.NoError(t, err)
				b.find = func() (*model.Plan, error) { return p, nil }
				if test.edit != nil {
					test.edit(b)
				}
				if failed := test.failed; failed != nil {
					failed.Finished = time.Now()
					id := store.PairID{Model: "m", Target: "Q2_K", Class: "h100"}
					b.memory.state.Pairs[id] = &store.Pair{PairID: id, Failed: failed}
				}
				b.due("a")
				b.pass(time.Second)
				assert.Equal(t, test.asked, asked)
				assert.Equal(t, test.rests, rests)
			})
		})
	}
}

// Whether a run may wait for an earlier one of its entry is asked of cycles on workers, too.
func TestOverlapOfAnEntryOnWorkers(t *testing.T) {
	for overlap, skipped := range map[config.Overlap]uint64{config.Forbid: 1, config.Queue: 0} {
		t.Run(string(overlap), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &workers{give: func(ctx context.Context, _ fleet.Order, request runner.Request, emit func(runner.Result)) error {
					hour(ctx, request, emit)
					return nil
				}}
				b := newRemoteBench(t, w, "a")
				b.change(func(c *Config) { c.Entries[0].Overlap = overlap })
				b.due("a")
				b.due("a")
				assert.Len(t, w.orders(), 1, "one at a time")
				assert.Equal(t, skipped, b.skips("a", store.SkipOverlap))
				b.pass(2 * time.Hour)
				assert.Len(t, w.orders(), int(2-skipped))
			})
		})
	}
}
