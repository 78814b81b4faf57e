//go:build !race

// Nothing runs concurrently in a simulation, and the race detector makes it some ten times
// slower: make test runs it without.

package quality

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/test/program"
)

// The error of all looks together, at a true value exactly on the limit: texts are drawn from
// the recorded chunks, of which the limit is the mean. Each limit is simulated by itself.
func TestErrorOfAllLooksAtTheLimit(t *testing.T) {
	program.NotShort(t)
	for _, planned := range []int{32, 128} {
		for format, chunks := range recorded(t) {
			t.Run(fmt.Sprintf("%s, %d chunks", format, planned), func(t *testing.T) {
				t.Parallel()
				errorAtTheLimit(t, chunks, planned)
			})
		}
	}
}

func errorAtTheLimit(t *testing.T, chunks []Chunk, planned int) {
	t.Helper()
	truth := Decide(Limits{}, Sample{Chunks: chunks})
	limits := map[Limit]Limits{
		MaxKLDivergence:  {MaxKLDivergence: truth.KLDivergence.Estimate},
		MinTop1Agreement: {MinTop1Agreement: truth.Top1Agreement.Estimate},
	}
	if truth.PerplexityIncrease.Estimate > 0 {
		limits[MaxPerplexityIncrease] = Limits{MaxPerplexityIncrease: truth.PerplexityIncrease.Estimate}
	}
	const texts = 1500
	random := rand.New(rand.NewPCG(5, uint64(planned)))
	passed, rejectedEarly := map[Limit]int{}, map[Limit]int{}
	for range texts {
		text := make([]Chunk, planned)
		for i := range text {
			text[i] = chunks[random.IntN(len(chunks))]
		}
		open := limits
		for _, look := range Looks(limits[MaxKLDivergence], planned) {
			v := decide(Limits{}, Sample{Chunks: text[:look], Planned: planned}, 500)
			rest := map[Limit]Limits{}
			for name, limit := range open {
				switch exceeded := len(v.exceeded(limit)) > 0; {
				case look < planned && !v.Clear(limit):
					rest[name] = limit
				case !exceeded:
					passed[name]++
				case look < planned:
					rejectedEarly[name]++
				}
			}
			open = rest
		}
	}
	for name := range limits {
		pass, reject := float64(passed[name])/texts, float64(rejectedEarly[name])/texts
		t.Logf("%s: passed %.1f %%, rejected early %.1f %%", name, 100*pass, 100*reject)
		assert.LessOrEqual(t, pass, 0.05, name)
		assert.LessOrEqual(t, reject, 0.05, name)
	}
}
