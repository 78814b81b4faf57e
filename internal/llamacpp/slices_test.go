package llamacpp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPausesWithinATime(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	var p pauses
	p.end(at(5)) // it was not stopped
	for _, s := range [][2]int{{20, 60}, {85, 110}} {
		p.begin(at(s[0]))
		p.end(at(s[1]))
	}
	p.begin(at(130)) // and is stopped until now
	for _, tt := range []struct{ from, ms, stopped, parts int }{
		{0, 10, 0, 1},
		{0, 20, 0, 1},
		{0, 30, 10, 2},
		{0, 80, 40, 2},
		{0, 120, 65, 3},
		{30, 70, 45, 3},
		{0, 140, 75, 4},
	} {
		stopped, parts := p.within(at(tt.from), time.Duration(tt.ms)*time.Millisecond)
		assert.Equal(t, time.Duration(tt.stopped)*time.Millisecond, stopped, tt)
		assert.Equal(t, tt.parts, parts, tt)
	}
	p.forget()
	stopped, parts := p.within(start, time.Hour)
	assert.Zero(t, stopped)
	assert.Equal(t, 1, parts)
}
