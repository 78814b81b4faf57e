package gguf

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
)

// Blank looks for parts of a file that hold nothing but zeros where weights should be, as
// they are left by clients that give a file its full size first, and by power losses. It is
// written the file's bytes from the first on, as one reads them anyway.
//
// One weight matrix of zeros may be meant: methods that add blocks to a model begin with
// such. A region that holds a whole one and goes on into the next is not: where training
// put something, nothing came. The zero value looks for nothing.
type Blank struct {
	matrices []span // in the order of the file
	next     int    // of them, the first that the current region may hold
	offset   int64  // bytes written
	from     int64  // where the zeros begin that reach up to offset

	tensors int // found so far
	first   string
}

type span struct {
	name     string
	from, to int64
}

// NewBlank makes a Blank of a file with this header: of one file of a split set, its own.
func (h *Header) NewBlank() *Blank {
	b := &Blank{}
	for i, offset := range h.offsets {
		if t := &h.Tensors[i]; t.matrix() && t.Bytes > 0 {
			b.matrices = append(b.matrices, span{t.Name, offset, offset + t.Bytes})
		}
	}
	slices.SortFunc(b.matrices, func(x, y span) int { return cmp.Compare(x.from, y.from) })
	return b
}

// page is what is compared with zeros at once.
const page = 4096

var zeros [page]byte

// Write takes in the next bytes of the file. It never fails.
func (b *Blank) Write(data []byte) (int, error) {
	for rest := data; len(rest) > 0; {
		chunk := rest[:min(page, len(rest))]
		rest = rest[len(chunk):]
		if !bytes.Equal(chunk, zeros[:len(chunk)]) {
			b.end(b.offset + int64(len(chunk)-len(bytes.TrimLeft(chunk, "\x00"))))
			b.from = b.offset + int64(len(bytes.TrimRight(chunk, "\x00")))
		}
		b.offset += int64(len(chunk))
	}
	return len(data), nil
}

// end ends the zeros that began at from.
func (b *Blank) end(to int64) {
	for b.next < len(b.matrices) && b.matrices[b.next].to <= b.from {
		b.next++
	}
	whole, touched := 0, 0
	for i := b.next; i < len(b.matrices) && b.matrices[i].from < to; i++ {
		m := b.matrices[i]
		if m.from >= b.from && m.to <= to {
			whole++
		}
		if min(m.to, to)-max(m.from, b.from) >= min(page, m.to-m.from) {
			touched++
		}
	}
	if whole == 0 || touched < 2 {
		return
	}
	if b.tensors == 0 {
		b.first = b.matrices[b.next].name
	}
	b.tensors += touched
}

// Err says, once the whole file is written, which weights are not there; nil where none is
// missing.
func (b *Blank) Err() error {
	b.end(b.offset)
	b.from = b.offset
	if b.tensors == 0 {
		return nil
	}
	return fmt.Errorf("%w: it holds nothing but zeros where %d of its tensors should be, from %q on; was it downloaded or copied whole?", ErrIncomplete, b.tensors, b.first)
}
