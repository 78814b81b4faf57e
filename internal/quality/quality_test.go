package quality

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sample is n chunks whose figures scatter around the given means.
func sample(n int, divergence, agreement, ratio float64) []Chunk {
	random := rand.New(rand.NewPCG(1, 2))
	chunks := make([]Chunk, n)
	for i := range chunks {
		chunks[i] = Chunk{
			divergence * (1 + 0.1*random.NormFloat64()),
			agreement + 0.02*random.NormFloat64(),
			ratio + 0.01*random.NormFloat64(),
			0.01 * (1 + 0.1*random.NormFloat64()),
		}
	}
	return chunks
}

func TestFiguresLieWithinTheirIntervals(t *testing.T) {
	v := Decide(Limits{}, Sample{Chunks: sample(32, 0.164, 0.74, 0.1234)})
	for name, figure := range map[string]struct {
		interval Interval
		want     float64
	}{
		"divergence": {v.KLDivergence, 0.164},
		"agreement":  {v.Top1Agreement, 0.74},
		"increase":   {v.PerplexityIncrease, math.Expm1(0.1234)},
		"RMS Δp":     {v.RMSDeltaP, 0.1},
	} {
		assert.Less(t, figure.interval.Lower, figure.interval.Estimate, name)
		assert.Less(t, figure.interval.Estimate, figure.interval.Upper, name)
		assert.InDelta(t, figure.want, figure.interval.Estimate, (figure.interval.Upper-figure.interval.Lower)/2, name)
	}
	assert.True(t, v.Passed(), "without limits")
	assert.Equal(t, v, Decide(Limits{}, Sample{Chunks: sample(32, 0.164, 0.74, 0.1234)}), "the same chunks, the same verdict")
}

func TestLimitsHoldOnTheFarEndOfTheInterval(t *testing.T) {
	found := Sample{Chunks: sample(32, 0.05, 0.9, 0.02), Quantiles: []Quantile{{50, 0.03}, {P999, 0.8}, {100, 2}}}
	v := Decide(Limits{}, found)
	between := func(a, b float64) float64 { return (a + b) / 2 }
	tests := []struct {
		name     string
		limits   Limits
		exceeded []Limit
	}{
		{"divergence at the end", Limits{MaxKLDivergence: v.KLDivergence.Upper}, nil},
		{"divergence between estimate and end", Limits{MaxKLDivergence: between(v.KLDivergence.Estimate, v.KLDivergence.Upper)}, []Limit{MaxKLDivergence}},
		{"agreement at the end", Limits{MinTop1Agreement: v.Top1Agreement.Lower}, nil},
		{"agreement between end and estimate", Limits{MinTop1Agreement: between(v.Top1Agreement.Lower, v.Top1Agreement.Estimate)}, []Limit{MinTop1Agreement}},
		{"perplexity at the end", Limits{MaxPerplexityIncrease: v.PerplexityIncrease.Upper}, nil},
		{"perplexity between estimate and end", Limits{MaxPerplexityIncrease: between(v.PerplexityIncrease.Estimate, v.PerplexityIncrease.Upper)}, []Limit{MaxPerplexityIncrease}},
		{"RMS Δp at the end", Limits{MaxRMSDeltaP: v.RMSDeltaP.Upper}, nil},
		{"RMS Δp between estimate and end", Limits{MaxRMSDeltaP: between(v.RMSDeltaP.Estimate, v.RMSDeltaP.Upper)}, []Limit{MaxRMSDeltaP}},
		{"quantile at the limit", Limits{MaxKLDivergenceP999: 0.8}, nil},
		{"quantile above the limit", Limits{MaxKLDivergenceP999: 0.79}, []Limit{MaxKLDivergenceP999}},
		{"all", Limits{0.001, 0.999, 0.001, 0.001, 0.001}, AllLimits()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Decide(tt.limits, found)
			assert.Equal(t, tt.exceeded, got.Exceeded)
			assert.Equal(t, len(tt.exceeded) == 0, got.Passed())
		})
	}
}

