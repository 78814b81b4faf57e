package store

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// sized is a decision on a copy of so many bytes, with a KL divergence.
func sized(target string, outcome verdict.Outcome, bytes int64) *runner.Result {
	r := decided("m", target, outcome)
	r.Quantized.Bytes = bytes
	r.Quality = &runner.Evaluated{Verdict: quality.Verdict{KLDivergence: quality.Interval{Estimate: 10 / float64(bytes)}}}
	return r
}

// chooseOf runs a cycle of "m" over targets that chooses the smallest: it commits the
// results and passes over the other targets, for the last result's.
func chooseOf(t testing.TB, s *Store, targets []string, results ...*runner.Result) Cycle {
	t.Helper()
	id, err := s.BeginCycle(Cycle{Entry: "nightly", Model: "m", Targets: targets, Choose: choice.Smallest})
	require.NoError(t, err)
	left := map[string]bool{}
	for _, target := range targets {
		left[target] = true
	}
	for _, r := range results {
		_, err := s.Commit(id, r)
		require.NoError(t, err)
		delete(left, r.TargetFormat)
	}
	var passedOver []string
	for _, target := range targets {
		if left[target] {
			passedOver = append(passedOver, target)
		}
	}
	require.NoError(t, s.PassOver(id, results[len(results)-1].TargetFormat, passedOver))
	require.NoError(t, s.EndCycle(id, nil))
	cycle, records, known, err := s.Cycle(id)
	require.NoError(t, err)
	require.True(t, known)
	require.Len(t, records, len(results))
	return cycle
}

// choices are the choices that the outbox tells of, in their order.
func choices(t testing.TB, s *Store) []event.Choice {
	t.Helper()
	events, err := s.Events(EventQuery{})
	require.NoError(t, err)
	var all []event.Choice
	for _, e := range events {
		if e.Type != event.TypeChoice {
			continue
		}
		assert.Equal(t, PairID{Model: "m"}, e.PairID)
		var one event.Choice
		require.NoError(t, json.Unmarshal(e.Data, &one))
		assert.Equal(t, e.ID, *one.EventID)
		all = append(all, one)
	}
	return all
}

func TestChoiceIsMadeAtTheEndAndToldWhenItChanges(t *testing.T) {
	dir := t.TempDir()
	now := &clock{start()}
	s := open(t, dir, Options{Now: now.Now})
	ladder := []string{"Q2_K", "Q3_K_M", "Q8_0"}

	cycle := chooseOf(t, s, ladder, sized("Q2_K", verdict.Rejected, 200), sized("Q3_K_M", verdict.Kept, 300))
	assert.Equal(t, "Q3_K_M", cycle.Chosen)
	assert.Equal(t, ladder, cycle.Candidates, "its targets")
	assert.Equal(t, map[string]string{"Q8_0": "Q3_K_M"}, cycle.PassedOver)
	events := choices(t, s)
	require.Len(t, events, 1)
	assert.Equal(t, event.Choice{
		EventType: event.TypeChoice, ModelName: "m", ChosenFormat: new("Q3_K_M"), Choose: choice.Smallest, SourceFormat: "F16",
		SizeBytes: new(int64(300)), OriginalThroughput: new(100.0), QuantizedThroughput: new(95.0), ThroughputDropPercent: new(5.0),
		Phase: new(verdict.Generation), KLDivergence: new(10.0 / 300), Timestamp: float64(start().Unix()), CycleVersion: event.CycleVersion,
		EventID: events[0].EventID, Engine: "engine 1", Host: "host", Entry: "nightly",
	}, events[0])
	assert.Equal(t, *events[0].EventID, cycle.ChoiceID)
	chosen := s.State().Models[ModelID{Name: "m"}].Choice
	assert.Equal(t, &Choice{Rule: choice.Smallest, Format: "Q3_K_M", Since: start(), Cycle: cycle.ID, Event: events[0]}, chosen)
	assert.Equal(t, start(), s.State().Models[ModelID{Name: "m"}].LastSuccess, "to be passed over is not a failure")
	assert.EqualValues(t, 1, s.State().Counters.Of(skips(SkipPassedOver)))
	assert.Equal(t, &PassedOver{Cycle: cycle.ID, Entry: "nightly", Finished: start(), For: "Q3_K_M", Choose: choice.Smallest}, s.State().Pairs[PairID{Model: "m", Target: "Q8_0"}].PassedOver)

	// The same again tells nothing.
	now.now = now.now.Add(time.Hour)
	cycle = chooseOf(t, s, ladder, sized("Q2_K", verdict.Rejected, 200), sized("Q3_K_M", verdict.Kept, 300))
	assert.Empty(t, cycle.ChoiceID)
	require.Len(t, choices(t, s), 1)
	chosen = s.State().Models[ModelID{Name: "m"}].Choice
	assert.Equal(t, start(), chosen.Since)
	assert.Equal(t, cycle.ID, chosen.Cycle)
	assert.Nil(t, chosen.Event.EventID)
	assert.Equal(t, "Q3_K_M", *chosen.Event.PreviousFormat)

	// Another one, and then none.
	s = reopen(t, s, dir, Options{Now: now.Now})
	chooseOf(t, s, ladder, sized("Q2_K", verdict.Kept, 200))
	chooseOf(t, s, ladder, sized("Q2_K", verdict.Rejected, 200), sized("Q3_K_M", verdict.Rejected, 300), sized("Q8_0", verdict.Rejected, 800))
	events = choices(t, s)
	require.Len(t, events, 3)
	assert.Equal(t, "Q2_K", *events[1].ChosenFormat)
	assert.Equal(t, "Q3_K_M", *events[1].PreviousFormat)
	assert.Nil(t, events[2].ChosenFormat)
	assert.Equal(t, "Q2_K", *events[2].PreviousFormat)
	assert.Equal(t, "F16", events[2].SourceFormat)
	assert.Nil(t, s.State().Pairs[PairID{Model: "m", Target: "Q8_0"}].PassedOver, "it was decided")
	assert.Empty(t, s.State().Models[ModelID{Name: "m"}].Choice.Format)
	assert.Equal(t, now.now, s.State().Models[ModelID{Name: "m"}].Choice.Since)
}

