package store_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/store"
)

func TestTemporaryLeavesNothing(t *testing.T) {
	parent := t.TempDir()
	s, err := store.Temporary(parent, store.Options{})
	require.NoError(t, err)
	id, err := s.BeginCycle(store.Cycle{Model: "m", Targets: []string{"Q2_K"}})
	require.NoError(t, err)
	require.NoError(t, s.EndCycle(id, nil))
	require.NoError(t, s.Close())
	left, err := os.ReadDir(parent)
	require.NoError(t, err)
	assert.Empty(t, left)
	require.NoError(t, s.Close(), "only the first does anything")
}
