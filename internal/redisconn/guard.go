package redisconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// Limits of a reply. The largest that is asked for is the list of a cluster's slots and
// commands, some 300 KB, which go 6 deep.
const (
	maxReply = 4 << 20 // bytes
	maxItems = 1 << 16 // of an array
	maxDepth = 16      // of arrays in arrays
	maxLine  = 64 << 10
)

// ErrReply says that a server answers as none does.
var ErrReply = errors.New("the server's reply is none of Redis")

// guard watches what arrives on a connection, and ends it before the library reads a reply of
// which the length, the items or the depth are beyond the limits: it would believe them.
// Reads are of one goroutine at a time, as the library's are.
type guard struct {
	net.Conn
	replies scanner
}

// Read reads, and fails once what it read is beyond a limit; the connection is closed then.
func (g *guard) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if bad := g.replies.scan(p[:n]); bad != nil {
		return 0, errors.Join(bad, g.Close())
	}
	return n, err //nolint:wrapcheck // io.EOF, and what the library knows, stay as they are
}

// socket is a guard of which the library can ask whether the other side has hung up.
type socket struct {
	*guard
	syscall.Conn
}

// guarded has every connection of a dialer watched.
func guarded(dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		watched := &guard{Conn: conn}
		if raw, ok := conn.(syscall.Conn); ok { // not TLS, which buffers
			return socket{watched, raw}, nil
		}
		return watched, nil
	}
}

// scanner follows replies of RESP 2 and 3, a byte at a time
// (https://redis.io/docs/latest/develop/reference/protocol-spec/). The zero value is before the
// first.
type scanner struct {
	line  []byte  // what has come of the one that says a type and a length
	skip  int64   // bytes of a text that are still to come
	open  []int64 // items that are still to come, of each array that is not complete
	bytes int64   // of the reply
}

// scan takes in what has arrived.
func (s *scanner) scan(p []byte) error {
	for len(p) > 0 {
		if s.skip > 0 {
			n := min(s.skip, int64(len(p)))
			s.skip -= n
			p = p[n:]
			if s.skip == 0 {
				s.ended()
			}
			continue
		}
		s.line = append(s.line, p[0])
		s.bytes++
		p = p[1:]
		switch n := len(s.line); {
		case n >= 2 && s.line[n-1] == '\n' && s.line[n-2] == '\r':
			if err := s.header(); err != nil {
				return err
			}
			s.line = s.line[:0]
		case n > maxLine:
			return fmt.Errorf("%w: a line of more than %d bytes", ErrReply, maxLine)
		}
	}
	return nil
}

// header takes in a line.
func (s *scanner) header() error {
	kind, rest := s.line[0], string(s.line[1:len(s.line)-2])
	switch kind {
	case '$', '!', '=':
		length, err := strconv.ParseInt(rest, 10, 64)
		if err != nil || length < -1 || length > maxReply {
			return fmt.Errorf("%w: a text of %.20q bytes", ErrReply, rest)
		}
		if s.bytes += max(length, 0); s.bytes > maxReply {
			return fmt.Errorf("%w: more than %d bytes", ErrReply, maxReply)
		}
		if length < 0 {
			s.ended()
			return nil
		}
		s.skip = length + 2 // and the end of the line
	case '*', '~', '>', '%', '|':
		items, err := strconv.ParseInt(rest, 10, 64)
		if err != nil || items < -1 || items > maxItems {
			return fmt.Errorf("%w: a list of %.20q items", ErrReply, rest)
		}
		if kind == '%' || kind == '|' {
			items *= 2
		}
		if kind == '|' { // which comes before the reply itself
			items++
		}
		if items <= 0 {
			s.ended()
			return nil
		}
		if len(s.open) == maxDepth {
			return fmt.Errorf("%w: lists more than %d deep", ErrReply, maxDepth)
		}
		s.open = append(s.open, items)
	default:
		s.ended()
	}
	if s.bytes > maxReply {
		return fmt.Errorf("%w: more than %d bytes", ErrReply, maxReply)
	}
	return nil
}

// ended counts an item that is complete, and those that are complete with it.
func (s *scanner) ended() {
	for len(s.open) > 0 {
		last := len(s.open) - 1
		if s.open[last]--; s.open[last] > 0 {
			return
		}
		s.open = s.open[:last]
	}
	s.bytes = 0
}
