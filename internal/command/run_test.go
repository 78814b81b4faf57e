package command

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

func TestOrderOfBadness(t *testing.T) {
	kept := &runner.Result{Verdict: &verdict.Verdict{Outcome: verdict.Kept}}
	inconclusive := &runner.Result{Verdict: &verdict.Verdict{Outcome: verdict.Inconclusive}}
	rejected := &runner.Result{Verdict: &verdict.Verdict{Outcome: verdict.Rejected}}
	failed := &runner.Result{Failure: runner.Failf(runner.ReasonCrash, "x")}
	// From good to bad: whatever stands further right wins, in either order.
	order := []*runner.Result{kept, inconclusive, rejected, failed}
	statuses := []int{ExitKept, ExitInconclusive, ExitRejected, ExitFailed}
	for i, a := range order {
		for j, b := range order {
			var all outcomes
			all.add(a)
			all.add(b)
			assert.Equal(t, statuses[max(i, j)], all.status(), "%d, %d", i, j)
		}
	}
}
