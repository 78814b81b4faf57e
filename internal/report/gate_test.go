package report

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// The event of a decision says why as its result does.
func TestGateOfEvent(t *testing.T) {
	slow := &runner.Result{Threshold: 0.12, Verdict: &verdict.Verdict{
		Outcome: verdict.Rejected, Gate: verdict.Prompt, Rounds: 4,
		Phases: []verdict.PhaseVerdict{{Phase: verdict.Prompt, Drop: 0.25, Lower: new(0.22), Upper: nil}},
	}}
	damaged := &runner.Result{Threshold: 0.12, Verdict: &verdict.Verdict{
		Outcome: verdict.Rejected, Gate: verdict.GateQuality, Rounds: 4,
		Phases: []verdict.PhaseVerdict{{Phase: verdict.Prompt, Drop: -1}},
	}, Quality: &runner.Evaluated{
		Verdict: quality.Verdict{
			KLDivergence:       quality.Interval{Upper: 0.1764},
			Top1Agreement:      quality.Interval{Lower: 0.731},
			PerplexityIncrease: quality.Interval{Upper: 0.12},
			RMSDeltaP:          quality.Interval{Upper: 0.1064},
			Quantiles:          []quality.Quantile{{Percent: quality.P999, KLDivergence: 2.654}},
			Exceeded:           []quality.Limit{quality.MaxKLDivergence, quality.MinTop1Agreement, quality.MaxPerplexityIncrease, quality.MaxKLDivergenceP999, quality.MaxRMSDeltaP},
		},
		Limits: quality.Limits{MaxKLDivergence: 0.05, MinTop1Agreement: 0.9, MaxPerplexityIncrease: 0.1, MaxKLDivergenceP999: 1, MaxRMSDeltaP: 0.05},
	}}
	for _, r := range []*runner.Result{slow, damaged} {
		d := event.NewDecision(r, event.Origin{})
		assert.Equal(t, Gate(r), GateOfEvent(&d))
		assert.NotEmpty(t, Gate(r))
	}

	d := event.NewDecision(damaged, event.Origin{})
	d.Quality.Limits = quality.Limits{}
	assert.Equal(t, "quality: max_kl_divergence, min_top1_agreement, max_perplexity_increase, max_kl_divergence_p999, max_rms_dp", GateOfEvent(&d), "made before events had limits")
	d.Gate, d.Quality = new(verdict.GateMemory), nil
	assert.Equal(t, "memory", GateOfEvent(&d))
	d.Gate = nil
	assert.Empty(t, GateOfEvent(&d))
}
