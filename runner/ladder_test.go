package runner_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// sizes of copies, as the engine tells them.
func sizes(of map[string]int64) func(string) (int64, bool) {
	return func(format string) (int64, bool) { return of[format], true }
}

// newLadder is a cycle that chooses, over a ladder whose order by size is the alphabet
// backwards. Without qualities nothing is evaluated.
func newLadder(t *testing.T, rule choice.Rule, e *engine, qualities map[string]float64) *fixture {
	t.Helper()
	if e.size == nil {
		e.size = sizes(map[string]int64{"Q8_0": 800, "Q4_K_M": 400, "Q2_K": 200})
	}
	targets := []string{"Q8_0", "Q2_K", "Q4_K_M"}
	var f *fixture
	if qualities == nil {
		f = newFixture(t, e, targets...)
	} else {
		e.quality = divergences(qualities)
		f = newQualityFixture(t, e, targets...)
	}
	f.request.Choose = rule
	return f
}

// made are the copies that were made, in their order.
func made(e *engine) *[]string {
	var targets []string
	e.quantize = func(job runner.QuantizeJob) error {
		targets = append(targets, job.Format)
		return makeCopy(job)
	}
	return &targets
}

// outcomes are the decisions by target; "failed" for a failure.
func outcomes(results map[string]runner.Result) map[string]verdict.Outcome {
	all := map[string]verdict.Outcome{}
	for target, r := range results {
		if all[target] = r.Outcome(); r.Failure != nil {
			all[target] = "failed"
		}
	}
	return all
}

func TestSmallestThatIsKeptEndsTheSearch(t *testing.T) {
	e := &engine{}
	copies := made(e)
	f := newLadder(t, choice.Smallest, e, map[string]float64{"Q2_K.gguf": 0.16, "Q4_K_M.gguf": 0.01})
	results := f.run(t.Context())

	assert.Equal(t, map[string]verdict.Outcome{"Q2_K": verdict.Rejected, "Q4_K_M": verdict.Kept}, outcomes(results))
	assert.Equal(t, []string{"Q8_0 for Q4_K_M"}, f.passed)
	assert.Equal(t, []string{"Q2_K", "Q4_K_M"}, *copies, "from the smallest on, and no more")
	assert.Equal(t, []string{"original.gguf", "Q2_K.gguf", "Q4_K_M.gguf"}, e.evaluated, "the original once")
	assert.Equal(t, map[string]int{"original.gguf": 3, "Q2_K.gguf": 3, "Q4_K_M.gguf": 3}, e.counts, "one original a round serves the group")
	assert.Equal(t, verdict.GateQuality, results["Q2_K"].Verdict.Gate)
	assert.Equal(t, 3, results["Q2_K"].Verdict.Rounds, "it has its first look")
}

func TestSmallestGoesOnWhileNoneIsKept(t *testing.T) {
	e := &engine{speed: factors(map[string]float64{"Q2_K.gguf": 0.5, "Q4_K_M.gguf": 0.6})}
	f := newLadder(t, choice.Smallest, e, nil)
	results := f.run(t.Context())
	assert.Equal(t, map[string]verdict.Outcome{"Q2_K": verdict.Rejected, "Q4_K_M": verdict.Rejected, "Q8_0": verdict.Kept}, outcomes(results))
	assert.Empty(t, f.passed)
	assert.Equal(t, 9, e.counts["original.gguf"], "each group has originals of its own")
	for target, r := range results {
		rounds := r.Evidence.Rounds
		require.Len(t, rounds, 3, target)
		assert.NotEqual(t, rounds[0].First, rounds[1].First, "%s: rounds come in twos of opposite order", target)
		for _, round := range rounds {
			assert.InDelta(t, 100, round.Original.Measurement.Throughput[verdict.Generation], 1, target)
		}
		assert.Equal(t, *r.Verdict, r.Evidence.Verdict(), target)
	}
	first := func(r runner.Result) []runner.Stage {
		return []runner.Stage{r.Evidence.Rounds[0].First, r.Evidence.Rounds[2].First}
	}
	for i, target := range []string{"Q2_K", "Q4_K_M", "Q8_0"} { // which took rounds 1 to 3, 5 to 7 and 9 to 11 of the order
		want := func(round int) runner.Stage {
			return map[bool]runner.Stage{true: runner.StageQuantized, false: runner.StageOriginal}[verdict.QuantizedFirst(f.request.OrderSeed, round)]
		}
		assert.Equal(t, []runner.Stage{want(4 * i), want(4*i + 2)}, first(results[target]), "%s: coins of its own", target)
	}
}

