package verdict

import "math"

// Outcome is what the rounds say about a pair or about one phase of it.
type Outcome string

// The outcomes. GoOn is not one to report: it asks for more rounds.
const (
	Kept         Outcome = "kept"         // the drop is below the threshold
	Rejected     Outcome = "rejected"     // the drop is the threshold or more
	Inconclusive Outcome = "inconclusive" // the interval holds the threshold, and there are no more rounds
	GoOn         Outcome = "go_on"        // the interval holds the threshold so far
)

// Verdict is what a number of rounds say about a pair. Together with the Config and the
// rounds it can be computed again: evidence keeps all three.
type Verdict struct {
	Outcome Outcome `json:"outcome"`
	// Rounds used by the look that decided, or by the last one taken, of the phase that had the
	// most. Before the first look it is the number of rounds there are.
	Rounds int `json:"rounds"`
	// Gate is the phase that rejected the pair, the one with the largest drop when
	// several did, GateQuality or GateMemory; "" when the pair was not rejected.
	Gate Phase `json:"gate,omitempty"`
	// Phases, in the order of the configuration.
	Phases []PhaseVerdict `json:"phases"`
	// Confidence is the probability, at least, with which the interval of a phase holds
	// its true drop, whichever look ended the measurement: 1 − Alpha − Alpha/phases.
	Confidence float64 `json:"confidence"`
	// Resolvable is the smallest drop that so many rounds can tell from no drop at the
	// spread of the noisiest phase: see Resolvable. 1 before the first look.
	Resolvable float64 `json:"resolvable"`
}

// Open returns the phases of which more rounds may decide, in the order of the configuration:
// those that the next round has to have.
func (v Verdict) Open() []Phase {
	var open []Phase
	for _, phase := range v.Phases {
		if phase.Outcome == GoOn {
			open = append(open, phase.Phase)
		}
	}
	return open
}

// Primary returns the phase that a single figure is about: generation, or the first one where
// that is not measured; false when no round was.
func (v *Verdict) Primary() (PhaseVerdict, bool) {
	if v.Rounds == 0 || len(v.Phases) == 0 {
		return PhaseVerdict{}, false
	}
	for _, phase := range v.Phases {
		if phase.Phase == Generation {
			return phase, true
		}
	}
	return v.Phases[0], true
}

// PhaseVerdict is what the rounds say about one phase.
type PhaseVerdict struct {
	Phase Phase `json:"phase"`
	// Outcome of this phase alone. A phase that is Kept stays so, and the rounds after its last look
	// count for the others only. One whose interval straddles the threshold has the verdict's outcome
	// while more rounds may help, else Inconclusive.
	Outcome Outcome `json:"outcome"`
	// Drop is the estimate, a ratio of the original's throughput, negative when the
	// quantized model is faster.
	Drop float64 `json:"drop"`
	// Lower and Upper are the ends of the interval around Drop; nil is an open end: no
	// look was taken yet, or the end is beyond every number.
	Lower *float64 `json:"lower"`
	Upper *float64 `json:"upper"`
	// Original is the median of the rounds used, in tokens per second, and Quantized is
	// Original × (1 − Drop), so that the three figures agree with each other.
	Original  float64 `json:"original"`
	Quantized float64 `json:"quantized"`
	// Spread is the noise of a single round: the standard deviation of the log ratio
	// from round to round, about the relative one of the ratio (0.03 is 3 %). It comes
	// from the winsorised deviation, scaled so that the standard error of the trimmed
	// mean is Spread/√rounds; below six rounds it is the plain standard deviation. It
	// has no floor, and is 0 with fewer than two rounds.
	Spread float64 `json:"spread"`
	// Looks taken so far, in order.
	Looks []Look `json:"looks"`
}

// Look is one look at one phase.
type Look struct {
	Rounds  int      `json:"rounds"`
	Alpha   float64  `json:"alpha"` // one-sided, of Upper; Lower has Alpha/phases
	Mean    float64  `json:"mean"`  // trimmed, of ln(quantized/original)
	SE      float64  `json:"se"`    // standard error of Mean
	Lower   *float64 `json:"lower"` // of the drop; nil is open
	Upper   *float64 `json:"upper"`
	Outcome Outcome  `json:"outcome"` // Kept, Rejected or GoOn
}

