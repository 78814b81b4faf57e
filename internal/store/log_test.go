package store

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

func TestLogStaysWithItsCycle(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Retention: config.Retention{Cycles: 1}})
	record(t, s, decided("m", "Q2_K", verdict.Kept))
	long := strings.Repeat("level=INFO msg=\"<a line>\"\n", 5000)
	require.NoError(t, s.PutLog(1, long))
	require.NoError(t, s.Close())
	s = open(t, dir, Options{Retention: config.Retention{Cycles: 1}})
	got, err := s.Log(1)
	require.NoError(t, err)
	assert.Equal(t, long, got)

	var exported bytes.Buffer
	require.NoError(t, s.Export(&exported))
	assert.Contains(t, exported.String(), `{"kind":"log","cycle":1,"text":"level=INFO msg=\"`)

	record(t, s, decided("m", "Q2_K", verdict.Kept)) // Retention takes the first one
	got, err = s.Log(1)
	require.NoError(t, err)
	assert.Empty(t, got)
	require.NoError(t, s.PutLog(1, "late"), "a log that comes after its cycle was removed is not an error")
	got, err = s.Log(1)
	require.NoError(t, err)
	assert.Empty(t, got)
	require.NoError(t, s.Check())
}
