package llamacpp_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/runner"
)

const perplexity = "llama-perplexity"

// evaluatePlace has a copy to Q2_K and a text, too.
func evaluatePlace(t *testing.T, faults ...fakellama.Fault) *place {
	t.Helper()
	p := newPlace(t, fakellama.Behaviour{Faults: faults})
	_, err := p.engine().Quantize(t.Context(), p.quantizeJob(), noTensors)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "corpus.txt"), []byte(strings.Repeat("word ", 20_000)), 0o600))
	return p
}

func (p *place) evaluateJob(file string) runner.EvaluateJob {
	return runner.EvaluateJob{Dir: p.dir, Model: file, Corpus: "corpus.txt", Predictions: "predictions", Context: 512, Chunks: 32, Vocabulary: 1024}
}

// evaluate makes both passes.
func (p *place) evaluate(t *testing.T) (runner.Evaluation, error) {
	t.Helper()
	engine := p.engine()
	if _, err := engine.Predict(t.Context(), p.evaluateJob("original.gguf")); err != nil {
		return runner.Evaluation{}, err
	}
	return engine.Evaluate(t.Context(), p.evaluateJob("copy.gguf"))
}

func TestEvaluate(t *testing.T) {
	p := evaluatePlace(t)
	p.config.EvaluateArgs = []string{"-nr"}
	got, err := p.evaluate(t)
	require.NoError(t, err)
	assert.Equal(t, "-m original.gguf -c 512 -f corpus.txt --chunks 32 --kl-divergence-base predictions -t 4 -nr", p.lastArgs(t, perplexity, "predict"))
	assert.Equal(t, "-m copy.gguf -c 512 --kl-divergence-base predictions --kl-divergence -t 4 -nr", p.lastArgs(t, perplexity, ""))
	v := quality.Decide(quality.Limits{}, got.Sample)
	assert.InDelta(t, 0.1642, v.KLDivergence.Estimate, 0.005)
	assert.InDelta(t, 0.74, v.Top1Agreement.Estimate, 0.005)
	assert.InDelta(t, 24.878433, got.OriginalPerplexity, 1e-6)
	assert.Greater(t, got.Perplexity, got.OriginalPerplexity)
	assert.Equal(t, perplexity, got.Run.Args[0])

	size, err := p.engine().PredictionsSize(t.Context(), p.evaluateJob("original.gguf"))
	require.NoError(t, err)
	info, err := os.Stat(filepath.Join(p.dir, "predictions"))
	require.NoError(t, err)
	assert.Equal(t, info.Size(), size)
}

func TestEvaluateFails(t *testing.T) {
	predict := func(do fakellama.Do) fakellama.Fault {
		return fakellama.Fault{Tool: perplexity, Step: "predict", Do: do}
	}
	compare := func(do fakellama.Do) fakellama.Fault { return fakellama.Fault{Tool: perplexity, Do: do} }
	for name, test := range map[string]struct {
		fault  fakellama.Fault
		reason runner.Reason
		want   string
	}{
		"text too short":            {predict(fakellama.ShortText), runner.ReasonEvaluate, "tokenizes to only 512 tokens"},
		"text of fewer chunks":      {predict(fakellama.FewChunks), runner.ReasonEvaluate, "the text holds 16 chunks of 512 tokens"},
		"no predictions":            {predict(fakellama.NoResult), runner.ReasonEvaluate, "predictions"},
		"predictions cut off":       {predict(fakellama.HalfPredictions), runner.ReasonEvaluate, "is the disk full?"},
		"original not loaded":       {predict(fakellama.NotLoaded), runner.ReasonEvaluate, "failed to load model"},
		"first pass crashes":        {predict(fakellama.SegmentationFault), runner.ReasonCrash, "SIGSEGV"},
		"no result":                 {compare(fakellama.NoResult), runner.ReasonEvaluate, "no result"},
		"garbage":                   {compare(fakellama.Garbage), runner.ReasonEvaluate, "Bad Gateway"},
		"nan":                       {compare(fakellama.NaN), runner.ReasonEvaluate, `"nan"`},
		"cut off":                   {compare(fakellama.Truncated), runner.ReasonEvaluate, "31 chunks of 32"},
		"no quantile":               {compare(fakellama.NoQuantile), runner.ReasonEvaluate, `no line "99.9%   KLD"`},
		"fewer chunks":              {compare(fakellama.FewChunks), runner.ReasonEvaluate, "16 chunks of 32"},
		"copy not loaded":           {compare(fakellama.NotLoaded), runner.ReasonEvaluate, "failed to load model"},
		"crash":                     {compare(fakellama.Abort), runner.ReasonCrash, "SIGABRT"},
		"killed for memory":         {compare(fakellama.Kill), runner.ReasonOutOfMemory, "SIGKILL"},
		"out of memory":             {compare(fakellama.OutOfMemory), runner.ReasonOutOfMemory, "ran out of memory"},
		"flood":                     {compare(fakellama.FloodStdout), runner.ReasonEvaluate, "limit"},
		"no such options":           {fakellama.Fault{Tool: perplexity, Step: "help", Do: fakellama.Garbage}, runner.ReasonEngineMissing, "--kl-divergence"},
		"exits with status 1":       {compare(fakellama.ExitWithMessage), runner.ReasonEvaluate, "something went wrong"},
		"dies in a wrapper's hands": {compare(fakellama.WrapperCrash), runner.ReasonCrash, "139"},
	} {
		t.Run(name, func(t *testing.T) {
			p := evaluatePlace(t, test.fault)
			_, err := p.evaluate(t)
			requireFailure(t, err, test.reason, test.want)
			fakellama.NoneLeft(t, p.tools)
		})
	}
}

