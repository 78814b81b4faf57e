package runner_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// divergences of files; others have the small one that every lossy copy has.
func divergences(of map[string]float64) func(string) (quality.Chunk, error) {
	return func(file string) (quality.Chunk, error) {
		divergence, ok := of[file]
		if !ok {
			divergence = 0.0001
		}
		return quality.Chunk{KLDivergence: divergence, Top1Agreement: 1 - divergence, LogPerplexityRatio: divergence / 2}, nil
	}
}

func newQualityFixture(t *testing.T, e *engine, targets ...string) *fixture {
	t.Helper()
	f := newFixture(t, e, targets...)
	if e.quality == nil {
		e.quality = divergences(map[string]float64{"Q8_0.gguf": 0.001, "Q2_K.gguf": 0.16})
	}
	f.request.Quality = config.DefaultQuality()
	f.request.Quality.Corpus = filepath.Join(t.TempDir(), "text.txt")
	f.request.Quality.MaxKLDivergence = 0.05
	require.NoError(t, os.WriteFile(f.request.Quality.Corpus, []byte("In the beginning"), 0o600))
	return f
}

func TestCopyOverALimitOfQualityIsRejectedAtItsFirstLook(t *testing.T) {
	e := &engine{speed: factors(map[string]float64{"Q8_0.gguf": 1.4, "Q2_K.gguf": 2.7})}
	results := newQualityFixture(t, e, "Q8_0", "Q2_K").run(t.Context())

	assert.Equal(t, []string{"original.gguf", "Q8_0.gguf", "Q2_K.gguf"}, e.evaluated, "the original once")
	good, bad := results["Q8_0"], results["Q2_K"]
	assert.Equal(t, verdict.Kept, good.Outcome())
	assert.Empty(t, good.Quality.Exceeded)
	assert.Equal(t, verdict.Rejected, bad.Outcome())
	assert.Equal(t, verdict.GateQuality, bad.Verdict.Gate)
	assert.Equal(t, []quality.Limit{quality.MaxKLDivergence}, bad.Quality.Exceeded)
	assert.InDelta(t, 0.157, bad.Quality.KLDivergence.Estimate, 1e-9, "of the first eight chunks")
	assert.Equal(t, "text.txt", bad.Quality.Corpus)
	assert.Equal(t, 3, bad.Verdict.Rounds)
	assert.Negative(t, bad.Verdict.Worst().Drop, "the figures of its throughput are there")
	assert.Positive(t, bad.Verdict.Worst().Original)
	assert.Contains(t, bad.Durations, runner.OperationEvaluate)
	evidence := bad.Evidence.Quality
	assert.Len(t, evidence.Chunks, 8)
	assert.EqualValues(t, 16, evidence.Corpus.Bytes)
	assert.Len(t, evidence.Corpus.SHA256, 64)
	assert.Equal(t, []string{"predict"}, evidence.Predict.Args)
	assert.Equal(t, []string{"evaluate", "Q2_K.gguf"}, evidence.Evaluate.Args)
}

func TestQualityComesBeforeThroughput(t *testing.T) {
	e := &engine{speed: factors(map[string]float64{"Q2_K.gguf": 0.5})}
	r := newQualityFixture(t, e, "Q2_K").run(t.Context())["Q2_K"]
	assert.Equal(t, verdict.Rejected, r.Outcome())
	assert.Equal(t, verdict.GateQuality, r.Verdict.Gate, "both gates reject it")

	e = &engine{speed: factors(map[string]float64{"Q8_0.gguf": 0.5})}
	r = newQualityFixture(t, e, "Q8_0").run(t.Context())["Q8_0"]
	assert.Equal(t, verdict.Generation, r.Verdict.Gate, "good enough, and slow")
}

func TestRejectionByQualityNeedsNoConfirmation(t *testing.T) {
	f := newQualityFixture(t, &engine{}, "Q2_K")
	f.request.Previous = func(string) verdict.Outcome { return verdict.Kept }
	r := f.run(t.Context())["Q2_K"]
	assert.Equal(t, verdict.Rejected, r.Outcome())
	assert.Len(t, r.Evidence.Verdicts, 1)

	// The way back is one of throughput, which has to be confirmed.
	f = newQualityFixture(t, &engine{}, "Q8_0")
	f.request.Previous = func(string) verdict.Outcome { return verdict.Rejected }
	r = f.run(t.Context())["Q8_0"]
	assert.Equal(t, verdict.Kept, r.Outcome())
	assert.Len(t, r.Evidence.Verdicts, 2)
}

