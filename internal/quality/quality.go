// Package quality says how far a quantized copy's predictions are from its original's,
// and whether that is within limits. It is pure: chunks of a text in, figures with their
// intervals out, the same for the same chunks on every machine.
//
// # Figures
//
// Over every token that is predicted in a text: the mean Kullback-Leibler divergence of
// the copy's distribution from the original's (0 when they are the same), how often both
// hold the same token for the likeliest, and by how much the perplexity grows.
// Perplexity alone can lie: on random weights a copy's was better than its original's
// while the likeliest token agreed 1 % of the time.
//
// # Intervals
//
// The tokens of a chunk depend on each other, so that a standard error over tokens is
// too small; chunks hardly do. The interval of each figure is the BCa bootstrap over
// chunks: bias-corrected and accelerated, [Resamples] of them, 95 % two-sided, with a
// fixed seed (Efron, "Better Bootstrap Confidence Intervals", JASA 82, 1987), expanded as
// Student's t is wider than the normal distribution, since the bootstrap of few chunks is
// too narrow (Hesterberg, "What Teachers Should Know About the Bootstrap", The American
// Statistician 69, 2015). On 32 chunks of a skewed distribution an end was beyond the
// truth in 2 to 4 % of simulated texts, where 2.5 % is wanted.
//
// A limit holds on the far end of the interval, not on the estimate: a copy passes when
// what it may well be is within the limit. There is nothing in between, and no third
// outcome: who is unsure gives more chunks.
package quality

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/text"
)

// Confidence of an interval: either end is wrong in 2.5 % of all texts.
const Confidence = 0.95

// Resamples is how many samples the bootstrap draws. At the 2.5 % quantile their number
// adds a fiftieth of the interval's width to its end's own noise.
const Resamples = 10_000

// FewestChunks have a bootstrap interval of any use.
const FewestChunks = 10

// Chunk is what was found in one chunk of the text, means over its tokens.
type Chunk struct {
	KLDivergence       float64 `json:"kl_divergence"`       // in nats
	Top1Agreement      float64 `json:"top1_agreement"`      // ratio, 0 to 1
	LogPerplexityRatio float64 `json:"ln_perplexity_ratio"` // ln(copy's / original's)
}

// Limits bound the figures; 0 is no limit.
type Limits struct {
	// MaxKLDivergence bounds the mean divergence, in nats.
	MaxKLDivergence float64 `json:"max_kl_divergence,omitempty"`
	// MinTop1Agreement is a ratio between 0 and 1.
	MinTop1Agreement float64 `json:"min_top1_agreement,omitempty"`
	// MaxPerplexityIncrease is a ratio: 0.05 is 5 %.
	MaxPerplexityIncrease float64 `json:"max_perplexity_increase,omitempty"`
}

// Any reports whether there is a limit.
func (l Limits) Any() bool { return l != Limits{} }

// Interval is a figure and where it may well be.
type Interval struct {
	Estimate float64 `json:"estimate"`
	Lower    float64 `json:"lower"`
	Upper    float64 `json:"upper"`
}

// Limit names one of the limits, as the configuration does.
type Limit string

// The limits.
const (
	MaxKLDivergence       Limit = "max_kl_divergence"
	MinTop1Agreement      Limit = "min_top1_agreement"
	MaxPerplexityIncrease Limit = "max_perplexity_increase"
)

// Verdict is what the chunks say.
type Verdict struct {
	KLDivergence       Interval `json:"kl_divergence"`       // in nats
	Top1Agreement      Interval `json:"top1_agreement"`      // ratio
	PerplexityIncrease Interval `json:"perplexity_increase"` // ratio, negative when it fell
	Confidence         float64  `json:"confidence"`
	// Exceeded are the limits that do not hold; a copy with any is rejected.
	Exceeded []Limit `json:"exceeded,omitempty"`
}

// Passed reports whether every limit holds.
func (v Verdict) Passed() bool { return len(v.Exceeded) == 0 }

// Figures writes the figures on one line.
func (v Verdict) Figures() string {
	return fmt.Sprintf("KL divergence %s, top token agrees in %s, perplexity %+.1f %%",
		text.Divergence(v.KLDivergence.Estimate), text.Percent(v.Top1Agreement.Estimate), v.PerplexityIncrease.Estimate*100)
}

// Breaches writes which of the limits do not hold, each with the far end of its interval;
// "" when all hold.
func (v Verdict) Breaches(limits Limits) string {
	var all []string
	for _, limit := range v.Exceeded {
		switch limit {
		case MaxKLDivergence:
			all = append(all, fmt.Sprintf("KL divergence up to %s, limit %s", text.Divergence(v.KLDivergence.Upper), text.Divergence(limits.MaxKLDivergence)))
		case MinTop1Agreement:
			all = append(all, fmt.Sprintf("top token agrees in as little as %s, limit %s", text.Percent(v.Top1Agreement.Lower), text.Percent(limits.MinTop1Agreement)))
		case MaxPerplexityIncrease:
			all = append(all, fmt.Sprintf("perplexity higher by up to %s, limit %s", text.Percent(v.PerplexityIncrease.Upper), text.Percent(limits.MaxPerplexityIncrease)))
		}
	}
	return strings.Join(all, "; ")
}

