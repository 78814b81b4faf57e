package llamacpp

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/runner"
)

func TestParseEvaluationReadsRealOutput(t *testing.T) {
	got, err := parseEvaluation(read(t, "recorded", "perplexity.txt"), runner.EvaluateJob{Chunks: 32})
	require.NoError(t, err)
	assert.InDelta(t, 28.147233, got.Perplexity, 1e-9)
	assert.InDelta(t, 24.878433, got.OriginalPerplexity, 1e-9)
	require.Len(t, got.Chunks, 32)
	assert.InDelta(t, 0.17897, got.Chunks[0].KLDivergence, 1e-9)
	assert.InDelta(t, 2*0.16704-0.17897, got.Chunks[1].KLDivergence, 1e-9, "a row is the mean of all chunks so far")
	var sum quality.Chunk
	for _, c := range got.Chunks {
		sum.KLDivergence += c.KLDivergence
		sum.Top1Agreement += c.Top1Agreement
		sum.LogPerplexityRatio += c.LogPerplexityRatio
		sum.SquaredDeltaP += c.SquaredDeltaP
	}
	assert.InDelta(t, 0.164182, sum.KLDivergence/32, 1e-9)
	assert.InDelta(t, 0.73971, sum.Top1Agreement/32, 1e-9)
	assert.InDelta(t, math.Log(28.147233/24.878433), sum.LogPerplexityRatio/32, 1e-6)
	assert.InDelta(t, 0.10389*0.10389, sum.SquaredDeltaP/32, 1e-9)
	assert.InDelta(t, 0.10421*0.10421, got.Chunks[0].SquaredDeltaP, 1e-9)
	assert.Equal(t, []quality.Quantile{
		{Percent: 0, KLDivergence: 0.000120},
		{Percent: 0.1, KLDivergence: 0.000521},
		{Percent: 1, KLDivergence: 0.002361},
		{Percent: 5, KLDivergence: 0.011935},
		{Percent: 10, KLDivergence: 0.023161},
		{Percent: 50, KLDivergence: 0.083422},
		{Percent: 90, KLDivergence: 0.358393},
		{Percent: 95, KLDivergence: 0.573958},
		{Percent: 99, KLDivergence: 1.431763},
		{Percent: quality.P999, KLDivergence: 2.654064},
		{Percent: 100, KLDivergence: 5.290507},
	}, got.Quantiles)
}

// The rows are all that is needed: the tool may lose what follows them.
func TestParseEvaluationReadsRowsWithoutASummary(t *testing.T) {
	text := read(t, "recorded", "perplexity.txt")
	whole, err := parseEvaluation(text, runner.EvaluateJob{Chunks: 32})
	require.NoError(t, err)
	for name, cut := range map[string]string{"cut off in the summary": before(text, "Same top p:"), "cut off after the rows": before(text, "=====")} {
		t.Run(name, func(t *testing.T) {
			got, err := parseEvaluation(cut, runner.EvaluateJob{Chunks: 32})
			require.NoError(t, err)
			assert.InDelta(t, whole.Perplexity, got.Perplexity, 1e-4)
			assert.InDelta(t, whole.OriginalPerplexity, got.OriginalPerplexity, 1e-3)
			require.Len(t, got.Chunks, 32)
			assert.Equal(t, whole.Chunks[:31], got.Chunks[:31])
			assert.InDelta(t, whole.Chunks[31].KLDivergence, got.Chunks[31].KLDivergence, 32*1e-5)
			assert.Empty(t, got.Quantiles)
			_, err = parseEvaluation(cut, runner.EvaluateJob{Chunks: 32, Quantiles: true})
			require.ErrorIs(t, err, errCutOff, "a limit needs them")
		})
	}
}

