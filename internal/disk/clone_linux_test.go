package disk

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A file of /proc is on another file system than any working directory, everywhere.
const elsewhere = "/proc/version"

func TestCloneFromAnotherFileSystem(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "x.gguf")
	for _, mode := range []Mode{Reflink, Link} {
		_, err := Clone(t.Context(), mode, elsewhere, dst, nil)
		require.ErrorContains(t, err, "is not possible from "+elsewhere)
		require.NoFileExists(t, dst)
	}
	how, err := Clone(t.Context(), Auto, elsewhere, dst, nil)
	require.NoError(t, err)
	assert.Equal(t, Symlink, how, "auto copies nothing")
	target, err := os.Readlink(dst)
	require.NoError(t, err)
	assert.Equal(t, elsewhere, target)
}
