package report

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/text"
)

// Log is a slog.Handler for a person who watches: a line a message, such as
//
//	warning: another measurement is running on this host: waiting for it to end (holder: pid 7)
//
// without the time, and without what a terminal would not show as itself. Its methods may be
// called by several goroutines if the writer's may.
type Log struct {
	w     io.Writer
	level slog.Leveler
	group string // prefix of keys
	attrs []string
}

// NewLog writes messages of the level and above to w, each in one piece.
func NewLog(w io.Writer, level slog.Leveler) *Log { return &Log{w: w, level: level} }

// Enabled implements slog.Handler.
func (l *Log) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level.Level() }

// Handle implements slog.Handler.
func (l *Log) Handle(_ context.Context, r slog.Record) error {
	attrs := l.attrs
	r.Attrs(func(a slog.Attr) bool {
		attrs = appendAttr(slices.Clip(attrs), l.group, a)
		return true
	})
	line := prefixOf(r.Level) + text.Text(r.Message)
	if len(attrs) > 0 {
		line += " (" + strings.Join(attrs, ", ") + ")"
	}
	_, err := io.WriteString(l.w, strings.ReplaceAll(line, "\n", "\n  ")+"\n")
	return err
}

// WithAttrs implements slog.Handler.
func (l *Log) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *l
	with.attrs = slices.Clip(l.attrs)
	for _, a := range attrs {
		with.attrs = appendAttr(with.attrs, l.group, a)
	}
	return &with
}

// WithGroup implements slog.Handler.
func (l *Log) WithGroup(name string) slog.Handler {
	if name == "" {
		return l
	}
	with := *l
	with.group += name + "."
	return &with
}

func appendAttr(attrs []string, group string, a slog.Attr) []string {
	value := a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
		return attrs
	case value.Kind() == slog.KindGroup:
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, member := range value.Group() {
			attrs = appendAttr(attrs, group, member)
		}
		return attrs
	default:
		return append(attrs, text.Name(group+a.Key)+": "+text.Text(fmt.Sprint(value.Any())))
	}
}

func prefixOf(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "error: "
	case level >= slog.LevelWarn:
		return "warning: "
	case level >= slog.LevelInfo:
		return ""
	default:
		return "debug: "
	}
}
