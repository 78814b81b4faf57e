package report_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/test/golden"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// hostile is a name of everything that does something to a terminal: line ends, escape
// sequences of both kinds, a mark that turns the direction of writing, a byte that is no
// UTF-8, and the control characters that once marked colours in our own layout.
const hostile = "a\nb\r\x1b[2J\u009b31m\u202egpj\x01\x02\x03\x04\xff\t\x7fz"

// harmless reports whether a person's terminal shows text as it is; line ends are ours.
func harmless(t *testing.T, text string) {
	t.Helper()
	assert.True(t, utf8.ValidString(text), "%q", text)
	for _, r := range text {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			assert.Failf(t, "raw control character", "%q in %q", r, text)
		}
	}
}

func phase(name verdict.Phase, original, drop, margin float64) verdict.PhaseVerdict {
	return verdict.PhaseVerdict{
		Phase: name, Drop: drop, Lower: new(drop - margin), Upper: new(drop + margin),
		Original: original, Quantized: original * (1 - drop),
	}
}

// decided is a pair of a ladder on a 7B model.
func decided(target string, bytes int64, v verdict.Verdict) runner.Result {
	v.Confidence = 0.925
	return runner.Result{
		Model:        "llama-7b",
		SourceFormat: "F16",
		TargetFormat: target,
		Threshold:    0.12,
		Verdict:      &v,
		Original:     runner.FileFigures{Format: "F16", Bytes: 13_500_000_000, Parameters: 6_740_000_000, BitsPerWeight: 16},
		Quantized:    runner.FileFigures{Format: target, Bytes: bytes, Parameters: 6_740_000_000, BitsPerWeight: float64(bytes) * 8 / 6_740_000_000},
		Durations:    map[runner.Operation]time.Duration{runner.OperationTotal: 83_400 * time.Millisecond},
		Evidence: runner.Evidence{
			Engine:    runner.EngineInfo{Name: "llama.cpp", Version: "0.7.0", Build: 11669},
			Benchmark: config.Benchmark{Phases: []verdict.Phase{verdict.Generation, verdict.Prompt}},
			Rounds:    []runner.Round{{Counted: true, Original: runner.Sample{Measurement: runner.Measurement{Threads: 7}}}},
		},
	}
}

func failed(target string, reason runner.Reason, message string) runner.Result {
	r := decided(target, 0, verdict.Verdict{})
	r.Verdict, r.Quantized, r.Evidence.Rounds = nil, runner.FileFigures{}, nil
	r.Failure = &runner.Failure{Reason: reason, Err: errors.New(message)}
	return r
}

func TestTableSaysWhatHasChangedAndWhatIsReused(t *testing.T) {
	a, b := decided("Q8_0", 7e9, verdict.Verdict{Outcome: verdict.Kept}), decided("Q2_K", 2e9, verdict.Verdict{Outcome: verdict.Kept})
	engine := runner.Change{Input: runner.InputEngine, Text: "llama.cpp 11669 → 11702"}
	a.Changes = []runner.Change{engine}
	b.Changes = []runner.Change{engine, {Input: runner.InputArguments, Text: "engine.env.X none → " + hostile}}
	b.Evidence.Reused = "abc"
	var out bytes.Buffer
	require.NoError(t, report.Table(&out, report.Cycle{Results: []runner.Result{a, b}}, false))
	text := out.String()
	harmless(t, text)
	assert.Equal(t, 1, strings.Count(text, "changed since the decision before: llama.cpp 11669 → 11702\n"), "%s", text)
	assert.Contains(t, text, "changed since the decision before: engine.env.X none → a\n")
	assert.Contains(t, text, "Q2_K: the copy is one that an earlier cycle made of the same.\n")
	assert.NotContains(t, text, "Q8_0: the copy")
}

