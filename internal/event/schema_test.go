package event_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/test/golden"
	"github.com/quant-exporter/quant-exporter/internal/test/schemas"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// published is a decision as it goes to the bus.
func published(edit func(*event.Decision)) event.Decision {
	d := event.NewDecision(rejected(), event.Origin{Host: "build-7", Entry: "nightly"})
	d.EventID = new("ZQDMWFXHWSAYRCNJPCAKQHMPQ2")
	if edit != nil {
		edit(&d)
	}
	return d
}

// instance is the event's JSON, as the validator takes it.
func instance(t *testing.T, d any) map[string]any {
	t.Helper()
	text, err := json.Marshal(d)
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	return value.(map[string]any)
}

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	return schemas.Get(t, "quant-decision")
}

func TestEventsFitTheSchema(t *testing.T) {
	s := schema(t)
	first := rejected()
	first.Previous = ""
	open := rejected()
	open.Verdict.Phases[1].Lower, open.Verdict.Phases[1].Upper = nil, nil
	oneEnd := rejected()
	oneEnd.Verdict.Phases[1].Upper = new(math.MaxFloat64)
	for name, d := range map[string]event.Decision{
		"with everything":        published(nil),
		"of a file that exists":  published(func(d *event.Decision) { d.Against = new("prod") }),
		"of a fleet":             event.NewDecision(rejected(), event.Origin{Host: "h", Class: "h100"}),
		"kept":                   published(func(d *event.Decision) { d.Decision = verdict.Kept }),
		"damaged":                event.NewDecision(damaged(), event.Origin{}),
		"faster":                 published(func(d *event.Decision) { d.ThroughputDropPercent = -50 }),
		"first of its pair":      event.NewDecision(first, event.Origin{}),
		"interval of no rounds":  event.NewDecision(open, event.Origin{}),
		"interval with one end":  event.NewDecision(oneEnd, event.Origin{Host: "h"}),
		"the smallest threshold": published(func(d *event.Decision) { d.ThresholdPercent = event.ThresholdPercent(0.001) }),
	} {
		d.EventID = new("id")
		assert.NoError(t, s.Validate(instance(t, d)), name)
	}
	t.Run("with what a later version adds", func(t *testing.T) {
		later := instance(t, published(nil))
		later["chosen"] = true
		assert.NoError(t, s.Validate(later))
	})
}

// Every field has to be there, and of its type: a schema that takes everything is none.
func TestSchemaRefusesOthers(t *testing.T) {
	s := schema(t)
	bad := damaged()
	bad.Quality.Exceeded[0] = "max_size"
	d := event.NewDecision(bad, event.Origin{})
	d.EventID = new("id")
	require.Error(t, s.Validate(instance(t, d)), "a limit that does not exist")
	whole := instance(t, published(nil))
	for field := range whole {
		lacking := instance(t, published(nil))
		delete(lacking, field)
		assert.Error(t, s.Validate(lacking), "without %s", field)

		other := instance(t, published(nil))
		other[field] = map[string]any{}
		assert.Error(t, s.Validate(other), "%s of another type", field)
	}
	for name, edit := range map[string]func(*event.Decision){
		"inconclusive, which never goes to the bus": func(d *event.Decision) { d.Decision = verdict.Inconclusive },
		"no event ID":      func(d *event.Decision) { d.EventID = nil },
		"another type":     func(d *event.Decision) { d.EventType = event.TypeEstimate },
		"no throughput":    func(d *event.Decision) { d.OriginalThroughput = 0 },
		"another phase":    func(d *event.Decision) { d.Phase = "evaluation" },
		"no rounds":        func(d *event.Decision) { d.Rounds = 0 },
		"more than sure":   func(d *event.Decision) { d.IntervalConfidence = 1.1 },
		"a drop above all": func(d *event.Decision) { d.ThroughputDropPercent = 100.1 },
	} {
		assert.Error(t, s.Validate(instance(t, published(edit))), name)
	}
	long := instance(t, published(nil))
	long["drop_interval_percent"] = []any{json.Number("1"), json.Number("2"), json.Number("3")}
	assert.Error(t, s.Validate(long), "an interval with three ends")
}

// The mission's fields, their names, types and order, come first; then the
// fields that the contract added. testdata/fields.txt holds both.
func TestFields(t *testing.T) {
	text, err := json.Marshal(published(nil))
	require.NoError(t, err)
	var fields []string
	for i, f := range members(t, text) {
		if i == missionFields {
			fields = append(fields, "-- additions --")
		}
		fields = append(fields, fmt.Sprintf("%s %s", f.name, typeOf(f.value)))
	}
	golden.Check(t, "fields.txt", strings.Join(fields, "\n")+"\n")

	t.Run("and the schema has the same, in the same order", func(t *testing.T) {
		requireFields(t, schema(t), text, "recipe")
	})
}

// requireFields sees that a schema requires the fields of an object, in their order, and knows
// beside them only the optional ones: the class of a fleet, and these.
func requireFields(t *testing.T, s *jsonschema.Schema, object []byte, optional ...string) {
	t.Helper()
	optional = append([]string{"hardware_class"}, optional...)
	var names []string
	for _, f := range members(t, object) {
		if !slices.Contains(optional, f.name) {
			names = append(names, f.name)
		}
		assert.Contains(t, s.Properties, f.name)
	}
	assert.Equal(t, names, s.Required)
	for _, name := range optional {
		assert.Contains(t, s.Properties, name)
	}
	assert.Len(t, s.Properties, len(names)+len(optional))
}

// missionFields counts those that the mission laid down.
const missionFields = 11

type member struct {
	name  string
	value json.RawMessage
}

// members of an object, in their order.
func members(t *testing.T, object []byte) []member {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(object))
	_, err := decoder.Token()
	require.NoError(t, err)
	var all []member
	for decoder.More() {
		name, err := decoder.Token()
		require.NoError(t, err)
		m := member{name: name.(string)}
		require.NoError(t, decoder.Decode(&m.value))
		all = append(all, m)
	}
	return all
}

func typeOf(value json.RawMessage) string {
	switch value[0] {
	case '"':
		return "string"
	case '[':
		return "array"
	case '{':
		return "object"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}
