package config_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestRetentionValidate(t *testing.T) {
	assert.Empty(t, config.DefaultRetention().Validate())
	assert.Empty(t, config.Retention{}.Validate())
	problems := config.Retention{Age: -1, Cycles: -1}.Validate()
	require.Len(t, problems, 2)
	assert.Equal(t, "age", problems[0].Path)
	require.ErrorContains(t, problems[0].Err, "365d")
	assert.Equal(t, "cycles", problems[1].Path)
	require.ErrorContains(t, problems[1].Err, "-1 cycles")
}
