package web

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// copyOf is a kept copy of so many megabytes, whose divergence and drops are these: of
// generation, of eight clients, and at a depth.
func copyOf(target string, megabytes int64, divergence float64, drops ...float64) *pairView {
	v := &verdict.Verdict{Outcome: verdict.Kept, Rounds: 3}
	for i, phase := range []verdict.Phase{verdict.Generation, verdict.AtOnce(8), verdict.AtDepth(4096)}[:len(drops)] {
		v.Phases = append(v.Phases, verdict.PhaseVerdict{Phase: phase, Drop: drops[i], Lower: new(drops[i] - 0.01), Upper: new(drops[i] + 0.01), Original: 100, Quantized: 100 * (1 - drops[i])})
	}
	id := store.PairID{Model: "m", Target: target}
	decided := &store.Record{Result: runner.Result{
		Verdict: v, Quantized: runner.FileFigures{Bytes: megabytes * 1e6},
		Quality: &runner.Evaluated{Verdict: quality.Verdict{KLDivergence: quality.Interval{Estimate: divergence, Lower: divergence / 2, Upper: divergence * 2}}},
	}}
	return &pairView{id: id, Scheduled: true, Pair: &store.Pair{PairID: id, Standing: verdict.Kept, Decided: decided}}
}

func TestCopiesBesideEachOther(t *testing.T) {
	all := []*pairView{
		copyOf("Q8_0", 900, 0.001, -0.2, -0.1, 0.05),
		copyOf("Q5_0", 700, 0.02, -0.1, -0.1, 0),
		copyOf("Q4_K_M", 500, 0.01, -0.5, -0.3, -0.1),
	}
	all[2].Chosen = choice.Fastest
	all[0].Pair.Decided.Quality.Chunks, all[0].Pair.Decided.Quality.Planned = 8, 32
	plots := servingPlots(all)
	require.Len(t, plots, 4)
	speeds := plots[0]
	assert.Equal(t, "Speed beside the original, by size in MB", speeds.Title)
	require.Len(t, speeds.Marks, 3)
	assert.Equal(t, []string{"kept", "dominated", "kept"}, []string{speeds.Marks[0].Class, speeds.Marks[1].Class, speeds.Marks[2].Class})
	assert.Contains(t, speeds.Marks[1].Title, "Q4_K_M is no worse in anything")
	assert.Contains(t, speeds.Marks[2].Title, "Q4_K_M: 500.0 MB, 1.50× [1.49–1.51], kept; chosen")
	assert.Len(t, speeds.Strokes, 3, "an interval each")
	assert.Equal(t, "Q8_0", speeds.Labels[0].Text)
	assert.Contains(t, plots[1].Description, "Q8_0: 900.0 MB, KL divergence 0.001")
	assert.Contains(t, plots[1].Marks[0].Title, "], in 8 of 32 chunks, kept")
	assert.NotContains(t, plots[1].Marks[1].Title, "chunks", "it was evaluated in all")

	depths, clients := plots[2], plots[3]
	assert.Equal(t, []string{"generation", "generation+4096"}, []string{depths.Columns[0].Label, depths.Columns[1].Label})
	assert.Equal(t, []string{"generation", "generation@8"}, []string{clients.Columns[0].Label, clients.Columns[1].Label})
	assert.Len(t, clients.Strokes, 4, "the original and three copies")
	assert.Contains(t, depths.Description, "Q8_0: 120, 95.0")

	assert.Empty(t, servingPlots(all[:0]))
	alone := copyOf("Q8_0", 900, 0.001, -0.2)
	assert.Empty(t, servingPlots([]*pairView{alone}), "there is nothing beside it")
	alone.Pair.Decided = nil
	assert.Empty(t, servingPlots([]*pairView{alone, alone}))
}

// What is within the intervals changes from night to night, and size does not.
func TestCopiesAreDominatedBeyondTheirIntervals(t *testing.T) {
	for name, test := range map[string]struct {
		large, small *pairView
		dominated    bool // the large one, by the small one; never the other way
	}{
		"a little faster":         {copyOf("Q8_0", 900, 0.01, -0.200), copyOf("Q4_0", 500, 0.01, -0.195), true},
		"and the next night not":  {copyOf("Q8_0", 900, 0.01, -0.195), copyOf("Q4_0", 500, 0.01, -0.200), true},
		"a little nearer":         {copyOf("Q8_0", 900, 0.01, -0.2), copyOf("Q4_0", 500, 0.012, -0.2), true},
		"faster":                  {copyOf("Q8_0", 900, 0.01, -0.3), copyOf("Q4_0", 500, 0.01, -0.2), false},
		"nearer":                  {copyOf("Q8_0", 900, 0.001, -0.2), copyOf("Q4_0", 500, 0.01, -0.2), false},
		"nearer, and not as fast": {copyOf("Q8_0", 900, 0.001, -0.2), copyOf("Q4_0", 500, 0.01, -0.3), false},
		"slower":                  {copyOf("Q8_0", 900, 0.01, -0.2), copyOf("Q4_0", 500, 0.01, -0.3), true},
		"as large, and equal":     {copyOf("Q8_0", 500, 0.01, -0.200), copyOf("Q4_0", 500, 0.01, -0.205), false},
		"as large, and slower":    {copyOf("Q8_0", 500, 0.01, -0.2), copyOf("Q4_0", 500, 0.01, -0.3), true},
	} {
		pairs := []*pairView{test.large, test.small}
		assert.Equal(t, test.dominated, test.large.dominated(pairs) == test.small, name)
		assert.Nil(t, test.small.dominated(pairs), name)
	}
}
