package verdict

import (
	"math"
	"slices"
)

// quietest is the smallest round-to-round standard deviation of a log ratio that is
// believed.
const quietest = 0.002

// estimate is a robust mean of log ratios and how well it is known.
type estimate struct {
	mean   float64 // trimmed
	se     float64 // of mean, never below the floor
	spread float64 // see PhaseVerdict.Spread; 0 with fewer than two rounds
}

// trimmed returns the number of values set aside at each end of n.
func trimmed(n int) int { return n / 6 }

// degreesOfFreedom returns the degrees of freedom of the trimmed mean of n rounds.
func degreesOfFreedom(n int) int { return n - 2*trimmed(n) - 1 }

// estimateLogRatio returns the trimmed mean of d, which must not be empty, with its
// standard error after Yuen (1974).
func estimateLogRatio(d []float64) estimate {
	sorted := slices.Clone(d)
	slices.Sort(sorted)
	n, g := len(sorted), trimmed(len(sorted))
	h := n - 2*g
	rest := sorted[g : n-g]

	e := estimate{mean: mean(rest)}
	if n > 1 {
		for i := range g { // winsorise: what was trimmed counts as the nearest that was not
			sorted[i], sorted[n-1-i] = rest[0], rest[h-1]
		}
		// s·√((n−1)/(h(h−1))) with the n−1 of s cancelled.
		e.spread = math.Sqrt(float64(n) * sumOfSquares(sorted) / float64(h*(h-1)))
	}
	e.se = math.Max(e.spread, quietest) / math.Sqrt(float64(n))
	return e
}

// sumOfSquares of the distances from the mean.
func sumOfSquares(values []float64) float64 {
	center, sum := mean(values), 0.0
	for _, v := range values {
		sum += (v - center) * (v - center)
	}
	return sum
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// MADToDeviation times the median of absolute deviations is the standard deviation of a normal
// distribution: 1/Φ⁻¹(3/4).
const MADToDeviation = 1.4826

// Median returns the middle of values, or the mean of the two in the middle; 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// dropOf turns a log ratio into the drop that it stands for: 1 − exp(d). A subtraction,
// because the negation of 0 would be reported as -0.
func dropOf(logRatio float64) float64 { return 0 - math.Expm1(logRatio) }
