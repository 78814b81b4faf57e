package config_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestSettingsThatAreAcceptedCanBeDecidedOn(t *testing.T) {
	b := config.DefaultBenchmark()
	require.Empty(t, b.Validate())
	for _, rounds := range []config.Rounds{{Min: 3, Max: 3}, {Min: 3, Max: 1000}, {Min: 1000, Max: 1000}} {
		for _, alpha := range []float64{0.001, 0.25} {
			b.Rounds, b.Alpha = rounds, alpha
			require.Empty(t, b.Validate())
			require.NoError(t, b.Decision(0.12).Validate())
		}
	}
	for _, bad := range []config.Benchmark{{}, {Alpha: 1}, {Rounds: config.Rounds{Min: 2, Max: 1}}} {
		assert.NotEmpty(t, bad.Validate())
	}
}
