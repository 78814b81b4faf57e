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
