package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// maxLogBytes of a cycle are kept: a few of them fit beside every result.
const maxLogBytes = 128 << 10

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
	text strings.Builder
	cut  bool
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
	p.open, p.cut = true, false
	p.text.Reset()
}

// end gives the page, which is closed.
func (p *page) end() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = false
	return p.text.String()
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// Write takes a line.
func (p *page) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.open, p.cut:
	case p.text.Len()+len(line) > maxLogBytes:
		p.cut = true
		p.text.WriteString("(more is in the exporter's own log)\n")
	default:
		p.text.Write(line)
	}
	return len(line), nil
}