// The larger copy is not taken for the better one: nothing but its own figures rejects it.
func TestAllOverALimitAreMeasuredTogether(t *testing.T) {
	e := &engine{}
	f := newLadder(t, choice.Smallest, e, map[string]float64{"Q2_K.gguf": 0.16, "Q4_K_M.gguf": 0.2, "Q8_0.gguf": 0.1})
	results := f.run(t.Context())
	assert.Equal(t, map[string]verdict.Outcome{"Q2_K": verdict.Rejected, "Q4_K_M": verdict.Rejected, "Q8_0": verdict.Rejected}, outcomes(results))
	assert.Equal(t, 3, e.counts["original.gguf"])
}

func TestCandidateThatStandsAsKeptEndsTheSearch(t *testing.T) {
	for name, test := range map[string]struct {
		previous verdict.Outcome
		passed   []string
	}{
		"kept before":       {verdict.Kept, []string{"Q4_K_M for Q2_K", "Q8_0 for Q2_K"}},
		"rejected before":   {verdict.Rejected, []string{"Q8_0 for Q4_K_M"}},
		"not looked at yet": {"", []string{"Q8_0 for Q4_K_M"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := &engine{speed: factors(map[string]float64{"Q2_K.gguf": 0.88})} // the threshold: inconclusive
			f := newLadder(t, choice.Smallest, e, nil)
			f.request.Benchmark.Rounds.Max = 3
			f.request.Previous = func(string) verdict.Outcome { return test.previous }
			results := f.run(t.Context())
			assert.Equal(t, verdict.Inconclusive, results["Q2_K"].Outcome())
			assert.Equal(t, test.passed, f.passed)
		})
	}
}

func TestCandidateThatFailsEndsNothing(t *testing.T) {
	broken := runner.Failf(runner.ReasonCrash, "it died")
	for name, change := range map[string]func(*fixture){
		"quantizing": func(f *fixture) {
			f.engine.quantize = func(job runner.QuantizeJob) error {
				if job.Format == "Q2_K" {
					return broken
				}
				return makeCopy(job)
			}
		},
		"evaluating": func(f *fixture) {
			f.engine.quality = func(file string) (quality.Chunk, error) {
				return quality.Chunk{KLDivergence: 0.001}, map[string]error{"Q2_K.gguf": broken}[file]
			}
		},
		"measuring": func(f *fixture) {
			f.engine.speed = func(file string, _ int) (float64, error) { return 100, map[string]error{"Q2_K.gguf": broken}[file] }
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, rule := range []choice.Rule{choice.Smallest, choice.BestQuality} {
				f := newLadder(t, rule, &engine{}, map[string]float64{"Q4_K_M.gguf": 0.01, "Q8_0.gguf": 0.02})
				change(f)
				f.request.Previous = func(string) verdict.Outcome { return verdict.Kept }
				results := f.run(t.Context())
				assert.Equal(t, map[string]verdict.Outcome{"Q2_K": "failed", "Q4_K_M": verdict.Kept}, outcomes(results), rule)
				assert.Equal(t, []string{"Q8_0 for Q4_K_M"}, f.passed, rule)
			}
		})
	}
}

