// Package quality says how far a quantized copy's predictions are from its original's,
// and whether that is within limits. It is pure: chunks of a text in, figures with their
// intervals out, the same for the same chunks on every machine.
//
// # Figures
//
// Over every token that is predicted in a text: the mean Kullback-Leibler divergence of
// the copy's distribution from the original's (0 when they are the same), how often both
// agree on the most likely token, and by how much the perplexity grows.
// Perplexity alone can lie: on random weights a copy's was better than its original's
// while they agreed on the most likely token 1 % of the time.
//
// Of the tails: the quantiles of the divergence over single tokens, and the root of the mean
// square of the difference in the probability of the text's own token (RMS Δp). A mean hides
// the few tokens at which a copy is far off.
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
// The quantiles have none: llama-perplexity prints them over all tokens, not for each chunk,
// and beyond the 99.9 % one are 8 of the 8,160 tokens of 32 chunks. What it prints beside them
// would bound it by the 99 % quantile and the maximum, which is too wide to be of use.
//
// A limit holds on the far end of the interval, not on the estimate: a copy passes when
// what it may well be is within the limit. On a quantile it holds on the figure itself.
// There is nothing in between, and no third outcome: for a surer one, give more chunks.
//
// # Ending early
//
// Where all limits are on means, an evaluation has looks: after a quarter of the chunks, or a
// sixteenth, and so on, as long as these are 8 or more. It ends at the first look at which
// every limit is outside the figure's interval. There the interval is Student's t, and each
// end is wrong in 0.1 % of texts of normally distributed chunks: the bootstrap is of no use at
// such an end, and of 8 chunks. The last look, at all chunks, is as if it were the only one. At
// a true value exactly on the limit, a copy passed in 1.6 to 5.0 % of texts of 32 or 128 chunks
// that were drawn from recorded ones, at all looks together (the most with the divergence of
// Q8_0, 0.0002, of which five decimals are known), and was rejected early in at most 0.4 %; the
// tests simulate both. Limits on tails (the 99.9 % quantile, and RMS Δp, which
// outliers make) need all chunks: at an early look, RMS Δp of recorded chunks was beyond its
// end of 0.5 % in up to 4 %.
package quality

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/studentt"
	"github.com/quant-exporter/quant-exporter/internal/text"
)

// Confidence of an interval: either end is wrong in 2.5 % of all texts.
const Confidence = 0.95

// Resamples is how many samples the bootstrap draws. At the 2.5 % quantile their number
// adds a fiftieth of the interval's width to its end's own noise.
const Resamples = 10_000

// FewestChunks have a bootstrap interval of any use.
const FewestChunks = 10

// EarlyConfidence of an interval at a look before the last: either end is wrong in 0.1 %.
const EarlyConfidence = 0.998

// resolution of the figures of chunks, which come with five decimals: at a look before the
// last, no mean is known better, not even of chunks that are all the same.
const resolution = 1e-5

// earliest is the fewest chunks at which an evaluation may end. Limits would be held after 4 as well,
// but the intervals of 4 are so wide that copies which differ tenfold would be equal in a choice of the
// best quality.
const earliest = 8

// Chunk is what was found in one chunk of the text, means over its tokens.
type Chunk struct {
	KLDivergence       float64 `json:"kl_divergence"`       // in nats
	Top1Agreement      float64 `json:"top1_agreement"`      // ratio, 0 to 1
	LogPerplexityRatio float64 `json:"ln_perplexity_ratio"` // ln(copy's / original's)
	SquaredDeltaP      float64 `json:"squared_delta_p"`     // of the probability of the text's own token; RMS Δp is the root of its mean
}

// Quantile is a quantile of the divergence over single tokens: Percent of them have less.
type Quantile struct {
	Percent      float64 `json:"percent"`       // 0 is the minimum, 50 the median, 100 the maximum
	KLDivergence float64 `json:"kl_divergence"` // in nats
}

// Sample is what was found in a text.
type Sample struct {
	Chunks []Chunk
	// Quantiles over all tokens of the chunks, from the lowest on; none where they are not known.
	Quantiles []Quantile
	// Planned is the number of chunks that were to be read. If it is larger than the number of
	// chunks here, the sample belongs to a look before the last.
	Planned int
}

func (s Sample) early() bool { return len(s.Chunks) < s.Planned }

// Looks returns the numbers of chunks at which an evaluation may end, the last being all of them.
func Looks(limits Limits, chunks int) []int {
	looks := []int{chunks}
	means, tails := limits, Limits{MaxKLDivergenceP999: limits.MaxKLDivergenceP999, MaxRMSDeltaP: limits.MaxRMSDeltaP}
	means.MaxKLDivergenceP999, means.MaxRMSDeltaP = 0, 0
	if !means.Any() || tails.Any() {
		return looks
	}
	for n := chunks / 4; n >= earliest; n /= 4 {
		looks = append(looks, n)
	}
	slices.Reverse(looks)
	return looks
}

