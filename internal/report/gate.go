package report

import (
	"fmt"

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