// The figures of what is passed over grow old: the model is another one, and smaller now.
func TestOlderFiguresOfWhatIsPassedOverDoNotCount(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	ladder := []string{"Q3_K_M", "Q8_0"}
	chooseOf(t, s, ladder, sized("Q3_K_M", verdict.Rejected, 300), sized("Q8_0", verdict.Kept, 800))
	cycle := chooseOf(t, s, ladder, sized("Q3_K_M", verdict.Kept, 3000))
	assert.Equal(t, "Q3_K_M", cycle.Chosen)
	assert.Equal(t, "Q3_K_M", s.State().Choose(choice.Smallest, ModelID{Name: "m"}, ladder), "and as things stand")
	assert.Equal(t, "Q8_0", s.State().Choose(choice.BestQuality, ModelID{Name: "m"}, []string{"Q8_0"}))
	assert.Equal(t, "Q8_0", s.State().Choose(choice.Smallest, ModelID{Name: "m"}, []string{"Q8_0", "Q2_K"}), "it stands kept")
	// Once it is rejected, what was passed over stands as it did.
	cycle = chooseOf(t, s, []string{"Q3_K_M"}, sized("Q3_K_M", verdict.Rejected, 3000))
	assert.Empty(t, cycle.Chosen, "of the targets of this cycle")
	assert.Equal(t, "Q8_0", s.State().Choose(choice.Smallest, ModelID{Name: "m"}, ladder))
}

func TestDecisionsTellTheChoiceOfTheCycleBefore(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	chosenIn := func(committed Committed) *string {
		var d event.Decision
		require.NoError(t, json.Unmarshal(committed.Event.Data, &d))
		return d.ChosenFormat
	}
	run := func(rule choice.Rule, r *runner.Result) *string {
		id, err := s.BeginCycle(Cycle{Entry: "nightly", Model: "m", Targets: []string{"Q2_K"}, Choose: rule})
		require.NoError(t, err)
		committed, err := s.Commit(id, r)
		require.NoError(t, err)
		require.NoError(t, s.EndCycle(id, nil))
		return chosenIn(committed)
	}
	assert.Nil(t, run(choice.Smallest, sized("Q2_K", verdict.Kept, 200)))
	chosen := run(choice.Smallest, sized("Q2_K", verdict.Rejected, 200))
	require.NotNil(t, chosen)
	assert.Equal(t, "Q2_K", *chosen)
	assert.Nil(t, run(choice.Smallest, sized("Q2_K", verdict.Kept, 200)), "none was")
	assert.Nil(t, run(choice.None, sized("Q2_K", verdict.Rejected, 200)), "the cycle chooses none")
	assert.Equal(t, "Q2_K", s.State().Models[ModelID{Name: "m"}].Choice.Format, "nor does it change what was chosen")
}

