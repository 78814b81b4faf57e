package gguf

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
)

// Limits of what is believed. Real headers are far below: the largest known have some
// 2000 tensors, names of 64 bytes (ggml's own limit) and 20 MB, nearly all of it the
// vocabulary.
const (
	maxHeader   = 128 << 20 // bytes up to the end of the tensors' entries
	maxMetadata = 1 << 16   // key-value pairs
	maxTensors  = 1 << 15
	maxKey      = 1<<16 - 1 // bytes, the format's own limit
	maxName     = 256       // bytes of a tensor's name
	maxString   = 1 << 10   // bytes of a value that is kept
	maxArray    = 1 << 10   // items of an array that is kept: one per layer
	maxKept     = 1 << 8    // values that are kept: some 20 of one architecture
	maxTexts    = 1 << 22   // items of an array of texts: tokens, merges
	lastVersion = 99        // of the format that is taken for one, known or not
)

// Read reads the header of the GGUF file at path, following symbolic links. The file
// is never written and its tensor data never read.
//
// The error wraps ErrIncomplete when the file is cut off or half written, ErrNotGGUF
// when it is something else, or the operating system's error; it names the path.
// Memory is bounded whatever the file holds: below 15 MB for 32768 tensors with the
// longest names, 150 kB for a usual model.
func Read(path string) (*Header, error) {
	header, err := read(path)
	if err != nil {
		if _, ok := errors.AsType[*fs.PathError](err); ok { // names the path itself
			return nil, fmt.Errorf("reading the model's header: %w", err)
		}
		return nil, fmt.Errorf("reading the header of %q: %w", path, err)
	}
	return header, nil
}

func read(path string) (*Header, error) {
	// A named pipe that nobody writes to would block the opening for good.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is %s, not a regular file", ErrNotGGUF, fileKind(info.Mode()))
	}
	return parse(file, info.Size())
}

func fileKind(mode fs.FileMode) string {
	if mode.IsDir() {
		return "a folder"
	}
	return "a device, pipe or socket"
}

// parse reads a header from a file of the given size.
func parse(file io.ReadSeeker, size int64) (*Header, error) {
	in := newCursor(file, min(size, maxHeader))
	h := &Header{}
	data, err := h.read(in)
	switch {
	case errors.Is(err, errPastEnd) && size > maxHeader:
		return nil, fmt.Errorf("its header claims more than %d MiB: the file is damaged", maxHeader>>20)
	case errors.Is(err, errPastEnd):
		return nil, fmt.Errorf("%w: the file ends after %d bytes, inside its header; was it downloaded whole?", ErrIncomplete, size)
	case err != nil:
		return nil, err
	}
	h.Size = data
	if size < h.Size {
		return nil, fmt.Errorf("%w: its tensors need %d bytes and the file has %d; was it downloaded whole?", ErrIncomplete, h.Size, size)
	}
	h.nameFormat()
	return h, nil
}

// read fills the header and says how many bytes the file must have.
func (h *Header) read(in *cursor) (size int64, err error) {
	if err := h.readMagic(in); err != nil {
		return 0, err
	}
	tensors, pairs := in.uint64(), in.uint64()
	if in.err != nil {
		return 0, in.err
	}
	if tensors > maxTensors || pairs > maxMetadata {
		return 0, fmt.Errorf("its header claims %d tensors and %d metadata pairs, more than %d and %d: the file is damaged", tensors, pairs, maxTensors, maxMetadata)
	}

	meta, err := readMetadata(in, int(pairs))
	if err != nil {
		return 0, err
	}
	h.MetadataBytes = in.offset
	alignment, err := h.take(meta)
	if err != nil {
		return 0, err
	}

	end, err := h.readTensors(in, int(tensors))
	if err != nil {
		return 0, err
	}
	h.completeShape()
	if len(h.Tensors) == 0 {
		return in.offset, nil
	}
	data := Align(in.offset, alignment)
	for i := range h.offsets {
		h.offsets[i] += data
	}
	return data + end, nil
}

func (h *Header) readMagic(in *cursor) error {
	magic := in.bytes(4)
	if in.err != nil {
		return in.err
	}
	switch string(magic) {
	case "GGUF":
	case "\x00\x00\x00\x00":
		return fmt.Errorf("%w: it begins with zeros: half-written, as the header is written last", ErrIncomplete)
	default:
		return in.noMagic(magic)
	}
	version := in.uint32()
	switch {
	case in.err != nil:
		return in.err
	case version == 2, version == 3:
		h.Version = int(version)
		return nil
	case version&0xffff == 0 && version != 0:
		return fmt.Errorf("%w: a big-endian GGUF file: llama.cpp reads it on big-endian machines only; convert it with gguf-py's gguf_convert_endian", ErrForeign)
	case version == 0, version > lastVersion:
		return fmt.Errorf("GGUF version %d does not exist: the file is damaged", version)
	default:
		return fmt.Errorf("%w: GGUF version %d: only 2 and 3 are known; convert the model again with a current llama.cpp", ErrForeign, version)
	}
}

