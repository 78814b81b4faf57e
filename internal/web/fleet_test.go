package web_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/runner"
)

// onWorkers has a cycle that a worker runs, and one that waits for a worker.
func onWorkers(ratio float64) *dispatch.Status {
	return &dispatch.Status{
		Fleet: fleet.Status{Configured: true, Up: true},
		Remote: []*dispatch.Running{
			{
				Entry: "nightly", Cycle: 7, Model: "m", Targets: []string{"Q2_K"}, Class: "h100", Host: "gpu1", Models: 1, Ratio: ratio,
				Progress: runner.Progress{Operation: runner.OperationBenchmark, Detail: "round 3"},
			},
			{
				Entry: "nightly", Cycle: 8, Model: "m", Targets: []string{"Q2_K"}, Class: "l4", Waiting: true, Models: 1,
				Progress: runner.Progress{Operation: runner.OperationWait, Detail: "a worker of the class l4"},
			},
		},
	}
}

func TestLiveTellsTheProgressOfWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{status: onWorkers(0.25)}
		ctx, cancel := context.WithCancel(t.Context())
		next, done := listen(ctx, handlerOf(s.options(t)))
		first := parseEvent(t, next())
		assert.Nil(t, first.Running, "nothing runs here")
		require.Len(t, first.Cycles, 2)
		assert.EqualValues(t, 7, first.Cycles[0].Cycle)
		assert.Equal(t, 25, first.Cycles[0].Percent)
		assert.Equal(t, "waiting for a worker of the class l4", first.Cycles[1].Step)
		s.set(func() { s.status = onWorkers(0.5) })
		second := parseEvent(t, next())
		assert.Equal(t, 50, second.Cycles[0].Percent)
		assert.Equal(t, first.Token, second.Token, "progress alone needs no new page")
		cancel()
		<-done
	})
}

// Its page has progress, log and a button, like the page of a cycle on this host.
func TestPageOfACycleOnAWorker(t *testing.T) {
	s := &stage{status: onWorkers(0.25)}
	o := s.options(t)
	o.Flags.AdminAPI = true
	o.Store = &fakeStore{cycles: []store.Cycle{{ID: 7, Model: "m", Class: "h100", Targets: []string{"Q2_K"}}, {ID: 8, Model: "m", Class: "l4", Targets: []string{"Q2_K"}}}}
	o.CycleLog = func(uint64) (string, error) { return "level=INFO msg=\"on the worker\"\n", nil }
	running := ask(handlerOf(o), "GET", "/cycles/7").Body.String()
	assert.Contains(t, running, `data-cycle="7"`)
	assert.Contains(t, running, "25 %")
	assert.Contains(t, running, "round 3")
	assert.Contains(t, running, `action="/api/v1/cancel?cycle=7"`)
	assert.Contains(t, running, "<details open>")
	assert.Contains(t, running, "on the worker")
	assert.Contains(t, ask(handlerOf(o), "GET", "/cycles/8").Body.String(), "waiting for a worker of the class l4")

	page := ask(handlerOf(o), "GET", "/").Body.String()
	assert.Contains(t, page, `<li data-cycle="7">`)
	assert.Contains(t, page, `<li data-cycle="8">`)
	assert.Contains(t, page, `aria-label="Cancel cycle 8"`)
}

// A pair is measured on its worker, and not while it waits for one.
func TestPairsOfWorkersAreMeasuredWhereTheyAre(t *testing.T) {
	s := &stage{status: onWorkers(0.25)}
	pairs := map[store.PairID]*store.Pair{}
	for _, class := range []string{"h100", "l4"} {
		id := store.PairID{Model: "m", Target: "Q2_K", Class: class}
		pairs[id] = &store.Pair{PairID: id}
	}
	s.state = &store.State{Pairs: pairs}
	page := ask(handlerOf(s.options(t)), "GET", "/").Body.String()
	assert.Equal(t, 1, strings.Count(page, `<span class="badge measuring">measuring</span>`))
}