func TestTableSaysWhatOfTheQuality(t *testing.T) {
	figures := runner.Evaluated{
		Verdict: quality.Verdict{
			KLDivergence:       quality.Interval{Estimate: 0.164, Lower: 0.158, Upper: 0.17},
			Top1Agreement:      quality.Interval{Estimate: 0.74, Lower: 0.73, Upper: 0.75},
			PerplexityIncrease: quality.Interval{Estimate: 0.131, Lower: 0.117, Upper: 0.146},
		},
		Limits: quality.Limits{MaxKLDivergence: 0.05, MinTop1Agreement: 0.9, MaxPerplexityIncrease: 0.1},
	}
	good := figures
	bad := figures
	bad.Exceeded = []quality.Limit{quality.MaxKLDivergence, quality.MinTop1Agreement, quality.MaxPerplexityIncrease}
	kept := decided("Q8_0", 1, verdict.Verdict{Outcome: verdict.Kept, Rounds: 3})
	rejected := decided("Q2_K", 1, verdict.Verdict{Outcome: verdict.Rejected, Gate: verdict.GateQuality, Rounds: 3})
	kept.Quality, rejected.Quality = &good, &bad
	var out bytes.Buffer
	require.NoError(t, report.Table(&out, report.Cycle{Results: []runner.Result{kept, rejected}}, false))
	assert.Contains(t, out.String(), "\nQ8_0: KL divergence 0.164, top token agrees in 74.0 %, perplexity +13.1 %.\n")
	assert.Contains(t, out.String(), "\nQ2_K: rejected by quality: KL divergence up to 0.17, limit 0.05; "+
		"top token agrees in as little as 73.0 %, limit 90.0 %; perplexity higher by up to 14.6 %, limit 10.0 %.\n")
}

func TestTableSaysWhatIsChosenAndPassedOver(t *testing.T) {
	show := func(c report.Cycle) string {
		var out bytes.Buffer
		require.NoError(t, report.Table(&out, c, true))
		harmless(t, strings.ReplaceAll(out.String(), "\x1b", ""))
		return out.String()
	}
	kept := decided("Q4_K_M", 1, verdict.Verdict{Outcome: verdict.Kept, Rounds: 3})
	chosen := &event.Choice{Choose: choice.Smallest, ChosenFormat: new("Q4_K_M"), PreviousFormat: new("Q2_K")}
	text := show(report.Cycle{Results: []runner.Result{kept}, PassedOver: []string{"Q6_K", hostile}, Choice: chosen})
	assert.Regexp(t, `(?m)^Q6_K +- +- +- +- +- +- +- +passed over$`, text)
	assert.Contains(t, text, "\nChosen to be served: Q4_K_M, the smallest that is kept; before it was Q2_K.\nTargets that were passed over")

	chosen.PreviousFormat = new("Q4_K_M")
	assert.Contains(t, show(report.Cycle{Results: []runner.Result{kept}, Choice: chosen}), "\nChosen to be served: Q4_K_M, the smallest that is kept.\nSpeed: ")
	chosen.ChosenFormat, chosen.Choose = nil, choice.Fastest
	assert.Contains(t, show(report.Cycle{Results: []runner.Result{kept}, Choice: chosen}), "\nChosen to be served: none, because none is kept; before it was Q4_K_M.\n")
	for _, rule := range choice.Rules() {
		assert.Contains(t, rule.Superlative(), "that is kept")
	}
}

// ladder has every way that a pair can end.
func ladder() []runner.Result {
	kept := decided("Q8_0", 7_160_000_000, verdict.Verdict{Outcome: verdict.Kept, Rounds: 3, Phases: []verdict.PhaseVerdict{
		phase(verdict.Generation, 13.44, -0.8234, 0.0521), phase(verdict.Prompt, 10214, -0.0004, 0.0113),
	}})
	rejected := decided("Q6_K", 5_530_000_000, verdict.Verdict{Outcome: verdict.Rejected, Gate: verdict.Prompt, Rounds: 4, Phases: []verdict.PhaseVerdict{
		phase(verdict.Generation, 13.51, -1.2, 0.11), phase(verdict.Prompt, 10214, 0.2512, 0.0311),
	}})
	noisy := decided("Q4_K_M", 4_080_000_000, verdict.Verdict{Outcome: verdict.Inconclusive, Rounds: 56, Resolvable: 0.0449, Phases: []verdict.PhaseVerdict{
		phase(verdict.Generation, 13.5, -1.7, 0.2), phase(verdict.Prompt, 10214, 0.118, 0.0311),
	}})
	noisy.Evidence.Rounds = append(noisy.Evidence.Rounds, runner.Round{}, runner.Round{})
	unconfirmed := decided("Q3_K_M", 3_300_000_000, verdict.Verdict{Outcome: verdict.Inconclusive, Rounds: 8, Resolvable: 0.03, Phases: []verdict.PhaseVerdict{
		phase(verdict.Generation, 13.5, -1.9, 0.2), phase(verdict.Prompt, 10214, 0.09, 0.02),
	}})
	unconfirmed.Unconfirmed, unconfirmed.Previous = true, verdict.Kept
	unconfirmed.Quantized.FallbackShare = 0.0412
	unconfirmed.Evidence.Rounds = append(unconfirmed.Evidence.Rounds, runner.Round{})
	return []runner.Result{
		kept, rejected, noisy, unconfirmed,
		failed("Q2_K", runner.ReasonCrash, "measuring Q2_K: llama-bench died of signal 11; its last lines:\nggml: assertion failed\naborting"),
	}
}