// Limits bound the figures; 0 means no limit.
type Limits struct {
	// MaxKLDivergence bounds the mean divergence, in nats.
	MaxKLDivergence float64 `json:"max_kl_divergence,omitempty"`
	// MinTop1Agreement is a ratio between 0 and 1.
	MinTop1Agreement float64 `json:"min_top1_agreement,omitempty"`
	// MaxPerplexityIncrease is a ratio: 0.05 is 5 %.
	MaxPerplexityIncrease float64 `json:"max_perplexity_increase,omitempty"`
	// MaxKLDivergenceP999 bounds the divergence that 99.9 % of tokens are below, in nats.
	MaxKLDivergenceP999 float64 `json:"max_kl_divergence_p999,omitempty"`
	// MaxRMSDeltaP bounds RMS Δp, a ratio: 0.05 is 5 %.
	MaxRMSDeltaP float64 `json:"max_rms_dp,omitempty"`
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
	MaxKLDivergenceP999   Limit = "max_kl_divergence_p999"
	MaxRMSDeltaP          Limit = "max_rms_dp"
)

// AllLimits returns the limits that there are.
func AllLimits() []Limit {
	return []Limit{MaxKLDivergence, MinTop1Agreement, MaxPerplexityIncrease, MaxKLDivergenceP999, MaxRMSDeltaP}
}

// Verdict is what the chunks say.
type Verdict struct {
	KLDivergence       Interval `json:"kl_divergence"`       // in nats
	Top1Agreement      Interval `json:"top1_agreement"`      // ratio
	PerplexityIncrease Interval `json:"perplexity_increase"` // ratio, negative when it fell
	RMSDeltaP          Interval `json:"rms_delta_p"`         // ratio
	// Quantiles of the divergence over single tokens; none where they are not known.
	Quantiles  []Quantile `json:"kl_divergence_quantiles,omitempty"`
	Confidence float64    `json:"confidence"`
	// Exceeded are the limits that do not hold; a copy with any is rejected.
	Exceeded []Limit `json:"exceeded,omitempty"`
}

// Passed reports whether every limit holds.
func (v Verdict) Passed() bool { return len(v.Exceeded) == 0 }

// Clear reports whether each limit on a mean is outside of the figure's interval.
func (v Verdict) Clear(limits Limits) bool {
	outside := func(i Interval, limit float64) bool { return limit == 0 || limit < i.Lower || limit >= i.Upper }
	atLeast := limits.MinTop1Agreement == 0 || v.Top1Agreement.Lower >= limits.MinTop1Agreement || v.Top1Agreement.Upper < limits.MinTop1Agreement
	return atLeast && outside(v.KLDivergence, limits.MaxKLDivergence) && outside(v.PerplexityIncrease, limits.MaxPerplexityIncrease)
}

// Quantile returns the divergence that so many percent of the tokens are below; nil where it is
// not known.
func (v Verdict) Quantile(percent float64) *float64 { return quantile(v.Quantiles, percent) }

func quantile(quantiles []Quantile, percent float64) *float64 {
	for _, q := range quantiles {
		if q.Percent == percent {
			return &q.KLDivergence
		}
	}
	return nil
}

// Tails writes the quantiles from the median on, on one line; "" where they are not known.
func (v Verdict) Tails() string {
	var all []string
	for _, q := range v.Quantiles {
		switch name := fmt.Sprintf("%v %%", q.Percent); {
		case q.Percent < 50:
			continue
		case q.Percent == 50:
			all = append(all, "median "+text.Divergence(q.KLDivergence))
		case q.Percent == 100:
			all = append(all, "maximum "+text.Divergence(q.KLDivergence))
		default:
			all = append(all, name+" below "+text.Divergence(q.KLDivergence))
		}
	}
	return strings.Join(all, ", ")
}

// P999 is the percentage of the quantile that has a limit.
const P999 = 99.9

// Figures writes the figures on one line.
func (v Verdict) Figures() string {
	return fmt.Sprintf("KL divergence %s, top token agrees in %s, perplexity %+.1f %%",
		text.Divergence(v.KLDivergence.Estimate), text.Percent(v.Top1Agreement.Estimate), v.PerplexityIncrease.Estimate*100)
}

// Breaches names the limits that do not hold, each with the far end of its interval; "" if
// all hold.
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
		case MaxKLDivergenceP999:
			if p := v.Quantile(P999); p != nil {
				all = append(all, fmt.Sprintf("KL divergence of 1 token in 1000 above %s, limit %s", text.Divergence(*p), text.Divergence(limits.MaxKLDivergenceP999)))
			}
		case MaxRMSDeltaP:
			all = append(all, fmt.Sprintf("RMS Δp up to %s, limit %s", text.Percent(v.RMSDeltaP.Upper), text.Percent(limits.MaxRMSDeltaP)))
		}
	}
	return strings.Join(all, "; ")
}

