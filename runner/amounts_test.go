package runner

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

func TestARoundHasAsManyBurstsAsItsErrorAsksFor(t *testing.T) {
	// Rounds of a copy that is faster by log, with bursts whose log ratios have such a standard deviation.
	rounds := func(log, spread float64) []Round {
		random := rand.New(rand.NewPCG(1, 2))
		var rounds []Round
		for n := range 3 {
			rounds = append(rounds, atDepths(n, log, func(_, file int) float64 {
				return math.Exp(float64(file) * spread * random.NormFloat64())
			}))
		}
		return rounds
	}
	threshold := -math.Expm1(-0.12)
	after := func(rounds []Round) int { return amountsAfter(rounds, threshold).bursts }
	assert.Equal(t, leastBursts, after(nil), "nothing is known")
	assert.Equal(t, leastBursts, after(rounds(0, 0.001)), "a quiet host")
	assert.Equal(t, leastBursts, after(rounds(0.5, 0.06)), "far from the threshold")
	assert.Equal(t, leastBursts, after(rounds(-0.74, 0.06)), "as far beyond it")
	assert.Equal(t, mostBursts, after(rounds(0, 0.5)), "a host on which bursts say nothing")
	some := after(rounds(0, 0.047))
	assert.Greater(t, some, leastBursts, "a noisy host")
	assert.Less(t, some, mostBursts)
	assert.Greater(t, after(rounds(0, 0.053)), some, "a noisier one")
	assert.Less(t, after(rounds(0.1, 0.047)), some, "further from the threshold")

	noisy := rounds(0, 0.5)
	for i := range noisy {
		noisy[i].Counted = false
	}
	assert.Equal(t, leastBursts, after(noisy), "of rounds that do not count")
	for i := range noisy {
		noisy[i].Counted, noisy[i].Method = true, config.MethodProcess
	}
	assert.Equal(t, leastBursts, after(noisy), "of rounds without turns")
	second := rounds(0, 0.5)
	for i := range second {
		second[i].Set = 2
	}
	assert.Equal(t, mostBursts, after(second), "of a confirmation")
}

func TestARoundHasTwoPromptsWhereOneSaysLittle(t *testing.T) {
	rounds := func(n int, log, spread float64) []Round {
		random := rand.New(rand.NewPCG(1, 2))
		var rounds []Round
		for range n {
			prompt := func(log float64) []Burst {
				return []Burst{{Phase: verdict.Prompt, Tokens: 1024, Time: time.Duration(math.Exp(-log) * float64(time.Second))}}
			}
			rounds = append(rounds, paired(prompt(0), prompt(log+spread*random.NormFloat64())))
		}
		return rounds
	}
	after := func(rounds []Round) int { return amountsAfter(rounds, -math.Expm1(-0.12)).prompts }
	assert.Equal(t, 1, after(nil))
	assert.Equal(t, 1, after(rounds(2, 0, 0.1)), "two prompts say nothing yet")
	assert.Equal(t, 1, after(rounds(8, 0, 0.005)), "a quiet host")
	assert.Equal(t, 2, after(rounds(8, 0, 0.1)), "a noisy host")
	assert.Equal(t, 1, after(rounds(8, 0.7, 0.1)), "far from the threshold")

	var firsts [3]int
	for n := 0; n < 400; n += 2 {
		turns, next := planTurns(config.DefaultBenchmark(), 3, amounts{prompts: 2}, 7, n), planTurns(config.DefaultBenchmark(), 3, amounts{}, 7, n+1)
		require.Equal(t, verdict.Prompt, turns[1].Phase)
		assert.Equal(t, turns[1].Order, next[0].Order, "opposite to the first of both rounds")
		assert.NotEqual(t, turns[0].Order, turns[1].Order)
		firsts[turns[0].Order[0]]++
	}
	for file, n := range firsts {
		assert.InDelta(t, 200/3, n, 40, "how often file %d comes first", file)
	}
}
