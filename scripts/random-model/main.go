// Command random-model writes a model of any size for measurements: the architecture and the
// vocabulary of a small one, F16 weights at random. What it generates means nothing; that
// takes as long as with real weights.
//
//	go run ./scripts/random-model -out /tmp/random-400m-f16.gguf
//	go run ./scripts/random-model -layers 24 -width 2048 -feed-forward 8192 -out /tmp/random-3g-f16.gguf
//
// The defaults make a file of 407 MB. The same numbers make the same file.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
)

type shape struct{ layers, width, feedForward uint64 }

func main() {
	source := flag.String("source", "examples/models/kjv-4m-f16.gguf", "F16 model of the llama architecture")
	out := flag.String("out", "", "file to write")
	var s shape
	flag.Uint64Var(&s.layers, "layers", 12, "number of layers")
	flag.Uint64Var(&s.width, "width", 1024, "embedding length, a multiple of 64")
	flag.Uint64Var(&s.feedForward, "feed-forward", 4096, "feed-forward length")
	flag.Parse()
	if err := run(*source, *out, s); err != nil {
		fmt.Fprintln(os.Stderr, "random-model:", err)
		os.Exit(1)
	}
}

func run(source, out string, s shape) error {
	if out == "" || s.width%64 != 0 {
		return errors.New("name a file with -out, and a -width that is a multiple of 64")
	}
	header, err := gguf.Read(source)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	tensors := s.tensors(header)
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	defer file.Close()
	w := &writer{out: bufio.NewWriterSize(file, 1<<20)}
	w.header(s.metadata(data), tensors)
	random := rand.NewChaCha8([32]byte{1})
	for _, t := range tensors {
		w.weights(t, random)
	}
	if w.err == nil {
		w.err = w.out.Flush()
	}
	if w.err != nil {
		return w.err
	}
	return file.Close()
}

type tensor struct {
	name string
	kind gguf.Type
	dims []uint64
}

func (t tensor) bytes() int64 {
	elements := int64(1)
	for _, dim := range t.dims {
		elements *= int64(dim)
	}
	return t.kind.Bytes(elements)
}

// tensors returns the source's tensors in the new widths. Each layer has the tensors of the
// source's first layer.
func (s shape) tensors(source *gguf.Header) (all []tensor) {
	const first = "blk.0."
	feedForward := uint64(source.Tensor(first + "ffn_up.weight").Dims[1])
	for _, t := range source.Tensors {
		layer, isFirst := strings.CutPrefix(t.Name, first)
		if strings.HasPrefix(t.Name, "blk.") && !isFirst {
			continue
		}
		var dims []uint64
		for _, dim := range t.Dims[:t.Dimensions()] {
			switch uint64(dim) {
			case uint64(source.Embedding):
				dims = append(dims, s.width)
			case feedForward:
				dims = append(dims, s.feedForward)
			default:
				dims = append(dims, uint64(dim))
			}
		}
		if !isFirst {
			all = append(all, tensor{t.Name, t.Type, dims})
			continue
		}
		for i := range s.layers {
			all = append(all, tensor{fmt.Sprintf("blk.%d.%s", i, layer), t.Type, dims})
		}
	}
	return all
}

// entry is one of the metadata, as in the file: its type and its value.
type entry struct {
	key   string
	value []byte
}

// metadata returns the source's metadata with the new numbers.
func (s shape) metadata(source []byte) (all []entry) {
	const head = 64
	heads := s.width / head
	numbers := map[string]uint64{
		"block_count": s.layers, "embedding_length": s.width, "feed_forward_length": s.feedForward,
		"attention.head_count": heads, "attention.head_count_kv": heads, "rope.dimension_count": head,
		"attention.key_length": head, "attention.value_length": head, "context_length": 8192,
	}
	r := &reader{data: source, at: 16} // after magic, version and the number of tensors
	for range r.uint64() {
		key := r.text()
		from := r.at
		r.skip(r.uint32())
		value := append([]byte(nil), source[from:r.at]...)
		if number, ok := numbers[strings.TrimPrefix(key, "llama.")]; ok {
			value = binary.LittleEndian.AppendUint32(nil, uint32Kind)
			value = binary.LittleEndian.AppendUint32(value, uint32(number))
		}
		all = append(all, entry{key, value})
	}
	return all
}

// The types of values, as in ggml's documentation of the format (docs/gguf.md).
const (
	uint32Kind = 4
	stringKind = 8
	arrayKind  = 9
)

// reader reads a header that package gguf has found to be sound.
type reader struct {
	data []byte
	at   int
}

func (r *reader) uint32() uint32 { r.at += 4; return binary.LittleEndian.Uint32(r.data[r.at-4:]) }
func (r *reader) uint64() uint64 { r.at += 8; return binary.LittleEndian.Uint64(r.data[r.at-8:]) }

func (r *reader) text() string {
	n := int(r.uint64())
	r.at += n
	return string(r.data[r.at-n : r.at])
}

func (r *reader) skip(kind uint32) {
	switch kind {
	case stringKind:
		r.text()
	case arrayKind:
		of := r.uint32()
		for range r.uint64() {
			r.skip(of)
		}
	default:
		r.at += map[uint32]int{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}[kind]
	}
}

// writer writes a GGUF file; the first error stays.
type writer struct {
	out *bufio.Writer
	at  int64
	err error
}

func (w *writer) Write(b []byte) (int, error) {
	if w.err == nil {
		_, w.err = w.out.Write(b)
	}
	w.at += int64(len(b))
	return len(b), w.err
}

func (w *writer) put(value any)    { _ = binary.Write(w, binary.LittleEndian, value) } // w keeps the error
func (w *writer) text(text string) { w.put(uint64(len(text))); _, _ = io.WriteString(w, text) }

func (w *writer) pad() {
	const alignment = 32
	_, _ = w.Write(make([]byte, gguf.Align(w.at, alignment)-w.at))
}

func (w *writer) header(metadata []entry, tensors []tensor) {
	_, _ = io.WriteString(w, "GGUF")
	w.put(uint32(3))
	w.put(uint64(len(tensors)))
	w.put(uint64(len(metadata)))
	for _, e := range metadata {
		w.text(e.key)
		_, _ = w.Write(e.value)
	}
	offset := int64(0)
	for _, t := range tensors {
		w.text(t.name)
		w.put(uint32(len(t.dims)))
		w.put(t.dims)
		w.put(uint32(t.kind))
		w.put(uint64(offset))
		offset = gguf.Align(offset+t.bytes(), 32)
	}
	w.pad()
}

// weights are 1 where they are F32 (norms), and else F16 between 2^-7 and 2^-6, of either sign.
func (w *writer) weights(t tensor, random *rand.ChaCha8) {
	left := t.bytes()
	if t.kind == 0 {
		one := binary.LittleEndian.AppendUint32(nil, math.Float32bits(1))
		for ; left > 0; left -= int64(len(one)) {
			_, _ = w.Write(one)
		}
	}
	block := make([]byte, 1<<16)
	for left > 0 {
		part := block[:min(left, int64(len(block)))]
		_, _ = random.Read(part)
		for i := 1; i < len(part); i += 2 {
			part[i] = part[i]&0x83 | 0x20
		}
		_, _ = w.Write(part)
		left -= int64(len(part))
	}
	w.pad()
}
