package dispatch

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/plan"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// knowing is an engine that knows the inputs.
type knowing struct {
	engine
	inputs func() (runner.Inputs, error)
}

func (k knowing) Inputs(context.Context, runner.Request) (runner.Inputs, error) { return k.inputs() }

// inputsOf a build.
func inputsOf(build int) runner.Inputs {
	return runner.Inputs{Source: "abc", Engine: runner.EngineID{Name: "llama.cpp", Build: build}}
}

// freshBench has one entry with two targets, decided now, and fresh for a week.
func freshBench(t *testing.T, inputs func() (runner.Inputs, error)) *bench {
	b := newBench(t, hour, "nightly")
	p := plan.Plan{Entries: []plan.Resolved{resolved("nightly", "nightly")}}
	p.Entries[0].Models[0].Targets = []string{"Q2_K", "Q8_0"}
	b.find = func() (*plan.Plan, error) { return &p, nil }
	b.change(func(c *Config) {
		c.Entries[0].FreshFor = model.Duration(7 * 24 * time.Hour)
		c.Entries[0].Runner = knowing{hour, inputs}
	})
	for _, target := range p.Entries[0].Models[0].Targets {
		before := inputsOf(11669)
		id := store.PairID{Model: "nightly", Target: target}
		b.memory.state.Pairs[id] = &store.Pair{PairID: id, Standing: verdict.Kept, Decided: &store.Decided{
			Finished: time.Now(), Verdict: verdict.Verdict{Outcome: verdict.Kept}, Inputs: &before,
		}}
	}
	return b
}

func same() (runner.Inputs, error) { return inputsOf(11669), nil }

func TestUnchangedPairsAreSkippedWhileTheyAreFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := freshBench(t, same)
		b.pass(7*24*time.Hour - time.Second)
		b.due("nightly")
		assert.Empty(t, b.memory.began, "there is no cycle")
		assert.Equal(t, uint64(2), b.skips("nightly", store.SkipUnchanged))
		assert.Nil(t, b.Status().Running)

		b.pass(time.Second)
		b.due("nightly")
		b.pass(time.Hour)
		assert.Equal(t, []string{"nightly", "nightly"}, b.memory.models(), "a week has passed")
		assert.Equal(t, uint64(2), b.skips("nightly", store.SkipUnchanged))
	})
}

func TestByHandAlwaysMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := freshBench(t, same)
		assert.NoError(t, b.RunNow("nightly", nil))
		b.pass(time.Hour)
		assert.Len(t, b.memory.models(), 2)
		assert.Zero(t, b.skips("nightly", store.SkipUnchanged))
	})
}

func TestOnlyThePairsThatAreNotFreshAreMeasured(t *testing.T) {
	id := store.PairID{Model: "nightly", Target: "Q8_0"}
	for name, spoil := range map[string]func(*store.Pair){
		"it failed since":         func(p *store.Pair) { p.Failed = &store.Failed{Reason: runner.ReasonTimeout} },
		"it is inconclusive":      func(p *store.Pair) { p.Decided.Verdict.Outcome = verdict.Inconclusive },
		"it was never decided":    func(p *store.Pair) { p.Decided = nil },
		"of an earlier version":   func(p *store.Pair) { p.Decided.Inputs = nil },
		"with another threshold":  func(p *store.Pair) { p.Decided.Inputs.Decision = map[string]string{"threshold": "0.2"} },
		"decided longer ago":      func(p *store.Pair) { p.Decided.Finished = p.Decided.Finished.Add(-8 * 24 * time.Hour) },
		"of another build":        func(p *store.Pair) { p.Decided.Inputs.Engine.Build = 11000 },
		"of another model's file": func(p *store.Pair) { p.Decided.Inputs.Source = "def" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := freshBench(t, same)
				spoil(b.memory.state.Pairs[id])
				b.due("nightly")
				b.pass(time.Hour)
				if assert.Len(t, b.memory.began, 1) {
					assert.Equal(t, []string{"Q8_0"}, b.memory.began[0].Targets)
				}
				assert.Equal(t, uint64(1), b.skips("nightly", store.SkipUnchanged))
			})
		})
	}
}

func TestWhatIsNotKnownIsMeasured(t *testing.T) {
	for name, inputs := range map[string]func() (runner.Inputs, error){
		"no inputs": func() (runner.Inputs, error) { return runner.Inputs{}, errors.New("the engine is missing") },
		"a defect":  func() (runner.Inputs, error) { panic("of the engine") },
		"an engine without a build": func() (runner.Inputs, error) {
			return runner.Inputs{Source: "abc", Engine: runner.EngineID{Name: "llama.cpp"}}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := freshBench(t, inputs)
				b.due("nightly")
				b.pass(time.Hour)
				assert.Len(t, b.memory.models(), 2)
				assert.Zero(t, b.skips("nightly", store.SkipUnchanged))
			})
		})
	}
}

func TestNothingIsAskedWhereNothingCouldBeFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := freshBench(t, func() (runner.Inputs, error) { t.Error("the inputs were asked for"); return inputsOf(11669), nil })
		b.change(func(c *Config) { c.Entries[0].FreshFor = 0 })
		b.Due(schedule.Fire{Entry: "nightly", Due: time.Now()})
		b.pass(time.Hour)
		assert.Len(t, b.memory.models(), 2)
	})
}
