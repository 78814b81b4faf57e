package runner

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

func TestRoundsOfAVerdictCoverAllDepthsAlike(t *testing.T) {
	for _, tt := range []struct{ tokens, depth, rounds int }{
		{1024, 0, 3}, {1024, 4096, 3}, {1000, 0, 3}, {256, 0, 3}, {64, 0, 3}, {33, 7, 3}, {5, 0, 3}, {1, 0, 3}, {4096, 0, 3}, {1024, 0, 8}, {1024, 0, 56},
	} {
		t.Run(fmt.Sprintf("%d from %d in %d", tt.tokens, tt.depth, tt.rounds), func(t *testing.T) {
			b := config.DefaultBenchmark()
			b.Phases = []verdict.Phase{verdict.Generation}
			b.GenerationTokens, b.Depth, b.Rounds.Min = tt.tokens, config.Depths{tt.depth}, tt.rounds
			seen := make([]bool, tt.tokens)
			generated := 0
			var middles []float64
			for n := range tt.rounds {
				var starts []int
				for _, turn := range planTurns(b, 2, amounts{}, 1, n) {
					assert.Equal(t, max(min(burstTokens, tt.tokens/leastBursts), 1), turn.Tokens)
					generated += turn.Tokens
					start := max(turn.Depth-tt.depth, 0)
					require.LessOrEqual(t, start+turn.Tokens, tt.tokens+1) // a cache has one token at least
					for i := range turn.Tokens {
						seen[min(start+i, tt.tokens-1)] = true
					}
					starts = append(starts, start)
				}
				assert.True(t, slices.IsSortedFunc(starts, func(a, b int) int { return b - a }), "a burst that goes back up computes the cache anew")
				half := len(starts) / 2
				middles = append(middles, float64(starts[half-1]+starts[half])/2)
			}
			assert.GreaterOrEqual(t, generated, tt.tokens, "the tokens that are asked for")
			if tt.tokens >= leastBursts { // else every burst is most of them
				missing := 0
				for _, s := range seen {
					if !s {
						missing++
					}
				}
				assert.LessOrEqual(t, missing, tt.tokens/100+1, "depths that no burst has")
			}
			assert.LessOrEqual(t, slices.Max(middles)-slices.Min(middles), 1.5, "the median burst moves from round to round")
		})
	}
}

func TestRoundsAfterThoseThatCoverAllDepthsAreShorter(t *testing.T) {
	var bursts []int
	for n := range 6 {
		starts := burstStarts(1024, burstTokens, 3, leastBursts, n)
		bursts = append(bursts, len(starts))
		assert.Equal(t, 1024-burstTokens, starts[0]+starts[len(starts)-1], "round %d has another middle", n)
	}
	assert.Equal(t, []int{12, 12, 8, 8, 8, 8}, bursts)
}

func TestFurtherBurstsAreThoseOfOtherRounds(t *testing.T) {
	for n := range 6 {
		for bursts, want := range map[int]int{8: 8, 9: 12, 16: 16, 32: 32, 100: 32} {
			if n < 2 { // the first three share 32
				want = max(want, 12)
			}
			starts := burstStarts(1024, burstTokens, 3, bursts, n)
			assert.Len(t, slices.Compact(slices.Clone(starts)), want, "round %d of %d bursts", n, bursts)
			assert.True(t, slices.IsSortedFunc(starts, func(a, b int) int { return b - a }))
			for i := range starts {
				assert.Equal(t, 1024-burstTokens, starts[i]+starts[len(starts)-1-i], "round %d of %d bursts has another middle", n, bursts)
			}
		}
	}
}

