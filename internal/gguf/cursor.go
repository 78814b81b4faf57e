package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// errPastEnd says that a header goes on where the file, or the limit on headers, ends.
var errPastEnd = errors.New("past the end")

// valueType is the type of a metadata value, numbered as in the format.
type valueType uint32

const (
	typeUint8 valueType = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
)

// size returns the number of bytes of a value; 0 for strings, arrays and unknown types.
func (t valueType) size() uint64 {
	switch t {
	case typeUint8, typeInt8, typeBool:
		return 1
	case typeUint16, typeInt16:
		return 2
	case typeUint32, typeInt32, typeFloat32:
		return 4
	case typeUint64, typeInt64, typeFloat64:
		return 8
	}
	return 0
}

// bufferSize is enough for the longest string that is kept, a key.
const bufferSize = 64 << 10

// cursor reads a header's little-endian values front to back and never past its
// limit. The first error sticks in err; what is read after it is zero.
type cursor struct {
	file   io.ReadSeeker
	in     *bufio.Reader
	offset int64 // of the next byte
	limit  int64
	err    error
}

func newCursor(file io.ReadSeeker, limit int64) *cursor {
	return &cursor{file: file, in: bufio.NewReaderSize(file, bufferSize), limit: limit}
}

// bytes returns the next n bytes, valid until the next call, and zeros after an error. n
// is at most the size of the buffer, as our own limits are.
func (c *cursor) bytes(n int) []byte {
	raw := c.peek(n)
	if c.err == nil {
		c.discard(n)
	}
	return raw
}

// peek is bytes without moving on.
func (c *cursor) peek(n int) []byte {
	if c.err == nil && int64(n) > c.limit-c.offset {
		c.err = errPastEnd
	}
	if c.err == nil {
		raw, err := c.in.Peek(n)
		if err == nil {
			return raw
		}
		c.err = readError(err)
	}
	return make([]byte, n)
}

// discard moves on by n bytes, which have been peeked at.
func (c *cursor) discard(n int) {
	if _, err := c.in.Discard(n); err != nil {
		c.err = readError(err)
		return
	}
	c.offset += int64(n)
}

// readError keeps a failing disk apart from a file that shrank while it was read.
func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errPastEnd
	}
	return err
}

func (c *cursor) uint32() uint32 { return binary.LittleEndian.Uint32(c.bytes(4)) }
func (c *cursor) uint64() uint64 { return binary.LittleEndian.Uint64(c.bytes(8)) }

// skipStrings passes over count strings.
func (c *cursor) skipStrings(count uint64) {
	for range count {
		if c.skip(c.uint64()); c.err != nil {
			return
		}
	}
}

// name returns a string that must have at most most bytes.
func (c *cursor) name(most uint64) string {
	if length := binary.LittleEndian.Uint64(c.peek(8)); length > most && c.err == nil {
		c.err = fmt.Errorf("a name of %d bytes at byte %d, where at most %d are possible: the file is damaged", length, c.offset, most)
	}
	return c.text(most)
}

// text returns a string of at most most bytes; a longer one is passed over and reads as
// empty.
func (c *cursor) text(most uint64) string {
	length := c.uint64()
	if length > most {
		c.skip(length)
		return ""
	}
	raw := c.bytes(int(length))
	if c.err != nil {
		return ""
	}
	return string(raw)
}

// number reads a value that is to be a count, whatever its type: a negative, fractional
// or absurdly large one is as good as none and reads as 0.
func (c *cursor) number(kind valueType) int64 {
	raw := c.bytes(int(kind.size()))
	var value int64
	switch kind {
	case typeUint8, typeBool:
		value = int64(raw[0])
	case typeInt8:
		value = int64(int8(raw[0]))
	case typeUint16:
		value = int64(binary.LittleEndian.Uint16(raw))
	case typeInt16:
		value = int64(int16(binary.LittleEndian.Uint16(raw)))
	case typeUint32:
		value = int64(binary.LittleEndian.Uint32(raw))
	case typeInt32:
		value = int64(int32(binary.LittleEndian.Uint32(raw)))
	case typeUint64, typeInt64:
		value = int64(binary.LittleEndian.Uint64(raw))
	}
	if value < 0 || value > math.MaxInt32 {
		return 0
	}
	return value
}

// skip passes over n bytes: by a seek where they are many, so that a long array costs
// nothing.
func (c *cursor) skip(n uint64) {
	switch {
	case c.err != nil:
		return
	case n > uint64(c.limit-c.offset):
		c.err = errPastEnd
		return
	case n <= uint64(c.in.Size()):
		c.discard(int(n))
		return
	default:
		if _, err := c.file.Seek(c.offset+int64(n), io.SeekStart); err != nil {
			c.err = err
			return
		}
		c.in.Reset(c.file)
	}
	c.offset += int64(n)
}
