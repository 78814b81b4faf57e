package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// kind is a tensor type of ggml.
type kind uint32

// kinds are the types that the fake knows: how many weights make a block, of how many
// bytes.
var kinds = map[kind]struct {
	name         string
	block, bytes int64
}{
	0: {"f32", 1, 4}, 1: {"f16", 1, 2}, 30: {"bf16", 1, 2},
	2: {"q4_0", 32, 18}, 3: {"q4_1", 32, 20}, 6: {"q5_0", 32, 22}, 7: {"q5_1", 32, 24}, 8: {"q8_0", 32, 34},
	10: {"q2_K", 256, 84}, 11: {"q3_K", 256, 110}, 12: {"q4_K", 256, 144}, 13: {"q5_K", 256, 176}, 14: {"q6_K", 256, 210},
	16: {"iq2_xxs", 256, 66}, 17: {"iq2_xs", 256, 74}, 18: {"iq3_xxs", 256, 98}, 19: {"iq1_s", 256, 50},
	20: {"iq4_nl", 32, 18}, 21: {"iq3_s", 256, 110}, 22: {"iq2_s", 256, 82}, 23: {"iq4_xs", 256, 136}, 29: {"iq1_m", 256, 56},
	34: {"tq1_0", 256, 54}, 35: {"tq2_0", 256, 66},
}

func (k kind) String() string { return kinds[k].name }

func (k kind) quantized() bool { return kinds[k].block > 1 }

// targets are the types that most tensors of a format get; IQ3_XS stands for those that
// need an importance matrix without saying so.
var targets = []struct {
	format string // prefix
	kind   kind
}{
	{"F32", 0},
	{"F16", 1},
	{"BF16", 30},
	{"Q2_K", 10},
	{"Q3_K", 11},
	{"Q4_K", 12},
	{"Q5_K", 13},
	{"Q6_K", 14},
	{"Q4_1", 3},
	{"Q5_0", 6},
	{"Q5_1", 7},
	{"Q8_0", 8},
	{"IQ1_S", 19},
	{"IQ1_M", 29},
	{"IQ2_XXS", 16},
	{"IQ2_XS", 17},
	{"IQ2_", 22},
	{"IQ3_XXS", 18},
	{"IQ3_XS", 18},
	{"IQ3_", 21},
	{"IQ4_XS", 23},
	{"IQ4_NL", 20},
	{"TQ1_0", 34},
	{"TQ2_0", 35},
	{"", 2}, // all others
}

// target returns the type that a tensor gets. As in the real tool vectors stay as they are,
// and a row that is not a multiple of the block falls back.
func target(t tensor, format string) kind {
	if len(t.dimensions) < 2 {
		return t.kind
	}
	for _, entry := range targets {
		if !strings.HasPrefix(strings.ToUpper(format), entry.format) {
			continue
		}
		switch {
		case t.dimensions[0]%kinds[entry.kind].block == 0:
			return entry.kind
		case t.dimensions[0]%32 == 0:
			return 2 // q4_0
		default:
			return 1 // f16
		}
	}
	return t.kind
}

type tensor struct {
	name       string
	dimensions []int64
	kind       kind
	offset     int64
}

func (t tensor) elements() int64 {
	n := int64(1)
	for _, d := range t.dimensions {
		n *= d
	}
	return n
}

func (t tensor) bytes() int64 { return t.elements() / kinds[t.kind].block * kinds[t.kind].bytes }

func (t tensor) shape() string {
	var shape []string
	for i := range 4 {
		d := int64(1)
		if i < len(t.dimensions) {
			d = t.dimensions[i]
		}
		shape = append(shape, fmt.Sprintf("%6d", d))
	}
	return strings.Join(shape, ", ")
}

// model is a GGUF file, or a split set of them, without the tensors' content.
type model struct {
	metadata []entry
	tensors  []tensor
}

// entry is a pair of the metadata, as it is in the file.
type entry struct {
	key   string
	value []byte // type and value
}

const alignment = 32

func (m model) bytes() int64 {
	n := int64(0)
	for _, t := range m.tensors {
		n += t.bytes()
	}
	return n
}

func (m model) parameters() int64 {
	n := int64(0)
	for _, t := range m.tensors {
		n += t.elements()
	}
	return n
}

func (m model) bitsPerWeight() float64 { return float64(m.bytes()) * 8 / float64(m.parameters()) }

// setFileType writes general.file_type.
func (m *model) setFileType(number uint32) {
	value := binary.LittleEndian.AppendUint32(nil, 4) // uint32
	value = binary.LittleEndian.AppendUint32(value, number)
	for i, e := range m.metadata {
		if e.key == "general.file_type" {
			m.metadata[i].value = value
			return
		}
	}
	m.metadata = append(m.metadata, entry{"general.file_type", value})
}

var firstShard = regexp.MustCompile(`^(.*)-00001-of-(\d{5})\.gguf$`)

