package llamacpp_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/schedule"
)

func TestEntriesThatConfigureTheEngineAlikeShareOne(t *testing.T) {
	c := config.Default()
	c.Engine.Dir = fakellama.Build(t)
	add := func(name string, change func(*config.Engine)) {
		entry := config.Entry{Entry: schedule.Entry{Name: name}, Engine: c.Engine}
		change(&entry.Engine)
		c.Schedule = append(c.Schedule, entry)
	}
	engines := func() llamacpp.Engines {
		return llamacpp.NewEngines(&c, llamacpp.Threads{}, slog.New(slog.DiscardHandler))
	}

	none := engines()
	require.Len(t, none, 1, "the section's")
	assert.Empty(t, none[0].Entries)

	add("plain", func(*config.Engine) {})
	add("device", func(e *config.Engine) { e.Env = map[string]string{"CUDA_VISIBLE_DEVICES": "1"} })
	add("same device", func(e *config.Engine) { e.Env = map[string]string{"CUDA_VISIBLE_DEVICES": "1"} })
	two := engines()
	require.Len(t, two, 2)
	assert.Equal(t, []string{"plain"}, two[0].Entries)
	assert.Equal(t, []string{"device", "same device"}, two[1].Entries)
	assert.Same(t, two.Of(c.Schedule[1].Engine), two.Of(c.Schedule[2].Engine))
	assert.NotSame(t, two.Of(c.Schedule[0].Engine), two.Of(c.Schedule[1].Engine))
	info, err := two.Probe(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "llama.cpp", info.Name)

	add("elsewhere", func(e *config.Engine) { e.Dir = t.TempDir() })
	_, err = engines().Probe(t.Context())
	require.ErrorContains(t, err, `entry "elsewhere": `)
}
