package report

import (
	"fmt"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Gate writes which gate rejected a copy, with its figure and its limit: "prompt: 0.75×
// [0.72–0.78], limit 0.88×", "quality: KL divergence up to 0.176, limit 0.05". It is "" for
// a copy that was not rejected.
func Gate(r *runner.Result) string {
	switch v := r.Verdict; {
	case v == nil || v.Outcome != verdict.Rejected:
		return ""
	case v.Gate == verdict.GateQuality:
		return fmt.Sprintf("%s: %s", v.Gate, r.Quality.Breaches(r.Quality.Limits))
	case v.Gate == verdict.GateMemory:
		return fmt.Sprintf("%s: %s", v.Gate, r.Memory.Breach())
	default:
		for _, p := range v.Phases {
			if p.Phase == v.Gate {
				return fmt.Sprintf("%s: %s, limit %s", v.Gate, text.SpeedWithin(p.Drop, p.Lower, p.Upper), text.SpeedLimit(r.Threshold))
			}
		}
		return string(v.Gate)
	}
}

// GateOfEvent writes the same of the event of a decision, as far as it has the figures: of the
// speed only the figures of its phase, of memory none, and of quality no limits where an earlier
// version made it.
func GateOfEvent(d *event.Decision) string {
	switch q := d.Quality; {
	case d.Gate == nil:
		return ""
	case *d.Gate == verdict.GateQuality && q != nil && !q.Limits.Any():
		var names []string
		for _, limit := range q.ExceededLimits {
			names = append(names, string(limit))
		}
		return fmt.Sprintf("%s: %s", *d.Gate, strings.Join(names, ", "))
	case *d.Gate == verdict.GateQuality && q != nil:
		return fmt.Sprintf("%s: %s", *d.Gate, evaluated(q).Breaches(q.Limits))
	case *d.Gate == d.Phase:
		return fmt.Sprintf("%s: %s, limit %s", d.Phase, text.SpeedWithin(d.ThroughputDropPercent/100, ratio(d.DropIntervalPercent[0]), ratio(d.DropIntervalPercent[1])),
			text.SpeedLimit(d.ThresholdPercent/100))
	default:
		return string(*d.Gate)
	}
}

// evaluated is as much of a verdict on the quality as names its breaches.
func evaluated(q *event.Quality) quality.Verdict {
	v := quality.Verdict{
		KLDivergence:       quality.Interval{Upper: q.KLDivergenceInterval[1]},
		Top1Agreement:      quality.Interval{Lower: q.Top1AgreementInterval[0] / 100},
		PerplexityIncrease: quality.Interval{Upper: q.PerplexityInterval[1] / 100},
		RMSDeltaP:          quality.Interval{Upper: q.RMSDeltaPInterval[1] / 100},
		Exceeded:           q.ExceededLimits,
	}
	if q.KLDivergenceP999 != nil {
		v.Quantiles = []quality.Quantile{{Percent: quality.P999, KLDivergence: *q.KLDivergenceP999}}
	}
	return v
}

func ratio(percent *float64) *float64 {
	if percent == nil {
		return nil
	}
	return new(*percent / 100)
}
