package e2e_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// The ladder of the bundled model on its held-out text. Quality does not depend on the
// host's speed, so this is a claim about which way it falls.
func TestQualityOfTheLadder(t *testing.T) {
	t.Parallel()
	ladder := []struct {
		target     string
		divergence float64 // as measured by hand, with its last digit's rounding
		rounding   float64
	}{
		{"Q8_0", 0.0002, 0.00005},
		{"Q6_K", 0.0013, 0.00005},
		{"Q4_K_M", 0.0115, 0.00005},
		{"Q3_K_M", 0.0375, 0.00005},
		{"Q2_K", 0.164, 0.0005},
	}
	text := filepath.Join(shared.root, "examples", "models", "kjv-heldout.txt")
	h := newHost(t, quick+"quality: {corpus: "+text+", max_kl_divergence: 0.05, chunks: 32}\n"+
		"threshold: 0.95\n") // no copy is that slow: only quality decides
	args := []string{"--model", bundled()}
	for _, step := range ladder {
		args = append(args, "--target", step.target)
	}
	outcomes, exit := h.run(args...)
	require.Len(t, outcomes, len(ladder))
	assert.Equal(t, status(outcomes), exit)
	byTarget := map[string]outcome{}
	for _, o := range outcomes {
		require.Empty(t, o.Error)
		byTarget[o.Target] = o
	}
	for _, step := range ladder {
		o := byTarget[step.target]
		require.NotNil(t, o.Evidence.Quality, step.target)
		assert.Len(t, o.Evidence.Quality.Chunks, 8, "%s: the limit is clear by then", step.target)
		assert.Positive(t, o.Evidence.Quality.Corpus.Bytes)
		v := o.Evidence.Quality.Verdict()
		t.Logf("%s: KL divergence %+v, top token %+v, perplexity %+v", step.target, v.KLDivergence, v.Top1Agreement, v.PerplexityIncrease)
		assert.LessOrEqual(t, v.KLDivergence.Lower, step.divergence+step.rounding, step.target)
		assert.GreaterOrEqual(t, v.KLDivergence.Upper, step.divergence-step.rounding, step.target)
		if step.target == "Q2_K" {
			assert.Equal(t, verdict.Rejected, o.Decision)
			assert.Equal(t, verdict.GateQuality, o.Evidence.Verdict().Gate)
			assert.GreaterOrEqual(t, len(o.Evidence.Rounds), 3, "its throughput is known all the same")
		} else {
			assert.NotEqual(t, verdict.Rejected, o.Decision, step.target)
			assert.Empty(t, v.Exceeded, step.target)
		}
	}
}

// A limit on a tail needs all chunks; without one the evaluation may be over before the end of
// the text.
func TestQualityOnATextThatIsTooShort(t *testing.T) {
	t.Parallel()
	long, err := os.ReadFile(filepath.Join(shared.root, "examples", "models", "kjv-heldout.txt"))
	require.NoError(t, err)
	text := filepath.Join(t.TempDir(), "text.txt")
	require.NoError(t, os.WriteFile(text, long[:20_000], 0o600))
	h := newHost(t, quick+"quality: {corpus: "+text+", max_kl_divergence: 0.05, max_rms_dp: 1, chunks: 1000}\n")
	outcomes, exit := h.run("--model", bundled(), "--target", "Q2_K")
	assert.Equal(t, 5, exit)
	require.Len(t, outcomes, 1)
	assert.Equal(t, runner.ReasonEvaluate, outcomes[0].Reason)
	assert.Regexp(t, "the text holds 1[0-9] chunks of 512 tokens", outcomes[0].Error)
}
