package gguf

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
)

// ErrIncomplete is wrapped by the errors of a file that is cut off or still being
// written: a download or a quantization may be under way.
var ErrIncomplete = errors.New("incomplete GGUF file")

// ErrNotGGUF is wrapped by the error of a file that begins with something else.
var ErrNotGGUF = errors.New("not a GGUF file")

// ErrForeign is wrapped by the errors of a GGUF file that may well be whole, but that
// llama.cpp does not read: its tensors are of types that were removed, or that another
// program has of its own, or it is of another version or byte order.
var ErrForeign = errors.New("not a file for llama.cpp")

// ErrPointer is wrapped by the error of a small text that stands in for a file which Git LFS
// or git-annex has yet to bring.
var ErrPointer = errors.New("not the model itself")

// Header is what a GGUF file says about its model. That of a split set, made by
// ReadSet, speaks of all its files together.
type Header struct {
	Version      int    // of the format: 2 or 3
	Architecture string // general.architecture: "llama"
	Type         string // general.type: "model", "adapter", "mmproj", "imatrix", or "" in older files
	Name         string // general.name: what its makers call it

	Format     string     // quantization format in llama.cpp's spelling: "F16", "Q4_K_M"
	FormatRule FormatRule // how Format was found
	// Native says that a model is quantized, and only in a format in which makers train and
	// publish models: MXFP4 or NVFP4, beside plain numbers, or beside Q8_0 where such a model is
	// not stored otherwise. There is no other original.
	Native    bool
	Quantized bool // at least one weight matrix is of a block-quantized type; llama-quantize refuses such a file

	Parameters int64 // elements of all tensors
	Tensors    []Tensor

	// The shape of the model; 0 where the file does not say.
	Vocabulary  int64   // tokens
	Blocks      int64   // layers
	Embedding   int64   // length of the hidden state
	Heads       []int64 // attention heads: one figure for all layers, or one per layer
	KVHeads     []int64 // key/value heads, likewise
	KeyLength   int64   // elements of one head's key
	ValueLength int64   // elements of one head's value
	Context     int64   // tokens that it was made for, prompt and generation together
	NextN       int64   // blocks at the end that predict tokens after the next one: a draft head
	Pooling     int64   // how it makes one vector of a text, as llama.cpp numbers that; 0: it does not
	Encodes     bool    // attention goes both ways, so that it cannot generate token by token
	Tokenizer   string  // tokenizer.ggml.model: "gpt2"
	Experts     int64   // experts of a layer; 0 in a dense model
	ExpertsUsed int64   // experts that one token passes through

	SplitNo    int // this file's place in its set, from 0
	SplitCount int // files of the set; 0 or 1 when it is not split

	MetadataBytes int64 // up to the end of the metadata, where the tensors' entries begin
	Size          int64 // bytes that the file must have, of a set all files together

	fileType     uint64
	hasFileType  bool
	offsets      []int64 // of the tensors' data in the file; nil of a set of several
	splitTensors int64   // tensors of the whole set, as the file says; 0 when it does not
}

// Tensor is one entry of a header.
type Tensor struct {
	Name     string
	Type     Type
	Dims     []int64 // 1 to 4; the first is the length of a row
	Elements int64
	Bytes    int64
}

// Dimensions counts the tensor's dimensions as ggml does: without trailing dimensions of
// length 1.
func (t *Tensor) Dimensions() int {
	n := len(t.Dims)
	for n > 1 && t.Dims[n-1] == 1 {
		n--
	}
	return n
}

// matrix reports whether the tensor is a matrix of weights, or a stack of them: what a
// quantization is about. Norms, biases and other vectors are none.
func (t *Tensor) matrix() bool {
	return t.Dimensions() > 1 && strings.HasSuffix(t.Name, "weight")
}

// measure computes Elements and Bytes. Like ggml it refuses an unknown type, a row that is
// not a whole number of blocks, and a size beyond 63 bits.
func (t *Tensor) measure() error {
	if !t.Type.Known() {
		return fmt.Errorf("tensor %q is of type %d, %w", t.Name, uint32(t.Type), t.Type.unknown())
	}
	if t.Dims[0]%t.Type.BlockSize() != 0 {
		return fmt.Errorf("tensor %q has rows of %d elements, not a multiple of the %d that a block of %s holds", t.Name, t.Dims[0], t.Type.BlockSize(), t.Type)
	}
	elements := uint64(1)
	for _, dim := range t.Dims {
		high, low := bits.Mul64(elements, uint64(dim))
		// 8 bytes an element are the most that any type takes.
		if high != 0 || low > 1<<59 {
			return fmt.Errorf("tensor %q claims dimensions %v: more than any file can hold", t.Name, t.Dims)
		}
		elements = low
	}
	t.Elements = int64(elements)
	t.Bytes = t.Type.Bytes(t.Elements)
	return nil
}

// Tensor finds a tensor by its name; nil when there is none.
func (h *Header) Tensor(name string) *Tensor {
	for i := range h.Tensors {
		if h.Tensors[i].Name == name {
			return &h.Tensors[i]
		}
	}
	return nil
}

// TensorBytes returns the size of all tensors' data, without the padding between them.
func (h *Header) TensorBytes() int64 {
	var sum int64
	for i := range h.Tensors {
		sum += h.Tensors[i].Bytes
	}
	return sum
}

// BitsPerWeight returns the effective number of bits that a parameter takes: of the
// tensors' bytes, without the header. 0 when there are no parameters.
func (h *Header) BitsPerWeight() float64 {
	if h.Parameters == 0 {
		return 0
	}
	return float64(h.TensorBytes()) * 8 / float64(h.Parameters)
}