func TestTurnsComeInTwosOfOppositeOrder(t *testing.T) {
	first := map[int]int{}
	opposite := func(a, b Turn) {
		t.Helper()
		require.Equal(t, a.Phase, b.Phase)
		reversed := slices.Clone(a.Order)
		slices.Reverse(reversed)
		require.Equal(t, reversed, b.Order)
		first[a.Order[0]]++
	}
	for n := 0; n < 400; n += 2 {
		turns, next := planTurns(config.DefaultBenchmark(), 3, amounts{}, 7, n), planTurns(config.DefaultBenchmark(), 3, amounts{}, 7, n+1)
		require.Equal(t, verdict.Prompt, turns[0].Phase)
		opposite(turns[0], next[0])
		for i := 1; i < len(turns); i += 2 {
			opposite(turns[i], turns[i+1])
		}
	}
	for file := range 3 {
		assert.InDelta(t, 200*5/3, first[file], 60, "how often file %d comes first", file)
	}
	again := planTurns(config.DefaultBenchmark(), 3, amounts{}, 7, 5)
	assert.Equal(t, again, planTurns(config.DefaultBenchmark(), 3, amounts{}, 7, 5), "the same seed")
	assert.NotEqual(t, again, planTurns(config.DefaultBenchmark(), 3, amounts{}, 8, 5), "another seed")
}

func TestOnePhaseHasOnlyItsTurns(t *testing.T) {
	b := config.DefaultBenchmark()
	b.Phases = []verdict.Phase{verdict.Prompt}
	for _, turn := range planTurns(b, 2, amounts{}, 0, 0) {
		assert.Equal(t, verdict.Prompt, turn.Phase)
		assert.Equal(t, 1024, turn.Tokens)
		assert.Zero(t, turn.Depth)
	}
}

func TestThroughputIsTokensOverTime(t *testing.T) {
	bursts := []Burst{
		{Phase: verdict.Generation, Tokens: 32, Time: time.Second},
		{Phase: verdict.Generation, Tokens: 32, Time: 3 * time.Second},
		{Phase: verdict.Generation, Tokens: 32, Time: time.Hour, Repeated: true},
		{Phase: verdict.Prompt, Tokens: 1024, Time: time.Second},
	}
	assert.Equal(t, map[verdict.Phase]float64{verdict.Generation: 16, verdict.Prompt: 1024}, Throughputs(bursts))
}

func TestFurtherPhasesHaveTurnsOfTheirOwn(t *testing.T) {
	b := config.DefaultBenchmark()
	b.Depth, b.Clients = config.Depths{0, 512, 4096}, config.Clients{1, 8, 2}
	plain := planTurns(config.DefaultBenchmark(), 2, amounts{}, 7, 3)
	turns := planTurns(b, 2, amounts{}, 7, 3)
	var deep, clients []Turn
	var rest int
	for n, turn := range turns {
		switch c, depth, ok := turn.Phase.Further(); {
		case !ok:
			rest++
		case depth > 0:
			deep = append(deep, turn)
			assert.Equal(t, depth, turn.Depth)
			assert.Zero(t, turn.Clients)
			assert.Less(t, n, 2*burstsAtDepth, "a deep cache is cut down to all others")
			assert.Equal(t, burstTokens/4, turn.Tokens)
		default:
			clients = append(clients, turn)
			assert.Equal(t, c, turn.Clients)
			assert.Equal(t, 1, turn.Depth)
			assert.GreaterOrEqual(t, n, len(turns)-2, "clients fill caches that others would need")
		}
	}
	assert.Equal(t, len(plain), rest)
	assert.Len(t, deep, 2*burstsAtDepth)
	assert.Len(t, clients, 2)
	assertOpposite := func(one, other Turn) {
		reversed := slices.Clone(one.Order)
		slices.Reverse(reversed)
		assert.Equal(t, one.Phase, other.Phase)
		assert.Equal(t, reversed, other.Order)
	}
	for i := 0; i < len(deep); i += 2 {
		assertOpposite(deep[i], deep[i+1])
	}
	before := planTurns(b, 2, amounts{}, 7, 2)
	for i, turn := range clients {
		assertOpposite(before[len(before)-2+i], turn)
	}
	assert.Equal(t, verdict.AtDepth(4096), deep[0].Phase, "the deepest first")
	assert.Equal(t, 4096+8, ContextOf(turns))
	assert.Equal(t, 4096+8, CellsOf(turns))
	assert.Equal(t, 8, ClientsOf(turns))
	assert.Equal(t, 1024, ContextOf(plain))
	assert.Equal(t, 1, ClientsOf(plain))

	b.Depth = config.Depths{1000}
	assert.Equal(t, 8*(1000+32), CellsOf(planTurns(b, 2, amounts{}, 7, 3)))
}
