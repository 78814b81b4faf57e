package test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/docs"
)

// Tables that say what to do about each value of a label are written by hand, and have
// every value that the exporter has.
func TestDocsHaveEveryReason(t *testing.T) {
	t.Parallel()
	p := newIdlePlace(t)
	s := p.serve()
	s.mustLog("msg=ready")
	families := s.metrics()
	for _, table := range []struct{ heading, family, label string }{
		{"reason | what happened", "quant_cycle_failures_total", "reason"},
		{"skipped because of | meaning", "quant_cycle_skipped_total", "reason"},
		{"input | what it covers", "quant_cycle_input_changes_total", "input"},
		{"reason | what to do", "quant_cycle_event_publish_failures_total", "reason"},
	} {
		require.Contains(t, families, table.family)
		values := map[string]bool{}
		for _, metric := range families[table.family].GetMetric() {
			for _, pair := range metric.GetLabel() {
				if pair.GetName() == table.label {
					values[pair.GetValue()] = true
				}
			}
		}
		documented := map[string]bool{}
		for _, name := range docs.Rows(t, "..", table.heading) {
			documented[name] = true
		}
		assert.Equal(t, values, documented, table.heading)
	}
}
