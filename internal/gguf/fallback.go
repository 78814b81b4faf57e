package gguf

import "slices"

// fallbackTypes are what llama-quantize takes instead of a type whose blocks do not fit
// a tensor's rows (tensor_type_fallback in llama.cpp's src/llama-quant.cpp): Q4_0 for
// Q2_K, Q3_K, Q2_0, TQ1_0 and TQ2_0, Q5_0 for Q4_K, Q5_1 for Q5_K, Q8_0 for Q6_K, IQ4_NL
// for the IQ types, and F16 where even 32 does not divide the row.
var fallbackTypes = []Type{Q4_0, Q5_0, Q5_1, Q8_0, IQ4_NL, F16}

// FallbackShare returns the share, from 0 to 1, of the parameters in quantized's weight
// matrices that did not get a type of the format target but a larger one, because
// their rows are not a multiple of its block size. A high share means that the file is
// larger, and closer to the original, than its format's name says.
//
// It is computed from the outcome: a matrix counts if 256, the block size of the k- and
// IQ-quants, does not divide its rows and its type is one that llama-quantize falls back
// to and that target itself does not use. Where a mix asks for such a type anyway and
// the rows do not fit either (attn_v and attn_k of a model with eight experts), or where
// a matrix was F16 before and not to be quantized, it is counted although it did not
// fall back. Formats that are not quantized have a share of 0.
func FallbackShare(target string, quantized *Header) float64 {
	base, ok := BaseType(target)
	if !ok || !base.Quantized() {
		return 0
	}
	own := []Type{base}
	switch target {
	case "MXFP4_MOE": // everything but the experts
		own = append(own, Q8_0)
	case "Q5_0": // the first layers, with an importance matrix
		own = append(own, Q5_1)
	}
	var all, fallen int64
	for i := range quantized.Tensors {
		tensor := &quantized.Tensors[i]
		if !tensor.matrix() {
			continue
		}
		all += tensor.Elements
		if tensor.Dims[0]%Q4_K.BlockSize() != 0 && slices.Contains(fallbackTypes, tensor.Type) && !slices.Contains(own, tensor.Type) {
			fallen += tensor.Elements
		}
	}
	if all == 0 {
		return 0
	}
	return float64(fallen) / float64(all)
}