// pointers are the texts that stand in for a file which has yet to be brought, and what
// brings it.
var pointers = []struct{ begins, of, cure string }{
	{"version https://git-lfs.github.com/spec/", "Git LFS", "run `git lfs pull` in its repository"},
	{"version https://hawser.github.com/spec/", "Git LFS", "run `git lfs pull` in its repository"},
	{"/annex/objects/", "git-annex", "run `git annex get` on it"},
}

// noMagic says what a file is that begins with four other bytes than GGUF files do.
func (c *cursor) noMagic(magic []byte) error {
	begins := string(magic)
	for _, pointer := range pointers {
		rest := len(pointer.begins) - len(begins)
		if !strings.HasPrefix(pointer.begins, begins) || c.limit-c.offset < int64(rest) {
			continue
		}
		if begins+string(c.peek(rest)) == pointer.begins {
			return fmt.Errorf("%w: a pointer of %s, which stands in for the model until that is brought: %s", ErrPointer, pointer.of, pointer.cure)
		}
	}
	return fmt.Errorf("%w: it begins with %q instead of \"GGUF\"", ErrNotGGUF, begins)
}

// readTensors reads the tensors' entries and gives the end of the last one's data,
// from the start of the data.
func (h *Header) readTensors(in *cursor, count int) (end int64, err error) {
	var total int64
	for range count {
		name := in.name(maxName)
		dimensions := in.uint32()
		if in.err != nil {
			return 0, in.err
		}
		if dimensions < 1 || dimensions > 4 {
			return 0, fmt.Errorf("tensor %q has %d dimensions instead of 1 to 4: the file is damaged", name, dimensions)
		}
		tensor := Tensor{Name: name, Dims: make([]int64, dimensions)}
		for i := range tensor.Dims {
			dim := in.uint64()
			if dim > 1<<62 {
				return 0, fmt.Errorf("tensor %q has a dimension of %d: the file is damaged", name, dim)
			}
			tensor.Dims[i] = int64(dim)
		}
		tensor.Type = Type(in.uint32())
		offset := in.uint64()
		if in.err != nil {
			return 0, in.err
		}
		if err := tensor.measure(); err != nil {
			return 0, err
		}
		total += tensor.Bytes
		if offset > 1<<61 || total < 0 {
			return 0, fmt.Errorf("tensor %q with %d bytes from byte %d on is more than any file can hold: the file is damaged", name, tensor.Bytes, offset)
		}
		end = max(end, int64(offset)+tensor.Bytes)
		h.offsets = append(h.offsets, int64(offset))
		h.Parameters += tensor.Elements
		h.Tensors = append(h.Tensors, tensor)
	}
	return end, nil
}

// Align rounds offset up to the next multiple of alignment, which is at least 1. Both
// are in bytes.
func Align(offset, alignment int64) int64 {
	return (offset + alignment - 1) / alignment * alignment
}

// take copies what is wanted out of the metadata.
func (h *Header) take(meta metadata) (alignment int64, err error) {
	h.Architecture = meta.text["general.architecture"]
	h.Type = meta.text["general.type"]
	h.Name = meta.text["general.name"]

	if types := meta.numbers["general.file_type"]; len(types) == 1 {
		h.fileType, h.hasFileType = uint64(types[0]), true
	}
	h.SplitNo = int(meta.number("split.no"))
	h.SplitCount = int(meta.number("split.count"))
	h.splitTensors = meta.number("split.tensors.count")

	of := func(key string) int64 { return meta.number(h.Architecture + "." + key) }
	h.Blocks = of("block_count")
	h.Embedding = of("embedding_length")
	h.Heads = slices.Clone(meta.numbers[h.Architecture+".attention.head_count"])
	h.KVHeads = slices.Clone(meta.numbers[h.Architecture+".attention.head_count_kv"])
	h.KeyLength = of("attention.key_length")
	h.ValueLength = of("attention.value_length")
	h.Context = of("context_length")
	h.NextN = of("nextn_predict_layers")
	h.Pooling = of("pooling_type")
	if causal := meta.numbers[h.Architecture+".attention.causal"]; len(causal) == 1 {
		h.Encodes = causal[0] == 0
	}
	h.Tokenizer = meta.text["tokenizer.ggml.model"]
	h.Experts = of("expert_count")
	h.ExpertsUsed = of("expert_used_count")
	h.Vocabulary = meta.tokens
	if h.Vocabulary == 0 {
		h.Vocabulary = of("vocab_size")
	}

	alignment = 32 // the format's default
	if values := meta.numbers["general.alignment"]; len(values) == 1 {
		alignment = values[0]
		if alignment < 1 || alignment > 1<<20 || alignment&(alignment-1) != 0 {
			return 0, fmt.Errorf("general.alignment is %d, not a power of two up to 1 MiB: the file is damaged", alignment)
		}
	}
	return alignment, nil
}

