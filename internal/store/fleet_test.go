package store

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// remoteCycle begins a cycle of a class.
func remoteCycle(t testing.TB, s *Store, class string, targets ...string) uint64 {
	t.Helper()
	id, err := s.BeginCycle(Cycle{Entry: "nightly", Model: "m", Class: class, Targets: targets, Choose: choice.Smallest, Ticket: "t"})
	require.NoError(t, err)
	return id
}

// Two classes and the exporter's own host decide the same model apart from each other.
func TestClassesDecideApart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Host: "here"})
	record(t, s, sized("Q2_K", verdict.Kept, 10))
	for class, outcome := range map[string]verdict.Outcome{"h100": verdict.Rejected, "l4": verdict.Kept} {
		id := remoteCycle(t, s, class, "Q2_K")
		r := sized("Q2_K", outcome, 10)
		r.Host = "host of " + class
		committed, err := s.Commit(id, r)
		require.NoError(t, err)
		assert.True(t, committed.Changed)
		var e event.Decision
		require.NoError(t, json.Unmarshal(committed.Event.Data, &e))
		assert.Equal(t, class, e.HardwareClass)
		assert.Equal(t, "host of "+class, e.Host)
		assert.Nil(t, e.PreviousDecision)
		require.NoError(t, s.EndCycle(id, nil))
	}
	s = reopen(t, s, dir, Options{})
	pair := PairID{Model: "m", Target: "Q2_K"}
	assert.Equal(t, verdict.Kept, s.State().Standing(pair))
	for class, want := range map[string]verdict.Outcome{"h100": verdict.Rejected, "l4": verdict.Kept} {
		of := pair
		of.Class = class
		assert.Equal(t, want, s.State().Standing(of))
		assert.Equal(t, of, s.State().Models[of.ModelID()].Latest)
		points, _ := history(t, s, of)
		assert.Len(t, points, 1)
		counter := decisions(want)
		counter.Class = class
		assert.EqualValues(t, 1, s.State().Counters.Of(counter))
	}
	assert.Empty(t, s.State().StandingChoice(choice.Smallest, ModelID{Name: "m", Class: "h100"}))
	assert.Equal(t, "Q2_K", s.State().StandingChoice(choice.Smallest, ModelID{Name: "m", Class: "l4"}))
}

// A cycle on another host goes on when the state is opened again, with its attempt.
func TestRemoteCyclesGoOn(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	id := remoteCycle(t, s, "h100", "Q2_K", "Q8_0")
	require.NoError(t, s.SetAttempt(id, 2, true))
	require.Error(t, s.SetAttempt(id, 1, false), "it has been")
	_, err := s.Commit(id, decided("m", "Q2_K", verdict.Kept))
	require.NoError(t, err)
	s = reopen(t, s, dir, Options{})
	require.Len(t, s.State().Running, 1)
	c := s.State().Running[0]
	assert.Equal(t, 2, c.Attempt)
	assert.Equal(t, "t", c.Ticket)
	assert.Equal(t, []string{"Q8_0"}, c.Undecided)
	assert.True(t, c.Begun)
	assert.Equal(t, uint64(0), s.State().Counters.Of(failuresOf("m", "interrupted")))
}

func TestWithdrawForgetsWhatHasNoResult(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	whole := remoteCycle(t, s, "h100", "Q2_K", "Q8_0")
	part := remoteCycle(t, s, "l4", "Q2_K", "Q8_0")
	_, err := s.Commit(part, decided("m", "Q2_K", verdict.Kept))
	require.NoError(t, err)
	for _, id := range []uint64{whole, part} {
		require.NoError(t, s.Withdraw(id, []string{"Q2_K", "Q8_0"}, SkipDeadline))
	}
	_, _, known, err := s.Cycle(whole)
	require.NoError(t, err)
	assert.False(t, known)
	require.Len(t, s.State().Running, 1)
	assert.Equal(t, []string{"Q2_K"}, s.State().Running[0].Targets)
	assert.EqualValues(t, 2, s.State().Counters.Of(skips(SkipDeadline)), "a cycle, and a pair")
	require.NoError(t, s.EndCycle(part, nil))
	assert.Error(t, s.Withdraw(part, []string{"Q2_K"}, SkipDeadline), "it has ended")
}

func TestNamesInAFleetHaveNoControlCharacters(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	for _, c := range []Cycle{
		{Model: "m\x01h", Class: "h100", Targets: []string{"Q2_K"}},
		{Model: "m", Class: "h\x01", Targets: []string{"Q2_K"}},
		{Model: "m", Class: "h100", Targets: []string{"Q2_K\x01h"}},
	} {
		_, err := s.BeginCycle(c)
		assert.Error(t, err)
	}
}
