// Package gguftest writes small GGUF files for tests: real headers, and data that are
// holes in the file, so that a model of 100 GB takes no room.
package gguftest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
)

// File describes a GGUF file.
type File struct {
	Version uint32 // 3 when 0
	// Metadata in order. A value is a string, bool, uint8, uint16, uint32, int32,
	// uint64, int64, float32, float64, []string, []int32, []uint32 or []float32.
	Metadata []Pair
	// Tensors in order; their offsets are computed.
	Tensors []Tensor
}

// Pair is one entry of the metadata.
type Pair struct {
	Key   string
	Value any
}

// Tensor is one tensor; see File.Write for its data.
type Tensor struct {
	Name string
	Type gguf.Type
	Dims []uint64
}

// alignment is the format's default.
const alignment = 32

// Header gives the file's bytes up to its data, and the size of the whole file.
func (f File) Header() (header []byte, size int64) {
	var out bytes.Buffer
	out.WriteString("GGUF")
	version := f.Version
	if version == 0 {
		version = 3
	}
	put(&out, version)
	put(&out, uint64(len(f.Tensors)))
	put(&out, uint64(len(f.Metadata)))
	for _, pair := range f.Metadata {
		putString(&out, pair.Key)
		putValue(&out, pair.Value)
	}
	var offset int64
	for _, tensor := range f.Tensors {
		putString(&out, tensor.Name)
		put(&out, uint32(len(tensor.Dims)))
		elements := int64(1)
		for _, dim := range tensor.Dims {
			put(&out, dim)
			elements *= int64(dim)
		}
		put(&out, uint32(tensor.Type))
		put(&out, uint64(offset))
		offset = gguf.Align(offset+tensor.Type.Bytes(elements), alignment)
	}
	if len(f.Tensors) == 0 {
		return out.Bytes(), int64(out.Len())
	}
	out.Write(make([]byte, gguf.Align(int64(out.Len()), alignment)-int64(out.Len())))
	return out.Bytes(), int64(out.Len()) + offset
}

// mostWritten is how large a file may be of which the data are written.
const mostWritten = 16 << 20

// Write makes the file at path, with the directories above it, and returns path. The
// data are not zero, and of a file beyond mostWritten a hole.
func (f File) Write(t testing.TB, path string) string {
	t.Helper()
	header, size := f.Header()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	if size <= mostWritten {
		header = append(header, bytes.Repeat([]byte{0x2a}, int(size)-len(header))...)
	}
	require.NoError(t, os.WriteFile(path, header, 0o644))
	require.NoError(t, os.Truncate(path, size))
	return path
}

func put(out *bytes.Buffer, value any) {
	if err := binary.Write(out, binary.LittleEndian, value); err != nil {
		panic(err) // not a number: a mistake in this package
	}
}

func putString(out *bytes.Buffer, text string) {
	put(out, uint64(len(text)))
	out.WriteString(text)
}

func putValue(out *bytes.Buffer, value any) {
	switch value := value.(type) {
	case []string:
		putArray(out, 8, len(value))
		for _, text := range value {
			putString(out, text)
		}
	case []uint32:
		putArray(out, 4, len(value))
		put(out, value)
	case []int32:
		putArray(out, 5, len(value))
		put(out, value)
	case []float32:
		putArray(out, 6, len(value))
		put(out, value)
	case string:
		put(out, uint32(8))
		putString(out, value)
	default:
		put(out, scalarType(value))
		put(out, value)
	}
}

func putArray(out *bytes.Buffer, kind uint32, length int) {
	put(out, uint32(9))
	put(out, kind)
	put(out, uint64(length))
}

func scalarType(value any) uint32 {
	switch value.(type) {
	case uint8:
		return 0
	case uint16:
		return 2
	case uint32:
		return 4
	case int32:
		return 5
	case float32:
		return 6
	case bool:
		return 7
	case uint64:
		return 10
	case int64:
		return 11
	case float64:
		return 12
	}
	panic(fmt.Sprintf("gguftest: no metadata type for %T", value))
}

// Shape is the shape of a model to make up.
type Shape struct {
	Architecture string    // "llama" when empty
	Weights      gguf.Type // of the matrices
	FileType     uint32    // general.file_type
	Vocabulary   int
	Embedding    int
	FeedForward  int
	Blocks       int
	Heads        int
	KVHeads      int
	Experts      int // 0 for a dense model
	ExpertsUsed  int
	Tied         bool // no output.weight: the token embedding serves
}

