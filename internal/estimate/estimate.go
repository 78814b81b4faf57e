// Package estimate foretells a quantization without doing it: from the header of the
// original alone it says how large the copy would be and how much faster generation
// could be at best. Nothing is run and nothing is measured, and nothing here is in
// tokens per second.
//
// # Size
//
// The size is not a guess. llama-quantize chooses a type for every tensor by rules on
// its name, its layer, its row length and the model's shape, and the types' sizes are
// fixed (mix.go has the rules and their source). On the model in examples/models the
// result is within 0.05 % of the real file for every format that llama-quantize lists.
// What it cannot know: arguments that change the mix (--pure, --tensor-type, …), whether
// an importance matrix is given where none is needed, and rules of other versions.
//
// # Drop
//
// One sequence generates a token at a time, and for each token every weight in use is
// read from memory once, with the keys and values of all tokens before it. Where memory
// bandwidth is the limit, as it is on most hosts at batch size 1,
//
//	throughput ∝ 1 / bytes moved per token
//	drop = 1 − throughput(quantized) / throughput(original)
//	     = 1 − bytes(original) / bytes(quantized)
//
// the roofline model (Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009) in its
// memory-bound half. bytes are
//
//   - all tensors, but only one row of an embedding table, unless the token embedding
//     serves as the output matrix, which is read whole;
//   - of a mixture of experts, the share experts used / experts of the expert tensors;
//   - the KV cache as llama.cpp keeps it by default: F16, over all layers key/value
//     heads × (key length + value length), times the mean number of tokens in it.
//
// The limits: dequantizing costs arithmetic, which decides on hosts with few cores or
// slow kernels (IQ formats on CPUs above all), and then the real figure is lower, even
// below the original's. A model that fits a cache is not bound by memory. Activations,
// recurrent states and sliding windows are left out. And it says nothing on the prompt
// phase, where many tokens share each read and arithmetic is the limit.
package estimate

import (
	"fmt"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
)

// Workload is what generates: GenerationTokens one at a time, after Depth tokens that
// are in the KV cache already. Neither may be negative.
type Workload struct {
	GenerationTokens int
	Depth            int
	// CacheTokens and Batch are the most tokens that a measurement has in the cache, and in one
	// batch: what memory goes by.
	CacheTokens int
	Batch       int
}

// Estimate is what a target would come to. Every figure is computed, none measured.
type Estimate struct {
	Target        string  // the format, aliases resolved
	Bytes         int64   // size of the file
	BitsPerWeight float64 // effective, of the tensors
	FallbackShare float64 // of the weight matrices' parameters, 0 to 1: those that get another type than the mix's, because their rows do not fit its blocks
	NeedsImatrix  bool    // llama-quantize refuses this target without an importance matrix

	OriginalBytesPerToken  float64 // moved to generate one token
	QuantizedBytesPerToken float64
	// Memory is about what a server takes, in bytes: weights, cache, computation.
	Memory    int64
	DropRatio float64 // of the generation phase; negative when faster: −1 is twice as fast
}

// DefaultWorkload returns the generation of 1024 tokens from nothing, as it is measured by
// default.
func DefaultWorkload() Workload { return Workload{GenerationTokens: 1024} }

// Of estimates the quantization of a model to target under the default workload; see
// Workload.Of.
func Of(model *gguf.Header, target string) (Estimate, error) {
	return DefaultWorkload().Of(model, target)
}

// Of estimates the quantization of a model, or of a split set, to target, a format in
// llama-quantize's spelling, of any case. The result is one file. It is an error when
// target is not known here, naming those that are, and when llama.cpp has no way to make
// target of this model's rows.
func (w Workload) Of(model *gguf.Header, target string) (Estimate, error) {
	mix, err := newMix(model, target)
	if err != nil {
		return Estimate{}, err
	}
	types, fallen, err := mix.apply()
	if err != nil {
		return Estimate{}, err
	}
	estimate := Estimate{
		Target:        mix.format,
		Bytes:         fileSize(model, types),
		FallbackShare: fallen,
		NeedsImatrix:  needsImatrix(mix.format),
	}
	if model.Parameters > 0 {
		estimate.BitsPerWeight = float64(tensorBytes(model, types)) * 8 / float64(model.Parameters)
	}
	estimate.Memory = estimate.Bytes + MemoryBesides(model, w.CacheTokens, w.Batch)
	cache := w.cacheBytes(model)
	estimate.OriginalBytesPerToken = weightBytes(model, nil) + cache
	estimate.QuantizedBytesPerToken = weightBytes(model, types) + cache
	if estimate.QuantizedBytesPerToken > 0 {
		estimate.DropRatio = 1 - estimate.OriginalBytesPerToken/estimate.QuantizedBytesPerToken
	}
	return estimate, nil
}

