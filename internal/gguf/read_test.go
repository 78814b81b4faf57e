package gguf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
)

func TestBundledModel(t *testing.T) {
	const path = "../../examples/models/kjv-4m-f16.gguf"
	h, err := gguf.Read(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)

	assert.Equal(t, "llama", h.Architecture)
	assert.Equal(t, "F16", h.Format)
	assert.Equal(t, gguf.FormatFromFileType, h.FormatRule)
	assert.False(t, h.Quantized)
	assert.EqualValues(t, 1024, h.Vocabulary)
	assert.EqualValues(t, 256, h.Embedding)
	assert.Len(t, h.Tensors, 39)
	assert.Equal(t, info.Size(), h.Size)
	// llama-quantize --dry-run prints "model size = 7.51 MiB (16.01 BPW)".
	assert.InDelta(t, 16.01, h.BitsPerWeight(), 0.005)
}

func TestReadsWhatWasWritten(t *testing.T) {
	shape := gguftest.Tiny()
	shape.Experts, shape.ExpertsUsed = 4, 2
	for _, version := range []uint32{2, 3} {
		file := gguftest.Model(shape)
		file.Version = version
		path := file.Write(t, filepath.Join(t.TempDir(), "a model, with \"odd\"\nname ü.gguf"))
		h, err := gguf.Read(path)
		require.NoError(t, err)
		info, err := os.Stat(path)
		require.NoError(t, err)

		assert.Equal(t, int(version), h.Version)
		assert.Equal(t, "model", h.Type)
		assert.Equal(t, "made up", h.Name)
		assert.EqualValues(t, 512, h.Vocabulary)
		assert.EqualValues(t, 1, h.Blocks)
		assert.Equal(t, []int64{4}, h.Heads)
		assert.Equal(t, []int64{2}, h.KVHeads)
		assert.EqualValues(t, 64, h.KeyLength)
		assert.EqualValues(t, 64, h.ValueLength)
		assert.EqualValues(t, 4, h.Experts)
		assert.EqualValues(t, 2, h.ExpertsUsed)
		assert.Equal(t, info.Size(), h.Size)

		// 512 × 256 embedding, 196608 attention, 3 × 4 × 256 × 512 experts, a router, 3 norms.
		assert.EqualValues(t, 131072+196608+1572864+1024+3*256, h.Parameters)
		up := h.Tensor("blk.0.ffn_up_exps.weight")
		require.NotNil(t, up)
		assert.Equal(t, gguf.Tensor{Name: "blk.0.ffn_up_exps.weight", Type: gguf.F16, Dims: []int64{256, 512, 4}, Elements: 524288, Bytes: 1048576}, *up)
		assert.Nil(t, h.Tensor("blk.1.ffn_up_exps.weight"))
	}
}

func TestHeadsPerLayerAndKeyLengths(t *testing.T) {
	file := gguftest.File{Metadata: []gguftest.Pair{
		{Key: "general.architecture", Value: "jamba"},
		{Key: "jamba.block_count", Value: uint64(3)},
		{Key: "jamba.embedding_length", Value: int32(512)},
		{Key: "jamba.attention.head_count", Value: []uint32{0, 8, 0}},
		{Key: "jamba.attention.head_count_kv", Value: []int32{0, 2, 0}},
		{Key: "jamba.attention.value_length", Value: uint32(32)},
		{Key: "jamba.vocab_size", Value: uint32(99)},
		{Key: "other.vocab_size", Value: uint32(7)},
		{Key: "some.flag", Value: true},
		{Key: "some.double", Value: 1.5},
	}}
	h, err := gguf.Read(file.Write(t, filepath.Join(t.TempDir(), "m.gguf")))
	require.NoError(t, err)
	assert.Equal(t, []int64{0, 8, 0}, h.Heads)
	assert.Equal(t, []int64{0, 2, 0}, h.KVHeads)
	assert.EqualValues(t, 64, h.KeyLength, "of the layers that have heads")
	assert.EqualValues(t, 32, h.ValueLength)
	assert.EqualValues(t, 99, h.Vocabulary)
	assert.EqualValues(t, 3, h.Blocks)
	assert.EqualValues(t, 512, h.Embedding)
}

