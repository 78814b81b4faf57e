package estimate_test

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/estimate"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
)

const bundled = "../../examples/models/kjv-4m-f16.gguf"

// measured are the sizes in bytes of the bundled model's quantizations, as
// llama-quantize of Debian's llama.cpp 1:0.7.0 (build 11669) wrote them:
//
//	llama-quantize examples/models/kjv-4m-f16.gguf out.gguf FORMAT && stat -c %s out.gguf
//
// Those that need an importance matrix got one made by llama-imatrix.
var measured = map[string]int64{
	"Q1_0": 765280, "Q2_0": 1355104, "Q4_0": 2313568, "Q4_1": 2542944, "MXFP4_MOE": 4212064,
	"Q5_0": 2772320, "Q5_1": 3001696, "IQ2_XXS": 1197664, "IQ2_XS": 1295968, "IQ2_S": 1386080,
	"IQ2_M": 1476192, "IQ1_S": 1017440, "IQ1_M": 1085024, "TQ1_0": 1115488, "TQ2_0": 1275232,
	"Q2_K": 1586528, "Q2_K_S": 1453664, "IQ3_XXS": 1611360, "IQ3_S": 1826144, "IQ3_M": 1895776,
	"IQ3_XS": 1746528, "Q3_K_S": 1826144, "Q3_K_M": 2016608, "Q3_K_L": 2164064, "IQ4_NL": 2313568,
	"IQ4_XS": 2198880, "Q4_K_S": 2346336, "Q4_K_M": 2448736, "Q5_K_S": 2772320, "Q5_K_M": 2841952,
	"Q6_K": 3259744, "Q8_0": 4212064, "F16": 7898464, "BF16": 7898464, "F32": 15762784, "COPY": 7898464,
}

func TestSizesOfTheBundledModel(t *testing.T) {
	model, err := gguf.Read(bundled)
	require.NoError(t, err)
	for format, want := range measured {
		got, err := estimate.Of(model, format)
		require.NoError(t, err, format)
		t.Logf("%-9s estimated %8d, measured %8d: %+.3f %%, %.2f bits per weight, drop %+.2f", format, got.Bytes, want, 100*(float64(got.Bytes)/float64(want)-1), got.BitsPerWeight, got.DropRatio)
		// The few hundred bytes are metadata that llama-quantize adds.
		assert.InDelta(t, want, got.Bytes, 512, format)
		assert.GreaterOrEqual(t, estimate.UpperBound(model, format), want, format)
	}
}

func read(t *testing.T, shape gguftest.Shape) *gguf.Header {
	t.Helper()
	model, err := gguf.Read(gguftest.Model(shape).Write(t, filepath.Join(t.TempDir(), "m.gguf")))
	require.NoError(t, err)
	return model
}

// llama8B has the shape of Llama-3-8B, mixtral that of Mixtral-8x7B, and the rows of
// smol, SmolLM2-135M's, do not fit blocks of 256.
func llama8B() gguftest.Shape {
	return gguftest.Shape{Weights: gguf.F16, FileType: 1, Vocabulary: 128256, Embedding: 4096, FeedForward: 14336, Blocks: 32, Heads: 32, KVHeads: 8}
}

func mixtral() gguftest.Shape {
	return gguftest.Shape{Weights: gguf.F16, FileType: 1, Vocabulary: 32000, Embedding: 4096, FeedForward: 14336, Blocks: 32, Heads: 32, KVHeads: 8, Experts: 8, ExpertsUsed: 2}
}

func smol() gguftest.Shape {
	return gguftest.Shape{Weights: gguf.F16, FileType: 1, Vocabulary: 49152, Embedding: 576, FeedForward: 1536, Blocks: 30, Heads: 9, KVHeads: 3, Tied: true}
}