// completeShape fills in what llama.cpp derives where a file does not say it: as many
// key/value heads as heads, heads that share the hidden state, a vocabulary of the
// embedding's rows.
func (h *Header) completeShape() {
	if len(h.KVHeads) == 0 {
		h.KVHeads = h.Heads
	}
	// Of a model that has layers without attention, the others count.
	if heads := largest(h.Heads); heads > 0 {
		h.KeyLength = cmp.Or(h.KeyLength, h.Embedding/heads)
		h.ValueLength = cmp.Or(h.ValueLength, h.Embedding/heads)
	}
	if embedding := h.Tensor("token_embd.weight"); h.Vocabulary == 0 && embedding != nil && len(embedding.Dims) > 1 {
		h.Vocabulary = embedding.Dims[1]
	}
}

func largest(values []int64) int64 {
	if len(values) == 0 {
		return 0
	}
	return slices.Max(values)
}

// metadata is the part of the key-value pairs that is kept.
type metadata struct {
	text    map[string]string
	numbers map[string][]int64 // scalars are one number
	tokens  int64              // length of the token list, which is skipped
}

// number returns the first number of a key, 0 without one.
func (m metadata) number(key string) int64 {
	if values := m.numbers[key]; len(values) > 0 {
		return values[0]
	}
	return 0
}

// wanted reports whether a pair is kept. The architecture's name is not known before the
// pairs are read, so its keys are known by their ends.
func wanted(key string) bool {
	switch key {
	case "general.architecture", "general.type", "general.name", "general.file_type",
		"general.alignment", "tokenizer.ggml.model", "split.no", "split.count", "split.tensors.count":
		return true
	}
	_, rest, _ := strings.Cut(key, ".")
	switch rest {
	case "block_count", "embedding_length", "vocab_size", "attention.head_count",
		"attention.head_count_kv", "attention.key_length", "attention.value_length",
		"expert_count", "expert_used_count", "context_length", "nextn_predict_layers",
		"pooling_type", "attention.causal":
		return true
	}
	return false
}

func readMetadata(in *cursor, pairs int) (metadata, error) {
	meta := metadata{text: map[string]string{}, numbers: map[string][]int64{}}
	for range pairs {
		key := in.name(maxKey)
		if in.err != nil {
			return meta, in.err
		}
		if err := meta.readValue(in, key); err != nil {
			return meta, fmt.Errorf("metadata %q: %w", key, err)
		}
	}
	return meta, nil
}

func (m *metadata) readValue(in *cursor, key string) error {
	kind := valueType(in.uint32())
	if len(m.text)+len(m.numbers) > maxKept {
		return fmt.Errorf("more than %d values that describe a model, as if it were many: the file is damaged", maxKept)
	}
	switch {
	case in.err != nil:
		return in.err
	case kind == typeArray:
		return m.readArray(in, key)
	case kind == typeString && wanted(key):
		m.text[key] = in.text(maxString)
	case kind == typeString:
		in.skip(in.uint64())
	case kind.size() == 0:
		return fmt.Errorf("a value of the unknown type %d: the file is damaged", kind)
	case wanted(key):
		m.numbers[key] = []int64{in.number(kind)}
	default:
		in.skip(kind.size())
	}
	return in.err
}

func (m *metadata) readArray(in *cursor, key string) error {
	kind, length := valueType(in.uint32()), in.uint64()
	if in.err != nil {
		return in.err
	}
	if key == "tokenizer.ggml.tokens" {
		m.tokens = int64(min(length, maxTexts))
	}
	switch {
	case kind == typeString && length > maxTexts:
		return fmt.Errorf("a list of %d texts, more than %d: the file is damaged", length, maxTexts)
	case kind == typeString:
		in.skipStrings(length)
	case kind.size() == 0:
		return fmt.Errorf("an array of the unknown or nested type %d: the file is damaged", kind)
	case wanted(key) && length <= maxArray:
		m.numbers[key] = make([]int64, 0, length)
		for range length {
			m.numbers[key] = append(m.numbers[key], in.number(kind))
		}
	case length > maxHeader:
		return errPastEnd
	default:
		in.skip(length * kind.size())
	}
	return in.err
}
