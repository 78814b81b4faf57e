package web

import (
	"fmt"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// pairView is a row of the table of pairs.
type pairView struct {
	id            store.PairID
	Model, Target string
	Source        string // "" when it is not known
	Scheduled     bool
	// Decision in a word: kept, rejected, inconclusive, or undecided before any.
	Decision string
	// Note says what of the decision the figures do not show.
	Note string
	// Figures of the primary phase; "" when there are none.
	Phase               string
	Original, Quantized string
	Drop, Interval      string
	Threshold           string
	Decided             moment
	Failure             *failureView
}

type failureView struct {
	Reason, Message string
	When            moment
}

func newPairView(id store.PairID) *pairView {
	return &pairView{id: id, Model: report.Name(id.Model), Target: report.Name(id.Target), Decision: "undecided"}
}

// fill adds what is known of the pair.
func (v *pairView) fill(pair *store.Pair, now time.Time) {
	if failed := pair.Failed; failed != nil {
		v.Failure = &failureView{string(failed.Reason), report.Text(failed.Error), momentOf(failed.Finished, now)}
	}
	if pair.Standing != "" {
		v.Decision = string(pair.Standing)
	}
	decided := pair.Decided
	if decided == nil {
		return
	}
	if pair.Standing == "" {
		v.Decision = string(decided.Verdict.Outcome)
	}
	v.Source = report.Name(decided.SourceFormat)
	v.Threshold = report.Threshold(decided.Threshold)
	v.Decided = momentOf(decided.Finished, now)
	v.Note = note(pair)
	if p := primary(decided.Verdict); p != nil {
		v.Phase = string(p.Phase)
		v.Original, v.Quantized = report.Throughput(p.Original), report.Throughput(p.Quantized)
		v.Drop = report.Percent(p.Drop)
		v.Interval = "[" + bound(p.Lower) + ", " + bound(p.Upper) + "]"
	}
}

// note says why the decision is not the one that the primary phase's figures suggest.
func note(pair *store.Pair) string {
	v := pair.Decided.Verdict
	switch {
	case pair.Decided.Unconfirmed:
		return "a change was measured, and not confirmed"
	case v.Outcome == verdict.Inconclusive && pair.Standing != "":
		return "last measurement inconclusive"
	case v.Outcome == verdict.Rejected && v.Gate != verdict.Generation:
		for _, p := range v.Phases {
			if p.Phase == v.Gate {
				return fmt.Sprintf("%s phase: %s %s", p.Phase, report.Percent(p.Drop), "["+bound(p.Lower)+", "+bound(p.Upper)+"]")
			}
		}
	}
	return ""
}

// primary is the phase whose figures stand for the pair: that of generation, or the only
// one that was measured. Nil when nothing was.
func primary(v verdict.Verdict) *verdict.PhaseVerdict {
	if v.Rounds == 0 {
		return nil
	}
	for i := range v.Phases {
		if v.Phases[i].Phase == verdict.Generation {
			return &v.Phases[i]
		}
	}
	if len(v.Phases) == 0 {
		return nil
	}
	return &v.Phases[0]
}

// bound is an end of an interval.
func bound(ratio *float64) string {
	if ratio == nil {
		return "open"
	}
	return report.Tenths(*ratio)
}