func TestEvidenceGivesTheRejectionByQualityAgain(t *testing.T) {
	for _, r := range newQualityFixture(t, &engine{}, "Q8_0", "Q2_K").run(t.Context()) {
		text, err := json.Marshal(r.Evidence)
		require.NoError(t, err)
		var read runner.Evidence
		require.NoError(t, json.Unmarshal(text, &read))
		assert.Equal(t, *r.Verdict, read.Verdict(), r.TargetFormat)
		assert.Equal(t, r.Quality.Verdict, read.Quality.Verdict(), r.TargetFormat)
	}
}

func TestEvaluationEndsWhenEveryLimitIsClear(t *testing.T) {
	unclear := map[string]float64{"Q8_0.gguf": 0.001, "Q4_K_M.gguf": 0.0495, "Q2_K.gguf": 0.16}
	for name, test := range map[string]struct {
		change  func(*config.Quality)
		chunks  map[string]int
		predict int
	}{
		"a limit on a mean":       {func(*config.Quality) {}, map[string]int{"Q8_0": 8, "Q4_K_M": 32, "Q2_K": 8}, 2},
		"another one that is not": {func(q *config.Quality) { q.MaxPerplexityIncrease = 0.0835 }, map[string]int{"Q8_0": 8, "Q4_K_M": 32, "Q2_K": 8}, 2},
		"a limit on a tail":       {func(q *config.Quality) { q.MaxRMSDeltaP = 0.5 }, map[string]int{"Q8_0": 32, "Q4_K_M": 32, "Q2_K": 32}, 1},
		"no limit":                {func(q *config.Quality) { q.MaxKLDivergence = 0 }, map[string]int{"Q8_0": 32, "Q4_K_M": 32, "Q2_K": 32}, 1},
		"few chunks":              {func(q *config.Quality) { q.Chunks = 31 }, map[string]int{"Q8_0": 31, "Q4_K_M": 31, "Q2_K": 31}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			e := &engine{quality: divergences(unclear)}
			f := newQualityFixture(t, e, "Q8_0", "Q4_K_M", "Q2_K")
			test.change(&f.request.Quality)
			for target, r := range f.run(t.Context()) {
				require.Nil(t, r.Failure, target)
				assert.Equal(t, test.chunks[target], r.Quality.Chunks, target)
				assert.Equal(t, f.request.Quality.Chunks, r.Quality.Planned, target)
				assert.Len(t, r.Evidence.Quality.Chunks, test.chunks[target], target)
				assert.Equal(t, r.Quality.Verdict, r.Evidence.Quality.Verdict(), target)
				assert.Equal(t, test.chunks[target] < f.request.Quality.Chunks, strings.HasSuffix(r.Quality.Figures(), ", in 8 of 32 chunks"), r.Quality.Figures())
			}
			predictions := slices.DeleteFunc(slices.Clone(e.evaluated), func(file string) bool { return file != "original.gguf" })
			assert.Len(t, predictions, test.predict)
		})
	}
}

func TestNoTextNoEvaluation(t *testing.T) {
	e := &engine{}
	r := newFixture(t, e, "Q2_K").run(t.Context())["Q2_K"]
	assert.Empty(t, e.evaluated)
	assert.Nil(t, r.Quality)
	assert.Nil(t, r.Evidence.Quality)
	assert.NotContains(t, r.Durations, runner.OperationEvaluate)
}