// Check says what of the chunks makes them useless: too few, or figures that cannot be.
func Check(chunks []Chunk) error {
	if len(chunks) < FewestChunks {
		return fmt.Errorf("%d chunks are too few for an interval: %d are the least", len(chunks), FewestChunks)
	}
	for i, c := range chunks {
		for _, x := range []float64{c.KLDivergence, c.Top1Agreement, c.LogPerplexityRatio} {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return fmt.Errorf("chunk %d has the figure %v", i+1, x)
			}
		}
	}
	return nil
}

// Decide computes the figures of chunks that Check accepts, and holds them to the
// limits. A figure that is not a number exceeds every limit on it.
func Decide(limits Limits, chunks []Chunk) Verdict {
	series := make([][]float64, 3)
	for _, c := range chunks {
		series[0] = append(series[0], c.KLDivergence)
		series[1] = append(series[1], c.Top1Agreement)
		series[2] = append(series[2], c.LogPerplexityRatio)
	}
	intervals := bootstrap(series, Resamples)
	v := Verdict{
		KLDivergence:       intervals[0].clamped(0, math.Inf(1)),
		Top1Agreement:      intervals[1].clamped(0, 1),
		PerplexityIncrease: intervals[2].expm1(),
		Confidence:         Confidence,
	}
	// Written so that NaN does not hold.
	if limit := limits.MaxKLDivergence; limit != 0 && !(v.KLDivergence.Upper <= limit) {
		v.Exceeded = append(v.Exceeded, MaxKLDivergence)
	}
	if limit := limits.MinTop1Agreement; limit != 0 && !(v.Top1Agreement.Lower >= limit) {
		v.Exceeded = append(v.Exceeded, MinTop1Agreement)
	}
	if limit := limits.MaxPerplexityIncrease; limit != 0 && !(v.PerplexityIncrease.Upper <= limit) {
		v.Exceeded = append(v.Exceeded, MaxPerplexityIncrease)
	}
	return v
}

// clamped keeps rounding in the figures of single chunks from giving what cannot be.
func (i Interval) clamped(least, most float64) Interval {
	clamp := func(x float64) float64 { return min(max(x, least), most) }
	return Interval{clamp(i.Estimate), clamp(i.Lower), clamp(i.Upper)}
}

// expm1 turns an interval of a logarithm of a ratio into one of the ratio's increase.
func (i Interval) expm1() Interval {
	return Interval{math.Expm1(i.Estimate), math.Expm1(i.Lower), math.Expm1(i.Upper)}
}

// bootstrap gives the interval of the mean of each series. All have the same length, and
// the same chunks are drawn for all of them.
func bootstrap(series [][]float64, resamples int) []Interval {
	n := len(series[0])
	means := make([][]float64, len(series))
	for s := range series {
		means[s] = make([]float64, resamples)
	}
	if n > 0 {
		source := rand.NewPCG(0x7175616c, 0x69747921)
		for b := range resamples {
			for range n {
				i, _ := bits.Mul64(source.Uint64(), uint64(n)) // 0 to n − 1
				for s := range series {
					means[s][b] += series[s][i]
				}
			}
			for s := range series {
				means[s][b] /= float64(n)
			}
		}
	}
	intervals := make([]Interval, len(series))
	for s := range series {
		intervals[s] = bca(series[s], means[s])
	}
	return intervals
}

// bca is the bias-corrected and accelerated interval of a mean.
func bca(x, means []float64) Interval {
	estimate := mean(x)
	slices.Sort(means)
	if means[0] == means[len(means)-1] || math.IsNaN(estimate) { // all chunks are the same
		return Interval{estimate, estimate, estimate}
	}
	// Half of those that are equal count as smaller: of a few distinct values many are.
	first, _ := slices.BinarySearch(means, estimate)
	after, _ := slices.BinarySearch(means, math.Nextafter(estimate, math.Inf(1)))
	below := (float64(first) + float64(after)) / 2 / float64(len(means))
	below = min(max(below, 1/float64(len(means))), 1-1/float64(len(means)))
	bias, acceleration := normalQuantile(below), acceleration(x)

	end := func(direction float64) float64 {
		z := bias + direction*halfWidth(len(x))
		adjusted := normalCDF(bias + z/(1-acceleration*z))
		i := int(adjusted * float64(len(means)))
		return means[min(max(i, 0), len(means)-1)]
	}
	return Interval{estimate, min(end(-1), estimate), max(end(+1), estimate)}
}

// halfWidth of the interval of n chunks, in standard deviations of the bootstrap:
// Student's t with n − 1 degrees of freedom (by the expansion of Abramowitz and Stegun,
// 26.7.5), times what the bootstrap's deviation is short of the sample's.
func halfWidth(n int) float64 {
	if n < 2 {
		return 0
	}
	z, freedom := normalQuantile((1+Confidence)/2), float64(n-1)
	z3, z5 := z*z*z, z*z*z*z*z
	t := z + (z3+z)/(4*freedom) + (5*z5+16*z3+3*z)/(96*freedom*freedom)
	return t * math.Sqrt(float64(n)/freedom)
}

// acceleration is a sixth of the skewness of the jackknife's values, which for a mean is
// that of the sample over √n.
func acceleration(x []float64) float64 {
	m := mean(x)
	var squares, cubes float64
	for _, v := range x {
		squares += (v - m) * (v - m)
		cubes += (v - m) * (v - m) * (v - m)
	}
	if squares == 0 {
		return 0
	}
	return cubes / (6 * math.Pow(squares, 1.5))
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

func normalCDF(z float64) float64 { return math.Erfc(-z/math.Sqrt2) / 2 }

func normalQuantile(p float64) float64 { return -math.Sqrt2 * math.Erfcinv(2*p) }