// Decide takes every planned look that the rounds, in the order in which they were
// measured, allow. The first look that decides wins, so that rounds after it change
// nothing. When none does, the outcome is GoOn below MaxRounds, else Inconclusive.
// A look needs so many rounds of each phase that is not kept by an earlier one.
//
// Decide never fails and never keeps a pair on figures that are none. The rounds are read
// up to the first that Round.Check refuses; if nothing was decided by then the outcome is
// Inconclusive. So it is, without any phase, for a Config that Validate refuses.
func Decide(c Config, rounds []Round) Verdict {
	if c.Validate() != nil {
		return Verdict{Outcome: Inconclusive, Resolvable: 1}
	}
	read := leadingUsable(c.Phases, rounds)
	p := newPlan(c)
	pairs, d, measured := make([][]Pair, len(c.Phases)), make([][]float64, len(c.Phases)), make([]int, len(c.Phases))
	for i, phase := range c.Phases {
		pairs[i] = pairsOf(phase, read)
		d[i], measured[i] = logRatios(pairs[i]), len(pairs[i])
	}

	taken, outcome := p.decide(measured, func(phase, rounds int) estimate {
		return estimateLogRatio(d[phase][:rounds])
	})
	if outcome == GoOn && len(read) < len(rounds) {
		outcome = Inconclusive
	}

	v := Verdict{Outcome: outcome, Confidence: 1 - c.Alpha - c.Alpha/float64(len(c.Phases))}
	for i, phase := range c.Phases {
		used := measured[i]
		if taken[i] > 0 {
			used = p.looks[taken[i]-1].rounds
		}
		v.Rounds = max(v.Rounds, used)
		v.Phases = append(v.Phases, p.report(phase, pairs[i][:used], d[i][:used], taken[i], outcome))
		v.Resolvable = math.Max(v.Resolvable, p.resolvable(v.Phases[i].Spread, used))
	}
	v.Gate = gate(v.Phases)
	return v
}

// Conclude is Decide when there will be no more rounds, because time is up: what would
// have gone on is Inconclusive.
func Conclude(c Config, rounds []Round) Verdict {
	v := Decide(c, rounds)
	if v.Outcome != GoOn {
		return v
	}
	v.Outcome = Inconclusive
	for i := range v.Phases {
		if v.Phases[i].Outcome == GoOn {
			v.Phases[i].Outcome = Inconclusive
		}
	}
	return v
}

// Worst returns the phase with the largest drop, which is the one that a pair's figures are
// about. It is the zero PhaseVerdict when there is no phase.
func (v Verdict) Worst() PhaseVerdict {
	var worst PhaseVerdict
	for i, phase := range v.Phases {
		if i == 0 || phase.drops(worst) {
			worst = phase
		}
	}
	return worst
}

// drops reports whether p drops more than q. Equal drops go by the name, so that the order
// of the phases is without influence.
func (p PhaseVerdict) drops(q PhaseVerdict) bool {
	return p.Drop > q.Drop || p.Drop == q.Drop && p.Phase < q.Phase
}

// gate is the phase with the largest drop among the rejected ones.
func gate(phases []PhaseVerdict) Phase {
	rejected := Verdict{}
	for _, phase := range phases {
		if phase.Outcome == Rejected {
			rejected.Phases = append(rejected.Phases, phase)
		}
	}
	return rejected.Worst().Phase
}

// report writes down what is known of one phase: the looks taken and, from the rounds
// used, its figures.
func (p plan) report(phase Phase, pairs []Pair, d []float64, taken int, outcome Outcome) PhaseVerdict {
	v := PhaseVerdict{Phase: phase, Outcome: outcome, Looks: []Look{}}
	if len(pairs) == 0 {
		return v
	}
	originals := make([]float64, len(pairs))
	for i, pair := range pairs {
		originals[i] = pair.Original
	}
	e := estimateLogRatio(d)
	v.Drop, v.Spread = dropOf(e.mean), e.spread
	v.Original = Median(originals)
	v.Quantized = v.Original * (1 - v.Drop)

	for _, planned := range p.looks[:taken] {
		v.Looks = append(v.Looks, planned.report(d, p.threshold))
	}
	if taken == 0 {
		return v
	}
	last := v.Looks[taken-1]
	v.Lower, v.Upper = last.Lower, last.Upper
	switch {
	case last.Outcome != GoOn:
		v.Outcome = last.Outcome
	case outcome == Rejected: // by another phase
		v.Outcome = Inconclusive
	}
	return v
}

func (l plannedLook) report(d []float64, threshold float64) Look {
	i := l.interval(estimateLogRatio(d[:l.rounds]))
	return Look{
		Rounds:  l.rounds,
		Alpha:   math.Round(l.alpha*1e9) / 1e9, // 0.04, where a product is 0.04000000000000001
		Mean:    i.mean,
		SE:      i.se,
		Lower:   finite(i.lower),
		Upper:   finite(i.upper),
		Outcome: i.outcome(threshold),
	}
}

// finite gives nil for an open end, which JSON has no number for.
func finite(x float64) *float64 {
	if math.IsInf(x, 0) {
		return nil
	}
	return &x
}
