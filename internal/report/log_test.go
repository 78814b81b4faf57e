package report_test

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/report"
)

func TestLog(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(report.NewLog(&out, slog.LevelInfo))
	logger.Debug("not shown")
	logger.Info("found models", "count", 3)
	logger.With("model", "m").WithGroup("tool").Warn("it ran long", "name", "llama-bench", slog.Group("took", "seconds", 1.5))
	logger.Error("no", "err", errors.New("one\ntwo"), "name", hostile)
	assert.Equal(t, "found models (count: 3)\n"+
		"warning: it ran long (model: m, tool.name: llama-bench, tool.took.seconds: 1.5)\n"+
		"error: no (err: one\n  two, name: a\n  b\\r\\x1b[2J\\u009b31m\\u202egpj\\x01\\x02\\x03\\x04�\\t\\x7fz)\n", out.String())
	harmless(t, out.String())
	require.ErrorIs(t, report.NewLog(full{}, slog.LevelInfo).Handle(t.Context(), slog.Record{}), errFull)
}

// What one logger adds is not shared by another one that was made of the same.
func TestLogsDoNotShareAttributes(t *testing.T) {
	var out bytes.Buffer
	base := slog.New(report.NewLog(&out, slog.LevelInfo)).With("a", 1, "b", 2, "c", 3)
	one, other := base.With("x", 1), base.With("y", 2)
	one.Info("one")
	other.Info("other")
	base.Info("base", "z", 3)
	assert.Equal(t, "one (a: 1, b: 2, c: 3, x: 1)\nother (a: 1, b: 2, c: 3, y: 2)\nbase (a: 1, b: 2, c: 3, z: 3)\n", out.String())
}
