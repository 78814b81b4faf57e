package llamacpp

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/runner"
)

// TestDisturbedTurnsAreRepeated has turns of two files of which others take as much as the test
// says, try by try.
func TestDisturbedTurnsAreRepeated(t *testing.T) {
	const most = 0.1
	for name, test := range map[string]struct {
		turns int
		taken func(turn, try int) float64 // of the copy
		tries []int                       // of each turn
	}{
		"nothing is taken":              {turns: 3, taken: func(int, int) float64 { return 0 }, tries: []int{1, 1, 1}},
		"as much as may be":             {turns: 1, taken: func(int, int) float64 { return most }, tries: []int{1}},
		"once":                          {turns: 3, taken: func(turn, try int) float64 { return map[bool]float64{true: 0.5}[turn == 1 && try == 1] }, tries: []int{1, 2, 1}},
		"one turn always":               {turns: 8, taken: func(turn, _ int) float64 { return map[bool]float64{true: 0.5}[turn == 2] }, tries: []int{1, 1, 4, 1, 1, 1, 1, 1}},
		"no more in all than there are": {turns: 4, taken: func(int, int) float64 { return 1 }, tries: []int{4, 2, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &pairedRound{
				job:     runner.RoundJob{Turns: make([]runner.Turn, test.turns), MaxDisturbance: most},
				report:  func(int, float64) {},
				servers: []*server{{}, {}},
				files:   make([]runner.FileRound, 2),
			}
			tries := make([]int, test.turns)
			require.NoError(t, r.turns(t.Context(), nil, func(_ context.Context, n int, _ runner.Turn, _ []int32) (map[int]runner.Burst, error) {
				tries[n]++
				return map[int]runner.Burst{0: {Turn: n}, 1: {Turn: n, Taken: test.taken(n, tries[n])}}, nil
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

func TestTurnThatFailsEndsTheRound(t *testing.T) {
	broken := errors.New("broken")
	r := &pairedRound{job: runner.RoundJob{Turns: make([]runner.Turn, 2)}, report: func(int, float64) {}, servers: []*server{{}, {}}, files: make([]runner.FileRound, 2)}
	assert.Equal(t, broken, r.turns(t.Context(), nil, func(context.Context, int, runner.Turn, []int32) (map[int]runner.Burst, error) { return nil, broken }))
}
