package event_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/test/golden"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// check compares the very bytes: the order of the fields is a part of the contract.
func check(t *testing.T, file string, object any) {
	t.Helper()
	got, err := json.MarshalIndent(object, "", "  ")
	require.NoError(t, err)
	golden.Check(t, file, string(got)+"\n")
}

// rejected is a result with figures that binary fractions hold exactly.
func rejected() *runner.Result {
	return &runner.Result{
		Model:        "team/llama-1b",
		SourceFormat: "F16",
		TargetFormat: "Q2_K",
		Threshold:    0.125,
		Previous:     verdict.Kept,
		Finished:     time.Date(2026, 7, 1, 12, 0, 0, 250_000_000, time.UTC),
		Verdict: &verdict.Verdict{
			Outcome:    verdict.Rejected,
			Rounds:     4,
			Gate:       verdict.Prompt,
			Confidence: 0.9249999999999999, // 1 - 0.05 - 0.05/2
			Phases: []verdict.PhaseVerdict{
				{Phase: verdict.Generation, Outcome: verdict.Kept, Drop: -0.5, Lower: new(-0.75), Upper: new(-0.25), Original: 64, Quantized: 96},
				{Phase: verdict.Prompt, Outcome: verdict.Rejected, Drop: 0.25, Lower: new(0.1875), Upper: new(0.3125), Original: 512, Quantized: 384},
			},
		},
		Evidence: runner.Evidence{Engine: runner.EngineInfo{Name: "llama.cpp", Version: "0.7.0", Build: 11669}},
	}
}

// damaged is a result that its quality rejects.
func damaged() *runner.Result {
	r := rejected()
	r.Verdict.Gate = verdict.GateQuality
	r.Changes = []runner.Change{{Input: runner.InputEngine, Text: "llama.cpp 11669 → 11702"}, {Input: runner.InputDecision, Text: "threshold 0.12 → 0.125"}}
	r.Quality = &runner.Evaluated{
		Verdict: quality.Verdict{
			KLDivergence:       quality.Interval{Estimate: 0.25, Lower: 0.125, Upper: 0.375},
			Top1Agreement:      quality.Interval{Estimate: 0.75, Lower: 0.5, Upper: 0.875},
			PerplexityIncrease: quality.Interval{Estimate: 0.125, Lower: 0.0625, Upper: 0.25},
			RMSDeltaP:          quality.Interval{Estimate: 0.0625, Lower: 0.03125, Upper: 0.125},
			Quantiles:          []quality.Quantile{{Percent: 99.9, KLDivergence: 2.5}, {Percent: 100, KLDivergence: 5}},
			Confidence:         0.95,
			Exceeded:           []quality.Limit{quality.MaxKLDivergence},
		},
		Limits:     quality.Limits{MaxKLDivergence: 0.25, MinTop1Agreement: 0.25},
		Perplexity: 22.5, OriginalPerplexity: 20, Chunks: 8, Planned: 32,
	}
	return r
}

func TestDecision(t *testing.T) {
	t.Run("with everything", func(t *testing.T) {
		check(t, "decision.json", event.NewDecision(rejected(), event.Origin{Host: "build-7", Entry: "nightly"}))
	})
	t.Run("the first one, from the command line, with open ends", func(t *testing.T) {
		r := rejected()
		r.Previous = ""
		r.Verdict.Outcome = verdict.Inconclusive
		r.Verdict.Phases[1].Lower, r.Verdict.Phases[1].Upper = nil, nil
		check(t, "decision-first-open.json", event.NewDecision(r, event.Origin{}))
	})
	t.Run("rejected by its quality", func(t *testing.T) {
		check(t, "decision-quality.json", event.NewDecision(damaged(), event.Origin{Host: "build-7", Entry: "nightly"}))
	})
	t.Run("of a file that exists", func(t *testing.T) {
		r := rejected()
		r.Against = "team/prod-q4"
		d := event.NewDecision(r, event.Origin{})
		require.NotNil(t, d.Against)
		assert.Equal(t, "team/prod-q4", *d.Against)
	})
	t.Run("of a model of which a format is chosen", func(t *testing.T) {
		d := event.NewDecision(rejected(), event.Origin{Chosen: "Q4_K_M"})
		require.NotNil(t, d.ChosenFormat)
		assert.Equal(t, "Q4_K_M", *d.ChosenFormat)
	})
	t.Run("the standing decision is a copy", func(t *testing.T) {
		r := rejected()
		d := event.NewDecision(r, event.Origin{})
		r.Previous = verdict.Rejected
		require.NotNil(t, d.PreviousDecision)
		assert.Equal(t, verdict.Kept, *d.PreviousDecision)
	})
}

func TestFailure(t *testing.T) {
	r := rejected()
	r.Verdict = nil
	r.Failure = &runner.Failure{Reason: runner.ReasonCrash, Err: errors.New("llama-bench died of signal 11\n\x1b[31m<boom>")}
	check(t, "failure.json", event.NewFailure(r))
}

func TestPassedOver(t *testing.T) {
	check(t, "passed_over.json", event.NewPassedOver("team/llama-1b", "Q8_0", "Q4_K_M"))
}

// An end of the interval that a float64 holds and its percentage not.
func TestAnEndBeyondEveryNumberIsOpen(t *testing.T) {
	r := rejected()
	r.Verdict.Phases[1].Lower = new(-math.MaxFloat64)
	d := event.NewDecision(r, event.Origin{})
	assert.Nil(t, d.DropIntervalPercent[0])
	assert.InDelta(t, 31.25, *d.DropIntervalPercent[1], 0)
	_, err := json.Marshal(d)
	assert.NoError(t, err)
}

// Whatever was measured, the three figures agree, and belong to the worst phase.
func TestTheFiguresAgree(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		rounds := make([]verdict.Round, 3+random.IntN(10))
		throughput := func() float64 { return math.Pow(10, -9+21*random.Float64()) }
		for i := range rounds {
			rounds[i] = verdict.Round{
				verdict.Generation: {Original: throughput(), Quantized: throughput()},
				verdict.Prompt:     {Original: throughput(), Quantized: throughput()},
			}
		}
		v := verdict.Conclude(config.DefaultBenchmark().Decision(0.12), rounds)
		r := rejected()
		r.Verdict = &v
		d := event.NewDecision(r, event.Origin{})

		drop := d.ThroughputDropPercent / 100
		// The rounding of a product and a difference, in units of what they are made of.
		allowed := 1e-14 * d.OriginalThroughput * (1 + math.Abs(drop))
		assert.InDelta(t, d.OriginalThroughput*(1-drop), d.QuantizedThroughput, allowed)
		for _, phase := range v.Phases {
			assert.GreaterOrEqual(t, d.ThroughputDropPercent, phase.Drop*100)
		}
		_, err := json.Marshal(d)
		require.NoError(t, err)
	}
}

func TestThresholdPercentIsTheFigureThatWasGiven(t *testing.T) {
	for ratio, percent := range map[float64]float64{0.07: 7, 0.12: 12, 0.14: 14, 0.285: 28.5, 0.001: 0.1} {
		assert.InDelta(t, percent, event.ThresholdPercent(ratio), 0)
	}
}

func TestTimestampIsFractional(t *testing.T) {
	r := rejected()
	r.Finished = time.Unix(1_782_907_200, 123_456_789)
	text, err := json.Marshal(event.NewDecision(r, event.Origin{}))
	require.NoError(t, err)
	assert.Contains(t, string(text), `"timestamp":1782907200.123456,`)
}