// Beside returns the estimate of a copy that is compared with another one, of the same model
// under the same workload, in place of the model itself.
func (e Estimate) Beside(baseline Estimate) Estimate {
	e.OriginalBytesPerToken = baseline.QuantizedBytesPerToken
	if e.QuantizedBytesPerToken > 0 {
		e.DropRatio = 1 - e.OriginalBytesPerToken/e.QuantizedBytesPerToken
	}
	return e
}

// UpperBound returns a number of bytes that the quantized file will not exceed, for the look
// at the disk before a tool that cannot say it itself: a tenth above the estimate, which
// covers the mixes of other versions of llama.cpp; for a target that is not known here,
// or that Of refuses, a tenth above the original or above 16 bits a parameter,
// whichever is more. It does not cover arguments to llama-quantize that ask for larger
// types than the target's, such as --leave-output-tensor.
func UpperBound(model *gguf.Header, target string) int64 {
	estimate, err := Of(model, target)
	if err != nil {
		bytes := max(model.Size, model.MetadataBytes+2*model.Parameters)
		return bytes + bytes/10
	}
	return estimate.Bytes + estimate.Bytes/10
}

// fileAlignment is the alignment of every tensor in the files that llama-quantize writes
// (GGUF_DEFAULT_ALIGNMENT).
const fileAlignment = 32

// fileSize returns the size of a file with the model's tensors in other types: the metadata
// as they are, one entry a tensor, the data. It ignores the few pairs that llama-quantize
// adds or removes (its version; the keys of a split set): at most some 100 bytes, and some
// 300 more with an importance matrix.
func fileSize(model *gguf.Header, types []gguf.Type) int64 {
	header := model.MetadataBytes
	var data int64
	for i := range model.Tensors {
		tensor := &model.Tensors[i]
		// Name with its length, number of dimensions, dimensions, type, offset.
		header += int64(8 + len(tensor.Name) + 4 + 8*tensor.Dimensions() + 4 + 8)
		data += gguf.Align(types[i].Bytes(tensor.Elements), fileAlignment)
	}
	return gguf.Align(header, fileAlignment) + data
}

func tensorBytes(model *gguf.Header, types []gguf.Type) int64 {
	var sum int64
	for i := range model.Tensors {
		sum += types[i].Bytes(model.Tensors[i].Elements)
	}
	return sum
}

// weightBytes returns how much of the weights is read to generate one token, with the
// tensors in the given types, or in their own when nil.
func weightBytes(model *gguf.Header, types []gguf.Type) float64 {
	tied := model.Tensor("output.weight") == nil
	var sum float64
	for i := range model.Tensors {
		tensor := &model.Tensors[i]
		kind := tensor.Type
		if types != nil {
			kind = types[i]
		}
		bytes := float64(kind.Bytes(tensor.Elements))
		switch {
		case isTable(tensor.Name) && !(tied && tensor.Name == tokenEmbedding) && tensor.Elements > 0:
			bytes = bytes * float64(tensor.Dims[0]) / float64(tensor.Elements)
		case isExpert(tensor.Name) && model.Experts > 0 && model.ExpertsUsed > 0:
			bytes = bytes * float64(min(model.ExpertsUsed, model.Experts)) / float64(model.Experts)
		}
		sum += bytes
	}
	return sum
}

const tokenEmbedding = "token_embd.weight"

// isTable reports whether a tensor is looked up by row, one a token.
func isTable(name string) bool {
	switch name {
	case tokenEmbedding, "per_layer_token_embd.weight", "position_embd.weight", "token_types.weight":
		return true
	}
	return false
}

// isExpert reports whether a tensor holds a layer's experts, of which a token uses some:
// stacked in one tensor ("blk.0.ffn_up_exps.weight"), or one by one as old files of
// Mixtral have them ("blk.0.ffn_up.3.weight").
func isExpert(name string) bool {
	if strings.Contains(name, "_exps.") {
		return true
	}
	parts := strings.Split(name, ".")
	return len(parts) == 5 && parts[0] == "blk" && strings.HasPrefix(parts[2], "ffn_") && parts[4] == "weight"
}

// cacheBytes returns how much of the KV cache is read to generate one token, on average.
func (w Workload) cacheBytes(model *gguf.Header) float64 {
	return cachePerToken(model) * (float64(w.Depth) + float64(w.GenerationTokens)/2)
}

// cachePerToken returns how many bytes of the KV cache a token has, in F16.
func cachePerToken(model *gguf.Header) float64 {
	var heads int64
	for _, perLayer := range model.KVHeads {
		heads += perLayer
	}
	if len(model.KVHeads) == 1 {
		heads *= model.Blocks
	}
	return float64(heads) * float64(model.KeyLength+model.ValueLength) * float64(gguf.F16.Bytes(1))
}

// unknownFormat returns the error of a target that mix.go does not have.
func unknownFormat(target string) error {
	return fmt.Errorf("unknown format %q: a dry run knows %s", target, strings.Join(Formats(), ", "))
}
