package test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// From the configuration to the output: faster, and rejected by its quality.
func TestRunRejectsByQuality(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + p.evaluated())
	got := p.run("--output", "json")
	assert.Equal(t, exitRejected, got.status, got.stderr)
	assert.Equal(t, verdict.Rejected, got.one(t).Decision)
	for _, text := range []string{`"gate":"quality"`, `"exceeded_limits":["max_kl_divergence"]`, `"evaluate":`} {
		assert.Contains(t, got.stdout, text)
	}

	got = p.run("--output", "text", "--target", "Q4_K_M")
	assert.Equal(t, exitKept, got.status, got.stderr)
	assert.Contains(t, got.stdout, "Q4_K_M: KL divergence 0.0115, top token agrees in 92.5 %")
}

func TestEvaluationThatFails(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-perplexity", Do: fakellama.NaN}}})
	p.configure(quick + p.evaluated())
	p.requireFailed(p.run("--output", "json"), runner.ReasonEvaluate, "llama-perplexity", `"nan"`)
}