func TestFormat(t *testing.T) {
	matrix := func(kind gguf.Type, rows uint64) gguftest.Tensor {
		return gguftest.Tensor{Name: "blk.0.m.weight", Type: kind, Dims: []uint64{256, rows}}
	}
	norm := gguftest.Tensor{Name: "norm.weight", Type: gguf.F32, Dims: []uint64{1 << 20}}
	tests := []struct {
		name      string
		fileType  any
		tensors   []gguftest.Tensor
		format    string
		rule      gguf.FormatRule
		quantized bool
	}{
		{"as labelled", uint32(15), []gguftest.Tensor{matrix(gguf.Q4_K, 8), matrix(gguf.Q6_K, 4), norm}, "Q4_K_M", gguf.FormatFromFileType, true},
		{"mostly fallen back", uint32(10), []gguftest.Tensor{matrix(gguf.Q4_0, 8), matrix(gguf.Q2_K, 1)}, "Q2_K", gguf.FormatFromFileType, true},
		{"no label", nil, []gguftest.Tensor{matrix(gguf.BF16, 8), matrix(gguf.F16, 4), norm}, "BF16", gguf.FormatFromTensors, false},
		{"label of a removed format", uint32(5), []gguftest.Tensor{matrix(gguf.Q4_0, 8)}, "Q4_0", gguf.FormatFromTensors, true},
		{"labelled F16, is BF16", uint32(1), []gguftest.Tensor{matrix(gguf.BF16, 8)}, "BF16", gguf.FormatFromTensors, false},
		{"labelled F16, is quantized", uint32(1), []gguftest.Tensor{matrix(gguf.Q8_0, 8)}, "Q8_0", gguf.FormatFromTensors, true},
		{"labelled Q8_0, is F32", uint32(7), []gguftest.Tensor{matrix(gguf.F32, 8)}, "F32", gguf.FormatFromTensors, false},
		{"label of another type", "F16", []gguftest.Tensor{matrix(gguf.F32, 8)}, "F32", gguf.FormatFromTensors, false},
		{"one quantized matrix among others", uint32(1), []gguftest.Tensor{matrix(gguf.F16, 8), matrix(gguf.MXFP4, 2)}, "F16", gguf.FormatFromTensors, true},
		{"newest", uint32(41), []gguftest.Tensor{matrix(gguf.Q2_0, 8)}, "Q2_0", gguf.FormatFromFileType, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := gguftest.File{Tensors: tt.tensors}
			if tt.fileType != nil {
				file.Metadata = []gguftest.Pair{{Key: "general.file_type", Value: tt.fileType}}
			}
			h, err := gguf.Read(file.Write(t, filepath.Join(t.TempDir(), "m.gguf")))
			require.NoError(t, err)
			assert.Equal(t, tt.format, h.Format)
			assert.Equal(t, tt.rule, h.FormatRule)
			assert.Equal(t, tt.quantized, h.Quantized)
		})
	}
}

// raw builds headers that gguftest refuses to.
type raw struct{ bytes.Buffer }

func start(tensors, pairs uint64) *raw {
	r := &raw{}
	r.WriteString("GGUF")
	return r.num(uint32(3)).num(tensors).num(pairs)
}

func (r *raw) num(values ...any) *raw {
	for _, value := range values {
		if err := binary.Write(r, binary.LittleEndian, value); err != nil {
			panic(err)
		}
	}
	return r
}

func (r *raw) text(s string) *raw {
	r.num(uint64(len(s)))
	r.WriteString(s)
	return r
}

func (r *raw) tensor(name string, kind uint32, offset uint64, dims ...uint64) *raw {
	return r.text(name).num(uint32(len(dims)), dims, kind, offset)
}

