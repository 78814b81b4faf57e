package e2e_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// heldOut is a configuration in which only quality rejects.
func heldOut(limit string) string {
	text := filepath.Join(shared.root, "examples", "models", "kjv-heldout.txt")
	return quick + "quality: {corpus: " + text + ", max_kl_divergence: " + limit + "}\nthreshold: 0.95\n"
}

// A ladder beside Q8_0: what is measured, and what quality is compared with, is that copy.
func TestBaseline(t *testing.T) {
	h := newHost(t, heldOut("0.05")+"baseline: Q8_0\n")
	outcomes, exit := h.run("--model", bundled(), "--target", "Q8_0", "--target", "Q4_K_M", "--target", "Q2_K")
	require.Len(t, outcomes, 3)
	assert.Equal(t, status(outcomes), exit)
	for _, o := range outcomes {
		require.Empty(t, o.Error)
		assert.Equal(t, "Q8_0", o.Source)
		assert.Equal(t, "Q8_0", o.Original.Format)
		assert.InEpsilon(t, 4_212_064, o.Original.Bytes, 0.1)
		require.NotNil(t, o.Evidence.Baseline)
		assert.Equal(t, []string{"original.gguf", "baseline.gguf", "Q8_0"}, o.Evidence.Baseline.Quantize.Args[1:4])
		assert.Contains(t, o.Evidence.Quantize.Args, "original.gguf", "%s is made of the model", o.Target)
		assert.Contains(t, o.Evidence.Rounds[0].Original.Measurement.Run.Args, "baseline.gguf")
		assert.Contains(t, o.Evidence.Quality.Predict.Args, "baseline.gguf")
		assert.Equal(t, o.Decision, o.Evidence.Verdict().Outcome)
		divergence := o.Evidence.Quality.Verdict().KLDivergence
		t.Logf("%s beside Q8_0: KL divergence %+v", o.Target, divergence)
		switch o.Target {
		case "Q8_0": // the same file: what is left is the rounding of the kept predictions
			assert.Less(t, divergence.Upper, 1e-4)
		case "Q4_K_M":
			assert.NotEqual(t, verdict.Rejected, o.Decision)
			assert.InDelta(t, 0.0115, divergence.Estimate, 0.002)
		case "Q2_K":
			assert.Equal(t, verdict.Rejected, o.Decision)
			assert.Equal(t, verdict.GateQuality, o.Evidence.Verdict().Gate)
		}
	}
}
