package verdict

import "github.com/quant-exporter/quant-exporter/internal/studentt"

// plan is a valid configuration made ready: where the looks are and which quantiles each
// uses. It is not changed once made.
type plan struct {
	threshold float64
	phases    int
	looks     []plannedLook
}

// plannedLook is one look, with what does not depend on the data.
type plannedLook struct {
	rounds  int
	alpha   float64 // one-sided, of its upper ends; the lower ends have alpha/phases
	keepT   float64 // the t quantile of the upper end of a drop
	rejectT float64 // the t quantile of the lower end
}

func newPlan(c Config) plan {
	p := plan{threshold: c.Threshold, phases: len(c.Phases)}
	rounds := lookRounds(c.MinRounds, c.MaxRounds)
	for i, alpha := range lookAlphas(rounds, c.Alpha) {
		p.looks = append(p.looks, plannedLook{
			rounds:  rounds[i],
			alpha:   alpha,
			keepT:   upperT(rounds[i], alpha),
			rejectT: upperT(rounds[i], alpha/float64(len(c.Phases))),
		})
	}
	return p
}

// upperT returns the upper alpha quantile of Student's t for a look at n rounds.
func upperT(n int, alpha float64) float64 {
	return studentt.Upper(alpha, float64(degreesOfFreedom(n)))
}

// lookRounds lists the looks from low to high, both included.
func lookRounds(low, high int) []int {
	looks := []int{low}
	for _, n := range []int{4, 6, 8, 12, 16} {
		if low < n && n < high {
			looks = append(looks, n)
		}
	}
	// From here on each is about 1.4 times the one before: 20, 28, 40, 56, 80, …
	for n, next := 20, 28; n < high; n, next = next, 2*n {
		if low < n {
			looks = append(looks, n)
		}
	}
	if low < high {
		looks = append(looks, high)
	}
	return looks
}

// lookAlphas shares alpha out among the looks, as the package's documentation says.
func lookAlphas(rounds []int, alpha float64) []float64 {
	const (
		robust     = 6    // rounds from which on a value is trimmed at each end
		coinciding = 0.05 // alpha from which on several late looks may spend more of it than one
	)
	early := 0
	for early < len(rounds)-1 && rounds[early] < robust {
		early++
	}

	late := float64(len(rounds) - early)
	total := 0.80
	if alpha >= coinciding && late > 1 {
		total = 0.90
	}
	share := total / late

	shares := make([]float64, len(rounds))
	for i, n := range rounds {
		switch {
		case i >= early:
			shares[i] = share * alpha
		case n == fewestRounds:
			shares[i] = 0.02 * alpha
		default:
			shares[i] = 0.04 * alpha
		}
	}
	return shares
}

// decide takes every look that so many rounds allow, in order, until one decides.
// estimate is asked for the drop of a phase, by its place in the configuration, in the
// first rounds. It returns how many looks were taken and what the last of them said: GoOn
// when more rounds may decide, Inconclusive after the last planned look.
func (p plan) decide(rounds int, estimate func(phase, rounds int) estimate) (taken int, outcome Outcome) {
	for _, look := range p.looks {
		if rounds < look.rounds {
			return taken, GoOn
		}
		taken++
		if outcome := p.at(look, estimate); outcome != GoOn {
			return taken, outcome
		}
	}
	return taken, Inconclusive
}

// at takes one look at every phase: rejected if one is, else kept if all are.
func (p plan) at(look plannedLook, estimate func(phase, rounds int) estimate) Outcome {
	outcome := Kept
	for phase := range p.phases {
		switch look.interval(estimate(phase, look.rounds)).outcome(p.threshold) {
		case Rejected:
			return Rejected
		case GoOn:
			outcome = GoOn
		}
	}
	return outcome
}

// interval around the estimate of one phase.
func (l plannedLook) interval(e estimate) interval {
	return interval{
		estimate: e,
		lower:    dropOf(e.mean + l.rejectT*e.se),
		upper:    dropOf(e.mean - l.keepT*e.se),
	}
}

// interval is what one look knows about the drop of one phase. Its ends are infinite where
// a float64 holds no exponential so large.
type interval struct {
	estimate
	lower, upper float64
}

// outcome compares the very numbers that are reported, so that no rounding can make a
// report contradict its verdict.
func (i interval) outcome(threshold float64) Outcome {
	switch {
	case i.upper < threshold:
		return Kept
	case i.lower >= threshold:
		return Rejected
	default:
		return GoOn
	}
}
