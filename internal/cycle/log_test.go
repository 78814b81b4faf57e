package cycle

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTheLogOfACycleIsBounded(t *testing.T) {
	log := NewLog(slog.DiscardHandler)
	log.buffer.begin()
	const lines = 5 * maxLogBytes / 100
	for i := range lines {
		slog.New(log).Debug(strings.Repeat("x", 100), "line", i)
	}
	text := log.buffer.end()
	assert.LessOrEqual(t, len(text), 2*maxLogBytes+100)
	assert.Contains(t, text, " line=0\n")
	assert.Contains(t, text, fmt.Sprintf(" line=%d\n", lines-1), "the end says what went wrong")
	assert.Regexp(t, `\(\d+ lines are left out here\)`, text)
}
