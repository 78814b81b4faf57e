package report_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/test/golden"
	"github.com/quant-exporter/quant-exporter/internal/test/schemas"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

const eventID = "ZQDMWFXHWSAYRCNJPCAKQHMPQ2"

// printed are objects as the program prints and sends them, by the name of their schema.
func printed(t *testing.T) map[string][]string {
	t.Helper()
	origin := event.Origin{Host: "build-7", Entry: "nightly"}
	line := func(object any) string {
		var out bytes.Buffer
		require.NoError(t, report.Line(&out, object))
		return out.String()
	}
	result := quarter()
	decision := event.NewDecision(&result, origin)
	decision.EventID = new(eventID)

	choosing := event.ChoiceInfo{
		Model: "llama-7b", Rule: choice.Smallest, SourceFormat: "F16", Engine: "llama.cpp 0.7.0 (build 11669)", At: result.Finished,
		Chosen: &event.Chosen{Format: "Q4_K_M", Bytes: 4_080_000_000, Verdict: result.Verdict},
	}
	chosen := event.NewChoice(choosing, origin)
	same := chosen
	chosen.EventID = new(eventID)
	choosing.Previous, choosing.Chosen = "Q4_K_M", nil
	none := event.NewChoice(choosing, origin)
	none.EventID = new(eventID)

	open := quarter()
	open.Verdict.Outcome, open.Verdict.Resolvable = verdict.Inconclusive, 0.3125
	var printed bytes.Buffer
	require.NoError(t, report.JSONLine(&printed, &result, origin, eventID, false))
	require.NoError(t, report.JSONLine(&printed, &open, origin, "", false))
	failure := lineOf(t, failed("Q2_K", runner.ReasonCrash, "llama-bench died of signal 11"), false)

	model, estimates := llama()
	var estimated bytes.Buffer
	require.NoError(t, report.EstimateLines(&estimated, model.Name, runner.FiguresOf(model), estimates, config.Settings{Threshold: 0.12}))

	skipped := line(event.NewPassedOver("llama-7b", "Q8_0", "Q4_K_M"))
	publications := []string{
		line(event.NewPublication("llama-7b", "Q4_K_M", time.Unix(1_782_907_201, 0), "/srv/published/llama-7b/Q4_K_M/0123456789ab", "/srv/published/llama-7b/Q4_K_M/stable", "")),
		line(event.NewPublication("llama-7b", "Q4_K_M", time.Unix(1_782_907_201, 0), "", "", "writing the copy: no space left on device")),
	}
	all := map[string][]string{
		"quant-decision": {line(decision)}, "quant-choice": {line(chosen), line(none)}, "quant-failure": {failure},
		"quant-estimate": lines(estimated.String()), "quant-skipped": {skipped}, "quant-publication": publications,
		schemas.RunOutput: append(lines(printed.String()), line(same)),
	}
	return all
}

func lines(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		all = append(all, line)
	}
	return all
}

// The examples of each schema are what the program prints or sends; go test -update writes
// them into the files.
func TestExamplesOfTheSchemas(t *testing.T) {
	files, err := schemas.Files()
	require.NoError(t, err)
	objects := printed(t)
	require.Len(t, objects, len(files), "each schema has examples")
	for name, path := range files {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		before, _, found := strings.Cut(string(text), "\n  \"examples\": [")
		require.True(t, found, "%s ends with examples", path)
		examples := strings.Join(objects[name], ",")
		var indented bytes.Buffer
		require.NoError(t, json.Indent(&indented, []byte("["+examples+"]"), "  ", "  "))
		golden.CheckFile(t, path, before+"\n  \"examples\": "+indented.String()+"\n}\n")
		for _, object := range objects[name] {
			schemas.Check(t, name, object)
		}
	}
}

// Every kind that is printed fits the schema of all lines and no other kind's.
func TestEveryKindOfLineHasOneSchema(t *testing.T) {
	objects := printed(t)
	for _, kind := range []string{
		event.TypeDecision, event.TypeChoice, event.TypeFailure, event.TypeEstimate, event.TypeSkipped, event.TypePublication,
	} {
		for _, object := range objects[schemas.Of(kind)] {
			if kind != event.TypeDecision { // which has more in a line than on the bus
				schemas.Check(t, schemas.RunOutput, object)
			}
			for other := range objects {
				if other == schemas.RunOutput || other == schemas.Of(kind) {
					continue
				}
				var value any
				require.NoError(t, json.Unmarshal([]byte(object), &value))
				assert.Error(t, schemas.Get(t, other).Validate(value), "%s fits %s", object, other)
			}
		}
	}
	var value any
	require.NoError(t, json.Unmarshal([]byte(`{"event_type":"QUANT_OTHER"}`), &value))
	assert.Error(t, schemas.Get(t, schemas.RunOutput).Validate(value))
}

// A schema that takes everything is none: each requires every field of an object that is
// always there, and of its type. Those of decisions and choices on the bus are held in
// internal/event.
func TestSchemasRefuseOthers(t *testing.T) {
	for name, examples := range printed(t) {
		for _, example := range examples {
			var fields map[string]any
			require.NoError(t, json.Unmarshal([]byte(example), &fields))
			for field, value := range fields {
				fields[field] = []any{map[string]any{}}
				require.Error(t, schemas.Get(t, name).Validate(fields), "%s: %s of another type", name, field)
				delete(fields, field)
				if field != "resolvable_drop_percent" { // of inconclusive pairs only
					require.Error(t, schemas.Get(t, name).Validate(fields), "%s: without %s", name, field)
				}
				fields[field] = value
			}
		}
	}
}