// hostile are files that are not models, with what Read says about them.
func hostile() map[string]struct {
	data []byte
	want string
} {
	whole, _ := gguftest.Model(gguftest.Tiny()).Header()
	type c = struct {
		data []byte
		want string
	}
	return map[string]c{
		"empty":                  {nil, "ends after 0 bytes"},
		"text":                   {[]byte("Not found, sorry"), `begins with "Not "`},
		"zeros":                  {make([]byte, 4096), "half-written"},
		"magic only":             {[]byte("GGUF"), "ends after 4 bytes"},
		"version 1":              {append([]byte("GGUF\x01\x00\x00\x00"), make([]byte, 16)...), "GGUF version 1"},
		"version 4":              {append([]byte("GGUF\x04\x00\x00\x00"), make([]byte, 16)...), "GGUF version 4"},
		"big-endian":             {append([]byte("GGUF\x00\x00\x00\x03"), make([]byte, 16)...), "big-endian"},
		"absurd tensor count":    {start(math.MaxUint64, 0).Bytes(), "18446744073709551615 tensors"},
		"absurd metadata count":  {start(0, 1<<40).Bytes(), "1099511627776 metadata pairs"},
		"more pairs than bytes":  {start(0, 50000).Bytes(), "inside its header"},
		"long key":               {append(start(0, 1).num(uint64(1<<20)).Bytes(), make([]byte, 2<<20)...), "a name of 1048576 bytes"},
		"key past the end":       {start(0, 1).num(uint64(60000)).Bytes(), "inside its header"},
		"string of 2^63":         {start(0, 1).text("k").num(uint32(8), uint64(1)<<63).Bytes(), "inside its header"},
		"name of 2^64-1":         {start(0, 1).text("general.name").num(uint32(8), uint64(math.MaxUint64)).Bytes(), "inside its header"},
		"unknown value type":     {start(0, 1).text("k").num(uint32(13)).Bytes(), "unknown type 13"},
		"nested array":           {start(0, 1).text("k").num(uint32(9), uint32(9), uint64(1)).Bytes(), "nested type 9"},
		"array of 2^63":          {start(0, 1).text("k").num(uint32(9), uint32(10), uint64(1)<<63).Bytes(), "inside its header"},
		"array overflowing":      {start(0, 1).text("k").num(uint32(9), uint32(10), uint64(1)<<61).Bytes(), "inside its header"},
		"wanted array of 2^40":   {start(0, 1).text("llama.attention.head_count").num(uint32(9), uint32(4), uint64(1)<<40).Bytes(), "inside its header"},
		"strings without end":    {start(0, 1).text("tokenizer.ggml.tokens").num(uint32(9), uint32(8), uint64(math.MaxUint64)).Bytes(), "a list of 18446744073709551615 texts"},
		"alignment 0":            {start(0, 1).text("general.alignment").num(uint32(4), uint32(0)).Bytes(), "general.alignment is 0"},
		"alignment 3":            {start(0, 1).text("general.alignment").num(uint32(4), uint32(3)).Bytes(), "general.alignment is 3"},
		"no dimensions":          {start(1, 0).tensor("t", 0, 0).Bytes(), "0 dimensions"},
		"five dimensions":        {start(1, 0).tensor("t", 0, 0, 1, 1, 1, 1, 1).Bytes(), "5 dimensions"},
		"negative dimension":     {start(1, 0).tensor("t", 0, 0, 1<<63).Bytes(), "dimension of 9223372036854775808"},
		"product overflows":      {start(1, 0).tensor("t", 0, 0, 1<<40, 1<<40).Bytes(), "more than any file can hold"},
		"product overflows to 0": {start(1, 0).tensor("t", 0, 0, 1<<32, 1<<32, 0).Bytes(), "more than any file can hold"},
		"removed type":           {start(1, 0).tensor("t", 4, 0, 256).Bytes(), "type 4"},
		"unknown type":           {start(1, 0).tensor("t", math.MaxUint32, 0, 256).Bytes(), "type 4294967295"},
		"row cuts a block":       {start(1, 0).tensor("t", uint32(gguf.Q4_K), 0, 128).Bytes(), "not a multiple of the 256"},
		"absurd offset":          {start(1, 0).tensor("t", 0, 1<<63, 1).Bytes(), "more than any file can hold"},
		"sizes add up absurdly":  {start(3, 0).tensor("t", 28, 0, 1<<59).tensor("u", 28, 0, 1<<59).tensor("v", 28, 0, 1<<59).Bytes(), "more than any file can hold"},
		"data missing":           {start(1, 0).tensor("t", 0, 0, 1000).Bytes(), "need 4064 bytes and the file has 57"},
		"cut in the metadata":    {whole[:len(whole)/3], "inside its header"},
		"cut in the tensors":     {whole[:len(whole)-200], "inside its header"},
	}
}

func TestHostileFilesAreRefused(t *testing.T) {
	for name, tt := range hostile() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m.gguf")
			require.NoError(t, os.WriteFile(path, tt.data, 0o644))
			h, err := gguf.Read(path)
			assert.Nil(t, h)
			require.ErrorContains(t, err, tt.want)
			assert.ErrorContains(t, err, path)
		})
	}
}

