package estimate_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/estimate"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
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
