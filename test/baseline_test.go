package test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// From the configuration to the output: a copy that is faster than the model, and slower
// than the baseline.
func TestRunBesideABaseline(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Factors: []fakellama.Factor{{Format: "Q8_0", By: 0.5}}})
	p.configure(quick + "baseline: q8_0\n" + p.evaluated())
	got := p.run("--output", "json", "--evidence", "--target", "Q4_K_M")
	assert.Equal(t, exitRejected, got.status, got.stderr)
	one := got.one(t)
	assert.Equal(t, verdict.Rejected, one.Decision)
	for _, text := range []string{`"source_format":"Q8_0"`, `"original_file":{"format":"Q8_0"`, `"baseline":{"format":"Q8_0","quantize":{"args":["llama-quantize",`, `"baseline.gguf","Q8_0"`} {
		assert.Contains(t, got.stdout, text)
	}
	got = p.run("--output", "text", "--target", "Q4_K_M")
	assert.Contains(t, got.stdout, "m: Q8_0, ")
}

func TestFlagOfTheBaselineComesFirst(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + "schedule: [{name: n, cron: '@daily', baseline: Q6_K}]\n")
	assert.Contains(t, p.run("--output", "json", "--entry", "n").stdout, `"source_format":"Q6_K"`)
	assert.Contains(t, p.run("--output", "json", "--entry", "n", "--baseline", "q8_0").stdout, `"source_format":"Q8_0"`)
	assert.Contains(t, p.run("--output", "json").stdout, `"source_format":"F16"`)
	got := p.run("--output", "json", "--baseline", "Q8_1")
	assert.Equal(t, exitError, got.status, "a mistake of the user's, not a failed cycle")
	assert.Contains(t, got.stderr, `baseline: "Q8_1" is not a format that this llama.cpp makes`)
	assert.Empty(t, got.stdout)
}

func TestBaselineThatTheToolCannotMake(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-quantize", Format: "Q8_0", Do: fakellama.SegmentationFault}}})
	p.requireFailed(p.run("--output", "json", "--baseline", "Q8_0"), runner.ReasonCrash, "making the baseline Q8_0", "llama-quantize")
}

func TestEstimateBesideABaseline(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	got := p.run("--dry-run", "--output", "json", "--baseline", "Q8_0", "--target", "Q8_0")
	require.Zero(t, got.status, got.stderr)
	assert.Contains(t, got.stdout, `"throughput_drop_percent":0,`)
	assert.Contains(t, got.stdout, `"source_format":"Q8_0"`)
	got = p.run("--dry-run", "--baseline", "Q8_1")
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, `estimating m: the baseline Q8_1: unknown format "Q8_1"`)
}

func TestCheckOfABaseline(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure("baseline: q8_0\nschedule: [{name: n, cron: '@daily'}]")
	got := p.check()
	assert.Zero(t, got.status, got.stderr)
	assert.Contains(t, got.stdout, "\n  targets  Q2_K\n  baseline Q8_0\n  models   m\n")

	p.configure("schedule: [{name: n, cron: '@daily', baseline: Q8_1}]")
	got = p.check()
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, `config.yml:1: schedule: entry "n": baseline: "Q8_1" is not a format`)
}

func TestCalibrateMeasuresTheBaseline(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + "baseline: Q8_0\n")
	got := p.start("calibrate", p.model, "--llamacpp.dir", p.tools, "--rounds", "4", "--threads", "1", "--output", "json")
	require.Zero(t, got.status, got.stderr)
	assert.Regexp(t, `"(source_)?format": ?"Q8_0"`, got.stdout)
}