func TestIncompleteFilesAreTold(t *testing.T) {
	path := gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(t.TempDir(), "m.gguf"))
	info, err := os.Stat(path)
	require.NoError(t, err)

	require.NoError(t, os.Truncate(path, info.Size()-33))
	_, err = gguf.Read(path)
	require.ErrorIs(t, err, gguf.ErrIncomplete)

	half, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = half.WriteAt(make([]byte, 4), 0)
	require.NoError(t, err)
	require.NoError(t, half.Close())
	_, err = gguf.Read(path)
	require.ErrorIs(t, err, gguf.ErrIncomplete)

	require.NoError(t, os.WriteFile(path, []byte("<html>"), 0o644))
	_, err = gguf.Read(path)
	require.ErrorIs(t, err, gguf.ErrNotGGUF)
	require.NotErrorIs(t, err, gguf.ErrIncomplete)

	_, err = gguf.Read(filepath.Dir(path))
	require.ErrorIs(t, err, gguf.ErrNotGGUF)
	require.ErrorContains(t, err, "a folder")

	_, err = gguf.Read(path + "?")
	require.ErrorIs(t, err, os.ErrNotExist)
}

// sparse makes a file of 100 GiB that begins with header.
func sparse(t *testing.T, header []byte) string {
	path := filepath.Join(t.TempDir(), "m.gguf")
	require.NoError(t, os.WriteFile(path, header, 0o644))
	require.NoError(t, os.Truncate(path, 100<<30))
	return path
}

// Claims that a file of 100 GiB could make good, were it not for the limits: they are
// refused without being believed, in memory or in time.
func TestClaimsOfASparseFileAreNotBelieved(t *testing.T) {
	tests := map[string][]byte{
		"a name of 90 GiB":                    start(0, 1).text("general.name").num(uint32(8), uint64(90<<30)).Bytes(),
		"20 thousand million heads":           start(0, 1).text("llama.attention.head_count").num(uint32(9), uint32(4), uint64(20e9)).Bytes(),
		"10 thousand million empty tokens":    start(0, 1).text("tokenizer.ggml.tokens").num(uint32(9), uint32(8), uint64(10e9)).Bytes(),
		"65536 pairs with keys of 65535 each": append(start(1, 1<<16).num(uint64(math.MaxUint16)).Bytes(), make([]byte, 100)...),
	}
	for name, header := range tests {
		t.Run(name, func(t *testing.T) {
			path := sparse(t, header)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := gguf.Read(path)
			runtime.ReadMemStats(&after)
			require.Error(t, err)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "bytes allocated")
		})
	}
}

func TestMemoryIsBoundedByTheTensorsNotByTheVocabulary(t *testing.T) {
	shape := gguftest.Tiny()
	shape.Vocabulary, shape.Blocks = 150_000, 100
	path := gguftest.Model(shape).Write(t, filepath.Join(t.TempDir(), "m.gguf"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	h, err := gguf.Read(path)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	assert.EqualValues(t, 150_000, h.Vocabulary)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "bytes allocated")
}

func FuzzRead(f *testing.F) {
	for _, c := range hostile() {
		f.Add(c.data)
	}
	for _, file := range append(gguftest.Split(gguftest.Model(gguftest.Tiny()), 2), gguftest.Model(gguftest.Tiny())) {
		header, _ := file.Header()
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, size := range []int64{int64(len(data)), 1 << 20} { // as it is, and with a hole after it
			h, err := gguf.Parse(hole{bytes.NewReader(data), size}, size)
			if err != nil {
				assert.Nil(t, h)
				continue
			}
			assert.LessOrEqual(t, h.Size, size)
			assert.LessOrEqual(t, h.MetadataBytes, h.Size)
			assert.GreaterOrEqual(t, h.TensorBytes(), int64(0))
			assert.GreaterOrEqual(t, h.Parameters, int64(0))
			assert.NotEmpty(t, h.Format)
			assert.GreaterOrEqual(t, h.BitsPerWeight(), 0.0)
			share := gguf.FallbackShare("Q4_K_M", h)
			assert.True(t, share >= 0 && share <= 1, share)
		}
	})
}

// hole is a reader with zeros after its data, up to size.
type hole struct {
	*bytes.Reader
	size int64
}

func (h hole) Read(p []byte) (int, error) {
	at, err := h.Seek(0, io.SeekCurrent)
	if err != nil || at >= h.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), h.size-at)]
	n, err := h.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		clear(p)
		n = len(p)
		_, err = h.Seek(at+int64(n), io.SeekStart)
	}
	return n, err
}
