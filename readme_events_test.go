package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The events that the documentation shows have all fields that theirs have to have.
func TestReadmeShowsWholeEvents(t *testing.T) {
	schemas := map[string]string{"QUANT_DECISION": "quant-decision.schema.json", "QUANT_CHOICE": "quant-choice.schema.json"}
	for line := range strings.Lines(pages(t)) {
		var event map[string]any
		if !strings.HasPrefix(line, `{"event_type":`) || json.Unmarshal([]byte(line), &event) != nil {
			continue // others are shortened
		}
		kind, _ := event["event_type"].(string)
		require.Contains(t, schemas, kind, "shown once")
		text, err := os.ReadFile(filepath.Join("examples", schemas[kind]))
		require.NoError(t, err)
		var schema struct{ Required []string }
		require.NoError(t, json.Unmarshal(text, &schema))
		require.NotEmpty(t, schema.Required)
		for _, field := range schema.Required {
			assert.Contains(t, event, field)
		}
		delete(schemas, kind)
	}
	assert.Empty(t, schemas, "not shown")
}
