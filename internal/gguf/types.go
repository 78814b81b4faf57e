package gguf

import (
	"errors"
	"fmt"
)

// Type is the storage type of a tensor, numbered as ggml's enum ggml_type is
// (ggml/include/ggml.h).
type Type uint32

// The storage types that llama.cpp reads. The numbers left out belonged to types that
// were removed.
const (
	F32     Type = 0
	F16     Type = 1
	Q4_0    Type = 2
	Q4_1    Type = 3
	Q5_0    Type = 6
	Q5_1    Type = 7
	Q8_0    Type = 8
	Q8_1    Type = 9
	Q2_K    Type = 10
	Q3_K    Type = 11
	Q4_K    Type = 12
	Q5_K    Type = 13
	Q6_K    Type = 14
	Q8_K    Type = 15
	IQ2_XXS Type = 16
	IQ2_XS  Type = 17
	IQ3_XXS Type = 18
	IQ1_S   Type = 19
	IQ4_NL  Type = 20
	IQ3_S   Type = 21
	IQ2_S   Type = 22
	IQ4_XS  Type = 23
	I8      Type = 24
	I16     Type = 25
	I32     Type = 26
	I64     Type = 27
	F64     Type = 28
	IQ1_M   Type = 29
	BF16    Type = 30
	TQ1_0   Type = 34
	TQ2_0   Type = 35
	MXFP4   Type = 39
	NVFP4   Type = 40
	Q1_0    Type = 41
	Q2_0    Type = 42
)

// layout is how a type stores its elements: in blocks of so many, in so many bytes.
type layout struct {
	name  string
	block int64 // elements
	bytes int64
}

// layouts holds the figures of ggml's type traits (ggml/src/ggml.c), by type; a name
// left empty is a type that is unknown or was removed.
var layouts = [...]layout{
	F32:     {"F32", 1, 4},
	F16:     {"F16", 1, 2},
	Q4_0:    {"Q4_0", 32, 18},
	Q4_1:    {"Q4_1", 32, 20},
	Q5_0:    {"Q5_0", 32, 22},
	Q5_1:    {"Q5_1", 32, 24},
	Q8_0:    {"Q8_0", 32, 34},
	Q8_1:    {"Q8_1", 32, 36},
	Q2_K:    {"Q2_K", 256, 84},
	Q3_K:    {"Q3_K", 256, 110},
	Q4_K:    {"Q4_K", 256, 144},
	Q5_K:    {"Q5_K", 256, 176},
	Q6_K:    {"Q6_K", 256, 210},
	Q8_K:    {"Q8_K", 256, 292},
	IQ2_XXS: {"IQ2_XXS", 256, 66},
	IQ2_XS:  {"IQ2_XS", 256, 74},
	IQ3_XXS: {"IQ3_XXS", 256, 98},
	IQ1_S:   {"IQ1_S", 256, 50},
	IQ4_NL:  {"IQ4_NL", 32, 18},
	IQ3_S:   {"IQ3_S", 256, 110},
	IQ2_S:   {"IQ2_S", 256, 82},
	IQ4_XS:  {"IQ4_XS", 256, 136},
	I8:      {"I8", 1, 1},
	I16:     {"I16", 1, 2},
	I32:     {"I32", 1, 4},
	I64:     {"I64", 1, 8},
	F64:     {"F64", 1, 8},
	IQ1_M:   {"IQ1_M", 256, 56},
	BF16:    {"BF16", 1, 2},
	TQ1_0:   {"TQ1_0", 256, 54},
	TQ2_0:   {"TQ2_0", 256, 66},
	MXFP4:   {"MXFP4", 32, 17},
	NVFP4:   {"NVFP4", 64, 36},
	Q1_0:    {"Q1_0", 128, 18},
	Q2_0:    {"Q2_0", 64, 18},
}

// Known reports whether the type is one that llama.cpp reads; the methods below give
// zeros for any other.
func (t Type) Known() bool { return int(t) < len(layouts) && layouts[t].name != "" }

// removed are the types that llama.cpp once had, and what to take in their place.
var removed = map[Type]struct{ name, instead string }{
	4:  {"Q4_2", "Q4_0"},
	5:  {"Q4_3", "Q4_1"},
	31: {"Q4_0_4_4", "Q4_0"},
	32: {"Q4_0_4_8", "Q4_0"},
	33: {"Q4_0_8_8", "Q4_0"},
	36: {"IQ4_NL_4_4", "IQ4_NL"},
	37: {"IQ4_NL_4_8", "IQ4_NL"},
	38: {"IQ4_NL_8_8", "IQ4_NL"},
}

// firstOfIK is where the numbers of the types begin that only ik_llama.cpp has (its
// ggml/include/ggml.h); llama.cpp counts on from below 50. Beyond lastOfAny no program has
// any.
const (
	firstOfIK = 97
	lastOfAny = 999
)

// unknown returns the error of a type that is not Known: what it is, and what to do.
func (t Type) unknown() error {
	was, gone := removed[t]
	switch {
	case gone:
		return fmt.Errorf("%w: llama.cpp no longer has it (it was %s); get or make the model as %s, which today's tools arrange for the processor by themselves", ErrForeign, was.name, was.instead)
	case t > lastOfAny:
		return errors.New("which no program has: the file is damaged")
	case t >= firstOfIK:
		return fmt.Errorf("%w: llama.cpp has no such type (ik_llama.cpp uses such numbers for its own types); get or make the model in a format of llama.cpp", ErrForeign)
	default:
		return fmt.Errorf("%w: it belongs to another program, or is newer than this one; get or make the model in a known format", ErrForeign)
	}
}

func (t Type) layout() layout {
	if !t.Known() {
		return layout{name: fmt.Sprintf("type %d", uint32(t)), block: 1}
	}
	return layouts[t]
}

// String returns the type's name in llama.cpp's spelling: "Q4_K".
func (t Type) String() string { return t.layout().name }

// BlockSize returns the number of elements that are stored together; a row's length has to
// be a multiple of it.
func (t Type) BlockSize() int64 { return t.layout().block }

// Quantized reports whether the type stores blocks of scaled integers instead of plain
// numbers.
func (t Type) Quantized() bool { return t.layout().block > 1 }

// Bytes returns what elements of this type take, a whole number of blocks.
func (t Type) Bytes(elements int64) int64 {
	layout := t.layout()
	return elements / layout.block * layout.bytes
}