// The sizes are what `llama-quantize --dry-run` (as above) prints for files that
// gguftest makes of these shapes: "quant size = 3024.38 MiB (3.16 BPW)".
func TestSizesOfOtherShapes(t *testing.T) {
	models := map[string]*gguf.Header{
		"llama 8B":    read(t, llama8B()),
		"llama 70B":   read(t, gguftest.Shape{Weights: gguf.BF16, FileType: 32, Vocabulary: 128256, Embedding: 8192, FeedForward: 28672, Blocks: 80, Heads: 64, KVHeads: 8}),
		"mixtral":     read(t, mixtral()),
		"128 experts": read(t, gguftest.Shape{Weights: gguf.F16, FileType: 1, Vocabulary: 151936, Embedding: 2048, FeedForward: 768, Blocks: 48, Heads: 32, KVHeads: 4, Experts: 128, ExpertsUsed: 8}),
		"smol":        read(t, smol()),
		"rows of 80":  read(t, gguftest.Shape{Weights: gguf.F16, FileType: 1, Vocabulary: 1000, Embedding: 256, FeedForward: 80, Blocks: 10, Heads: 4, KVHeads: 4}),
	}
	tests := []struct {
		model, format string
		mebibytes     float64
		fallback      float64
	}{
		{"llama 8B", "Q2_K", 3024.38, 0},
		{"llama 8B", "Q3_K_L", 4114.27, 0},
		{"llama 8B", "IQ4_XS", 4269.15, 0},
		{"llama 8B", "Q4_K_M", 4685.30, 0},
		{"llama 8B", "q4_k", 4685.30, 0},
		{"llama 8B", "Q5_K_M", 5459.93, 0},
		{"llama 70B", "Q2_K", 25145.77, 0},
		{"llama 70B", "Q4_K_M", 40543.11, 0},
		{"mixtral", "Q2_K", 16508.57, 0},
		{"mixtral", "Q3_K_L", 23049.27, 0},
		{"mixtral", "IQ4_XS", 24197.96, 0},
		{"mixtral", "Q4_K_M", 27129.87, 0},
		{"128 experts", "Q2_K", 10564.43, 0},
		{"128 experts", "Q4_K_M", 17445.20, 0},
		{"smol", "Q2_K", 82.41, 0.592},
		{"smol", "IQ4_XS", 85.38, 0.592},
		{"smol", "Q4_K_M", 98.87, 0.592},
		{"smol", "Q5_K_M", 105.21, 0.592},
		{"rows of 80", "Q2_K", 1.77, 0.055},
		{"rows of 80", "Q3_K_L", 2.28, 0.055},
		{"rows of 80", "Q5_K_M", 2.81, 0.055},
	}
	for _, tt := range tests {
		t.Run(tt.model+" "+tt.format, func(t *testing.T) {
			model := models[tt.model]
			got, err := estimate.Of(model, tt.format)
			require.NoError(t, err)
			assert.InDelta(t, tt.mebibytes, got.BitsPerWeight*float64(model.Parameters)/8/(1<<20), 0.006)
			assert.InDelta(t, tt.fallback, got.FallbackShare, 0.0005)
			assert.Greater(t, got.Bytes, int64(tt.mebibytes*(1<<20)))
		})
	}
}

// By hand: twice the bytes are half the speed.
func TestDrop(t *testing.T) {
	tiny := gguftest.Tiny()
	tiny.Tied = false
	model := read(t, tiny)
	got, err := estimate.Workload{}.Of(model, "F32") // the norms are F32 already
	require.NoError(t, err)
	assert.InDelta(t, 0.5, got.DropRatio, 0.002)

	same, err := estimate.Of(model, "F16")
	require.NoError(t, err)
	assert.Zero(t, same.DropRatio)
	assert.InDelta(t, same.OriginalBytesPerToken, same.QuantizedBytesPerToken, 0)

	// One block: 256×256 query and output, 256×128 key and value, 3 of 256×512; a
	// row of the embedding and all of the output matrix; 3 norms of 256 in F32.
	weights := 2*(2*256*256+2*256*128+3*256*512+256+256*512) + 4*3*256
	noCache, err := estimate.Workload{}.Of(model, "Q4_K_M")
	require.NoError(t, err)
	assert.InDelta(t, weights, noCache.OriginalBytesPerToken, 0.5)

	// Two heads of 64 for keys and for values, in F16, over a mean of 100 + 50/2 tokens.
	cache := 2 * 2 * 64 * 2 * 125
	withCache, err := estimate.Workload{GenerationTokens: 50, Depth: 100}.Of(model, "Q4_K_M")
	require.NoError(t, err)
	assert.InDelta(t, weights+cache, withCache.OriginalBytesPerToken, 0.5)
	assert.InDelta(t, noCache.QuantizedBytesPerToken+float64(cache), withCache.QuantizedBytesPerToken, 0.5)
	assert.Greater(t, withCache.DropRatio, noCache.DropRatio, "the cache stays as it is and dampens the gain")
}

