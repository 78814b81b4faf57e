// Package golden compares what a test got with a file under its testdata.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files again")

// Check compares got, byte by byte, with the file of that name under testdata, which
// `go test -update` writes.
func Check(t *testing.T, file, got string) {
	t.Helper()
	CheckFile(t, filepath.Join("testdata", file), got)
}

// CheckFile is [Check] with a file anywhere.
func CheckFile(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "go test -update writes it")
	assert.Equal(t, string(want), got, "go test -update writes %s again, if it is to change", path)
}
