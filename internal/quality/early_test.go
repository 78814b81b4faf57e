package quality

import (
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLooks(t *testing.T) {
	mean := Limits{MaxKLDivergence: 0.05}
	assert.Equal(t, []int{8, 32}, Looks(mean, 32))
	assert.Equal(t, []int{31}, Looks(mean, 31))
	assert.Equal(t, []int{10}, Looks(mean, FewestChunks))
	assert.Equal(t, []int{15, 62, 250, 1000}, Looks(mean, 1000))
	assert.Equal(t, []int{8, 32}, Looks(Limits{MinTop1Agreement: 0.9, MaxPerplexityIncrease: 0.1}, 32))
	assert.Equal(t, []int{32}, Looks(Limits{}, 32), "figures are all that is asked for")
	assert.Equal(t, []int{32}, Looks(Limits{MaxKLDivergence: 0.05, MaxKLDivergenceP999: 1}, 32), "tails need all chunks")
	assert.Equal(t, []int{32}, Looks(Limits{MaxKLDivergence: 0.05, MaxRMSDeltaP: 0.1}, 32), "tails need all chunks")
}

func TestClear(t *testing.T) {
	v := Verdict{KLDivergence: Interval{2, 1, 3}, Top1Agreement: Interval{0.8, 0.7, 0.9}, PerplexityIncrease: Interval{-0.1, -0.2, 0.05}}
	for name, test := range map[string]struct {
		limits Limits
		want   bool
	}{
		"no limit":                 {Limits{}, true},
		"divergence within":        {Limits{MaxKLDivergence: 3}, true},
		"divergence beyond":        {Limits{MaxKLDivergence: 0.9}, true},
		"divergence may be both":   {Limits{MaxKLDivergence: 1}, false},
		"agreement within":         {Limits{MinTop1Agreement: 0.7}, true},
		"agreement beyond":         {Limits{MinTop1Agreement: 0.91}, true},
		"agreement may be both":    {Limits{MinTop1Agreement: 0.9}, false},
		"increase within":          {Limits{MaxPerplexityIncrease: 0.05}, true},
		"increase may be both":     {Limits{MaxPerplexityIncrease: 0.04}, false},
		"one of two is not":        {Limits{MaxKLDivergence: 0.9, MinTop1Agreement: 0.8}, false},
		"no number is never clear": {Limits{MaxKLDivergence: math.NaN()}, false},
	} {
		assert.Equal(t, test.want, v.Clear(test.limits), name)
	}
}

// recorded are the chunks of the bundled model's copies, 84 of each, as llama-perplexity
// (build 11669) found them.
func recorded(t *testing.T) map[string][]Chunk {
	t.Helper()
	content, err := os.ReadFile("testdata/chunks.txt")
	require.NoError(t, err)
	all := map[string][]Chunk{}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		var x [4]float64
		for i := range x {
			x[i], err = strconv.ParseFloat(fields[i+1], 64)
			require.NoError(t, err)
		}
		all[fields[0]] = append(all[fields[0]], Chunk{x[0], x[1], x[2], x[3]})
	}
	require.Len(t, all, 5)
	return all
}

func TestTheBundledLadderIsClearAfterEightChunks(t *testing.T) {
	limits := Limits{MaxKLDivergence: 0.05}
	for format, chunks := range recorded(t) {
		v := Decide(limits, Sample{Chunks: chunks[:8], Planned: 32})
		assert.True(t, v.Clear(limits), "%s: %+v", format, v.KLDivergence)
		assert.Equal(t, format != "Q2_K", v.Passed(), format)
		all := Decide(limits, Sample{Chunks: chunks[:32], Planned: 32})
		assert.Equal(t, v.Passed(), all.Passed(), format)
		assert.InDelta(t, Confidence, all.Confidence, 0)
		assert.InDelta(t, EarlyConfidence, v.Confidence, 0)
	}
}
