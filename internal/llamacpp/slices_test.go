package llamacpp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/host"
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
		p.begin(at(s[0]), host.Schedule{})
		p.end(at(s[1]))
	}
	p.begin(at(130), host.Schedule{}) // and is stopped until now
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
	for ms, want := range map[int]int{19: 0, 59: 0, 60: 60, 84: 60, 112: 110, 200: 110} { // the last one is not over
		last := p.lastBefore(at(ms)).to
		assert.True(t, want == 0 && last.IsZero() || last.Equal(at(want)), "before %d: %v", ms, last)
	}
	p.forget()
	assert.Zero(t, p.lastBefore(at(200)))
	stopped, parts := p.least(span{start, at(10)}, 5*time.Millisecond)
	assert.Zero(t, stopped)
	assert.Equal(t, 1, parts)
}

// A server that runs in slices evaluates its prompt first, which takes several of them for a large model.
func TestGenerationBeginsAfterThePrompt(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	s := &server{log: &loadLog{backends: []string{"CPU"}}}
	for _, pause := range [][2]int{{10, 20}, {30, 50}, {65, 100}} {
		s.pauses.begin(at(pause[0]), host.Schedule{})
		s.pauses.end(at(pause[1]))
	}
	whole := span{at(0), at(130)}
	for name, test := range map[string]struct {
		promptMS float64
		want     runner.Burst // of the rest of the time
	}{
		"in its first slice":      {5, runner.Burst{Time: 45 * time.Millisecond, Slices: 4, Taken: 20.0 / 65, Waited: 15.0 / 60}},
		"in its second slice":     {25, runner.Burst{Time: 50 * time.Millisecond, Slices: 3}},
		"just before a pause":     {29, runner.Burst{Time: 46 * time.Millisecond, Slices: 3}},
		"in its third slice":      {52, runner.Burst{Time: 43 * time.Millisecond, Slices: 2}},
		"as late as can be known": {128, runner.Burst{Time: 2 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			predicted := 130 - test.promptMS
			a := answer{timings{PromptMS: &test.promptMS, PredictedMS: &predicted}, whole, whole, host.Interval{Ran: 65 * time.Millisecond, Waited: 20 * time.Millisecond}, host.Schedule{}}
			burst := runner.Burst{Tokens: 1}
			require.NoError(t, s.time(&burst, s.generation(a), predicted))
			test.want.Tokens = 1
			assert.Equal(t, test.want, burst)
		})
	}
}