// readModel reads a file, or all of a split set. Its errors are in the real tool's
// words.
func readModel(path string) (model, error) {
	m, err := readFile(path)
	match := firstShard.FindStringSubmatch(path)
	if err != nil || match == nil {
		return m, err
	}
	shards, _ := strconv.Atoi(match[2])
	for i := 2; i <= shards; i++ {
		shard, err := readFile(fmt.Sprintf("%s-%05d-of-%s.gguf", match[1], i, match[2]))
		if err != nil {
			return m, err
		}
		m.tensors = append(m.tensors, shard.tensors...)
	}
	return m, nil
}

func readFile(path string) (model, error) {
	file, err := os.Open(path)
	if err != nil {
		return model{}, fmt.Errorf("llama_model_loader: failed to load model from %s", path)
	}
	defer file.Close()
	r := &reader{in: bufio.NewReader(file)}
	m := r.model()
	if r.err != nil {
		return model{}, fmt.Errorf("%w: llama_model_loader: failed to load model from %s", r.err, path)
	}
	begin := (r.read + alignment - 1) / alignment * alignment
	info, err := file.Stat()
	if err != nil {
		return model{}, err
	}
	for _, t := range m.tensors {
		if begin+t.offset+t.bytes() > info.Size() {
			return model{}, fmt.Errorf("tensor '%s' data is not within the file bounds, model is corrupted or incomplete", t.name)
		}
	}
	return m, nil
}

// reader keeps the first error and how much it has read.
type reader struct {
	in   *bufio.Reader
	read int64
	err  error
}

func (r *reader) bytes(n uint64) []byte {
	if r.err == nil && n > 1<<24 {
		r.err = errors.New("gguf_init_from_reader: a length is absurd")
	}
	if r.err != nil {
		return make([]byte, 8)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r.in, data); err != nil {
		r.err = errors.New("gguf_init_from_reader: failed to read key-value pairs")
		return make([]byte, max(n, 8))
	}
	r.read += int64(n)
	return data
}

func (r *reader) uint32() uint32 { return binary.LittleEndian.Uint32(r.bytes(4)) }
func (r *reader) uint64() uint64 { return binary.LittleEndian.Uint64(r.bytes(8)) }

func (r *reader) model() model {
	if magic := r.bytes(4); r.err == nil && string(magic) != "GGUF" {
		r.err = fmt.Errorf("gguf_init_from_reader: invalid magic characters: '%s', expected 'GGUF'", magic)
	}
	r.uint32() // version
	tensors, pairs := r.uint64(), r.uint64()
	var m model
	for i := uint64(0); i < pairs && r.err == nil; i++ {
		key := string(r.bytes(r.uint64()))
		e := entry{key, r.value()}
		if !strings.HasPrefix(key, "split.") { // the output is in one file
			m.metadata = append(m.metadata, e)
		}
	}
	for i := uint64(0); i < tensors && r.err == nil; i++ {
		t := tensor{name: string(r.bytes(r.uint64()))}
		for n := r.uint32(); n > 0 && r.err == nil; n-- {
			t.dimensions = append(t.dimensions, int64(r.uint64()))
		}
		t.kind, t.offset = kind(r.uint32()), int64(r.uint64())
		if _, ok := kinds[t.kind]; !ok && r.err == nil {
			r.err = fmt.Errorf("the fake knows no tensor type %d", t.kind)
		}
		m.tensors = append(m.tensors, t)
	}
	return m
}

// sizes of the metadata's types; 8 is a string and 9 an array.
var sizes = map[uint32]uint64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// value is a type with its value, as it is in the file.
func (r *reader) value() []byte {
	kind := r.bytes(4)
	return append(kind, r.plain(binary.LittleEndian.Uint32(kind))...)
}

func (r *reader) plain(kind uint32) []byte {
	switch kind {
	case 8:
		length := r.bytes(8)
		return append(length, r.bytes(binary.LittleEndian.Uint64(length))...)
	case 9:
		head := r.bytes(4 + 8)
		element, count := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint64(head[4:])
		for i := uint64(0); i < count && r.err == nil; i++ {
			head = append(head, r.plain(element)...)
		}
		return head
	default:
		return r.bytes(sizes[kind])
	}
}

// write makes a whole file. Each tensor begins with a byte that is not zero, and is a hole
// from there on: one of nothing but zeros looks like a download that never came.
func (m model) write(path string) error {
	var head bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			if s, ok := v.(string); ok {
				_ = binary.Write(&head, binary.LittleEndian, uint64(len(s)))
				v = []byte(s)
			}
			_ = binary.Write(&head, binary.LittleEndian, v) // to memory: cannot fail
		}
	}
	put([]byte("GGUF"), uint32(3), uint64(len(m.tensors)), uint64(len(m.metadata)))
	for _, e := range m.metadata {
		put(e.key, e.value)
	}
	offset := int64(0)
	for _, t := range m.tensors {
		put(t.name, uint32(len(t.dimensions)), t.dimensions, uint32(t.kind), uint64(offset))
		offset += padded(t.bytes())
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(head.Bytes())
	at := padded(int64(head.Len()))
	for _, t := range m.tensors {
		if err == nil {
			_, err = file.WriteAt([]byte{1}, at)
		}
		at += padded(t.bytes())
	}
	return errors.Join(err, file.Truncate(at), file.Close())
}

func padded(n int64) int64 { return (n + alignment - 1) / alignment * alignment }
