package store

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// A pair that fails in the same way with the same inputs is shown as failing since the first
// time, and is due again a while after the last.
func TestFailuresInARowAreOne(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	id := PairID{Model: "m", Target: "Q2_K"}
	fail := func(reason runner.Reason, build int, text string) *Failed {
		t.Helper()
		r := failed("m", "Q2_K", reason)
		r.Failure.Err = errors.New(text)
		if build > 0 {
			with(r, build, "0.12")
		}
		ladder(t, s, r)
		return s.State().Pairs[id].Failed
	}

	first := fail(runner.ReasonCrash, 11669, "it died")
	assert.Equal(t, 1, first.Times)
	assert.Equal(t, first.Finished, first.Since)
	assert.Zero(t, first.Again(), "a crash may be one of a kind")

	second := fail(runner.ReasonCrash, 11669, "it died at another address")
	assert.Equal(t, 2, second.Times)
	assert.Equal(t, first.Finished, second.Since)
	assert.Equal(t, second.Finished.Add(RetryFailed), second.Again())

	other := fail(runner.ReasonCrash, 11702, "it died")
	assert.Equal(t, 1, other.Times, "of another build")
	assert.Equal(t, 1, fail(runner.ReasonBadModel, 11702, "cut off").Times, "for another reason")
	assert.Equal(t, 1, fail(runner.ReasonBadModel, 0, "cut off").Times, "nothing is known of its inputs")
	again := fail(runner.ReasonBadModel, 0, "cut off")
	assert.Equal(t, 2, again.Times)
	assert.NotZero(t, again.Again())
	assert.Equal(t, 1, fail(runner.ReasonBadModel, 0, "no such file").Times, "with another message")
	ladderOf := func(dependsOn string, build int) *Failed {
		t.Helper()
		r := failed("m", "Q2_K", runner.ReasonQuantize)
		r.Evidence.Engine = runner.EngineInfo{Name: "llama.cpp", Build: build, Imatrix: true}
		cycle, err := s.BeginCycle(Cycle{Entry: "nightly", Model: "m", Targets: []string{"Q2_K"}, DependsOn: dependsOn})
		require.NoError(t, err)
		_, err = s.Commit(cycle, r)
		require.NoError(t, err)
		require.NoError(t, s.EndCycle(cycle, nil))
		return s.State().Pairs[id].Failed
	}
	assert.Zero(t, ladderOf("", 11669).Again(), "nobody knows what it depends on")
	early := ladderOf("files and settings", 11669)
	assert.Equal(t, 1, early.Times)
	assert.NotZero(t, early.Again())
	assert.Equal(t, runner.EngineID{Name: "llama.cpp", Build: 11669}, early.Engine)
	assert.True(t, early.Imatrix)
	assert.Equal(t, 2, ladderOf("files and settings", 11669).Times)
	assert.Equal(t, 1, ladderOf("files and settings", 11702).Times, "of another build")
	assert.Equal(t, 1, ladderOf("other files", 11702).Times)
	for range 5 {
		assert.Zero(t, fail(runner.ReasonNoSpace, 11702, "full").Again(), "that passes")
	}

	ladder(t, s, with(decided("m", "Q2_K", verdict.Kept), 11702, "0.12"))
	assert.Nil(t, s.State().Pairs[id].Failed)
	assert.Equal(t, 1, fail(runner.ReasonNoSpace, 11702, "full").Times, "after a decision")
	require.NoError(t, s.Check())
}
