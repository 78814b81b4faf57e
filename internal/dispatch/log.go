package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// maxLogBytes of a cycle are kept of its log's begin, and as much of its end, which says
// what went wrong.
const maxLogBytes = 64 << 10

// Log is a slog.Handler that passes on what it gets and, while a cycle runs, keeps all of
// it for the cycle's story, debug messages included. Whoever works for the cycle logs
// through it.
type Log struct {
	next, kept slog.Handler
	page       *page
}

// NewLog makes one that passes on to next.
func NewLog(next slog.Handler) *Log {
	p := &page{}
	return &Log{next, slog.NewTextHandler(p, &slog.HandlerOptions{Level: slog.LevelDebug}), p}
}

// Enabled implements slog.Handler.
func (l *Log) Enabled(ctx context.Context, level slog.Level) bool {
	return l.next.Enabled(ctx, level) || l.page.isOpen()
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
	return &Log{l.next.WithAttrs(attrs), l.kept.WithAttrs(attrs), l.page}
}

// WithGroup implements slog.Handler.
func (l *Log) WithGroup(name string) slog.Handler {
	return &Log{l.next.WithGroup(name), l.kept.WithGroup(name), l.page}
}

// page is the log of the cycle that runs.
type page struct {
	mu   sync.Mutex
	open bool
	head strings.Builder
	tail []string // lines
	size int      // of tail, in bytes
	lost int      // lines between the two
}

func (p *page) isOpen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

// begin starts an empty page.
func (p *page) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open, p.tail, p.size, p.lost = true, nil, 0, 0
	p.head.Reset()
}

// end gives the page, which is closed.
func (p *page) end() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = false
	return p.text()
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text()
}

func (p *page) text() string {
	gap := ""
	if p.lost > 0 {
		gap = fmt.Sprintf("(%d lines are left out here)\n", p.lost)
	}
	return p.head.String() + gap + strings.Join(p.tail, "")
}

// Write takes a line.
func (p *page) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.open:
	case len(p.tail) == 0 && p.head.Len()+len(line) <= maxLogBytes:
		p.head.Write(line)
	default:
		p.tail = append(p.tail, string(line))
		for p.size += len(line); p.size > maxLogBytes && len(p.tail) > 1; p.lost++ {
			p.size -= len(p.tail[0])
			p.tail = p.tail[1:]
		}
	}
	return len(line), nil
}