func TestEvaluationFails(t *testing.T) {
	both := map[string]runner.Reason{"Q8_0": runner.ReasonEvaluate, "Q2_K": runner.ReasonEvaluate}
	broken := runner.Failf(runner.ReasonEvaluate, "it printed nan")
	for name, test := range map[string]struct {
		change func(*fixture)
		failed map[string]runner.Reason
		want   string
	}{
		"of the original: all targets": {
			func(f *fixture) { f.engine.predict = broken },
			both, "evaluating the original",
		},
		"of one copy": {
			func(f *fixture) {
				f.engine.quality = func(file string) (quality.Chunk, error) {
					if file == "Q2_K.gguf" {
						return quality.Chunk{}, broken
					}
					return quality.Chunk{KLDivergence: 0.001}, nil
				}
			},
			map[string]runner.Reason{"Q2_K": runner.ReasonEvaluate},
			"evaluating Q2_K: it printed nan",
		},
		"figures of no use": {
			func(f *fixture) {
				f.engine.quality = func(string) (quality.Chunk, error) { return quality.Chunk{KLDivergence: math.NaN()}, nil }
			},
			both, "chunk 1",
		},
		"no text": {
			func(f *fixture) { f.request.Quality.Corpus += ".missing" },
			both, "quality.corpus",
		},
		"no room for the predictions": {
			func(f *fixture) { f.model.Header.Vocabulary = 1 << 55; f.request.Model = f.model },
			map[string]runner.Reason{"Q8_0": runner.ReasonNoSpace, "Q2_K": runner.ReasonNoSpace},
			"the cycle needs",
		},
		"a defect": {
			func(f *fixture) {
				f.engine.quality = func(string) (quality.Chunk, error) { return quality.Chunk{}, errors.New("surprise") }
			},
			map[string]runner.Reason{"Q8_0": runner.ReasonInternal, "Q2_K": runner.ReasonInternal},
			"surprise",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newQualityFixture(t, &engine{}, "Q8_0", "Q2_K")
			test.change(f)
			for target, r := range f.run(t.Context()) {
				reason, fails := test.failed[target]
				require.Equal(t, fails, r.Failure != nil, "%s: %v", target, r.Failure)
				if fails {
					assert.Equal(t, reason, r.Failure.Reason)
					require.ErrorContains(t, r.Failure, test.want)
				}
			}
			left, err := os.ReadDir(f.options.WorkDir)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

// Over the limit is rejected, never inconclusive: not even where no time is left.
func TestBudgetLeavesARejectionByQualityItsFigures(t *testing.T) {
	f := newQualityFixture(t, &engine{}, "Q2_K")
	f.request.Benchmark.Budget = model.Duration(time.Nanosecond)
	f.options.Host = &load{share: func(n int) float64 { return map[bool]float64{true: 1}[n < 2] }}
	r := f.run(t.Context())["Q2_K"]
	assert.Equal(t, verdict.Rejected, r.Outcome())
	assert.Equal(t, 1, r.Verdict.Rounds, "the first round was contaminated")
	assert.Len(t, r.Evidence.Rounds, 2)
	assert.Equal(t, *r.Verdict, r.Evidence.Verdict())
}

// A model of which the weights are zeros was kept, and published, with divergence 0.
func TestFiguresThatNoWorkingModelHasAreABadModel(t *testing.T) {
	same := func(string) (quality.Chunk, error) { return quality.Chunk{Top1Agreement: 1}, nil }
	t.Run("a reference that predicts nothing", func(t *testing.T) {
		f := newQualityFixture(t, &engine{perplexity: 512}, "Q8_0", "Q2_K") // the size of its vocabulary
		for target, r := range f.run(t.Context()) {
			require.NotNil(t, r.Failure, target)
			assert.Equal(t, runner.ReasonBadModel, r.Failure.Reason, target)
			assert.ErrorContains(t, r.Failure, "the original predicts nothing: its perplexity is 512.0, and its vocabulary has 512 tokens", target)
		}
	})
	t.Run("a lossy copy without any divergence", func(t *testing.T) {
		r := newQualityFixture(t, &engine{quality: same}, "Q2_K").run(t.Context())["Q2_K"]
		require.NotNil(t, r.Failure)
		assert.Equal(t, runner.ReasonBadModel, r.Failure.Reason)
		assert.ErrorContains(t, r.Failure, "Q2_K predicts exactly what the original does")
	})
	t.Run("a model beside itself may have none", func(t *testing.T) {
		r := newQualityFixture(t, &engine{quality: same}, "F16").run(t.Context())["F16"]
		assert.Equal(t, verdict.Kept, r.Outcome())
	})
}
