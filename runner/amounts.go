package runner

import (
	"math"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// leastBursts of generation are a round's, shorter ones where few tokens are asked for: their
// median is to shrug off a disturbed one.
const leastBursts = 8

// Of prompts and bursts of generation a round has more where each of them says little, up to these.
const (
	mostPrompts = 2
	mostBursts  = 2 * leastBursts
)

// A round that errs by a fifth of the distance to the threshold lets one of the first looks decide, and below a
// hundredth it is what differs from one execution to the next that counts.
const (
	errorOfDistance = 0.2
	leastError      = 0.01
)

// amounts are how many turns a round has at least of the phases at the first depth with one client. The zero value is
// for a round of which nothing is known.
type amounts struct{ prompts, bursts int }

// amounts returns what the next round of these pairs has. On a host that others use, a burst of some milliseconds
// differs from the next by a tenth and more, and a prompt by some hundredths. Then further ones say as much as
// further rounds, in a fraction of their time. What a round says has no influence on its own amounts.
func (m *measuring) amounts(pairs []*pair) amounts {
	var next amounts
	for _, p := range pairs {
		after := amountsAfter(p.rounds, m.decision.Threshold)
		next = amounts{max(next.prompts, after.prompts), max(next.bursts, after.bursts)}
	}
	return next
}

// amountsAfter returns what a round needs, as these rounds of a pair show, to err by little beside the distance to
// the threshold.
func amountsAfter(rounds []Round, threshold float64) amounts {
	return amounts{
		prompts: amountAfter(rounds, verdict.Prompt, threshold, 1, mostPrompts),
		bursts:  amountAfter(rounds, verdict.Generation, threshold, leastBursts, mostBursts),
	}
}

// amountAfter returns how many turns of a phase a round needs. The standard error of the median of n values of a normal
// distribution is √(π/2n) of their standard deviation.
func amountAfter(rounds []Round, phase verdict.Phase, threshold float64, fewest, most int) int {
	var speeds []float64
	var turns []turnRatio
	for set := 1; set <= 2; set++ {
		of := counted(rounds, set)
		for i, ratio := range ratios(of, phase) {
			if ratio > 0 {
				speeds, turns = append(speeds, math.Log(ratio)), append(turns, turnRatios(of[i], phase)...)
			}
		}
	}
	steps := stepsOf(turns)
	if len(steps) < 2 { // which say nothing yet
		return fewest
	}
	allowed := max(errorOfDistance*math.Abs(verdict.Median(speeds)-math.Log1p(-threshold)), leastError)
	spread := verdict.Median(steps) * verdict.MADToDeviation / math.Sqrt2
	return int(min(max(math.Ceil(math.Pi/2*spread*spread/(allowed*allowed)), float64(fewest)), float64(most)))
}

// stepsOf returns by how much the log ratios of each two turns differ that follow each other at nearly the same depth.
func stepsOf(turns []turnRatio) []float64 {
	var steps []float64
	for i := 1; i < len(turns); i++ {
		if math.Abs(turns[i].depth-turns[i-1].depth) <= 2*burstTokens {
			steps = append(steps, math.Abs(turns[i].log-turns[i-1].log))
		}
	}
	return steps
}