func TestOnlyTheExpertsInUseAreRead(t *testing.T) {
	all := mixtral()
	all.ExpertsUsed = 8
	dense, err := estimate.Workload{}.Of(read(t, all), "Q4_K_M")
	require.NoError(t, err)
	two, err := estimate.Workload{}.Of(read(t, mixtral()), "Q4_K_M")
	require.NoError(t, err)
	experts := 2.0 * 3 * 4096 * 14336 * 8 * 32
	assert.InDelta(t, experts*6/8, dense.OriginalBytesPerToken-two.OriginalBytesPerToken, 1)
	assert.Equal(t, dense.Bytes, two.Bytes)
}

func TestTiedEmbeddingIsReadWhole(t *testing.T) {
	tied, untied := gguftest.Tiny(), gguftest.Tiny()
	untied.Tied = false
	a, err := estimate.Of(read(t, tied), "Q8_0")
	require.NoError(t, err)
	b, err := estimate.Of(read(t, untied), "Q8_0")
	require.NoError(t, err)
	assert.InDelta(t, a.OriginalBytesPerToken+2*256, b.OriginalBytesPerToken, 1, "one row more")
}

func TestImatrixFormats(t *testing.T) {
	// Those that llama-quantize (as above) refused to make without one.
	want := map[string]bool{"IQ1_S": true, "IQ1_M": true, "IQ2_XXS": true, "IQ2_XS": true, "IQ2_S": true, "IQ2_M": true, "IQ3_XXS": true, "IQ3_XS": true, "Q2_K_S": true}
	model := read(t, gguftest.Tiny())
	for _, format := range estimate.Formats() {
		got, err := estimate.Of(model, format)
		require.NoError(t, err)
		assert.Equal(t, want[format], got.NeedsImatrix, format)
	}
}

func TestWhatCannotBeMade(t *testing.T) {
	tiny := gguftest.Tiny()
	_, err := estimate.Of(read(t, tiny), "Q2_L")
	require.ErrorContains(t, err, `unknown format "Q2_L"`)
	require.ErrorContains(t, err, strings.Join(estimate.Formats(), ", "))

	tiny.FeedForward = 80
	model := read(t, tiny)
	_, err = estimate.Of(model, "Q1_0")
	require.ErrorContains(t, err, "blk.0.ffn_down.weight")
	require.ErrorContains(t, err, "rows of 80")

	for _, format := range []string{"Q1_0", "FUTURE"} {
		assert.Greater(t, estimate.UpperBound(model, format), model.Size)
	}
}

// A dry run of a model of 100 GB with a large vocabulary: nothing grows with the file.
func TestMemoryOfADryRun(t *testing.T) {
	shape := llama8B()
	shape.Vocabulary, shape.Blocks = 151936, 240
	path := gguftest.Model(shape).Write(t, filepath.Join(t.TempDir(), "m.gguf"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	model, err := gguf.Read(path)
	require.NoError(t, err)
	require.Greater(t, model.Size, int64(100e9))
	for _, format := range estimate.Formats() {
		_, err := estimate.Of(model, format)
		require.NoError(t, err)
	}
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20), "bytes allocated, garbage included")
}

// A copy beside another one of the same model: as if that one were the model.
func TestBeside(t *testing.T) {
	header, err := gguf.Read(bundled)
	require.NoError(t, err)
	of := func(target string) estimate.Estimate {
		e, err := estimate.Of(header, target)
		require.NoError(t, err)
		return e
	}
	baseline := of("Q8_0")
	assert.Zero(t, baseline.Beside(baseline).DropRatio)
	beside := of("Q2_K").Beside(baseline)
	assert.Negative(t, beside.DropRatio)
	assert.Greater(t, beside.DropRatio, of("Q2_K").DropRatio, "less is gained beside a smaller original")
	assert.Positive(t, of("F16").Beside(baseline).DropRatio)
	assert.Equal(t, of("Q2_K").Bytes, beside.Bytes)
}
