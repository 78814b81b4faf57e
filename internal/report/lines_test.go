package report_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/estimate"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/test/golden"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// quarter is a decision with figures that binary fractions hold exactly.
func quarter() runner.Result {
	r := decided("Q2_K", 2_500_000_000, verdict.Verdict{Outcome: verdict.Rejected, Gate: verdict.Generation, Rounds: 3, Phases: []verdict.PhaseVerdict{
		phase(verdict.Generation, 64, 0.25, 0.0625),
	}})
	r.Quantized.BitsPerWeight = 3
	r.Finished = time.Unix(1_782_907_200, 250_000_000)
	r.Durations[runner.OperationQuantize] = 1500 * time.Millisecond
	r.Evidence.Rounds = append(r.Evidence.Rounds, runner.Round{})
	r.Evidence.Verdicts = []verdict.Verdict{*r.Verdict}
	return r
}

func lineOf(t *testing.T, r runner.Result, evidence bool) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, report.JSONLine(&out, &r, event.Origin{Host: "build-7"}, "", evidence))
	assert.Equal(t, 1, bytes.Count(out.Bytes(), []byte("\n")), "one line")
	return out.String()
}

func TestJSONLine(t *testing.T) {
	golden.Check(t, "decision.json", lineOf(t, quarter(), false))
	failure := failed("Q2_K", runner.ReasonCrash, "llama-bench <F16> died of signal 11\n\x1b[31m")
	golden.Check(t, "failure.json", lineOf(t, failure, false))
	assert.Equal(t, lineOf(t, failure, false), lineOf(t, failure, true))
}

// With evidence the line is the same object with one field more, that reads back whole.
func TestEvidence(t *testing.T) {
	var without, with map[string]any
	require.NoError(t, json.Unmarshal([]byte(lineOf(t, quarter(), false)), &without))
	text := lineOf(t, quarter(), true)
	require.NoError(t, json.Unmarshal([]byte(text), &with))
	require.NotContains(t, without, "evidence")
	require.Contains(t, with, "evidence")
	delete(with, "evidence")
	assert.Equal(t, without, with)

	var back struct{ Evidence runner.Evidence }
	require.NoError(t, json.Unmarshal([]byte(text), &back))
	assert.Equal(t, quarter().Evidence.Rounds, back.Evidence.Rounds)
	assert.Equal(t, quarter().Evidence.Verdicts, back.Evidence.Verdicts)
}

func TestFiguresThatJSONCannotCarryAreAnError(t *testing.T) {
	r := quarter()
	r.Verdict.Phases[0].Original = math.NaN()
	var out bytes.Buffer
	require.ErrorContains(t, report.JSONLine(&out, &r, event.Origin{}, "", false), "encoding a result")
	assert.Empty(t, out.String(), "half a line is worse than none")
}

// llama is a model, and what a dry run says of it.
func llama() (model.Model, []estimate.Estimate) {
	model := model.Model{
		Name: "llama-7b", Size: 13_500_000_000,
		Header: &gguf.Header{Format: "F16", Parameters: 6_750_000_000, Tensors: []gguf.Tensor{{Elements: 6_750_000_000, Bytes: 13_500_000_000}}},
	}
	return model, []estimate.Estimate{
		{Target: "Q4_K_M", Bytes: 4_080_000_000, Memory: 4_700_000_000, BitsPerWeight: 4.84, DropRatio: -2.25},
		{Target: "IQ2_XXS", Bytes: 1_900_000_000, Memory: 2_500_000_000, BitsPerWeight: 2.25, FallbackShare: 0.0412, NeedsImatrix: true, DropRatio: 0.5},
	}
}

