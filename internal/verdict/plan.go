package verdict

import (
	"slices"

	"github.com/quant-exporter/quant-exporter/internal/studentt"
)

// plan is a valid configuration made ready: where the looks are and which quantiles each
// uses. It is not changed once made.
type plan struct {
	threshold float64
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
	p := plan{threshold: c.Threshold}
	rounds := lookRounds(c.MinRounds, c.MaxRounds)
	for i, alpha := range lookAlphas(rounds, c.Alpha, len(c.Phases)) {
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

// lookAlphas shares alpha out among the looks at so many phases, as the package's documentation says.
func lookAlphas(rounds []int, alpha float64, phases int) []float64 {
	const (
		robust     = 6    // rounds from which on a value is trimmed at each end
		coinciding = 0.05 // alpha from which on several late looks may spend more of it than one
		fewPhases  = 2    // up to which they may
	)
	early := 0
	for early < len(rounds)-1 && rounds[early] < robust {
		early++
	}

	late := float64(len(rounds) - early)
	total := 0.80
	if alpha >= coinciding && phases <= fewPhases && late > 1 {
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

// decide takes every look that the rounds allow, in order, until one decides: rejected as soon as
// one phase is, else kept when all are. A phase that is kept is not looked at again. measured says
// in how many rounds each phase was, by its place in the configuration, and estimate is asked for the
// drop of a phase in the first of them. decide returns how many looks each phase had, and the
// outcome: GoOn when more rounds may decide, Inconclusive after the last planned look.
func (p plan) decide(measured []int, estimate func(phase, rounds int) estimate) (taken []int, outcome Outcome) {
	taken = make([]int, len(measured))
	var open []int
	for phase := range measured {
		open = append(open, phase)
	}
	for _, look := range p.looks {
		if slices.ContainsFunc(open, func(phase int) bool { return measured[phase] < look.rounds }) {
			return taken, GoOn
		}
		rejected := false
		open = slices.DeleteFunc(open, func(phase int) bool {
			taken[phase]++
			outcome := look.interval(estimate(phase, look.rounds)).outcome(p.threshold)
			rejected = rejected || outcome == Rejected
			return outcome == Kept
		})
		switch {
		case rejected:
			return taken, Rejected
		case len(open) == 0:
			return taken, Kept
		}
	}
	return taken, Inconclusive
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
