package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
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
	t.Parallel()
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

// served makes a Q4_K_M file of the bundled model, before any cycle.
func served(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "served.gguf")
	out, err := exec.Command(filepath.Join(shared.tools, "llama-quantize"), bundled(), file, "Q4_K_M").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return file
}

func sum(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	hash := sha256.Sum256(content)
	return hex.EncodeToString(hash[:])
}

// A file that exists has to pass both gates; nothing is made, and it stays as it is.
func TestAgainstAFile(t *testing.T) {
	t.Parallel()
	file := served(t)
	before := sum(t, file)
	for limit, decisions := range map[string][]verdict.Outcome{
		"0.05":  {verdict.Kept, verdict.Inconclusive},
		"0.005": {verdict.Rejected},
	} {
		outcomes, exit := newHost(t, heldOut(limit)).run("--model", bundled(), "--against", file)
		require.Len(t, outcomes, 1)
		o := outcomes[0]
		require.Empty(t, o.Error)
		assert.Equal(t, status(outcomes), exit)
		assert.Contains(t, decisions, o.Decision, limit)
		assert.Equal(t, "F16", o.Source)
		assert.Equal(t, "Q4_K_M", o.Target)
		assert.Equal(t, "Q4_K_M", o.Quantized.Format)
		assert.InEpsilon(t, 2_450_000, o.Quantized.Bytes, 0.1)
		assert.Empty(t, o.Evidence.Quantize.Args)
		require.Len(t, o.Evidence.Against, 1)
		assert.Equal(t, file, o.Evidence.Against[0].Path)
		divergence := o.Evidence.Quality.Verdict().KLDivergence
		assert.LessOrEqual(t, divergence.Lower, 0.0115)
		assert.GreaterOrEqual(t, divergence.Upper, 0.0115)
		if o.Decision == verdict.Rejected {
			assert.Equal(t, verdict.GateQuality, o.Evidence.Verdict().Gate)
		}
	}
	assert.Equal(t, before, sum(t, file))
}

// By throughput, with a llama-bench whose samples of the file are multiplied by 20; beside a
// baseline that is made for it.
func TestAgainstASlowFileBesideABaseline(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(shared.tools, "llama-quantize"), filepath.Join(dir, "llama-quantize")))
	require.NoError(t, os.Symlink(slow(t), filepath.Join(dir, "llama-bench")))
	config := fmt.Sprintf("baseline: Q8_0\nengine: {env: {SLOWBENCH_REAL: %q, SLOWBENCH_MODEL: against.gguf, SLOWBENCH_FACTOR: \"20\"}}\nbenchmark: {prompt_tokens: 64, generation_tokens: 64, max_disturbance: 1}\n",
		filepath.Join(shared.tools, "llama-bench"))
	outcomes, code := newHost(t, config, "--llamacpp.dir", dir).run("--model", bundled(), "--against", served(t))
	require.Len(t, outcomes, 1)
	assert.Equal(t, verdict.Rejected, outcomes[0].Decision, outcomes[0].Error)
	assert.Equal(t, "Q8_0", outcomes[0].Source)
	assert.Equal(t, "Q4_K_M", outcomes[0].Target)
	assert.Equal(t, 3, code)
}