func TestEstimates(t *testing.T) {
	model, estimates := llama()
	var table, lines bytes.Buffer
	require.NoError(t, report.EstimateTable(&table, model.Name, runner.FiguresOf(model), estimates, config.Settings{Threshold: 0.12}))
	require.NoError(t, report.EstimateLegend(&table, 0.12))
	golden.Check(t, "estimate.txt", table.String())
	for line := range bytes.Lines(table.Bytes()) {
		if bytes.Contains(line, []byte("Q")) {
			assert.Contains(t, string(line), "estimated", "every line about a target")
		}
	}
	require.NoError(t, report.EstimateLines(&lines, model.Name, runner.FiguresOf(model), estimates, config.Settings{Threshold: 0.07}))
	golden.Check(t, "estimate.json", lines.String())
	for line := range bytes.Lines(lines.Bytes()) {
		var object map[string]any
		require.NoError(t, json.Unmarshal(line, &object))
		assert.Equal(t, true, object["estimated"])
		for _, measured := range []string{"decision", "original_throughput", "quantized_throughput"} {
			assert.NotContains(t, object, measured)
		}
	}

	lines.Reset()
	require.NoError(t, report.EstimateLines(&lines, model.Name, report.EstimatedFile(estimates[0], 6_750_000_000), estimates[1:], config.Settings{Threshold: 0.07}))
	assert.Contains(t, lines.String(), `"source_format":"Q4_K_M"`)
	assert.Contains(t, lines.String(), `"original_file":{"format":"Q4_K_M","bytes":4080000000,"parameters":6750000000,`)

	model.Name, estimates[0].Target = hostile, hostile
	table.Reset()
	require.NoError(t, report.EstimateTable(&table, model.Name, runner.FiguresOf(model), estimates, config.Settings{Threshold: 0.12}))
	harmless(t, table.String())
}

// A limit of 0 is none, and the memory of a device may hold a part of a copy, or nothing.
func TestEstimatesBesideLimitsOfMemory(t *testing.T) {
	model, _ := llama()
	for name, test := range map[string]struct {
		limits config.MaxMemory
		want   string
	}{
		"no limit":                    {config.MaxMemory{}, "likely kept\n"},
		"within both":                 {config.MaxMemory{Host: 24e9, Device: 20e9}, "likely kept\n"},
		"within that of the host":     {config.MaxMemory{Host: 24e9}, "likely kept\n"},
		"beyond that of a device":     {config.MaxMemory{Device: 12e9}, "likely kept, but may not fit a device of 12.0 GB\n"},
		"between the two":             {config.MaxMemory{Host: 24e9, Device: 12e9}, "likely kept, but may not fit a device of 12.0 GB\n"},
		"beyond that of the host":     {config.MaxMemory{Host: 16e9}, "likely rejected by its memory\n"},
		"beyond both":                 {config.MaxMemory{Host: 16e9, Device: 12e9}, "likely rejected by its memory\n"},
		"beyond that of a small host": {config.MaxMemory{Host: 16e9, Device: 48e9}, "likely rejected by its memory\n"},
	} {
		estimates := []estimate.Estimate{{Target: "Q8_0", Bytes: 19_000_000_000, Memory: 20_000_000_000, BitsPerWeight: 8.5, DropRatio: -0.8}}
		var table strings.Builder
		require.NoError(t, report.EstimateTable(&table, model.Name, runner.FiguresOf(model), estimates, config.Settings{Threshold: 0.12, MaxMemory: test.limits}))
		assert.Contains(t, table.String(), "estimated, "+test.want, name)
	}
}

func TestErrorsOfTheWriterAreNotLost(t *testing.T) {
	model, estimates := llama()
	result := quarter()
	for name, err := range map[string]error{
		"table":           report.Table(full{}, report.Cycle{Results: ladder()}, false),
		"line":            report.JSONLine(full{}, &result, event.Origin{}, "", false),
		"estimate table":  report.EstimateTable(full{}, model.Name, runner.FiguresOf(model), estimates, config.Settings{Threshold: 0.12}),
		"estimate legend": report.EstimateLegend(full{}, 0.12),
		"estimate lines":  report.EstimateLines(full{}, model.Name, runner.FiguresOf(model), estimates, config.Settings{Threshold: 0.12}),
	} {
		assert.ErrorIs(t, err, errFull, name)
	}
}
