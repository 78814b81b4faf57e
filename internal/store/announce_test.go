package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// addressOf is what a process that finds the state locked knows of whoever has it.
func addressOf(t *testing.T, dir string) string {
	t.Helper()
	_, err := OpenForReading(dir)
	locked, ok := errors.AsType[*LockedError](err)
	require.True(t, ok, "%v", err)
	return locked.URL
}

func TestTheLockLeadsToTheExporter(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	assert.Empty(t, addressOf(t, dir), "a process that does not answer, such as run")
	require.NoError(t, s.Announce("http://localhost:1"))
	require.NoError(t, s.Announce("http://localhost:2"))
	assert.Equal(t, "http://localhost:2", addressOf(t, dir))
	require.NoError(t, s.Close())
	assert.NoFileExists(t, filepath.Join(dir, announcedName))

	next := open(t, dir, Options{})
	require.NoError(t, next.Announce("http://localhost:3"))
	require.NoError(t, s.Close())
	assert.Equal(t, "http://localhost:3", addressOf(t, dir), "closed twice, a store takes nothing from the next one")
}

func TestTheLockLeadsNowhereElse(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, open(t, dir, Options{}).Close())
	file := filepath.Join(dir, announcedName)
	host, err := os.Hostname()
	require.NoError(t, err)
	left := []byte(`{"host":"` + host + `","url":"http://localhost:1"}`)

	// A killed exporter left its address, and another process has the state now.
	for name, open := range map[string]func() (*Store, error){
		"Open":           func() (*Store, error) { return Open(dir, Options{}) },
		"OpenForReading": func() (*Store, error) { return OpenForReading(dir) },
	} {
		require.NoError(t, os.WriteFile(file, left, 0o600))
		s, err := open()
		require.NoError(t, err, name)
		assert.Empty(t, addressOf(t, dir), name)
		require.NoError(t, s.Close())
	}

	s := open(t, dir, Options{})
	require.NoError(t, s.Announce("http://localhost:1"))
	for _, content := range []string{`{"host":"another.` + host + `","url":"http://localhost:1"}`, `{"host":`, ""} {
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		assert.Empty(t, addressOf(t, dir), content)
	}
}