// Tiny is the shape of a model of 0.6 million F16 parameters.
func Tiny() Shape {
	return Shape{Weights: gguf.F16, FileType: 1, Vocabulary: 512, Embedding: 256, FeedForward: 512, Blocks: 1, Heads: 4, KVHeads: 2, Tied: true}
}

// TinyQuantized is that model as if it had been quantized to Q4_K_M.
func TinyQuantized() Shape {
	shape := Tiny()
	shape.Weights, shape.FileType = gguf.Q4_K, 15
	return shape
}

// Model makes up a llama-like model of the shape: its tokens, its merges' worth of
// metadata and all its tensors, in the order of llama.cpp's converter.
func Model(shape Shape) File {
	architecture := shape.Architecture
	if architecture == "" {
		architecture = "llama"
	}
	tokens := make([]string, shape.Vocabulary)
	for i := range tokens {
		tokens[i] = fmt.Sprintf("token%06d", i)
	}
	file := File{
		Metadata: []Pair{
			{"general.architecture", architecture},
			{"general.type", "model"},
			{"general.name", "made up"},
			{"general.file_type", shape.FileType},
			{architecture + ".block_count", uint32(shape.Blocks)},
			{architecture + ".context_length", uint32(4096)},
			{architecture + ".embedding_length", uint32(shape.Embedding)},
			{architecture + ".feed_forward_length", uint32(shape.FeedForward)},
			{architecture + ".attention.head_count", uint32(shape.Heads)},
			{architecture + ".attention.head_count_kv", uint32(shape.KVHeads)},
			{architecture + ".attention.layer_norm_rms_epsilon", float32(1e-5)},
			{"tokenizer.ggml.model", "llama"},
			{"tokenizer.ggml.tokens", tokens},
			{"tokenizer.ggml.scores", make([]float32, shape.Vocabulary)},
			{"tokenizer.ggml.token_type", make([]int32, shape.Vocabulary)},
		},
	}
	if shape.Experts > 0 {
		file.Metadata = append(file.Metadata,
			Pair{architecture + ".expert_count", uint32(shape.Experts)},
			Pair{architecture + ".expert_used_count", uint32(shape.ExpertsUsed)})
	}
	file.Tensors = shape.tensors()
	return file
}

func (s Shape) tensors() []Tensor {
	embedding, forward := uint64(s.Embedding), uint64(s.FeedForward)
	kv := embedding / uint64(max(s.Heads, 1)) * uint64(s.KVHeads)
	var tensors []Tensor
	matrix := func(name string, dims ...uint64) {
		tensors = append(tensors, Tensor{Name: name + ".weight", Type: s.Weights, Dims: dims})
	}
	norm := func(name string) {
		tensors = append(tensors, Tensor{Name: name + ".weight", Type: gguf.F32, Dims: []uint64{embedding}})
	}
	matrix("token_embd", embedding, uint64(s.Vocabulary))
	for i := range s.Blocks {
		block := fmt.Sprintf("blk.%d.", i)
		norm(block + "attn_norm")
		matrix(block+"attn_q", embedding, embedding)
		matrix(block+"attn_k", embedding, kv)
		matrix(block+"attn_v", embedding, kv)
		matrix(block+"attn_output", embedding, embedding)
		norm(block + "ffn_norm")
		if s.Experts == 0 {
			matrix(block+"ffn_gate", embedding, forward)
			matrix(block+"ffn_up", embedding, forward)
			matrix(block+"ffn_down", forward, embedding)
			continue
		}
		experts := uint64(s.Experts)
		tensors = append(tensors, Tensor{Name: block + "ffn_gate_inp.weight", Type: gguf.F32, Dims: []uint64{embedding, experts}})
		matrix(block+"ffn_gate_exps", embedding, forward, experts)
		matrix(block+"ffn_up_exps", embedding, forward, experts)
		matrix(block+"ffn_down_exps", forward, embedding, experts)
	}
	norm("output_norm")
	if !s.Tied {
		matrix("output", embedding, uint64(s.Vocabulary))
	}
	return tensors
}

// Split makes a split set of count files out of a model, as llama-gguf-split does: the
// metadata in the first file, the tensors spread over all.
func Split(file File, count int) []File {
	files := make([]File, count)
	for i := range files {
		if i == 0 {
			files[i].Metadata = append(files[i].Metadata, file.Metadata...)
		}
		files[i].Metadata = append(files[i].Metadata,
			Pair{"split.no", uint16(i)},
			Pair{"split.count", uint16(min(count, math.MaxUint16))},
			Pair{"split.tensors.count", int32(len(file.Tensors))})
		from, to := i*len(file.Tensors)/count, (i+1)*len(file.Tensors)/count
		files[i].Tensors = file.Tensors[from:to]
	}
	return files
}
