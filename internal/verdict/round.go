package verdict

import (
	"fmt"
	"math"
)

// Pair is what one round measured of one phase, in tokens per second.
type Pair struct {
	Original  float64 `json:"original"`
	Quantized float64 `json:"quantized"`
	// Ratio is the quantized model's speed over the original's, where the round knows it
	// better than by the two above: as the median over its turns. 0 where it does not.
	Ratio float64 `json:"ratio,omitempty"`
}

// Round is one paired measurement of both stages, phase by phase. A phase that is kept by the
// rounds before it may be missing: see Verdict.Open.
type Round map[Phase]Pair

// Throughputs outside this range, in tokens per second, are not measurements. Within it
// no ratio, and nothing computed from one, exceeds what JSON can carry.
const (
	slowest = 1e-9
	fastest = 1e12
)

// Check fails for a round that has none of the phases, or a figure that is not a throughput: not a
// number, infinite, zero, negative, or beyond 1e-9 to 1e12 tokens per second. Such a round must not
// reach Decide.
func (r Round) Check(phases []Phase) error {
	measured := false
	for _, phase := range phases {
		pair, ok := r[phase]
		if !ok {
			continue
		}
		measured = true
		if !Usable(pair.Original) {
			return fmt.Errorf("the original's throughput in the %s phase is %v tokens/s, which is not a measurement", phase, pair.Original)
		}
		if !Usable(pair.Quantized) {
			return fmt.Errorf("the quantized model's throughput in the %s phase is %v tokens/s, which is not a measurement", phase, pair.Quantized)
		}
		if pair.Ratio != 0 && !(pair.Ratio >= slowest/fastest && pair.Ratio <= fastest/slowest) {
			return fmt.Errorf("the ratio of the two throughputs in the %s phase is %v, which is not a measurement", phase, pair.Ratio)
		}
	}
	if !measured {
		return fmt.Errorf("the round has none of the phases %s", phases)
	}
	return nil
}

// Usable reports whether a number, in tokens per second, can be a throughput: not zero,
// negative, infinite, NaN, or beyond 1e-9 to 1e12.
func Usable(throughput float64) bool { return throughput >= slowest && throughput <= fastest }

// leadingUsable returns the rounds before the first that Check refuses.
func leadingUsable(phases []Phase, rounds []Round) []Round {
	for i, round := range rounds {
		if round.Check(phases) != nil {
			return rounds[:i]
		}
	}
	return rounds
}

// LogRatio of one pair: of Ratio, where that is known. A difference of logarithms cannot overflow.
func (p Pair) LogRatio() float64 {
	if p.Ratio != 0 {
		return math.Log(p.Ratio)
	}
	return math.Log(p.Quantized) - math.Log(p.Original)
}

// pairsOf returns what the rounds that have a phase measured of it, in their order.
func pairsOf(phase Phase, rounds []Round) []Pair {
	var pairs []Pair
	for _, round := range rounds {
		if pair, ok := round[phase]; ok {
			pairs = append(pairs, pair)
		}
	}
	return pairs
}

func logRatios(pairs []Pair) []float64 {
	d := make([]float64, len(pairs))
	for i, pair := range pairs {
		d[i] = pair.LogRatio()
	}
	return d
}
