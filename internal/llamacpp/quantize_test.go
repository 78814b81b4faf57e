package llamacpp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseTensorOfRealOutput(t *testing.T) {
	var done []int
	for line := range strings.Lines(read(t, "recorded", "quantize.txt")) {
		if n, total, ok := parseTensor(line); ok {
			assert.Equal(t, 39, total)
			done = append(done, n)
		}
	}
	require.Len(t, done, 39)
	assert.Equal(t, 1, done[0])
	assert.IsIncreasing(t, done)
}

func TestParseTensorRefuses(t *testing.T) {
	for _, line := range []string{
		"", "[0/39] x", "[40/39] x", "[ 1/ 0]", "[1/99999999]", "tensor - [ 256, 256, 1, 1]",
	} {
		_, _, ok := parseTensor(line)
		assert.False(t, ok, line)
	}
	done, total, ok := parseTensor("0.00.123 I [  15/  39] blk.1 - [ 256, 256, 1, 1], type = f16")
	assert.True(t, ok, "a log prefix may come first")
	assert.Equal(t, []int{15, 39}, []int{done, total})
}

func planOf(text string) plan {
	var p plan
	for line := range strings.Lines(text) {
		p.add(line)
	}
	return p
}

// The model is the bundled one, of 7 898 464 bytes, and llama-quantize made 1 586 528
// bytes of it.
func TestPlanIsNotBelowTheRealSizeAndCloseToIt(t *testing.T) {
	const input, made = 7898464, 1586528
	p := planOf(read(t, "recorded", "dry-run.txt"))
	require.True(t, p.complete())
	assert.False(t, p.needsImatrix)

	got := p.bytes(input, "")
	assert.GreaterOrEqual(t, got, int64(made))
	assert.LessOrEqual(t, got, int64(made+20_000))
	assert.Greater(t, p.bytes(input, "/models/imatrix.gguf"), got, "the matrix is named in the output")
}

func TestPlanSeesThatAMatrixIsNeeded(t *testing.T) {
	assert.True(t, planOf(read(t, "recorded", "dry-run-imatrix.txt")).needsImatrix)
}

func TestPlanOfOlderWords(t *testing.T) {
	p := planOf("[   1/ 291] token_embd.weight\nllama_model_quantize_internal: model size  = 12853.02 MB\nllama_model_quantize_internal: quant size  =  2595.03 MB\n")
	assert.True(t, p.complete())
	assert.False(t, func() bool { p := planOf("quant size = lots MiB"); return p.complete() }())
}

func TestInputBytesCountsAllShards(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{
		"plan-00001-of-00002.gguf": 10, "plan-00002-of-00002.gguf": 5, "other-00001-of-00002.gguf": 1, "whole.gguf": 7,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600))
	}
	for name, want := range map[string]int64{"whole.gguf": 7, "plan-00001-of-00002.gguf": 15} {
		got, err := inputBytes(dir, name)
		require.NoError(t, err)
		assert.Equal(t, want, got, name)
	}
	_, err := inputBytes(dir, "other-00001-of-00002.gguf")
	assert.ErrorContains(t, err, "other-00002-of-00002.gguf")
}

func FuzzQuantizeOutput(f *testing.F) {
	f.Add(read(f, "recorded", "quantize.txt"))
	f.Add(read(f, "recorded", "dry-run.txt"))
	f.Add("[ 1/ 2] quant size = 999999999999.999999 MiB\nmodel size = 1.0 MB")
	f.Fuzz(func(t *testing.T, text string) {
		var p plan
		for line := range strings.Lines(text) {
			p.add(line)
			if done, total, ok := parseTensor(line); ok {
				require.Positive(t, done)
				require.LessOrEqual(t, done, total)
			}
		}
		if p.complete() {
			require.Positive(t, p.bytes(0, ""))
		}
	})
}
