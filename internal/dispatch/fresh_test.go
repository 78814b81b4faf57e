package dispatch

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	prom "github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/quality"
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
	p := model.Plan{Entries: []model.Resolved{resolved("nightly", "nightly")}}
	p.Entries[0].Models[0].Targets = []string{"Q2_K", "Q8_0"}
	b.find = func() (*model.Plan, error) { return &p, nil }
	b.change(func(c *Config) {
		c.Entries[0].FreshFor = prom.Duration(7 * 24 * time.Hour)
		c.Runners = map[string]cycle.Runner{"nightly": knowing{hour, inputs}}
	})
	for _, target := range p.Entries[0].Models[0].Targets {
		before := inputsOf(11669)
		id := store.PairID{Model: "nightly", Target: target}
		b.memory.state.Pairs[id] = &store.Pair{PairID: id, Standing: verdict.Kept, Decided: &store.Record{Result: runner.Result{
			Finished: time.Now(), Verdict: &verdict.Verdict{Outcome: verdict.Kept}, Inputs: &before,
		}}}
	}
	return b
}

func TestAPairWhoseRecipeChangedIsNotFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := freshBench(t, func() (runner.Inputs, error) {
			inputs := inputsOf(11669)
			inputs.ByTarget = map[string]map[string]string{"Q8_0": {"recipe.args": "[--pure]"}}
			return inputs, nil
		})
		b.pass(time.Hour)
		b.due("nightly")
		if assert.Len(t, b.memory.began, 1) {
			assert.Equal(t, []string{"Q8_0"}, b.memory.began[0].Targets)
		}
	})
}

// model is the one that the next run will find.
func (b *bench) model() *model.Planned {
	p, err := b.find()
	assert.NoError(b.t, err)
	return &p.Entries[0].Models[0]
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

func TestPairsThatWouldFailAgainAreLeftAlone(t *testing.T) {
	damaged := errors.New("the header is damaged")
	dependsOn := ""
	early := func(f *store.Failed) { // before its inputs were known
		f.Reason, f.Inputs, f.DependsOn, f.Engine = runner.ReasonQuantize, nil, dependsOn, inputsOf(11669).Engine
	}
	for name, test := range map[string]struct {
		failed  func(*store.Failed)
		change  func(*model.Planned)
		skipped bool
		by      func() (runner.Inputs, error)
	}{
		"a bad model":                         {skipped: true},
		"a crash":                             {failed: func(f *store.Failed) { f.Reason = runner.ReasonCrash }},
		"the same crash twice":                {failed: func(f *store.Failed) { f.Reason, f.Times = runner.ReasonCrash, 2 }, skipped: true},
		"no space, however often":             {failed: func(f *store.Failed) { f.Reason, f.Times = runner.ReasonNoSpace, 9 }},
		"of an earlier version":               {failed: func(f *store.Failed) { f.Times = 0 }},
		"a week ago":                          {failed: func(f *store.Failed) { f.Finished = f.Finished.Add(-store.RetryFailed) }},
		"in the future":                       {failed: func(f *store.Failed) { f.Finished = f.Finished.Add(2 * time.Hour) }},
		"of another build":                    {by: func() (runner.Inputs, error) { return inputsOf(11700), nil }},
		"without inputs":                      {failed: func(f *store.Failed) { f.Inputs = nil }},
		"early, as before":                    {failed: early, skipped: true},
		"early, with other files or settings": {failed: early, change: func(m *model.Planned) { m.IDs = []model.FileID{{Path: "/m", Size: 2}} }},
		"early, with another build":           {failed: early, by: func() (runner.Inputs, error) { return inputsOf(11700), nil }},
		"early, with a matrix now": {failed: early, by: func() (runner.Inputs, error) {
			inputs := inputsOf(11669)
			inputs.Arguments = map[string]string{"engine.imatrix": "abc"}
			return inputs, nil
		}},
		"early, and still refused": {failed: early, by: func() (runner.Inputs, error) {
			return runner.Inputs{}, runner.Failf(runner.ReasonQuantize, "the baseline is no format")
		}, skipped: true},
		"early, and refused in a new way": {failed: early, by: func() (runner.Inputs, error) {
			return runner.Inputs{}, runner.Failf(runner.ReasonEngineMissing, "llama-bench is not on PATH")
		}},
		"damaged, and not read again": {failed: func(f *store.Failed) { early(f); f.Reason = runner.ReasonBadModel }, by: func() (runner.Inputs, error) {
			panic("it is read again")
		}, skipped: true},
		"unreadable as before":    {failed: func(f *store.Failed) { f.Inputs, f.Error = nil, damaged.Error() }, change: func(m *model.Planned) { m.Err = damaged }, skipped: true},
		"unreadable in a new way": {failed: func(f *store.Failed) { f.Inputs, f.Error = nil, "it is cut off" }, change: func(m *model.Planned) { m.Err = damaged }},
		"unreadable, and was not": {change: func(m *model.Planned) { m.Err = damaged }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				by := test.by
				if by == nil {
					by = same
				}
				b := freshBench(t, by)
				b.change(func(c *Config) { c.Entries[0].FreshFor = 0 })
				b.model().Targets = []string{"Q2_K"}
				if test.change != nil {
					test.change(b.model())
				}
				dependsOn = cycle.NewJob(b.config.Entries[0], model.Planned{}, nil, 0).DependsOn
				before := inputsOf(11669)
				failed := &store.Failed{Reason: runner.ReasonBadModel, Finished: time.Now(), Times: 1, Inputs: &before}
				if test.failed != nil {
					test.failed(failed)
				}
				b.memory.state.Pairs[store.PairID{Model: "nightly", Target: "Q2_K"}].Failed = failed
				b.due("nightly")
				b.pass(time.Hour)
				assert.Equal(t, test.skipped, len(b.memory.began) == 0)
				assert.Equal(t, test.skipped, b.skips("nightly", store.SkipUnchanged) == 1)
			})
		})
	}
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
		"it was never decided":    func(p *store.Pair) { p.Standing, p.Decided = "", nil },
		"of an earlier version":   func(p *store.Pair) { p.Decided.Inputs = nil },
		"with another threshold":  func(p *store.Pair) { p.Decided.Inputs.Decision = map[string]string{"threshold": "0.2"} },
		"decided longer ago":      func(p *store.Pair) { p.Decided.Finished = p.Decided.Finished.Add(-8 * 24 * time.Hour) },
		"decided in the future":   func(p *store.Pair) { p.Decided.Finished = p.Decided.Finished.Add(365 * 24 * time.Hour) },
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

