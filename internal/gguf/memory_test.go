package gguf_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
)

// A header of many megabytes whose values all look as if they described the model.
func TestMemoryIsBoundedWhateverAHeaderHolds(t *testing.T) {
	file := gguftest.Model(gguftest.Tiny())
	layers := make([]int32, 1<<10)
	for i := range 16_000 {
		file.Metadata = append(file.Metadata, gguftest.Pair{Key: fmt.Sprintf("arch%d.attention.head_count", i), Value: layers})
	}
	path := file.Write(t, filepath.Join(t.TempDir(), "m.gguf"))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Greater(t, info.Size(), int64(60<<20))
	file = gguftest.File{}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	_, err = gguf.Read(path)
	runtime.ReadMemStats(&after)
	require.ErrorContains(t, err, "the file is damaged")
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(15<<20))
}