func TestEvaluateThatHangsIsKilledWithItsGroup(t *testing.T) {
	for _, do := range []fakellama.Do{fakellama.HangIgnoringSIGTERM, fakellama.HangWithGrandchild} {
		t.Run(string(do), func(t *testing.T) {
			p := evaluatePlace(t, fakellama.Fault{Tool: perplexity, Do: do})
			p.config.Timeouts.Evaluate = model.Duration(2 * time.Second)
			_, err := p.evaluate(t)
			requireFailure(t, err, runner.ReasonTimeout, "engine.timeouts.evaluate")
			fakellama.NoneLeft(t, p.tools)
		})
	}
}

// The real tool loses the end of its output at times.
func TestEvaluateAgainWhenTheEndOfTheOutputIsLost(t *testing.T) {
	p := evaluatePlace(t, fakellama.Fault{Tool: perplexity, Calls: []int{1, 2, 3}, Do: fakellama.Truncated})
	got, err := p.evaluate(t)
	require.NoError(t, err)
	assert.Len(t, got.Chunks, 32)
}

func TestEvaluateOnceWhenOnlyTheSummaryIsLost(t *testing.T) {
	p := evaluatePlace(t, fakellama.Fault{Tool: perplexity, Do: fakellama.NoSummary})
	got, err := p.evaluate(t)
	require.NoError(t, err)
	assert.Len(t, got.Chunks, 32)
	evaluations := slices.DeleteFunc(fakellama.Calls(t, p.tools), func(c fakellama.Call) bool {
		return !slices.Contains(c.Args, "--kl-divergence")
	})
	assert.Len(t, evaluations, 1)
}

func TestEvaluateAgainWhenALimitNeedsTheSummary(t *testing.T) {
	p := evaluatePlace(t, fakellama.Fault{Tool: perplexity, Calls: []int{1, 2}, Do: fakellama.NoSummary})
	engine, job := p.engine(), p.evaluateJob("original.gguf")
	_, err := engine.Predict(t.Context(), job)
	require.NoError(t, err)
	job.Model, job.Quantiles = "copy.gguf", true
	got, err := engine.Evaluate(t.Context(), job)
	require.NoError(t, err)
	assert.InDelta(t, 16*0.1642, *quality.Decide(quality.Limits{}, got.Sample).Quantile(quality.P999), 0.05)
}

func TestEvaluateWithoutTheTool(t *testing.T) {
	p := evaluatePlace(t)
	require.NoError(t, os.Remove(filepath.Join(p.tools, perplexity)))
	_, err := p.engine().PredictionsSize(t.Context(), p.evaluateJob("original.gguf"))
	requireFailure(t, err, runner.ReasonEngineMissing, "llama-perplexity is not in", "llama.cpp-tools-extra")
	_, err = p.engine().Probe(t.Context())
	require.NoError(t, err, "nobody else needs it")
}