// Where the engine gives a bound only, the files tell which copy is the smallest.
func TestSizesThatAreBoundsAreNotAnOrder(t *testing.T) {
	e := &engine{size: func(string) (int64, bool) { return 0, false }}
	padding := map[string]int{"Q8_0": 10, "Q4_K_M": 1000, "Q2_K": 2000} // not the order of their names
	var copies []string
	e.quantize = func(job runner.QuantizeJob) error {
		copies = append(copies, job.Format)
		if err := makeSmallCopy(t, job); err != nil {
			return err
		}
		path := filepath.Join(job.Dir, job.Output)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()+int64(padding[job.Format]))
	}
	f := newLadder(t, choice.Smallest, e, nil)
	results := f.run(t.Context())
	assert.Equal(t, map[string]verdict.Outcome{"Q8_0": verdict.Kept}, outcomes(results))
	assert.Equal(t, []string{"Q4_K_M for Q8_0", "Q2_K for Q8_0"}, f.passed)
	assert.Len(t, copies, 3, "each once")
}

func TestBestThatIsKeptEndsTheSearch(t *testing.T) {
	e := &engine{}
	copies := made(e)
	f := newLadder(t, choice.BestQuality, e, map[string]float64{"Q2_K.gguf": 0.16, "Q4_K_M.gguf": 0.001, "Q8_0.gguf": 0.02})
	results := f.run(t.Context())
	assert.Equal(t, map[string]verdict.Outcome{"Q2_K": verdict.Rejected, "Q4_K_M": verdict.Kept}, outcomes(results))
	assert.Equal(t, []string{"Q8_0 for Q4_K_M"}, f.passed)
	assert.Len(t, *copies, 3, "which is the best is not known before")
	assert.Len(t, e.evaluated, 4)
	assert.NotContains(t, e.counts, "Q8_0.gguf")
	assert.Equal(t, 3, e.counts["original.gguf"])

	e = &engine{speed: factors(map[string]float64{"Q4_K_M.gguf": 0.5})}
	f = newLadder(t, choice.BestQuality, e, map[string]float64{"Q2_K.gguf": 0.16, "Q4_K_M.gguf": 0.001, "Q8_0.gguf": 0.02})
	results = f.run(t.Context())
	assert.Equal(t, map[string]verdict.Outcome{"Q2_K": verdict.Rejected, "Q4_K_M": verdict.Rejected, "Q8_0": verdict.Kept}, outcomes(results), "the best is slow")
	assert.Empty(t, f.passed)

	e = &engine{}
	f = newLadder(t, choice.BestQuality, e, map[string]float64{"Q2_K.gguf": 0.16, "Q4_K_M.gguf": 0.16, "Q8_0.gguf": 0.16})
	assert.Len(t, f.run(t.Context()), 3, "none is good enough")
}

