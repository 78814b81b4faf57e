package llamacpp

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/runner"
)

// TestDisturbedTurnsAreRepeated has turns of two files of which others take as much as the test
// says, try by try.
func TestDisturbedTurnsAreRepeated(t *testing.T) {
	const most = 0.1
	for name, test := range map[string]struct {
		turns int
		taken func(turn, try int) float64 // of the copy
		waits float64                     // of the copy, as a share of its time
		tries []int                       // of each turn
	}{
		"nothing is taken":              {turns: 3, taken: func(int, int) float64 { return 0 }, tries: []int{1, 1, 1}},
		"as much as may be":             {turns: 1, taken: func(int, int) float64 { return most }, tries: []int{1}},
		"once":                          {turns: 3, taken: func(turn, try int) float64 { return map[bool]float64{true: 0.5}[turn == 1 && try == 1] }, tries: []int{1, 2, 1}},
		"one turn always":               {turns: 8, taken: func(turn, _ int) float64 { return map[bool]float64{true: 0.5}[turn == 2] }, tries: []int{1, 1, 4, 1, 1, 1, 1, 1}},
		"no more than is subtracted":    {turns: 1, taken: func(int, int) float64 { return 0.27 }, waits: 0.27, tries: []int{1}},
		"more than is subtracted":       {turns: 1, taken: func(int, int) float64 { return 0.27 }, waits: 0.2, tries: []int{2}},
		"waits for most of the time":    {turns: 1, taken: func(int, int) float64 { return 0.5 }, waits: 0.5, tries: []int{2}},
		"no more in all than there are": {turns: 4, taken: func(int, int) float64 { return 1 }, tries: []int{4, 2, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &pairedRound{
				job:     runner.RoundJob{Turns: slices.Repeat([]runner.Turn{{Order: []int{0, 1}}}, test.turns), MaxDisturbance: most},
				report:  func(int, float64) {},
				servers: []*server{{}, {}},
				files:   make([]runner.FileRound, 2),
			}
			tries := make([]int, test.turns)
			require.NoError(t, r.turns(t.Context(), nil, func(_ context.Context, n int, _ runner.Turn, _ []int32) (map[int]runner.Burst, error) {
				tries[n]++
				return map[int]runner.Burst{0: {Turn: n}, 1: {Turn: n, Taken: test.taken(n, tries[n]), Waited: test.waits}}, nil
			}))
			assert.Equal(t, test.tries, tries)
			for _, file := range r.files {
				counted := map[int]int{}
				for _, burst := range file.Measurement.Bursts {
					if !burst.Repeated {
						counted[burst.Turn]++
					}
				}
				assert.Len(t, counted, test.turns, "each turn counts")
				for turn, n := range counted {
					assert.Equal(t, 1, n, "bursts of turn %d that count", turn)
				}
			}
		})
	}
}

func TestWaitsAreSubtracted(t *testing.T) {
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		running  time.Duration // from the request to the end of the answer
		became   host.Interval // meanwhile; it ran for what is left of that where it is not said
		want     runner.Burst  // of 100 ms as the server says it
		computes string        // CPU where it is not said
	}{
		"nothing is taken":                  {running: 110 * ms, became: host.Interval{}, want: runner.Burst{Time: 100 * ms}},
		"all was within the time":           {running: 100 * ms, became: host.Interval{Waited: 30 * ms}, want: runner.Burst{Time: 70 * ms, Taken: 0.3, Waited: 0.3}},
		"some may have been before it":      {running: 125 * ms, became: host.Interval{Waited: 50 * ms}, want: runner.Burst{Time: 75 * ms, Taken: 0.4, Waited: 0.25}},
		"all may have been before it":       {running: 125 * ms, became: host.Interval{Waited: 25 * ms}, want: runner.Burst{Time: 100 * ms, Taken: 0.2}},
		"a clock is read a little too late": {running: 99 * ms, became: host.Interval{Waited: 11 * ms}, want: runner.Burst{Time: 89 * ms, Taken: 1.0 / 9, Waited: 0.11}},
		"hardly anything is left":           {running: 100 * ms, became: host.Interval{Waited: 90 * ms}, want: runner.Burst{Time: 50 * ms, Taken: 0.9, Waited: 0.5}},
		"the hypervisor counts in ticks":    {running: 100 * ms, became: host.Interval{Waited: 10 * ms, Stolen: 20 * ms}, want: runner.Burst{Time: 90 * ms, Taken: 0.3, Waited: 0.1}},
		"it slept for most of the time":     {running: 100 * ms, became: host.Interval{Ran: 20 * ms, Waited: 30 * ms}, want: runner.Burst{Time: 100 * ms, Taken: 0.3}},
		"an accelerator goes on":            {running: 100 * ms, became: host.Interval{Waited: 30 * ms}, want: runner.Burst{Time: 100 * ms, Taken: 0.3}, computes: "CUDA"},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			test.became.Ran = cmp.Or(test.became.Ran, test.running-test.became.Waited)
			s, burst := &server{log: &loadLog{backends: []string{cmp.Or(test.computes, "CPU")}}}, runner.Burst{Tokens: 32}
			during := span{began, began.Add(test.running)}
			require.NoError(t, s.time(&burst, answer{during: during, watched: during, became: test.became}, 100))
			assert.InDelta(t, test.want.Time, burst.Time, float64(time.Microsecond))
			assert.InDelta(t, test.want.Taken, burst.Taken, 1e-6)
			assert.InDelta(t, test.want.Waited, burst.Waited, 1e-6)
		})
	}
}

func TestTurnThatFailsEndsTheRound(t *testing.T) {
	broken := errors.New("broken")
	r := &pairedRound{job: runner.RoundJob{Turns: []runner.Turn{{Order: []int{0, 1}}}}, report: func(int, float64) {}, servers: []*server{{}, {}}, files: make([]runner.FileRound, 2)}
	assert.Equal(t, broken, r.turns(t.Context(), nil, func(context.Context, int, runner.Turn, []int32) (map[int]runner.Burst, error) { return nil, broken }))
}
