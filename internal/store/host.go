package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/studentt"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Found is what a host of a fleet has found of a model.
type Found struct {
	// Decided is when it last decided a pair of the model, and Failed when one last failed there
	// without having been canceled; zero before.
	Decided time.Time `json:"decided,omitzero"`
	Failed  time.Time `json:"failed,omitzero"`
	// Originals are the original's throughputs, per phase, in the latest cycle that has decided
	// something, in tokens per second. Basis stands for what they depend on besides the host.
	Originals map[verdict.Phase]quality.Interval `json:"originals,omitempty"`
	Basis     string                             `json:"basis,omitempty"`
}

// foundFor is how long is remembered what a host has found.
const foundFor = 30 * 24 * time.Hour

// foundConfidence is with which probability each of the intervals of Found holds the true figure.
const foundConfidence = 0.95

// found takes a result into what the hosts of its class have found of the model. It changes
// none of before.
func found(before map[string]*Found, r *Record) map[string]*Found {
	if r.Class == "" || r.Host == "" {
		return before
	}
	all := maps.Clone(before)
	if all == nil {
		all = map[string]*Found{}
	}
	maps.DeleteFunc(all, func(_ string, f *Found) bool {
		return r.Finished.Sub(f.Decided) > foundFor && r.Finished.Sub(f.Failed) > foundFor
	})
	next := &Found{}
	if known := all[r.Host]; known != nil {
		*next = *known
	}
	all[r.Host] = next
	if r.Failure != nil {
		if r.Failure.Reason != runner.ReasonCanceled && r.Failure.Reason != runner.ReasonInterrupted {
			next.Failed = r.Finished
		}
		return all
	}
	next.Decided = r.Finished
	if basis := basisOf(r); basis != "" {
		next.Basis, next.Originals = basis, map[verdict.Phase]quality.Interval{}
		for _, phase := range r.Verdict.Phases {
			if around, ok := throughputWithin(samples(&r.Result, phase.Phase)); ok {
				next.Originals[phase.Phase] = around
			}
		}
	}
	return all
}

// basisOf stands for what the figures of an original depend on besides the host; "" where that
// is not known.
func basisOf(r *Record) string {
	if r.Inputs == nil || r.Inputs.Source == "" || r.Verdict.Rounds == 0 {
		return ""
	}
	arguments := maps.Clone(r.Inputs.Arguments)
	delete(arguments, "engine.imatrix") // of the copy
	text, err := json.Marshal(struct {
		Source, Format string
		Method         config.Method
		Arguments      map[string]string
	}{r.Inputs.Source, r.SourceFormat, r.Evidence.Method, arguments})
	if err != nil { // of strings alone
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// throughputWithin returns the mean of throughputs, by their logarithms, with Student's interval;
// false where there are too few for one.
func throughputWithin(samples []float64) (quality.Interval, bool) {
	const fewest = 3
	if len(samples) < fewest || slices.Min(samples) <= 0 {
		return quality.Interval{}, false
	}
	logarithms := make([]float64, len(samples))
	for i, sample := range samples {
		logarithms[i] = math.Log(sample)
	}
	mean, half := studentt.Interval(logarithms, foundConfidence)
	return quality.Interval{Estimate: math.Exp(mean), Lower: math.Exp(mean - half), Upper: math.Exp(mean + half)}, true
}

// Disagreement returns how far the original's throughput on a host is from that on the other host
// of its class that is nearest to it, as far as their intervals are apart: 0.1 where it is faster
// by 10 % and more, -0.1 where it is slower, 0 where the intervals overlap. Of several phases
// it is the one that is farthest. It is false where no other host has measured the same.
func (m *Model) Disagreement(host string) (ratio float64, known bool) {
	ours := m.Hosts[host]
	if ours == nil || ours.Basis == "" {
		return 0, false
	}
	for phase, own := range ours.Originals {
		nearest := math.Inf(1)
		for name, theirs := range m.Hosts {
			other, measured := theirs.Originals[phase]
			if name == host || theirs.Basis != ours.Basis || !measured {
				continue
			}
			if apart := apart(own, other); math.Abs(apart) < math.Abs(nearest) {
				nearest = apart
			}
		}
		if !math.IsInf(nearest, 1) {
			known = true
			if math.Abs(nearest) > math.Abs(ratio) {
				ratio = nearest
			}
		}
	}
	return ratio, known
}

// apart returns how far an interval lies above another one, or, negative, below; 0 where they
// overlap.
func apart(own, other quality.Interval) float64 {
	switch {
	case own.Lower > other.Upper:
		return own.Lower/other.Upper - 1
	case own.Upper < other.Lower:
		return own.Upper/other.Lower - 1
	default:
		return 0
	}
}