func table(t *testing.T, results []runner.Result, color bool) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, report.Table(&out, report.Cycle{Results: results}, color))
	return out.String()
}

func TestTable(t *testing.T) {
	onePhase := ladder()[:1]
	onePhase[0].Evidence.Benchmark.Phases = []verdict.Phase{verdict.Generation}
	onePhase[0].Verdict.Phases = onePhase[0].Verdict.Phases[:1]

	open := ladder()[:1]
	open[0].Verdict.Outcome, open[0].Verdict.Resolvable = verdict.Inconclusive, 1
	open[0].Verdict.Rounds = 1
	for i := range open[0].Verdict.Phases {
		open[0].Verdict.Phases[i].Lower, open[0].Verdict.Phases[i].Upper = nil, nil
	}

	// The whole cycle failed before the header was read: every figure is zero.
	var bad []runner.Result
	for _, target := range []string{"Q4_K_M", "Q2_K"} {
		r := failed(target, runner.ReasonBadModel, "\"/models/llama-7b.gguf\" is cut off: download it again")
		r.Original, r.SourceFormat, r.Evidence.Engine = runner.FileFigures{}, "", runner.EngineInfo{}
		bad = append(bad, r)
	}

	evil := ladder()[1:]
	for i := range evil {
		evil[i].Model, evil[i].TargetFormat = hostile, hostile
		evil[i].Evidence.Engine.Version = hostile
	}
	evil[len(evil)-1].Failure.Err = errors.New("llama-quantize said: " + hostile)

	for file, results := range map[string][]runner.Result{
		"ladder.txt":    ladder(),
		"one-phase.txt": onePhase,
		"open.txt":      open,
		"bad-model.txt": bad,
		"hostile.txt":   evil,
	} {
		t.Run(file, func(t *testing.T) {
			text := table(t, results, false)
			golden.Check(t, file, text)
			harmless(t, text)
		})
	}
	assert.Empty(t, table(t, nil, true))
}

func TestTheTableFits120Columns(t *testing.T) {
	head, _, found := strings.Cut(table(t, ladder(), false), "\n\nQ2_K failed")
	require.True(t, found)
	for line := range strings.Lines(head) {
		assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 120, line)
	}
}

func TestColorsAreAllThatColorAdds(t *testing.T) {
	colored := table(t, ladder(), true)
	for _, word := range []string{"\x1b[1;32mkept\x1b[0m\n", "\x1b[1;31mrejected\x1b[0m\n", "\x1b[1;33minconclusive\x1b[0m\n", "\x1b[1;33mfailed\x1b[0m\n"} {
		assert.Contains(t, colored, word)
	}
	without := strings.NewReplacer("\x1b[1;32m", "", "\x1b[1;31m", "", "\x1b[1;33m", "", "\x1b[0m", "").Replace(colored)
	assert.Equal(t, table(t, ladder(), false), without)
}

func TestNothingHostileComesThroughColors(t *testing.T) {
	results := ladder()
	for i := range results {
		results[i].Model, results[i].TargetFormat = hostile, hostile
	}
	results[4].Failure.Err = errors.New(hostile)
	text := table(t, results, true)
	harmless(t, strings.NewReplacer("\x1b[1;32m", "", "\x1b[1;31m", "", "\x1b[1;33m", "", "\x1b[0m", "").Replace(text))
	assert.Equal(t, len(results), strings.Count(text, "\x1b[0m"), "one coloured word a row")
}

// full is a disk without room.
type full struct{}

var errFull = errors.New("no space left on device")

func (full) Write([]byte) (int, error) { return 0, errFull }
