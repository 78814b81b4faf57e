package cycle

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// maxLogBytes bounds what is kept of the beginning of a cycle's log, and of its end, which says
// what went wrong.
const maxLogBytes = 64 << 10

// Log is a slog.Handler that passes on what it gets and, while a cycle runs, keeps all of
// it, debug messages included, as the log of the cycle.
type Log struct {
	next, kept slog.Handler
	buffer     *logBuffer
}

// NewLog makes a Log that passes on to next.
func NewLog(next slog.Handler) *Log {
	b := &logBuffer{}
	return &Log{next, slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}), b}
}

// Another returns a Log of its own that passes on to the same handler, for a cycle beside
// the one whose log this is.
func (l *Log) Another() *Log { return NewLog(l.next) }

// String returns the log, up to now, of the cycle that runs, or else of the last one.
func (l *Log) String() string {
	l.buffer.mu.Lock()
	defer l.buffer.mu.Unlock()
	return l.buffer.text()
}

// Append adds lines, each with its end, that were logged elsewhere for the cycle that runs.
func (l *Log) Append(lines string) {
	for line := range strings.Lines(lines) {
		_, _ = l.buffer.Write([]byte(line)) // it never fails
	}
}

// Enabled implements slog.Handler.
func (l *Log) Enabled(ctx context.Context, level slog.Level) bool {
	return l.next.Enabled(ctx, level) || l.buffer.isOpen()
}

// Handle implements slog.Handler.
func (l *Log) Handle(ctx context.Context, r slog.Record) error {
	if err := l.kept.Handle(ctx, r); err != nil {
		return fmt.Errorf("keeping a cycle's log: %w", err)
	}
	if l.next.Enabled(ctx, r.Level) {
		return l.next.Handle(ctx, r)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (l *Log) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Log{l.next.WithAttrs(attrs), l.kept.WithAttrs(attrs), l.buffer}
}

// WithGroup implements slog.Handler.
func (l *Log) WithGroup(name string) slog.Handler {
	return &Log{l.next.WithGroup(name), l.kept.WithGroup(name), l.buffer}
}

// logBuffer holds the log of the cycle that runs.
type logBuffer struct {
	mu   sync.Mutex
	open bool
	head strings.Builder
	tail []string // lines
	size int      // of tail, in bytes
	lost int      // lines between the two
}

func (b *logBuffer) isOpen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

// begin empties and opens the buffer.
func (b *logBuffer) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open, b.tail, b.size, b.lost = true, nil, 0, 0
	b.head.Reset()
}

// end closes the buffer and gives what it holds.
func (b *logBuffer) end() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = false
	return b.text()
}

func (b *logBuffer) text() string {
	gap := ""
	if b.lost > 0 {
		gap = fmt.Sprintf("(%d lines are left out here)\n", b.lost)
	}
	return b.head.String() + gap + strings.Join(b.tail, "")
}

// Write takes a line. While no cycle runs it is dropped.
func (b *logBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.open:
	case len(b.tail) == 0 && b.head.Len()+len(line) <= maxLogBytes:
		b.head.Write(line)
	default:
		b.tail = append(b.tail, string(line))
		for b.size += len(line); b.size > maxLogBytes && len(b.tail) > 1; b.lost++ {
			b.size -= len(b.tail[0])
			b.tail = b.tail[1:]
		}
	}
	return len(line), nil
}
