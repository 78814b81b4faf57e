package gguf

import (
	"slices"
	"strings"
)

// formats names llama.cpp's enum llama_ftype (include/llama.h), which files carry as
// general.file_type, in llama-quantize's spelling, each with the type that most of
// its weights have. The numbers left out belonged to formats that were removed.
var formats = map[uint64]struct {
	name string
	base Type
}{
	0:  {"F32", F32},
	1:  {"F16", F16},
	2:  {"Q4_0", Q4_0},
	3:  {"Q4_1", Q4_1},
	7:  {"Q8_0", Q8_0},
	8:  {"Q5_0", Q5_0},
	9:  {"Q5_1", Q5_1},
	10: {"Q2_K", Q2_K},
	11: {"Q3_K_S", Q3_K},
	12: {"Q3_K_M", Q3_K},
	13: {"Q3_K_L", Q3_K},
	14: {"Q4_K_S", Q4_K},
	15: {"Q4_K_M", Q4_K},
	16: {"Q5_K_S", Q5_K},
	17: {"Q5_K_M", Q5_K},
	18: {"Q6_K", Q6_K},
	19: {"IQ2_XXS", IQ2_XXS},
	20: {"IQ2_XS", IQ2_XS},
	21: {"Q2_K_S", Q2_K},
	22: {"IQ3_XS", IQ3_S},
	23: {"IQ3_XXS", IQ3_XXS},
	24: {"IQ1_S", IQ1_S},
	25: {"IQ4_NL", IQ4_NL},
	26: {"IQ3_S", IQ3_S},
	27: {"IQ3_M", IQ3_S},
	28: {"IQ2_S", IQ2_XS},
	29: {"IQ2_M", IQ2_S},
	30: {"IQ4_XS", IQ4_XS},
	31: {"IQ1_M", IQ1_M},
	32: {"BF16", BF16},
	36: {"TQ1_0", TQ1_0},
	37: {"TQ2_0", TQ2_0},
	38: {"MXFP4_MOE", MXFP4},
	39: {"NVFP4", NVFP4},
	40: {"Q1_0", Q1_0},
	41: {"Q2_0", Q2_0},
}

// BaseType returns the type that a quantization format is named for, in llama-quantize's
// spelling: Q4_K for "Q4_K_M". ok is false for a name that is not a format of its own.
func BaseType(format string) (base Type, ok bool) {
	for _, known := range formats {
		if known.name == format {
			return known.base, true
		}
	}
	return 0, false
}

// Known reports whether a name is the name of a format that files can have.
func Known(format string) bool {
	_, ok := BaseType(format)
	return ok
}

// FileFormat returns the format that the file says to be of (general.file_type), whatever its
// tensors are; false where it says none that is known.
func (h *Header) FileFormat() (format string, ok bool) {
	known, ok := formats[h.fileType]
	if !h.hasFileType || !ok {
		return "", false
	}
	return known.name, true
}

// aliases are the other names that llama-quantize has of formats.
var aliases = map[string]string{"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}

// Canonical returns the one name of a format, in capitals and no alias, whether llama-quantize
// is installed or not. A name that is not known stays as it is, in capitals.
func Canonical(format string) string {
	format = strings.ToUpper(format)
	if name, ok := aliases[format]; ok {
		return name
	}
	return format
}

// FormatRule says how a header's Format was found.
type FormatRule string

// The rules, in the order in which they are tried.
const (
	// FormatFromFileType: general.file_type names a format and the tensors agree:
	// they are quantized, or not, as the format says, and an unquantized format is
	// the type of most weights. More cannot be asked: a file where most rows fell
	// back to another type is still what its maker calls it.
	FormatFromFileType FormatRule = "file_type"
	// FormatFromTensors: the type that holds most of the weights' parameters.
	FormatFromTensors FormatRule = "tensors"
)

// bornInMXFP4 are architectures whose makers publish the experts' matrices in MXFP4 and nothing
// better. Who converts them stores the rest in Q8_0 as well, as ggml-org does with gpt-oss (98
// matrices in Q8_0 beside 72 in MXFP4): no file holds more of those models.
var bornInMXFP4 = []string{"gpt-oss", "gptoss", "deepseek4"}

// native reports whether a matrix is as the maker of the model publishes it.
func (h *Header) native(t *Tensor) bool {
	switch t.Type {
	case MXFP4, NVFP4:
		return true
	case Q8_0:
		return slices.Contains(bornInMXFP4, h.Architecture) && !strings.Contains(t.Name, expertPart)
	}
	return !t.Type.Quantized()
}

// expertPart is in the names of the matrices of experts.
const expertPart = "_exps."

// nameFormat sets Format, FormatRule, Quantized and Native from the tensors and the file type.
func (h *Header) nameFormat() {
	var parameters [len(layouts)]int64
	native := true
	h.Quantized = false
	for i := range h.Tensors {
		tensor := &h.Tensors[i]
		if tensor.matrix() {
			parameters[tensor.Type] += tensor.Elements
			h.Quantized = h.Quantized || tensor.Type.Quantized()
			native = native && h.native(tensor)
		}
	}
	h.Native = native && parameters[MXFP4]+parameters[NVFP4] > 0
	dominant := F32
	for t := range parameters {
		if parameters[t] > parameters[dominant] {
			dominant = Type(t)
		}
	}

	format, ok := formats[h.fileType]
	agrees := format.base.Quantized() == h.Quantized && (h.Quantized || format.base == dominant)
	if h.hasFileType && ok && agrees {
		h.Format, h.FormatRule = format.name, FormatFromFileType
		return
	}
	h.Format, h.FormatRule = dominant.String(), FormatFromTensors
}

// Lossy reports whether a format stores weights in fewer bits than they were computed in,
// so that predictions of a copy in it differ. It is true for formats it does not know.
func Lossy(format string) bool {
	switch format {
	case "F64", "F32", "F16", "BF16", "COPY":
		return false
	}
	return true
}
