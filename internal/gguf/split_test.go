package gguf_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
)

func TestShardName(t *testing.T) {
	tests := []struct {
		base, prefix string
		no, count    int
		ok           bool
	}{
		{"llama-00001-of-00003.gguf", "llama", 1, 3, true},
		{"llama-00003-of-00003.gguf", "llama", 3, 3, true},
		{"a-00001-of-00002-00001-of-00001.gguf", "a-00001-of-00002", 1, 1, true},
		{"new\nline-00002-of-99999.gguf", "new\nline", 2, 99999, true},
		{"llama.gguf", "", 0, 0, false},
		{"llama-00000-of-00003.gguf", "", 0, 0, false},
		{"llama-00004-of-00003.gguf", "", 0, 0, false},
		{"llama-1-of-3.gguf", "", 0, 0, false},
		{"llama-000001-of-000003.gguf", "", 0, 0, false},
		{"-00001-of-00003.gguf", "", 0, 0, false},
		{"llama-00001-of-00003.GGUF", "", 0, 0, false},
		{"llama-00001-of-00003.gguf.part", "", 0, 0, false},
	}
	for _, tt := range tests {
		prefix, no, count, ok := gguf.ShardName(tt.base)
		assert.Equal(t, tt.ok, ok, tt.base)
		assert.Equal(t, tt.prefix, prefix, tt.base)
		assert.Equal(t, tt.no, no, tt.base)
		assert.Equal(t, tt.count, count, tt.base)
		if ok {
			assert.Equal(t, tt.base, gguf.ShardPath(prefix, no, count))
		}
	}
}

// writeSplit writes a model as a split set and gives its paths.
func writeSplit(t *testing.T, dir string, count int) []string {
	var paths []string
	for i, file := range gguftest.Split(gguftest.Model(gguftest.Tiny()), count) {
		paths = append(paths, file.Write(t, gguf.ShardPath(filepath.Join(dir, "tiny"), i+1, count)))
	}
	return paths
}

func TestReadSetSpeaksOfTheWholeModel(t *testing.T) {
	dir := t.TempDir()
	single, err := gguf.Read(gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(dir, "tiny.gguf")))
	require.NoError(t, err)
	set, err := gguf.ReadSet(writeSplit(t, dir, 3))
	require.NoError(t, err)

	assert.Equal(t, single.Tensors, set.Tensors)
	assert.Equal(t, single.Parameters, set.Parameters)
	assert.Equal(t, single.Format, set.Format)
	assert.Equal(t, single.Vocabulary, set.Vocabulary)
	assert.InDelta(t, single.BitsPerWeight(), set.BitsPerWeight(), 1e-9)
	assert.Equal(t, 3, set.SplitCount)
	assert.Greater(t, set.Size, single.Size)
}

func TestReadSetRefusesWhatDoesNotBelongTogether(t *testing.T) {
	dir := t.TempDir()
	three := writeSplit(t, dir, 3)
	two := writeSplit(t, dir, 2)
	single := gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(dir, "tiny.gguf"))

	other := gguftest.Tiny()
	other.Blocks = 2
	foreign := gguftest.Split(gguftest.Model(other), 2)[1].Write(t, filepath.Join(dir, "foreign.gguf"))
	cut := filepath.Join(dir, "cut.gguf")
	require.NoError(t, os.WriteFile(cut, []byte("GGUF"), 0o644))

	tests := map[string]struct {
		paths []string
		want  string
	}{
		"nothing":           {nil, "no file given"},
		"one of a set":      {three[1:2], "file 2 of a set of 3"},
		"order":             {[]string{two[1], two[0]}, "its header says file 2 of 2"},
		"another set's":     {[]string{two[0], three[1]}, "its header says file 2 of 3"},
		"no set's":          {[]string{two[0], single}, "belongs to another set"},
		"another model's":   {[]string{two[0], foreign}, "do not belong to one model"},
		"cut off":           {[]string{two[0], cut}, "inside its header"},
		"named without one": {[]string{single, two[1]}, "belongs to another set"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := gguf.ReadSet(tt.paths)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestFallbackShare(t *testing.T) {
	h := func(tensors ...gguf.Tensor) *gguf.Header {
		for i := range tensors {
			tensors[i].Elements = tensors[i].Dims[0] * tensors[i].Dims[1]
		}
		return &gguf.Header{Tensors: tensors}
	}
	matrix := func(kind gguf.Type, row, rows int64) gguf.Tensor {
		return gguf.Tensor{Name: "m.weight", Type: kind, Dims: []int64{row, rows}}
	}
	tests := []struct {
		name   string
		target string
		header *gguf.Header
		want   float64
	}{
		{"all as asked", "Q4_K_M", h(matrix(gguf.Q4_K, 256, 3), matrix(gguf.Q6_K, 512, 1)), 0},
		{"a quarter", "Q4_K_M", h(matrix(gguf.Q4_K, 256, 9), matrix(gguf.Q5_0, 96, 8)), 0.25},
		{"all", "Q2_K", h(matrix(gguf.Q4_0, 576, 3), matrix(gguf.Q8_0, 576, 1)), 1},
		{"iq", "IQ2_XS", h(matrix(gguf.IQ4_NL, 96, 8), matrix(gguf.IQ2_XS, 256, 3)), 0.5},
		{"f16", "Q8_0", h(matrix(gguf.F16, 80, 16), matrix(gguf.Q8_0, 64, 20)), 0.5},
		{"the mix asks for Q8_0", "Q4_K_M", h(matrix(gguf.Q8_0, 256, 3)), 0},
		{"the target is a type of 32", "Q4_0", h(matrix(gguf.Q4_0, 96, 8)), 0},
		{"experts and others", "MXFP4_MOE", h(matrix(gguf.MXFP4, 96, 8), matrix(gguf.Q8_0, 96, 8)), 0},
		{"not quantized", "F16", h(matrix(gguf.F16, 80, 16)), 0},
		{"unknown", "NEW", h(matrix(gguf.Q4_0, 80, 16)), 0},
		{"vectors do not count", "Q4_K_M", h(matrix(gguf.F16, 80, 1), matrix(gguf.Q4_K, 256, 2)), 0},
		{"nothing", "Q4_K_M", h(), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.InDelta(t, tt.want, gguf.FallbackShare(tt.target, tt.header), 1e-9)
		})
	}
}
