package store

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

func TestPublished(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	cycle := func(publications ...Publication) uint64 {
		id, err := s.BeginCycle(Cycle{Entry: "nightly", Model: "m", Targets: []string{"Q2_K", "Q8_0"}})
		require.NoError(t, err)
		for _, target := range []string{"Q2_K", "Q8_0"} {
			_, err := s.Commit(id, decided("m", target, verdict.Kept))
			require.NoError(t, err)
		}
		require.NoError(t, s.Published(id, publications))
		return id
	}
	berlin := time.FixedZone("", 3600)
	done := Publication{Target: "Q8_0", Time: start().In(berlin), Dir: "/p/m/Q8_0/0123456789ab", Stable: "/p/m/Q8_0/stable"}
	failed := Publication{Target: "Q2_K", Time: start(), Error: "disk full"}
	first := cycle(done, failed)
	done.Time = done.Time.UTC()
	require.ErrorIs(t, s.Published(first, []Publication{failed}), ErrCommitted, "it would be counted twice")
	require.NoError(t, s.EndCycle(first, nil))
	require.ErrorIs(t, s.Published(first, nil), ErrCommitted)

	s = reopen(t, s, dir, Options{})
	big, small := PairID{Model: "m", Target: "Q8_0"}, PairID{Model: "m", Target: "Q2_K"}
	state := s.State()
	assert.Equal(t, &done, state.Pairs[big].Published)
	assert.Nil(t, state.Pairs[big].Unpublished)
	assert.Nil(t, state.Pairs[small].Published)
	assert.Equal(t, &failed, state.Pairs[small].Unpublished)
	assert.Equal(t, map[Counter]uint64{unpublished(small): 1}, counted(s, CountPublishFailure))
	stored, _, _, err := s.Cycle(first)
	require.NoError(t, err)
	assert.Equal(t, []Publication{done, failed}, stored.Published)

	// The next one the other way round: a success ends a failure, and not the reverse.
	again, broken := failed, done
	again.Error, again.Dir = "", "/p/m/Q2_K/ba9876543210"
	broken.Error, broken.Dir, broken.Stable = "read-only", "", ""
	require.NoError(t, s.EndCycle(cycle(again, broken), nil))
	state = s.State()
	assert.Equal(t, &again, state.Pairs[small].Published)
	assert.Nil(t, state.Pairs[small].Unpublished)
	assert.Equal(t, &done, state.Pairs[big].Published)
	assert.Equal(t, &broken, state.Pairs[big].Unpublished)
	assert.Equal(t, map[Counter]uint64{unpublished(small): 1, unpublished(big): 1}, counted(s, CountPublishFailure))
}

// A copy that could not be published is missed until it is published, no longer kept, or no
// longer the one to serve.
func TestWhatIsNotToBeServedIsNotMissed(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	small, big := PairID{Model: "m", Target: "Q2_K"}, PairID{Model: "m", Target: "Q8_0"}
	cycle := func(rule choice.Rule, outcome verdict.Outcome, publications ...Publication) *State {
		id, err := s.BeginCycle(Cycle{Entry: "nightly", Model: "m", Targets: []string{"Q2_K", "Q8_0"}, Choose: rule})
		require.NoError(t, err)
		for _, r := range []*runner.Result{sized("Q2_K", outcome, 10), sized("Q8_0", verdict.Kept, 20)} {
			_, err := s.Commit(id, r)
			require.NoError(t, err)
		}
		require.NoError(t, s.Published(id, publications))
		require.NoError(t, s.EndCycle(id, nil))
		return s.State()
	}
	failed := []Publication{{Target: "Q2_K", Time: start(), Error: "disk full"}, {Target: "Q8_0", Time: start(), Error: "disk full"}}
	state := cycle(choice.None, verdict.Kept, failed...)
	assert.NotNil(t, state.Pairs[small].Unpublished)
	assert.NotNil(t, state.Pairs[big].Unpublished)

	state = cycle(choice.Smallest, verdict.Kept, failed[0])
	assert.NotNil(t, state.Pairs[small].Unpublished)
	assert.Nil(t, state.Pairs[big].Unpublished, "another one is chosen")

	state = cycle(choice.None, verdict.Inconclusive)
	assert.NotNil(t, state.Pairs[small].Unpublished, "it stands as kept")
	state = cycle(choice.None, verdict.Rejected)
	assert.Nil(t, state.Pairs[small].Unpublished, "it is rejected")
	assert.Equal(t, map[Counter]uint64{unpublished(small): 2, unpublished(big): 1}, counted(s, CountPublishFailure))
}

func TestPublishedRefusesWhatWasNeverDecided(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	id, err := s.BeginCycle(Cycle{Model: "m", Targets: []string{"Q2_K"}})
	require.NoError(t, err)
	require.ErrorContains(t, s.Published(id, []Publication{{Target: "Q2_K"}}), "nothing was ever decided about Q2_K of \"m\"")
	require.ErrorContains(t, s.Published(id+1, nil), "there is no cycle")
	assert.Empty(t, counted(s, CountPublishFailure))
}