// What was passed over for a choice that would be made again is not measured either; and a
// cycle of some targets chooses among all.
func TestPassedOverPairsAreAsFreshAsTheChoice(t *testing.T) {
	q2, q8 := store.PairID{Model: "nightly", Target: "Q2_K"}, store.PairID{Model: "nightly", Target: "Q8_0"}
	for name, test := range map[string]struct {
		spoil func(chosen *store.Pair, b *bench)
		want  []string
	}{
		"as it was":           {func(*store.Pair, *bench) {}, nil},
		"another rule":        {func(_ *store.Pair, b *bench) { b.model().Choose = choice.BestQuality }, []string{"Q8_0"}},
		"no rule":             {func(_ *store.Pair, b *bench) { b.model().Choose = choice.None }, []string{"Q8_0"}},
		"rejected since":      {func(chosen *store.Pair, _ *bench) { chosen.Standing = verdict.Rejected }, []string{"Q8_0"}},
		"no longer fresh":     {func(chosen *store.Pair, _ *bench) { chosen.Decided.Inputs.Engine.Build = 1 }, []string{"Q2_K", "Q8_0"}},
		"could not publish":   {func(chosen *store.Pair, _ *bench) { chosen.Unpublished = &store.Publication{} }, []string{"Q2_K", "Q8_0"}},
		"never published":     {func(chosen *store.Pair, _ *bench) { chosen.Published = nil }, []string{"Q2_K", "Q8_0"}},
		"published elsewhere": {func(chosen *store.Pair, _ *bench) { chosen.Published.Dir = "/publisher/Q2_K/abc" }, []string{"Q2_K", "Q8_0"}},
		"the choice has gone": {func(chosen *store.Pair, b *bench) { delete(b.memory.state.Pairs, chosen.PairID) }, []string{"Q2_K", "Q8_0"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := freshBench(t, same)
				b.model().Choose = choice.Smallest
				b.change(func(c *Config) { c.Entries[0].Publish.Dir = "/published" })
				b.memory.state.Pairs[q2].Published = &store.Publication{Target: "Q2_K", Dir: "/published/Q2_K/abc"}
				b.memory.state.Pairs[q8] = &store.Pair{PairID: q8, PassedOver: &store.PassedOver{For: "Q2_K", Choose: choice.Smallest}}
				b.memory.state.Models = map[store.ModelID]*store.Model{{Name: "nightly"}: {Choice: &store.Choice{Rule: choice.Smallest, Format: "Q2_K"}}}
				test.spoil(b.memory.state.Pairs[q2], b)
				b.due("nightly")
				b.pass(time.Hour)
				if test.want == nil {
					assert.Empty(t, b.memory.began)
					assert.Equal(t, uint64(2), b.skips("nightly", store.SkipUnchanged))
				} else if assert.Len(t, b.memory.began, 1) {
					assert.Equal(t, test.want, b.memory.began[0].Targets)
					assert.Equal(t, []string{"Q2_K", "Q8_0"}, b.memory.began[0].Candidates)
				}
			})
		})
	}
}

