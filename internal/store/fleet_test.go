package store

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
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
	assert.True(t, c.Begun)
	assert.Equal(t, "t", c.Ticket)
	assert.Equal(t, []string{"Q8_0"}, c.Undecided)
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

// measured is a decision by a host whose rounds measured these throughputs of the original.
func measured(host string, at time.Time, throughputs ...float64) *runner.Result {
	r := decided("m", "Q2_K", verdict.Kept)
	r.Host, r.Finished, r.Inputs = host, at, &runner.Inputs{Source: "abc", Arguments: map[string]string{"engine.imatrix": host}}
	r.Evidence.Rounds = nil
	for _, throughput := range throughputs {
		r.Evidence.Rounds = append(r.Evidence.Rounds, runner.Round{Counted: true, Original: runner.Sample{Measurement: runner.Measurement{
			Throughput: map[verdict.Phase]float64{verdict.Generation: throughput},
		}}})
	}
	return r
}

// Hosts of one class are compared by the same original, as far as their intervals are apart.
func TestHostsOfAClassThatDisagree(t *testing.T) {
	model := ModelID{Name: "m", Class: "h100"}
	steady, near, slow := []float64{100, 100.1, 99.9}, []float64{99.95, 100.05, 100}, []float64{80, 80.1, 79.9}
	for name, test := range map[string]struct {
		others map[string][]float64
		edit   func(*runner.Result)
		want   float64
		known  bool
	}{
		"alone":                    {},
		"with one that is alike":   {others: map[string][]float64{"b": near}, known: true},
		"with one that is slower":  {others: map[string][]float64{"b": slow}, want: 0.244, known: true},
		"with one of each":         {others: map[string][]float64{"b": slow, "c": near}, known: true},
		"with one that is noisy":   {others: map[string][]float64{"b": {60, 80, 110}}, known: true},
		"with one of two rounds":   {others: map[string][]float64{"b": {80, 80}}},
		"with one of another file": {others: map[string][]float64{"b": slow}, edit: func(r *runner.Result) { r.Inputs.Source = "def" }},
		"with one of other arguments": {others: map[string][]float64{"b": slow}, edit: func(r *runner.Result) {
			r.Inputs.Arguments["engine.threads"] = "7"
		}},
		"with one that knows no inputs": {others: map[string][]float64{"b": slow}, edit: func(r *runner.Result) { r.Inputs = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, Options{})
			commit := func(r *runner.Result) {
				id := remoteCycle(t, s, "h100", "Q2_K")
				_, err := s.Commit(id, r)
				require.NoError(t, err)
				require.NoError(t, s.EndCycle(id, nil))
			}
			commit(measured("a", start(), steady...))
			for host, throughputs := range test.others {
				r := measured(host, start(), throughputs...)
				if test.edit != nil {
					test.edit(r)
				}
				commit(r)
			}
			s = reopen(t, s, dir, Options{})
			ratio, known := s.State().Models[model].Disagreement("a")
			assert.Equal(t, test.known, known)
			assert.InDelta(t, test.want, ratio, 0.01)
			if test.want > 0 {
				ratio, _ := s.State().Models[model].Disagreement("b")
				assert.InDelta(t, -0.196, ratio, 0.01, "the other one is slower")
			}
			require.NoError(t, s.Check())
		})
	}
}

func TestWhenHostsDecidedAndFailed(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	commit := func(r *runner.Result) map[string]*Found {
		id := remoteCycle(t, s, "h100", "Q2_K")
		_, err := s.Commit(id, r)
		require.NoError(t, err)
		require.NoError(t, s.EndCycle(id, nil))
		return s.State().Models[ModelID{Name: "m", Class: "h100"}].Hosts
	}
	fails := func(host string, at time.Time, reason runner.Reason) *runner.Result {
		r := failed("m", "Q2_K", reason)
		r.Host, r.Finished = host, at
		return r
	}
	day := func(n int) time.Time { return start().Add(time.Duration(n) * 24 * time.Hour) }
	commit(measured("a", day(0), 100, 100, 100))
	hosts := commit(fails("a", day(1), runner.ReasonCrash))
	assert.Equal(t, day(0), hosts["a"].Decided)
	assert.Equal(t, day(1), hosts["a"].Failed)
	assert.NotEmpty(t, hosts["a"].Originals, "what it measured before")
	hosts = commit(fails("a", day(2), runner.ReasonCanceled))
	assert.Equal(t, day(1), hosts["a"].Failed, "somebody wanted that")
	hosts = commit(fails("b", day(31), runner.ReasonBadModel))
	assert.Contains(t, hosts, "a", "it failed 30 days ago")
	hosts = commit(fails("b", day(32), runner.ReasonBadModel))
	assert.NotContains(t, hosts, "a", "it is forgotten")
	assert.Zero(t, hosts["b"].Decided)

	record(t, s, decided("m", "Q2_K", verdict.Kept))
	assert.Empty(t, s.State().Models[ModelID{Name: "m"}].Hosts, "of this host there is nobody to disagree with")
}
