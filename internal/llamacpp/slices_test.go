package llamacpp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// All servers are to end at about the same time, whatever a turn measures.
func TestSharesOfATurn(t *testing.T) {
	const ms = time.Millisecond
	r := &pairedRound{servers: []*server{
		{prompt: 400 * ms, token: 30 * ms, atOnce: 10 * ms},
		nil, // it has failed
		{prompt: 200 * ms, token: 20 * ms, atOnce: 30 * ms},
		{prompt: 100 * time.Second, token: 20 * ms, atOnce: 20 * ms},
	}}
	shares := func(turn runner.Turn) map[int]float64 {
		turn.Order = []int{3, 2, 1, 0}
		return r.shares(turn)
	}
	assert.Equal(t, map[int]float64{0: 2, 2: 1, 3: mostShare}, shares(runner.Turn{Phase: verdict.Prompt}))
	assert.Equal(t, map[int]float64{0: 1.5, 2: 1, 3: 1}, shares(runner.Turn{Phase: verdict.Generation}))
	assert.Equal(t, map[int]float64{0: 1, 2: 3, 3: 2}, shares(runner.Turn{Phase: verdict.AtOnce(8), Clients: 8}))
	r.servers[2].token = 0 // of an engine that was not warmed up
	assert.Equal(t, map[int]float64{0: 1, 2: 1, 3: 1}, shares(runner.Turn{Phase: verdict.Generation}))
}

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
	for _, tt := range []struct{ from, to, ms, stopped, parts int }{
		{0, 10, 10, 0, 1},
		{0, 30, 30, 10, 2},
		{0, 80, 80, 40, 2},
		{0, 79, 80, 40, 2},
		{0, 120, 120, 65, 3},
		{30, 100, 70, 45, 3},
		{0, 140, 140, 75, 4},
		{0, 81, 80, 40, 2},   // as good as the whole time
		{25, 70, 10, 0, 1},   // asked while it was stopped
		{19, 70, 10, 0, 1},   // asked a moment before that
		{0, 62, 20, 0, 1},    // its answer was on the way then
		{18, 112, 25, 0, 1},  // both
		{0, 112, 85, 40, 2},  // the second pause came after it
		{15, 112, 50, 25, 2}, // the first pause came before it
	} {
		stopped, parts := p.least(span{at(tt.from), at(tt.to)}, time.Duration(tt.ms)*time.Millisecond)
		assert.Equal(t, time.Duration(tt.stopped)*time.Millisecond, stopped, tt)
		assert.Equal(t, tt.parts, parts, tt)
	}
	p.forget()
	stopped, parts := p.least(span{start, at(10)}, 5*time.Millisecond)
	assert.Zero(t, stopped)
	assert.Equal(t, 1, parts)
}
