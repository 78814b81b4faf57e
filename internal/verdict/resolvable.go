package verdict

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// Resolvable returns the smallest drop that so many rounds can tell from no drop at this
// spread: the smallest threshold below which a true drop of 0 is kept, per phase, with a
// probability of about 80 % (0.75 to 0.81 when simulated with normal noise) at the last
// look that so many rounds reach. Much the same holds for a true drop as far beyond the
// threshold, on the log scale, to be rejected. It is a ratio, like Threshold, and 1 when
// no look can be taken in so many rounds, when the spread is unknown, or when the
// configuration is not valid; its Threshold is not used.
//
// spread is the standard deviation of the log ratio from round to round, such as
// PhaseVerdict.Spread. With the look's quantile t, ν degrees of freedom and
// se = max(spread, 0.002)/√n the pair is kept when T − t·ŝe > ln(1 − threshold), and
//
//	Resolvable = 1 − exp(−se·(t·c + z·√(1 + t²(1 − c²))))
//
// where z = 0.84 is the 80 % quantile of the normal distribution and
// c = √(2/ν)·Γ((ν+1)/2)/Γ(ν/2) the mean of ŝe/se: the normal approximation of the
// noncentral t after Johnson & Welch, "Applications of the non-central t-distribution",
// Biometrika 31, 1940. It leaves out earlier looks, which only help, and that a trimmed
// mean of normal noise is a few per cent less certain than the plain one.
func Resolvable(c Config, spread float64, rounds int) float64 {
	if c.Validate() != nil || math.IsNaN(spread) {
		return 1
	}
	return newPlan(c).resolvable(spread, rounds)
}

// resolvable returns what so many rounds resolve, at the last look within them.
func (p plan) resolvable(spread float64, rounds int) float64 {
	resolvable := 1.0
	for _, look := range p.looks {
		if look.rounds <= rounds {
			resolvable = look.resolvable(spread)
		}
	}
	return resolvable
}

func (l plannedLook) resolvable(spread float64) float64 {
	const power = 0.8
	z := mathext.NormalQuantile(power)
	nu := float64(degreesOfFreedom(l.rounds))
	high, _ := math.Lgamma((nu + 1) / 2)
	low, _ := math.Lgamma(nu / 2)
	c := math.Sqrt(2/nu) * math.Exp(high-low)

	se := math.Max(spread, quietest) / math.Sqrt(float64(l.rounds))
	return dropOf(-se * (l.keepT*c + z*math.Sqrt(1+l.keepT*l.keepT*(1-c*c))))
}
