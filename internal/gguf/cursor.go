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

// size is the number of bytes of a value; 0 for strings, arrays and unknown types.
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

// cursor reads a header's little-endian values front to back and never past its
// limit. The first error sticks in err; what is read after it is zero.
type cursor struct {
	file   io.ReadSeeker
	in     *bufio.Reader
	offset int64 // of the next byte
	limit  int64
	buffer []byte
	err    error
}

func newCursor(file io.ReadSeeker, limit int64) *cursor {
	return &cursor{file: file, in: bufio.NewReaderSize(file, 64<<10), limit: limit}
}

// bytes gives the next n bytes, valid until the next call. n is one of our own limits
// or has been checked against one.
func (c *cursor) bytes(n int) []byte {
	if cap(c.buffer) < n {
		c.buffer = make([]byte, n)
	}
	buffer := c.buffer[:n]
	if c.err == nil && int64(n) > c.limit-c.offset {
		c.err = errPastEnd
	}
	if c.err == nil {
		if _, err := io.ReadFull(c.in, buffer); err != nil {
			c.err = readError(err)
		}
	}
	if c.err != nil {
		clear(buffer)
		return buffer
	}
	c.offset += int64(n)
	return buffer
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

// name gives a string that must have at most most bytes.
func (c *cursor) name(most uint64) string {
	if length := c.peekLength(); c.err == nil && length > most {
		c.err = fmt.Errorf("a name of %d bytes at byte %d, where at most %d are possible: the file is damaged", length, c.offset, most)
	}
	return c.text(most)
}

// peekLength looks at the length of the string that comes next.
func (c *cursor) peekLength() uint64 {
	if c.err != nil || c.limit-c.offset < 8 {
		return 0 // the read that follows says why
	}
	raw, err := c.in.Peek(8)
	if err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(raw)
}

// text gives a string of at most most bytes; a longer one is passed over and reads as
// empty.
func (c *cursor) text(most uint64) string {
	length := c.uint64()
	if length > most {
		c.skip(length)
		return ""
	}
	if c.err == nil && int64(length) > c.limit-c.offset {
		c.err = errPastEnd
	}
	if c.err != nil {
		return ""
	}
	return string(c.bytes(int(length)))
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
		if _, err := c.in.Discard(int(n)); err != nil {
			c.err = readError(err)
			return
		}
	default:
		if _, err := c.file.Seek(c.offset+int64(n), io.SeekStart); err != nil {
			c.err = err
			return
		}
		c.in.Reset(c.file)
	}
	c.offset += int64(n)
}
