package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/docs"
	"github.com/quant-exporter/quant-exporter/internal/test/schemas"
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

// The events that the documentation shows fit their schemas, and every kind of object has
// a row that links to its schema.
func TestDocsShowWholeEvents(t *testing.T) {
	page, err := os.ReadFile("../docs/events.md")
	require.NoError(t, err)
	shown := map[string]string{}
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, `{"event_type":`) {
			continue
		}
		var event struct {
			Type string `json:"event_type"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &event))
		require.NotContains(t, shown, event.Type, "shown once")
		shown[event.Type] = line
	}
	assert.Len(t, shown, 2)
	schemas.Check(t, schemas.RunOutput, shown["QUANT_DECISION"]) // as run prints it
	schemas.Check(t, "quant-choice", shown["QUANT_CHOICE"])
	files, err := schemas.Files()
	require.NoError(t, err)
	for _, path := range files {
		assert.Contains(t, string(page), "(../examples/"+filepath.Base(path)+")")
	}
}