func TestParseEvaluationRefuses(t *testing.T) {
	text := read(t, "recorded", "perplexity.txt")
	for name, test := range map[string]struct {
		text   string
		chunks int
		cutOff bool
		want   string
	}{
		"nothing":                  {"", 32, true, "no result"},
		"another program's output": {"hello\n", 32, false, "hello"},
		"recorded with a lost end": {read(t, "recorded", "perplexity-cut-off.txt"), 2, true, "1 chunks of 2"},
		"cut off in the last row":  {before(text, "\n  32 ") + "\n  32      28.1472 ±", 32, true, "31 chunks of 32"},
		"too few chunks":           {text, 33, true, "32 chunks of 33"},
		"too many chunks":          {text, 31, false, "32 chunks instead of 31"},
		"not a number":             {strings.Replace(text, "0.16704", "    nan", 1), 32, false, `"nan"`},
		"infinite":                 {strings.Replace(text, "28.147233", "inf", 1), 32, false, `"inf"`},
		"a row is missing":         {strings.Replace(text, "\n   7 ", "\n   8 ", 1), 32, false, "after 6 rows"},
		"other columns":            {strings.Replace(text, "±    4.2364", "", 1), 32, false, "cannot read"},
		"impossible agreement":     {strings.Replace(text, "70.196", "170.196", 1), 32, false, "170.196"},
		"impossible perplexity":    {strings.Replace(text, "24.878433", " 0.878433", 1), 32, false, "below 1"},
		"impossible difference":    {strings.Replace(text, "10.633", "110.633", 1), 32, false, "110.633"},
		"no quantile":              {strings.Replace(text, "99.9%   KLD", "99.8%   KLD", 1), 32, false, `no line "99.9%   KLD"`},
		"quantiles in disorder":    {strings.Replace(text, "1.431763", "9.431763", 1), 32, false, "contradict each other"},
		"quantile of nan":          {strings.Replace(text, "2.654064", "nan", 1), 32, false, `"nan"`},
		"no mean in the summary":   {strings.Replace(text, "Mean    KLD", "Mode    KLD", 1), 32, false, `no line "Mean    KLD"`},
		"another RMS Δp":           {strings.Replace(text, "RMS Δp    : 10.389", "RMS Δp    : 10.489", 1), 32, false, "differs from its last chunk"},
		"divergence below 0":       {strings.Replace(text, "0.16704", "-0.1670", 1), 32, false, "none is below 0"},
		"a token's below 0":        {strings.Replace(text, "Minimum KLD:   0.000120", "Minimum KLD:  -0.900120", 1), 32, false, "none is below 0"},
		"mean beyond the most":     {strings.NewReplacer("5.290507", "0.000125", "2.654064", "0.000125", "1.431763", "0.000125", "0.573958", "0.000125", "0.358393", "0.000125", "0.083422", "0.000124", "0.023161", "0.000123", "0.011935", "0.000123", "0.002361", "0.000122", "0.000521", "0.000121").Replace(text), 32, false, "the tokens have 0.00012 to 0.000125"},
		"a row below 1":            {strings.Replace(text, "28.6200", " 0.6200", 1), 32, false, "none is below 1"},
		"another perplexity":       {strings.Replace(text, "28.147233", "38.147233", 1), 32, false, "38.147233 in its summary, and 28.1472 in its last chunk"},
		"another original":         {strings.Replace(text, "24.878433", "34.878433", 1), 32, false, "the logarithm of their ratio"},
		"summary of another run":   {strings.Replace(text, "KLD:   0.164182", "KLD:   0.264182", 1), 32, false, "differs from its last chunk"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseEvaluation(test.text, runner.EvaluateJob{Chunks: test.chunks})
			require.ErrorContains(t, err, test.want)
			if test.cutOff {
				require.ErrorIs(t, err, errCutOff)
			} else {
				require.NotErrorIs(t, err, errCutOff)
			}
		})
	}
}

func before(text, end string) string {
	text, _, _ = strings.Cut(text, end)
	return text
}

// The sizes of files that the real tool wrote.
func TestPredictionsSize(t *testing.T) {
	assert.EqualValues(t, 16842516, predictionsSize(1024, 512, 32))
	assert.EqualValues(t, 44211572, predictionsSize(1024, 512, 84))
	assert.EqualValues(t, 1537740, predictionsSize(1024, 300, 5))
}

func TestCheckPredictions(t *testing.T) {
	job := runner.EvaluateJob{Context: 512, Chunks: 2, Vocabulary: 7}
	whole := append([]byte("_logits_"), 0, 2, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0)
	for name, test := range map[string]struct {
		header []byte
		size   int64
		want   string
	}{
		"whole":         {whole, predictionsSize(7, 512, 2), ""},
		"cut off":       {whole, predictionsSize(7, 512, 2) - 1, "instead of"},
		"empty":         {nil, 0, "quality.corpus"},
		"header only":   {whole[:12], 12, "quality.corpus"},
		"another file":  {append([]byte("GGUF----"), whole[8:]...), 100, "GGUF"},
		"fewer chunks":  {append(whole[:16:16], 1, 0, 0, 0), predictionsSize(7, 512, 1), "the text holds 1 chunks"},
		"other tokens":  {append(append(whole[:12:12], 8, 0, 0, 0), whole[16:]...), predictionsSize(8, 512, 2), "a vocabulary of 8 tokens, and the model's has 7"},
		"other context": {append([]byte("_logits_\x00\x01\x00\x00"), whole[12:]...), predictionsSize(7, 256, 2), "chunks of 256 tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x")
			require.NoError(t, os.WriteFile(path, test.header, 0o600))
			require.NoError(t, os.Truncate(path, test.size))
			err := checkPredictions(path, job)
			if test.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.want)
			}
		})
	}
}

func FuzzParseEvaluation(f *testing.F) {
	for _, name := range []string{"perplexity.txt", "perplexity-cut-off.txt"} {
		text, err := os.ReadFile(filepath.Join("testdata", "recorded", name))
		require.NoError(f, err)
		f.Add(string(text), 32)
		f.Add(string(text), 2)
	}
	f.Add("chunk PPL KL Divergence Same top p\n1 nan", 1)
	f.Fuzz(func(t *testing.T, text string, chunks int) {
		if chunks < 1 || chunks > 1000 {
			return
		}
		got, err := parseEvaluation(text, runner.EvaluateJob{Chunks: chunks})
		if err != nil {
			return
		}
		assert.Len(t, got.Chunks, chunks)
		for _, c := range got.Chunks {
			for _, x := range []float64{c.KLDivergence, c.Top1Agreement, c.LogPerplexityRatio, c.SquaredDeltaP} {
				assert.False(t, math.IsNaN(x) || math.IsInf(x, 0), "%v", c)
			}
		}
		assert.GreaterOrEqual(t, got.Perplexity, 1.0)
		assert.GreaterOrEqual(t, got.OriginalPerplexity, 1.0)
	})
}
