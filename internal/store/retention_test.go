package store

import (
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

func history(t testing.TB, s *Store, id PairID) (decided, failed []uint64) {
	t.Helper()
	points, err := s.History(id, 0)
	require.NoError(t, err)
	for _, p := range points {
		if p.Reason != "" {
			failed = append(failed, p.Cycle)
		} else {
			decided = append(decided, p.Cycle)
		}
	}
	return decided, failed
}

func TestRetentionByNumber(t *testing.T) {
	s := open(t, t.TempDir(), Options{Bus: true, Retention: config.Retention{Cycles: 2}})
	id := PairID{Model: "m", Target: "Q2_K"}
	for i := range 4 {
		record(t, s, decided("m", "Q2_K", []verdict.Outcome{verdict.Kept, verdict.Rejected}[i%2]))
	}
	for range 5 {
		record(t, s, failed("m", "Q2_K", runner.ReasonCrash))
	}
	kept, lost := history(t, s, id)
	assert.Equal(t, []uint64{3, 4}, kept, "failures push out no decision")
	assert.Equal(t, []uint64{6, 7, 8, 9}, lost, "and twice as many of them stay")
	assert.Equal(t, uint64(2), s.State().Counters.Of(decisions(verdict.Kept)))
	cycles, err := s.Cycles(0, 0)
	require.NoError(t, err)
	assert.Len(t, cycles, 6, "a cycle goes with its last result")
	require.NoError(t, s.Check())

	// Inconclusive ones push out the last that decided; it stands all the same.
	record(t, s, decided("m", "Q2_K", verdict.Inconclusive))
	record(t, s, decided("m", "Q2_K", verdict.Inconclusive))
	assert.Equal(t, verdict.Rejected, s.State().Pairs[id].Standing)
	require.NoError(t, s.Check())
	assert.False(t, record(t, s, decided("m", "Q2_K", verdict.Rejected)).Changed)
}

func TestRetentionByAgeKeepsTheNewest(t *testing.T) {
	clock := &clock{start()}
	s := open(t, t.TempDir(), Options{Now: clock.Now, Retention: config.Retention{Age: model.Duration(time.Hour)}})
	at := func(r *runner.Result) *runner.Result { r.Finished = clock.now; return r }
	for range 3 {
		record(t, s, at(decided("old", "Q2_K", verdict.Kept)))
		record(t, s, at(failed("old", "Q2_K", runner.ReasonCrash)))
	}
	record(t, s, at(decided("m", "Q2_K", verdict.Kept)))
	clock.now = start().Add(time.Hour)
	record(t, s, at(decided("m", "Q2_K", verdict.Kept)))
	all, _ := history(t, s, PairID{Model: "m", Target: "Q2_K"})
	assert.Len(t, all, 2, "not older than the age")
	clock.now = start().Add(time.Hour + time.Second)
	record(t, s, at(decided("m", "Q2_K", verdict.Kept)))
	all, _ = history(t, s, PairID{Model: "m", Target: "Q2_K"})
	assert.Len(t, all, 2)
	// The other pair has no cycles any more, and has its turn all the same.
	record(t, s, at(decided("m", "Q2_K", verdict.Kept)))
	kept, lost := history(t, s, PairID{Model: "old", Target: "Q2_K"})
	assert.Equal(t, []uint64{5}, kept)
	assert.Equal(t, []uint64{2, 4, 6}, lost, "failures stay for longer")
	clock.now = start().Add(2*time.Hour + time.Second)
	record(t, s, at(decided("m", "Q2_K", verdict.Kept)))
	record(t, s, at(decided("m", "Q2_K", verdict.Kept)))
	_, lost = history(t, s, PairID{Model: "old", Target: "Q2_K"})
	assert.Equal(t, []uint64{6}, lost)
	require.NoError(t, s.Check())
}

func TestRetentionPrunesABoundedNumberAtOnce(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	id := PairID{Model: "m", Target: "Q2_K"}
	const results = 2*maxPruned + 10
	for range results {
		record(t, s, decided("m", "Q2_K", verdict.Kept))
	}
	s.SetRetention(config.Retention{Cycles: 1})
	cycle := begin(t, s, "m", "Q2_K")
	_, err := s.Commit(cycle, decided("m", "Q2_K", verdict.Kept))
	require.NoError(t, err)
	left, _ := history(t, s, id)
	assert.Len(t, left, results+1-2*maxPruned, "as the pair of the result, and as the next in turn")
	require.NoError(t, s.EndCycle(cycle, nil))
	record(t, s, decided("m", "Q2_K", verdict.Kept))
	left, _ = history(t, s, id)
	assert.Len(t, left, 1)
}