// A copy beyond the limit of the rule is looked at only where none within it is kept.
func TestLimitOfTheRule(t *testing.T) {
	padding := map[string]int64{"Q8_0": 2000, "Q4_K_M": 1000, "Q2_K": 10}
	small := t.TempDir()
	require.NoError(t, makeSmallCopy(t, runner.QuantizeJob{Dir: small, Output: "small.gguf", Format: "Q2_K"}))
	unpadded, err := os.Stat(filepath.Join(small, "small.gguf"))
	require.NoError(t, err)
	slow := map[string]float64{"Q2_K.gguf": 0.5, "Q4_K_M.gguf": 0.5}
	for name, test := range map[string]struct {
		by     choice.Rule
		limit  int64 // beyond the size of a copy without its padding
		speeds map[string]float64
		want   map[string]verdict.Outcome
		passed []string
	}{
		"the best within": {
			choice.BestQuality, 1500, nil,
			map[string]verdict.Outcome{"Q4_K_M": verdict.Kept},
			[]string{"Q2_K for Q4_K_M", "Q8_0 for Q4_K_M"},
		},
		"the smallest within": {
			choice.Smallest, 500, nil,
			map[string]verdict.Outcome{"Q2_K": verdict.Kept},
			[]string{"Q8_0 for Q2_K", "Q4_K_M for Q2_K"},
		},
		"none within is kept": {
			choice.Smallest, 1500, slow,
			map[string]verdict.Outcome{"Q2_K": verdict.Rejected, "Q4_K_M": verdict.Rejected, "Q8_0": verdict.Kept},
			nil,
		},
		"nor of the best": {
			choice.BestQuality, 1500, slow,
			map[string]verdict.Outcome{"Q2_K": verdict.Rejected, "Q4_K_M": verdict.Rejected, "Q8_0": verdict.Kept},
			nil,
		},
		"all are beyond": {
			choice.Smallest, 0, nil,
			map[string]verdict.Outcome{"Q2_K": verdict.Kept, "Q4_K_M": verdict.Kept, "Q8_0": verdict.Kept},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := &engine{speed: factors(test.speeds), size: func(string) (int64, bool) { return 0, false }}
			e.quantize = func(job runner.QuantizeJob) error {
				if err := makeSmallCopy(t, job); err != nil {
					return err
				}
				path := filepath.Join(job.Dir, job.Output)
				info, err := os.Stat(path)
				if err != nil {
					return err
				}
				return os.Truncate(path, info.Size()+padding[job.Format])
			}
			f := newLadder(t, test.by, e, map[string]float64{"Q8_0.gguf": 0.001, "Q4_K_M.gguf": 0.01, "Q2_K.gguf": 0.02})
			f.request.Choose = choice.Limited(test.by, choice.Limits{Size: unpadded.Size() + test.limit})
			assert.Equal(t, test.want, outcomes(f.run(t.Context())))
			assert.Equal(t, test.passed, f.passed)
		})
	}
}

// What a copy takes shows in its first round only.
func TestSearchGoesOnBeyondALimitOfMemory(t *testing.T) {
	for rule, want := range map[choice.Rule]struct {
		outcomes map[string]verdict.Outcome
		passed   []string
	}{
		choice.Smallest: {map[string]verdict.Outcome{"Q2_K": verdict.Kept, "Q4_K_M": verdict.Kept}, []string{"Q8_0 for Q4_K_M"}},
		choice.Fastest:  {map[string]verdict.Outcome{"Q2_K": verdict.Kept, "Q4_K_M": verdict.Kept, "Q8_0": verdict.Kept}, nil},
	} {
		f := newLadder(t, choice.Limited(rule, choice.Limits{Host: 5e9}), &engine{}, nil)
		e := &pairing{engine: f.engine}
		e.paired = func(job runner.RoundJob, files []runner.FileRound) error {
			for i, file := range job.Files {
				files[i].Measurement.Memory.Host = 4e9
				if file == "Q2_K.gguf" {
					files[i].Measurement.Memory.Host = 6e9
				}
			}
			return nil
		}
		var passed []string
		f.request.PassedOver = func(by string, targets []string) {
			for _, target := range targets {
				passed = append(passed, target+" for "+by)
			}
		}
		results := f.runPaired(e)
		assert.Equal(t, want.outcomes, outcomes(results), rule)
		assert.Equal(t, want.passed, passed, rule)
		small := results["Q2_K"]
		assert.Equal(t, &choice.Memory{Host: 6e9, DeviceKnown: true}, small.Candidate().Memory)
		assert.False(t, f.request.Choose.Chooses(small.Candidate()))
	}
}

// What stands as chosen comes first among equals.
func TestSearchBeginsWithTheStandingChoice(t *testing.T) {
	f := newLadder(t, choice.BestQuality, &engine{}, map[string]float64{"Q8_0.gguf": 0.001, "Q4_K_M.gguf": 0.002, "Q2_K.gguf": 0.16})
	f.request.Chosen = "Q8_0"
	assert.Equal(t, map[string]verdict.Outcome{"Q2_K": verdict.Rejected, "Q8_0": verdict.Kept}, outcomes(f.run(t.Context())))
	assert.Equal(t, []string{"Q4_K_M for Q8_0"}, f.passed)
}