// A cycle that was cut off chooses of what stands then.
func TestInterruptedCycleChooses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	chooseOf(t, s, []string{"Q2_K", "Q8_0"}, sized("Q2_K", verdict.Kept, 200), sized("Q8_0", verdict.Kept, 800))
	id, err := s.BeginCycle(Cycle{Model: "m", Targets: []string{"Q2_K", "Q8_0"}, Choose: choice.Smallest})
	require.NoError(t, err)
	_, err = s.Commit(id, sized("Q2_K", verdict.Rejected, 200))
	require.NoError(t, err)
	s = reopen(t, s, dir, Options{})
	assert.Equal(t, "Q8_0", s.State().Models[ModelID{Name: "m"}].Choice.Format)
	assert.Len(t, choices(t, s), 2)
}

func TestPassOverRefuses(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	id, err := s.BeginCycle(Cycle{Model: "m", Targets: []string{"Q2_K", "Q4_K_M", "Q8_0"}, Choose: choice.Smallest})
	require.NoError(t, err)
	_, err = s.Commit(id, sized("Q2_K", verdict.Kept, 200))
	require.NoError(t, err)
	require.NoError(t, s.PassOver(id, "Q2_K", nil))
	require.ErrorIs(t, s.PassOver(id, "Q2_K", []string{"Q8_0", "Q2_K"}), ErrCommitted, "it has a result")
	require.ErrorContains(t, s.PassOver(id, "Q2_K", []string{"Q6_K"}), "decides [Q2_K Q4_K_M Q8_0]")
	assert.Nil(t, s.State().Pairs[PairID{Model: "m", Target: "Q8_0"}], "all of them or none")
	require.NoError(t, s.PassOver(id, "Q2_K", []string{"Q8_0"}))
	require.ErrorIs(t, s.PassOver(id, "Q2_K", []string{"Q8_0"}), ErrCommitted)
	require.NoError(t, s.PassOver(id, "Q2_K", []string{"Q4_K_M"}))
	_, err = s.Commit(id, sized("Q8_0", verdict.Kept, 800))
	require.ErrorIs(t, err, ErrCommitted)
	require.NoError(t, s.EndCycle(id, nil))
	require.ErrorIs(t, s.PassOver(id, "Q2_K", []string{"Q8_0"}), ErrCommitted)
	assert.Empty(t, counted(s, CountSkipped), "of no entry: it is by hand")

	for name, c := range map[string]Cycle{
		"is not a way to choose": {Model: "m", Targets: []string{"Q2_K"}, Choose: "biggest"},
		"names Q2_K twice":       {Model: "m", Targets: []string{"Q2_K"}, Choose: choice.Smallest, Candidates: []string{"Q2_K", "Q2_K"}},
	} {
		_, err := s.BeginCycle(c)
		require.ErrorContains(t, err, name)
	}
}

// What retention removes of cycles with a choice is still accounted for: open checks it.
func TestPrunedCyclesTakeTheirChoiceAlong(t *testing.T) {
	s := open(t, t.TempDir(), Options{Retention: config.Retention{Cycles: 1}})
	for i := range 6 {
		outcome := verdict.Kept
		if i%2 == 1 {
			outcome = verdict.Rejected
		}
		chooseOf(t, s, []string{"Q2_K"}, sized("Q2_K", outcome, 200))
	}
	assert.Len(t, choices(t, s), 6)
	cycles, err := s.Cycles(0, 0)
	require.NoError(t, err)
	assert.Len(t, cycles, 1)
	require.NoError(t, s.Check())
}

// With the first bus the latest of each model's choices goes out, as of each pair's
// decisions.
func TestHeldChoicesAreSuperseded(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	for _, outcome := range []verdict.Outcome{verdict.Kept, verdict.Rejected, verdict.Kept} {
		chooseOf(t, s, []string{"Q2_K"}, sized("Q2_K", outcome, 200))
	}
	require.NoError(t, s.SetBus(true))
	pending, err := s.NextPending(0)
	require.NoError(t, err)
	require.Len(t, pending, 2)
	assert.Equal(t, event.TypeDecision, pending[0].Type)
	assert.Equal(t, event.TypeChoice, pending[1].Type)
	assert.Contains(t, string(pending[1].Data), `"chosen_format":"Q2_K"`)
}