// Check reports what makes a sample useless: too few chunks, figures that cannot be, or a
// limit on a figure that is missing.
func Check(limits Limits, sample Sample) error {
	least := FewestChunks
	if sample.early() {
		least = earliest
	}
	if n := len(sample.Chunks); n < least {
		return fmt.Errorf("%d chunks are too few for an interval: %d are the least", n, least)
	}
	for i, c := range sample.Chunks {
		for _, x := range c.figures() {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return fmt.Errorf("chunk %d has the figure %v", i+1, x)
			}
		}
	}
	if limits.MaxKLDivergenceP999 != 0 && quantile(sample.Quantiles, P999) == nil {
		return fmt.Errorf("the divergence that %v %% of the tokens are below is missing, and %s is set", P999, MaxKLDivergenceP999)
	}
	return nil
}

// figures is how many a chunk has.
const figures = 4

// figures in the order of the series that intervals are computed of.
func (c Chunk) figures() [figures]float64 {
	return [...]float64{c.KLDivergence, c.Top1Agreement, c.LogPerplexityRatio, c.SquaredDeltaP}
}

// Decide computes the figures of a sample that Check accepts, and holds them to the
// limits. A figure that is missing or not a number exceeds every limit on it.
func Decide(limits Limits, sample Sample) Verdict { return decide(limits, sample, Resamples) }

func decide(limits Limits, sample Sample, resamples int) Verdict {
	var series [figures][]float64
	for _, c := range sample.Chunks {
		for i, x := range c.figures() {
			series[i] = append(series[i], x)
		}
	}
	confidence, intervals := Confidence, []Interval(nil)
	if sample.early() {
		confidence = EarlyConfidence
		for _, x := range series {
			intervals = append(intervals, student(x))
		}
	} else {
		intervals = bootstrap(series[:], resamples)
	}
	v := Verdict{
		KLDivergence:       intervals[0].clamped(0, math.Inf(1)),
		Top1Agreement:      intervals[1].clamped(0, 1),
		PerplexityIncrease: intervals[2].mapped(math.Expm1),
		RMSDeltaP:          intervals[3].clamped(0, math.Inf(1)).mapped(math.Sqrt),
		Quantiles:          sample.Quantiles,
		Confidence:         confidence,
	}
	v.Exceeded = v.exceeded(limits)
	return v
}

// exceeded returns the limits that do not hold. It is written so that NaN does not hold.
func (v Verdict) exceeded(limits Limits) (exceeded []Limit) {
	check := func(limit Limit, bound float64, holds bool) {
		if bound != 0 && !holds {
			exceeded = append(exceeded, limit)
		}
	}
	p999 := v.Quantile(P999)
	check(MaxKLDivergence, limits.MaxKLDivergence, v.KLDivergence.Upper <= limits.MaxKLDivergence)
	check(MinTop1Agreement, limits.MinTop1Agreement, v.Top1Agreement.Lower >= limits.MinTop1Agreement)
	check(MaxPerplexityIncrease, limits.MaxPerplexityIncrease, v.PerplexityIncrease.Upper <= limits.MaxPerplexityIncrease)
	check(MaxKLDivergenceP999, limits.MaxKLDivergenceP999, p999 != nil && *p999 <= limits.MaxKLDivergenceP999)
	check(MaxRMSDeltaP, limits.MaxRMSDeltaP, v.RMSDeltaP.Upper <= limits.MaxRMSDeltaP)
	return exceeded
}

// clamped keeps rounding in the figures of single chunks from giving what cannot be.
func (i Interval) clamped(least, most float64) Interval {
	clamp := func(x float64) float64 { return min(max(x, least), most) }
	return Interval{clamp(i.Estimate), clamp(i.Lower), clamp(i.Upper)}
}

// mapped returns the interval of an increasing function of the figure.
func (i Interval) mapped(f func(float64) float64) Interval {
	return Interval{f(i.Estimate), f(i.Lower), f(i.Upper)}
}

// bootstrap returns the interval of the mean of each series. All have the same length, and
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

// bca returns the bias-corrected and accelerated interval of a mean.
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

// student returns the interval of a mean at a look before the last.
func student(x []float64) Interval {
	m, half := studentt.Interval(x, EarlyConfidence)
	half = max(half, resolution)
	return Interval{m, m - half, m + half}
}

// halfWidth of the interval of n chunks, in standard deviations of the bootstrap:
// Student's t with n − 1 degrees of freedom, times what the bootstrap's deviation is short of
// the sample's.
func halfWidth(n int) float64 {
	if n < 2 {
		return 0
	}
	freedom := float64(n - 1)
	return studentt.Upper((1-Confidence)/2, freedom) * math.Sqrt(float64(n)/freedom)
}

// acceleration returns a sixth of the skewness of the jackknife's values. For a mean that is
// the skewness of the sample over √n.
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
