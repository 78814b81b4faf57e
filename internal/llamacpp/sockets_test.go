package llamacpp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFoldersWithSockets(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	require.NoError(t, os.Mkdir(deep, 0o700))
	for _, dir := range []string{t.TempDir(), deep} {
		assert.Empty(t, withoutSockets(dir))
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, left)
	}
	assert.Empty(t, withoutSockets("/is/not/there"), "that is for others to say")
}
