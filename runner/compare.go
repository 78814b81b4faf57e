package runner

import (
	"math"
	"slices"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// Compare returns what the counted rounds of a set measured of both stages, as a verdict takes them.
//
// The log ratio of a paired round is the median over its turns, on which a disturbance of some has no
// influence. A copy gains less where the cache is deep, because reading the cache takes both files
// equally long; so each turn's ratio is first brought to the middle depth, by the slope that all rounds
// of the set show together. Without that, the median would move whenever turns at one end are
// disturbed. All rounds have the same middle depth, so an error of the slope does not make them alike.
func Compare(rounds []Round, set int, phases []verdict.Phase) []verdict.Round {
	rounds = counted(rounds, set)
	compared := make([]verdict.Round, len(rounds))
	for i := range compared {
		compared[i] = make(verdict.Round, len(phases))
	}
	for _, phase := range phases {
		for i, ratio := range ratios(rounds, phase) {
			if original, quantized, measured := rounds[i].Throughputs(phase); measured {
				compared[i][phase] = verdict.Pair{Original: original, Quantized: quantized, Ratio: ratio}
			}
		}
	}
	return compared
}

// counted returns the counted rounds of a set.
func counted(rounds []Round, set int) []Round {
	return slices.DeleteFunc(slices.Clone(rounds), func(r Round) bool { return !r.Counted || r.Set != set })
}

// ratios returns the copy's speed over the original's in each round; 0 where a round has no turns.
func ratios(rounds []Round, phase verdict.Phase) []float64 {
	turns, all, slopes := make([][]turnRatio, len(rounds)), 0.0, []float64{}
	count := 0
	for i, r := range rounds {
		turns[i] = turnRatios(r, phase)
		for _, t := range turns[i] {
			all += t.depth
			count++
			if slope, ok := t.slope(turns[i]); ok {
				slopes = append(slopes, slope)
			}
		}
	}
	middle, slope := all/float64(count), verdict.Median(slopes)
	found := make([]float64, len(rounds))
	for i := range rounds {
		logs := make([]float64, len(turns[i]))
		for n, t := range turns[i] {
			logs[n] = t.log - slope*(t.depth-middle)
		}
		if len(logs) > 0 {
			found[i] = math.Exp(verdict.Median(logs))
		}
	}
	return found
}

// turnRatio is what one turn says: the logarithm of the copy's speed over the original's.
type turnRatio struct{ depth, log float64 }

// turnRatios returns the turns of a paired round in which both files counted.
func turnRatios(r Round, phase verdict.Phase) []turnRatio {
	if r.Method != config.MethodPaired {
		return nil
	}
	counts := func(b Burst) bool { return b.Phase == phase && !b.Repeated && b.Tokens > 0 && b.Time > 0 }
	originals := map[int]Burst{}
	for _, b := range r.Original.Measurement.Bursts {
		if counts(b) {
			originals[b.Turn] = b
		}
	}
	var found []turnRatio
	for _, b := range r.Quantized.Measurement.Bursts {
		if original, both := originals[b.Turn]; both && counts(b) {
			found = append(found, turnRatio{float64(b.Depth), b.logSpeed() - original.logSpeed()})
		}
	}
	return found
}

func (b Burst) logSpeed() float64 { return math.Log(float64(b.Tokens) / b.Time.Seconds()) }

// slope returns the median of the slopes from this turn to the turns of its round at other depths; false
// where there are none. The median of these over all turns bears nearly half of them being disturbed.
//
// Source: A. F. Siegel, Robust regression using repeated medians, Biometrika 69 (1982).
func (t turnRatio) slope(turns []turnRatio) (float64, bool) {
	var slopes []float64
	for _, other := range turns {
		if other.depth != t.depth {
			slopes = append(slopes, (other.log-t.log)/(other.depth-t.depth))
		}
	}
	return verdict.Median(slopes), len(slopes) > 0
}