func TestTheSameChunksAreAPoint(t *testing.T) {
	chunks := make([]Chunk, 20)
	for i := range chunks {
		chunks[i] = Chunk{0, 1, 0, 0}
	}
	v := Decide(Limits{1e-9, 1, 1e-9, 1e-9, 1e-9}, Sample{Chunks: chunks, Quantiles: []Quantile{{P999, 0}}})
	assert.Equal(t, Interval{}, v.KLDivergence)
	assert.Equal(t, Interval{1, 1, 1}, v.Top1Agreement)
	assert.Equal(t, Interval{}, v.PerplexityIncrease)
	assert.Equal(t, Interval{}, v.RMSDeltaP)
	assert.True(t, v.Passed(), "a copy that is its original")
}

func TestWhatIsNoNumberExceedsEveryLimit(t *testing.T) {
	chunks := sample(12, 0.01, 0.9, 0.01)
	chunks[3] = Chunk{math.NaN(), math.NaN(), math.NaN(), math.NaN()}
	require.ErrorContains(t, Check(Limits{}, Sample{Chunks: chunks}), "chunk 4")
	assert.Equal(t, AllLimits(), Decide(Limits{10, 0.01, 10, 10, 10}, Sample{Chunks: chunks, Quantiles: []Quantile{{P999, math.NaN()}}}).Exceeded)
	assert.False(t, Decide(Limits{MaxKLDivergence: 1}, Sample{}).Passed(), "nothing is no proof")
}

func TestCheck(t *testing.T) {
	require.NoError(t, Check(Limits{}, Sample{Chunks: sample(FewestChunks, 0.01, 0.9, 0)}))
	require.ErrorContains(t, Check(Limits{}, Sample{Chunks: sample(FewestChunks-1, 0.01, 0.9, 0)}), "too few")
	infinite := sample(12, 0.01, 0.9, 0)
	infinite[0].LogPerplexityRatio = math.Inf(1)
	require.ErrorContains(t, Check(Limits{}, Sample{Chunks: infinite}), "chunk 1")

	tails := Limits{MaxKLDivergenceP999: 1}
	chunks := sample(12, 0.01, 0.9, 0)
	require.ErrorContains(t, Check(tails, Sample{Chunks: chunks, Quantiles: []Quantile{{99, 0.5}}}), "max_kl_divergence_p999")
	require.NoError(t, Check(tails, Sample{Chunks: chunks, Quantiles: []Quantile{{P999, 0.5}}}))
	assert.Equal(t, []Limit{MaxKLDivergenceP999}, Decide(tails, Sample{Chunks: chunks}).Exceeded, "what is missing is no proof")
}

// The promise of the interval: an end is beyond the truth in 2.5 % of all texts. With 32
// skewed chunks the bootstrap's upper end is short of it somewhat more often.
func TestTheUpperEndCoversTheTruth(t *testing.T) {
	const texts, chunks = 1000, 32
	random := rand.New(rand.NewPCG(3, 4))
	truth := math.Exp(0.5 * 0.3 * 0.3) // mean of the log-normal distribution
	short, long := 0, 0
	for range texts {
		x := make([]float64, chunks)
		for i := range x {
			x[i] = math.Exp(0.3 * random.NormFloat64())
		}
		interval := bootstrap([][]float64{x}, 1000)[0]
		if interval.Upper < truth {
			short++
		}
		if interval.Lower > truth {
			long++
		}
	}
	t.Logf("upper end short of the truth in %d, lower end beyond it in %d of %d texts", short, long, texts)
	assert.InDelta(t, 0.025, float64(short)/texts, 0.02)
	assert.InDelta(t, 0.025, float64(long)/texts, 0.02)
}

func TestWhatPeopleRead(t *testing.T) {
	v := Decide(Limits{MaxKLDivergenceP999: 2, MaxRMSDeltaP: 0.01}, Sample{Chunks: sample(32, 0.05, 0.9, 0.02), Quantiles: []Quantile{{10, 0.01}, {50, 0.03}, {99, 1.43}, {P999, 2.654}, {100, 5}}})
	assert.Equal(t, "median 0.03, 99 % below 1.43, 99.9 % below 2.65, maximum 5", v.Tails())
	assert.Regexp(t, `^KL divergence of 1 token in 1000 above 2.65, limit 2; RMS Δp up to 10.\d %, limit 1.0 %$`, v.Breaches(Limits{MaxKLDivergenceP999: 2, MaxRMSDeltaP: 0.01}))
	assert.Empty(t, Verdict{}.Tails())
}

func BenchmarkDecide(b *testing.B) {
	chunks := sample(1000, 0.05, 0.9, 0.02)
	for b.Loop() {
		Decide(Limits{}, Sample{Chunks: chunks})
	}
}
