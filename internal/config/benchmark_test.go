package config_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

func TestSettingsThatAreAcceptedCanBeDecidedOn(t *testing.T) {
	b := config.DefaultBenchmark()
	require.Empty(t, b.Validate())
	for _, rounds := range []config.Rounds{{Min: 3, Max: 3}, {Min: 3, Max: 1000}, {Min: 1000, Max: 1000}} {
		for _, alpha := range []float64{0.001, 0.25} {
			b.Rounds, b.Alpha = rounds, alpha
			require.Empty(t, b.Validate())
			c := verdict.Config{Threshold: 0.12, Phases: b.Phases, MinRounds: rounds.Min, MaxRounds: rounds.Max, Alpha: alpha}
			require.NoError(t, c.Validate(), "the two packages disagree on what is valid")
		}
	}
	for _, bad := range []config.Benchmark{{}, {Alpha: 1}, {Rounds: config.Rounds{Min: 2, Max: 1}}} {
		assert.NotEmpty(t, bad.Validate())
	}
}

func TestThreshold(t *testing.T) {
	require.NoError(t, config.ValidateThreshold(0.12))
	for _, bad := range []float64{0, 1, -0.1, 100} {
		require.Error(t, config.ValidateThreshold(bad), bad)
	}
	require.ErrorContains(t, config.ValidateThreshold(12), "write 12 % as 0.12")
}
