package web

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Model returns the name of the pair's model.
func (v *pairView) Model() string { return v.id.Model }

// Class returns the class of hardware that decides the pair; "" for this host.
func (v *pairView) Class() string { return v.id.Class }

// Decision in a word: kept, rejected, inconclusive, or before any why there is none:
// undecided, or passed over or suspended, for which nobody waits.
func (v *pairView) Decision() string {
	switch decided := v.Pair.Decided; {
	case v.Pair.Standing != "":
		return string(v.Pair.Standing)
	case decided != nil:
		return string(decided.Verdict.Outcome)
	case v.Pair.PassedOver != nil:
		return "passed over"
	case v.Suspended && !v.Running:
		return "suspended"
	}
	return "undecided"
}

// decided reports whether anything was ever found out about the pair.
func (v *pairView) decided() bool { return v.Pair.Standing != "" || v.Pair.Decided != nil }

// Phases that the latest decision rests on, in the order of the configuration; none before
// a measurement.
func (v *pairView) Phases() []verdict.PhaseVerdict {
	if v.Pair.Decided == nil {
		return nil
	}
	return measured(v.Pair.Decided.Verdict)
}

// Note says why the decision is not the one that the last measurement suggests, or which
// gate rejected the copy; "" where there is nothing to say.
func (v *pairView) Note() string {
	decided := v.Pair.Decided
	if decided == nil {
		return ""
	}
	switch last := decided.Verdict; {
	case decided.Unconfirmed:
		return "a change was measured but not confirmed"
	case last.Outcome == verdict.Inconclusive && v.Pair.Standing != "":
		return "the last measurement was inconclusive"
	case last.Outcome == verdict.Rejected && (last.Gate == verdict.GateQuality || last.Gate == verdict.GateMemory):
		return "by " + report.Gate(&decided.Result)
	case last.Outcome == verdict.Rejected: // whose figures are beside it
		return "by " + string(last.Gate)
	}
	return ""
}

// is reports whether the pair is in a state by which one can select.
func (v *pairView) is(state string) bool {
	if state == "failed" {
		return v.Pair.Failed != nil && ending("", v.Pair.Failed.Reason) == state
	}
	return v.Decision() == state
}

// forgotten reports whether nobody asks for the pair any more, and nothing was found out
// about it: a mistyped target, a model that was removed.
func (v *pairView) forgotten() bool {
	return !v.Scheduled && !v.Running && !v.decided()
}

// concern returns how far down the pair belongs when what needs attention comes first.
func (v *pairView) concern() int {
	if v.is("failed") {
		return 0
	}
	return 1 + slices.Index([]string{"rejected", "inconclusive", "undecided", "kept", "passed over", "suspended"}, v.Decision())
}

// worst returns the largest drop of the latest decision; least of all where nothing was measured.
func (v *pairView) worst() float64 {
	if v.Phases() == nil {
		return math.Inf(-1)
	}
	return v.Pair.Decided.Verdict.Worst().Drop
}

// bytes returns the size of the copy; 0 where it is not known.
func (v *pairView) bytes() int64 {
	if v.Pair.Decided == nil {
		return 0
	}
	return v.Pair.Decided.Quantized.Bytes
}

// measured returns the phases of a verdict; nil when nothing was measured, and the figures are
// none.
func measured(v *verdict.Verdict) []verdict.PhaseVerdict {
	if v.Rounds == 0 {
		return nil
	}
	return v.Phases
}

// ending returns how a pair ended in a cycle, in a word: the decision, or that it failed. With
// one that was stopped nothing is wrong, so that it says the reason.
func ending(outcome verdict.Outcome, failure runner.Reason) string {
	switch failure {
	case "":
		return string(outcome)
	case runner.ReasonCanceled, runner.ReasonInterrupted:
		return string(failure)
	default:
		return "failed"
	}
}

// reason of a failure where its ending does not say it already; else "".
func reason(failure runner.Reason) string {
	if ending("", failure) == string(failure) {
		return ""
	}
	return string(failure)
}

// share writes how large a copy is, compared with its original; "" where one of the sizes is
// not known.
func share(copied, original int64) string {
	if copied == 0 || original == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100*float64(copied)/float64(original))
}

// maxFirst is how long the beginning of a message may be, in bytes: about two lines.
const maxFirst = 240

// foldedView is a message of which only the beginning is shown at first.
type foldedView struct{ First, Rest string }

// fold cuts a message after its first line, or within one that is too long.
func fold(message string) foldedView {
	first, rest, _ := strings.Cut(message, "\n")
	if len(first) <= maxFirst {
		return foldedView{first, rest}
	}
	end := strings.LastIndexByte(first[:maxFirst], ' ')
	if end < 0 { // one long word wraps
		return foldedView{first, rest}
	}
	return foldedView{first[:end] + " …", "… " + message[end+1:]}
}

// primary returns the phase whose figures stand for the pair: generation, or the only one that
// was measured. "" when nothing was.
func primary(points []store.Point) verdict.Phase {
	for _, point := range slices.Backward(points) {
		for _, p := range point.Phases {
			if p.Phase == verdict.Generation {
				return p.Phase
			}
		}
		if len(point.Phases) > 0 {
			return point.Phases[0].Phase
		}
	}
	return ""
}