// What was passed over for a target that the entry no longer names could be chosen now.
func TestWhatWasPassedOverForNoCandidateIsNotFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := freshBench(t, same)
		b.model().Choose, b.model().Targets = choice.Smallest, []string{"Q8_0", "Q6_K"}
		q6 := store.PairID{Model: "nightly", Target: "Q6_K"}
		b.memory.state.Pairs[q6] = &store.Pair{PairID: q6, PassedOver: &store.PassedOver{For: "Q2_K", Choose: choice.Smallest}}
		b.memory.state.Models = map[store.ModelID]*store.Model{{Name: "nightly"}: {Choice: &store.Choice{Rule: choice.Smallest, Format: "Q8_0"}}}
		b.due("nightly")
		b.pass(time.Hour)
		if assert.Len(t, b.memory.began, 1) {
			assert.Equal(t, []string{"Q6_K"}, b.memory.began[0].Targets)
		}
	})
}

// A choice is made at the end of a cycle: where it would be another one now there is one,
// although nothing is to be measured.
func TestAnotherChoiceNeedsACycle(t *testing.T) {
	pair := func(target string) store.PairID { return store.PairID{Model: "nightly", Target: target} }
	for name, test := range map[string]struct {
		spoil func(b *bench)
		want  []string // nil: no cycle
	}{
		"as it was":        {func(*bench) {}, nil},
		"another rule":     {func(b *bench) { b.model().Choose = choice.BestQuality }, []string{"Q8_0"}},
		"no choice before": {func(b *bench) { b.memory.state.Models[store.ModelID{Name: "nightly"}].Choice = nil }, []string{"Q2_K"}},
		"no model before":  {func(b *bench) { b.memory.state.Models = nil }, []string{"Q2_K"}},
		"the chosen target is not named any more": {func(b *bench) { b.model().Targets = []string{"Q8_0"} }, []string{"Q8_0"}},
		"none is kept any more": {func(b *bench) {
			for _, p := range b.memory.state.Pairs {
				p.Standing, p.Decided.Verdict.Outcome = verdict.Rejected, verdict.Rejected
			}
		}, []string{"Q2_K"}},
		"no rule any more": {func(b *bench) { b.model().Choose = choice.None }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := freshBench(t, same)
				b.model().Choose = choice.Smallest
				for target, figures := range map[string]struct {
					bytes int64
					kld   float64
				}{"Q2_K": {10, 0.1}, "Q8_0": {20, 0.001}} {
					decided := b.memory.state.Pairs[pair(target)].Decided
					decided.Quantized.Bytes = figures.bytes
					decided.Quality = &runner.Evaluated{Verdict: quality.Verdict{KLDivergence: quality.Interval{Estimate: figures.kld}}}
				}
				b.memory.state.Models = map[store.ModelID]*store.Model{{Name: "nightly"}: {Choice: &store.Choice{Rule: choice.Smallest, Format: "Q2_K"}}}
				test.spoil(b)
				targets := b.model().Targets
				b.due("nightly")
				b.pass(time.Hour)
				assert.EqualValues(t, len(targets)-len(test.want), b.skips("nightly", store.SkipUnchanged))
				if test.want == nil {
					assert.Empty(t, b.memory.began)
				} else if assert.Len(t, b.memory.began, 1) {
					assert.Equal(t, test.want, b.memory.began[0].Targets)
					assert.Equal(t, targets, b.memory.began[0].Candidates)
				}
			})
		})
	}
}

// If publishing is switched on later, copies need not wait until their decisions are old.
func TestWhatIsKeptAndNotPublishedIsNotFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := freshBench(t, same)
		b.change(func(c *Config) { c.Entries[0].Publish.Dir = "/published" })
		q2, q8 := store.PairID{Model: "nightly", Target: "Q2_K"}, store.PairID{Model: "nightly", Target: "Q8_0"}
		rejected := b.memory.state.Pairs[q2]
		rejected.Standing, rejected.Decided.Verdict.Outcome = verdict.Rejected, verdict.Rejected
		b.due("nightly")
		b.pass(time.Hour)
		if assert.Len(t, b.memory.began, 1) {
			assert.Equal(t, []string{"Q8_0"}, b.memory.began[0].Targets)
		}
		b.memory.state.Pairs[q8].Published = &store.Publication{Target: "Q8_0", Dir: "/published/nightly/Q8_0/abc"}
		b.due("nightly")
		b.pass(time.Hour)
		assert.Len(t, b.memory.began, 1)
	})
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

// A run that ends while files are read has not begun a cycle, so that nothing fails.
func TestARunThatEndsWhileInputsAreFoundBeginsNoCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := freshBench(t, func() (runner.Inputs, error) {
			time.Sleep(time.Hour) // of the bubble: a large file
			return runner.Inputs{}, context.DeadlineExceeded
		})
		b.change(func(c *Config) { c.Entries[0].Timeout = prom.Duration(time.Minute) })
		b.due("nightly")
		b.pass(2 * time.Hour)
		assert.Empty(t, b.memory.began)
		assert.Nil(t, b.Status().Running)
	})
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