func TestFastestAndNoRuleMeasureAll(t *testing.T) {
	for _, rule := range []choice.Rule{choice.Fastest, choice.None} {
		e := &engine{}
		f := newLadder(t, rule, e, nil)
		results := f.run(t.Context())
		assert.Len(t, results, 3)
		assert.Len(t, results["Q2_K"].Speeds, 3)
		for _, r := range results { // measured in the same rounds
			assert.Equal(t, slices.Sorted(maps.Keys(results["Q2_K"].Speeds)), slices.Sorted(maps.Keys(r.Speeds)), r.TargetFormat)
			assert.Equal(t, r.Speeds, r.Candidate().Speeds)
		}
		assert.Equal(t, 3, e.counts["original.gguf"])
	}
}

func TestWhatNobodyIsToldOfIsPassedOverAllTheSame(t *testing.T) {
	f := newLadder(t, choice.Smallest, &engine{}, nil)
	var results []string
	runner.New(f.engine, f.options).Run(t.Context(), f.request, func(r runner.Result) { results = append(results, r.TargetFormat) })
	assert.Equal(t, []string{"Q2_K"}, results)
}

// What ends the cycle while it searches ends the pairs that it has not looked at, too.
func TestCycleThatFailsInItsSearch(t *testing.T) {
	e := &engine{}
	e.speed = func(file string, _ int) (float64, error) {
		switch {
		case file == "Q2_K.gguf":
			return 50, nil
		case e.counts["original.gguf"] > 3:
			return 0, errors.New("surprise")
		}
		return 100, nil
	}
	f := newLadder(t, choice.Smallest, e, nil)
	results := f.run(t.Context())
	assert.Equal(t, map[string]verdict.Outcome{"Q2_K": verdict.Rejected, "Q4_K_M": "failed", "Q8_0": "failed"}, outcomes(results))
	assert.Empty(t, f.passed)
}

func TestSearchIsTimedAndBoundedAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{}
		e.speed = func(file string, n int) (float64, error) {
			time.Sleep(time.Minute)
			return factors(map[string]float64{"Q2_K.gguf": 0.5, "Q4_K_M.gguf": 0.88})(file, n)
		}
		made(e)
		quantize := e.quantize
		e.quantize = func(job runner.QuantizeJob) error { time.Sleep(time.Hour); return quantize(job) }
		f := newLadder(t, choice.Smallest, e, map[string]float64{})
		evaluated := e.quality
		e.quality = func(file string) (quality.Chunk, error) { time.Sleep(time.Second); return evaluated(file) }
		f.request.Benchmark.Budget = model.Duration(20 * time.Minute)
		results := f.run(t.Context())

		assert.Equal(t, []string{"Q2_K", "Q4_K_M", "Q8_0"}, slices.Sorted(maps.Keys(results)))
		took := func(target string, operation runner.Operation) time.Duration {
			return results[target].Durations[operation]
		}
		assert.Equal(t, 6*time.Minute, took("Q2_K", runner.OperationBenchmark))
		assert.Equal(t, time.Second, took("Q2_K", runner.OperationEvaluate))
		assert.Equal(t, 20*time.Minute, took("Q4_K_M", runner.OperationBenchmark), "with the group before, without quantizing")
		assert.Equal(t, 2*time.Second, took("Q4_K_M", runner.OperationEvaluate))
		assert.Len(t, results["Q4_K_M"].Evidence.Rounds, 7)
		assert.Equal(t, verdict.Inconclusive, results["Q4_K_M"].Outcome())
		assert.Equal(t, 1, results["Q8_0"].Verdict.Rounds, "each group has a round")
		assert.Equal(t, 22*time.Minute, took("Q8_0", runner.OperationBenchmark))
	})
}
