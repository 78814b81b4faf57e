package event_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/test/schemas"
)

// chosen is a choice with all figures.
func chosen() event.ChoiceInfo {
	r := damaged()
	return event.ChoiceInfo{
		Model: r.Model, Rule: choice.Smallest, Previous: "Q2_K", SourceFormat: r.SourceFormat, Engine: r.Evidence.Engine.String(),
		At:     time.Date(2026, 7, 1, 12, 0, 0, 250_000_000, time.UTC),
		Chosen: &event.Chosen{Format: "Q3_K_M", Bytes: 3_250_000_000, Verdict: r.Verdict, Quality: r.Quality},
	}
}

func TestChoice(t *testing.T) {
	origin := event.Origin{Host: "build-7", Entry: "nightly"}
	check(t, "choice.json", event.NewChoice(chosen(), origin))
	t.Run("with limits", func(t *testing.T) {
		c := chosen()
		c.Rule = choice.Limited(choice.Smallest, choice.Limits{Size: 8e9, Host: 24e9, Device: 12e9})
		got := event.NewChoice(c, origin)
		assert.Equal(t, choice.Smallest, got.Choose)
		assert.Equal(t, int64(8_000_000_000), *got.MaxSizeBytes)
		assert.Equal(t, int64(24_000_000_000), got.MaxMemoryHostBytes)
		assert.Equal(t, int64(12_000_000_000), got.MaxMemoryDeviceBytes)
	})
	t.Run("of none", func(t *testing.T) {
		c := chosen()
		c.Chosen = nil
		check(t, "choice-none.json", event.NewChoice(c, origin))
	})
	t.Run("the first one, without quality and rounds", func(t *testing.T) {
		c := chosen()
		c.Previous, c.Chosen.Quality, c.Chosen.Verdict.Rounds = "", nil, 0
		check(t, "choice-first.json", event.NewChoice(c, event.Origin{}))
	})
}

func TestChoicesFitTheirSchema(t *testing.T) {
	s := schemas.Get(t, "quant-choice")
	none, first, odd, limited := chosen(), chosen(), chosen(), chosen()
	limited.Rule = choice.Limited(choice.Smallest, choice.Limits{Size: 8e9, Host: 24e9, Device: 12e9})
	none.Chosen = nil
	first.Previous, first.Chosen.Quality, first.Chosen.Verdict.Rounds = "", nil, 0
	odd.Chosen.Verdict.Phases[0].Drop = -math.MaxFloat64 // its percentage is beyond every number
	for name, c := range map[string]event.ChoiceInfo{"with everything": chosen(), "none": none, "first": first, "odd": odd, "limited": limited} {
		got := event.NewChoice(c, event.Origin{Host: "build-7"})
		got.EventID = new("id")
		text, err := json.Marshal(got)
		require.NoError(t, err)
		requireFields(t, s, text, "max_memory_host_bytes", "max_memory_device_bytes")
		assert.NoError(t, s.Validate(instance(t, got)), name)
	}
	got := event.NewChoice(chosen(), event.Origin{})
	require.Error(t, s.Validate(instance(t, got)), "without an event ID")
	got.EventID = new("id")
	for field := range instance(t, got) {
		lacking, other := instance(t, got), instance(t, got)
		delete(lacking, field)
		require.Error(t, s.Validate(lacking), "without %s", field)
		other[field] = map[string]any{}
		assert.Error(t, s.Validate(other), "%s of another type", field)
	}
}
