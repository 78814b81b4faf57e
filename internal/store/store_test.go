package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// start is when the clock of the tests begins.
func start() time.Time { return time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC) }

// clock is a clock that the test moves.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

// open opens a state, which is checked and closed at the end of the test.
func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	if o.Now == nil {
		o.Now = (&clock{start()}).Now
	}
	if o.Host == "" {
		o.Host = "host"
	}
	s, err := Open(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := s.Check(); !errors.Is(err, bolterrors.ErrDatabaseNotOpen) { // else closed by the test
			assert.NoError(t, err)
		}
		assert.NoError(t, s.Close())
	})
	return s
}

// reopen closes and opens a state.
func reopen(t testing.TB, s *Store, dir string, o Options) *Store {
	t.Helper()
	require.NoError(t, s.Close())
	return open(t, dir, o)
}

// decided is a result with one round in each phase.
func decided(model, target string, outcome verdict.Outcome) *runner.Result {
	drop := map[verdict.Outcome]float64{verdict.Kept: 0.05, verdict.Rejected: 0.2, verdict.Inconclusive: 0.12}[outcome]
	lower, upper := drop-0.01, drop+0.01
	v := &verdict.Verdict{Outcome: outcome, Rounds: 3, Confidence: 0.925, Resolvable: 0.02}
	if outcome == verdict.Rejected {
		v.Gate = verdict.Generation
	}
	throughput := map[verdict.Phase]float64{}
	for _, phase := range []verdict.Phase{verdict.Generation, verdict.Prompt} {
		throughput[phase] = 100
		v.Phases = append(v.Phases, verdict.PhaseVerdict{
			Phase: phase, Outcome: outcome, Drop: drop, Lower: &lower, Upper: &upper, Original: 100, Quantized: 100 * (1 - drop),
		})
	}
	return &runner.Result{
		Model: model, SourceFormat: "F16", TargetFormat: target, Verdict: v, Threshold: 0.12,
		Original:  runner.FileFigures{Format: "F16", Bytes: 2000, Parameters: 1000},
		Quantized: runner.FileFigures{Format: target, Bytes: 500, Parameters: 1000},
		Started:   start(), Finished: start().Add(time.Minute),
		Durations: map[runner.Operation]time.Duration{
			runner.OperationIsolate: time.Second, runner.OperationQuantize: 2 * time.Second,
			runner.OperationBenchmark: 3 * time.Second, runner.OperationTotal: time.Minute,
		},
		Evidence: runner.Evidence{
			Model: model, Target: target,
			Engine: runner.EngineInfo{Name: "engine", Version: "1", Formats: []runner.Format{{Name: "Q2_K"}}},
			Rounds: []runner.Round{{Set: 1, First: runner.StageOriginal, Counted: true, Original: runner.Sample{Measurement: runner.Measurement{Throughput: throughput}}}},
		},
	}
}

func failed(model, target string, reason runner.Reason) *runner.Result {
	return &runner.Result{
		Model: model, SourceFormat: "F16", TargetFormat: target, Failure: runner.Failf(reason, "it did not work"),
		Started: start(), Finished: start().Add(time.Minute),
	}
}

// begin begins a cycle of the entry "nightly".
func begin(t testing.TB, s *Store, model string, targets ...string) uint64 {
	t.Helper()
	id, err := s.BeginCycle(Cycle{Entry: "nightly", Model: model, Targets: targets, Due: start()})
	require.NoError(t, err)
	return id
}

// record stores one result in a cycle of its own.
func record(t testing.TB, s *Store, r *runner.Result) Committed {
	t.Helper()
	id := begin(t, s, r.Model, r.TargetFormat)
	committed, err := s.Commit(id, r)
	require.NoError(t, err)
	require.NoError(t, s.EndCycle(id, nil))
	return committed
}

func TestWriteFailures(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Bus: true})
	id := begin(t, s, "m", "Q2_K")
	_, err := s.Commit(id, decided("m", "Q2_K", verdict.Kept))
	require.NoError(t, err)
	_, err = s.Commit(id, decided("m", "Q2_K", verdict.Kept))
	require.ErrorIs(t, err, ErrCommitted)
	require.NoError(t, s.SetBus(true), "it is unchanged")
	assert.Zero(t, s.Stats().WriteFailures)

	require.NoError(t, s.Close())
	for i, write := range []func() error{
		func() error { return s.SetEntry("nightly", schedule.State{}) },
		func() error { return s.SetBus(true) },
		func() error { return s.MarkDelivered(s.State().Outbox.Producer, 1) },
		func() error { return s.CountDeliveryFailure("refused") },
		func() error { return s.CountSkipped("nightly", SkipOverlap, 1) },
		func() error { return s.NewProducer("a copy") },
		func() error { return s.EndCycle(id, nil) },
		func() error { _, err := s.BeginCycle(Cycle{Model: "m", Targets: []string{"Q2_K"}}); return err },
		func() error { _, err := s.Commit(id, decided("m", "Q2_K", verdict.Kept)); return err },
		func() error { return s.PassOver(id, "Q2_K", []string{"Q8_0"}) },
	} {
		require.ErrorIs(t, write(), bolterrors.ErrDatabaseNotOpen)
		assert.EqualValues(t, i+1, s.Stats().WriteFailures)
	}
}

func TestChangesAreThoseOfTheStandingDecision(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Bus: true})
	id := PairID{Model: "m", Target: "Q2_K"}
	var previous []any
	for i, step := range []struct {
		result   *runner.Result
		standing verdict.Outcome
		changed  bool
		previous any // in the event
	}{
		{decided("m", "Q2_K", verdict.Inconclusive), "", false, nil},
		{failed("m", "Q2_K", runner.ReasonCrash), "", false, nil},
		{decided("m", "Q2_K", verdict.Kept), verdict.Kept, true, nil},
		{decided("m", "Q2_K", verdict.Kept), verdict.Kept, false, nil},
		{decided("m", "Q2_K", verdict.Inconclusive), verdict.Kept, false, nil},
		{decided("m", "Q2_K", verdict.Rejected), verdict.Rejected, true, "kept"},
		{failed("m", "Q2_K", runner.ReasonTimeout), verdict.Rejected, false, nil},
		{decided("m", "Q2_K", verdict.Rejected), verdict.Rejected, false, nil},
		{decided("m", "Q2_K", verdict.Kept), verdict.Kept, true, "rejected"},
	} {
		step.result.Previous = "a decision that the runner saw and that stands no more"
		committed := record(t, s, step.result)
		assert.Equal(t, step.changed, committed.Changed, "step %d", i)
		assert.Equal(t, step.changed, committed.Event != nil, "step %d", i)
		assert.Equal(t, step.standing, s.State().Pairs[id].Standing, "step %d", i)
		if step.changed {
			var data map[string]any
			require.NoError(t, json.Unmarshal(committed.Event.Data, &data))
			assert.Equal(t, step.previous, data["previous_decision"], "step %d", i)
			assert.Equal(t, committed.Event.ID, data["event_id"])
			assert.Equal(t, "nightly", data["entry"])
			assert.Equal(t, "host", data["host"])
			previous = append(previous, step.previous)
		}
		require.NoError(t, s.Check(), "step %d", i)
	}
	events, err := s.Events(EventQuery{})
	require.NoError(t, err)
	assert.Len(t, events, len(previous))

	assert.Equal(t, map[Counter]uint64{
		decisions(verdict.Kept): 3, decisions(verdict.Rejected): 2, decisions(verdict.Inconclusive): 2,
		failuresOf("m", runner.ReasonCrash): 1, failuresOf("m", runner.ReasonTimeout): 1,
		{Kind: CountRejection, Model: "m", Target: "Q2_K", By: "generation"}: 2,
	}, maps.Collect(s.State().Counters.All()))
}

// What is in memory is what a restart finds: nothing of the caller's, nothing more.
func TestStateSurvives(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Bus: true})
	r := decided("m", "Q2_K", verdict.Rejected)
	r.Finished = r.Finished.In(time.FixedZone("", 3600))
	record(t, s, r)
	r.Verdict.Phases[0].Drop = 99
	record(t, s, failed("m", "Q4_K_M", runner.ReasonNoSpace))
	require.NoError(t, s.CountSkipped("nightly", SkipOverlap, 3))
	require.NoError(t, s.CountDeliveryFailure("refused"))
	entry := schedule.State{Spec: "@daily", Last: start()}
	require.NoError(t, s.SetEntry("nightly", entry))
	before := s.State()
	assert.InDelta(t, 0.2, before.Pairs[PairID{Model: "m", Target: "Q2_K"}].Decided.Verdict.Phases[0].Drop, 0)
	assert.Equal(t, map[Counter]uint64{skips(SkipOverlap): 3}, counted(s, CountSkipped))
	assert.Equal(t, map[Counter]uint64{{Kind: CountDeliveryFailure, By: "refused"}: 1}, counted(s, CountDeliveryFailure))

	s = reopen(t, s, dir, Options{Bus: true})
	assert.Equal(t, before, s.State())
	after, ok := s.Entry("nightly")
	assert.True(t, ok)
	assert.Equal(t, entry, after)
	_, ok = s.Entry("weekly")
	assert.False(t, ok)
}

func TestDecidedFiguresAreOfTheWholeCycle(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	r := decided("m", "Q2_K", verdict.Kept)
	r.Evidence.Rounds = nil
	for i, speed := range []float64{100, 1, 104, 90, 110} { // as other targets measured it, too
		r.Evidence.Rounds = append(r.Evidence.Rounds, runner.Round{
			Counted:  i != 1,
			Original: runner.Sample{Measurement: runner.Measurement{Throughput: map[verdict.Phase]float64{verdict.Generation: speed}}},
		})
	}
	record(t, s, r)
	d := s.State().Pairs[PairID{Model: "m", Target: "Q2_K"}].Decided
	assert.Equal(t, map[verdict.Phase]float64{verdict.Generation: 102, verdict.Prompt: 100}, d.OriginalThroughput)
	assert.Equal(t, "F16", d.SourceFormat)
	assert.Equal(t, int64(500), d.Quantized.Bytes)
	assert.Equal(t, "host", d.Host)
	assert.Equal(t, "nightly", d.Entry)
	assert.Equal(t, runner.EngineInfo{Name: "engine", Version: "1"}, d.Engine)
}

func TestCycleEnds(t *testing.T) {
	clock := &clock{start()}
	s := open(t, t.TempDir(), Options{Now: clock.Now})
	id := begin(t, s, "m", "Q2_K", "Q4_K_M")
	require.Len(t, s.State().Running, 1)
	assert.Equal(t, []string{"Q2_K", "Q4_K_M"}, s.State().Running[0].Undecided)
	for _, target := range []string{"Q2_K", "Q4_K_M"} {
		_, err := s.Commit(id, decided("m", target, verdict.Kept))
		require.NoError(t, err)
	}
	assert.Empty(t, s.State().Running[0].Undecided)
	assert.True(t, s.State().Models[ModelID{Name: "m"}].LastSuccess.IsZero())
	assert.True(t, s.State().Models[ModelID{Name: "m"}].LastRun.IsZero(), "the cycle goes on")
	assert.Equal(t, PairID{Model: "m", Target: "Q4_K_M"}, s.State().Models[ModelID{Name: "m"}].Latest)

	clock.now = start().Add(time.Hour)
	require.NoError(t, s.EndCycle(id, map[runner.Operation]time.Duration{"discover": 5 * time.Second}))
	assert.Empty(t, s.State().Running)
	m := s.State().Models[ModelID{Name: "m"}]
	assert.Equal(t, clock.now, m.LastSuccess)
	assert.Equal(t, clock.now, m.LastRun)
	assert.Equal(t, map[runner.Operation]time.Duration{
		"discover": 5 * time.Second, runner.OperationIsolate: time.Second, runner.OperationQuantize: 4 * time.Second,
		runner.OperationBenchmark: 3 * time.Second, runner.OperationTotal: time.Minute,
	}, m.Durations)
	require.ErrorIs(t, s.EndCycle(id, nil), ErrCommitted)

	// One that fails, and leaves a target without a result.
	id = begin(t, s, "m", "Q2_K", "Q4_K_M")
	_, err := s.Commit(id, decided("m", "Q2_K", verdict.Kept))
	require.NoError(t, err)
	clock.now = start().Add(2 * time.Hour)
	require.NoError(t, s.EndCycle(id, nil))
	assert.Equal(t, start().Add(time.Hour), s.State().Models[ModelID{Name: "m"}].LastSuccess)
	assert.Equal(t, uint64(1), s.State().Counters.Of(failuresOf("m", runner.ReasonInternal)))
	cycle, records, ok, err := s.Cycle(id)
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, clock.now, *cycle.Ended)
	require.Len(t, records, 2)
	assert.Equal(t, verdict.Kept, records[0].Verdict.Outcome)
	assert.Equal(t, runner.ReasonInternal, records[1].Failure.Reason)
}

func TestInterruptedCyclesEndAtOpen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	first := begin(t, s, "m", "Q2_K", "Q4_K_M", "Q8_0")
	_, err := s.Commit(first, decided("m", "Q4_K_M", verdict.Kept))
	require.NoError(t, err)
	begin(t, s, "n", "Q2_K")

	now := start().Add(time.Hour)
	s = reopen(t, s, dir, Options{Now: (&clock{now}).Now})
	assert.Empty(t, s.State().Running)
	assert.Equal(t, map[Counter]uint64{failuresOf("m", runner.ReasonInterrupted): 2, failuresOf("n", runner.ReasonInterrupted): 1}, counted(s, CountFailure))
	assert.Equal(t, verdict.Kept, s.State().Pairs[PairID{Model: "m", Target: "Q4_K_M"}].Standing)
	assert.True(t, s.State().Models[ModelID{Name: "m"}].LastSuccess.IsZero())
	f := s.State().Pairs[PairID{Model: "m", Target: "Q8_0"}].Failed
	assert.Equal(t, now, f.Finished)
	assert.Contains(t, f.Error, "2026-11-23T03:00:00Z")
	assert.Contains(t, f.Error, "not run again by itself")
	cycle, records, ok, err := s.Cycle(first)
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, now, *cycle.Ended)
	assert.Len(t, records, 3)
	before := s.State()
	assert.Equal(t, before, reopen(t, s, dir, Options{}).State(), "once")
}

func TestCommitRefuses(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	id := begin(t, s, "m", "Q2_K", "Q4_K_M")
	first := decided("m", "Q2_K", verdict.Kept)
	_, err := s.Commit(id, first)
	require.NoError(t, err)
	ended := begin(t, s, "n", "Q2_K")
	require.NoError(t, s.EndCycle(ended, nil))
	both := decided("m", "Q4_K_M", verdict.Kept)
	both.Failure = runner.Failf(runner.ReasonCrash, "x")
	neither := decided("m", "Q4_K_M", verdict.Kept)
	neither.Verdict = nil
	infinite := decided("m", "Q4_K_M", verdict.Kept)
	infinite.Threshold = 1 / (infinite.Threshold - 0.12)
	never := decided("m", "Q4_K_M", verdict.Kept)
	never.Finished = time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("west", -7200))
	before := s.State()
	for _, test := range []struct {
		cycle   uint64
		result  *runner.Result
		message string
	}{
		{id, decided("m", "Q2_K", verdict.Rejected), "has a result already"},
		{99, first, "there is no cycle 99"},
		{ended, decided("n", "Q2_K", verdict.Kept), "ended at"},
		{id, decided("n", "Q4_K_M", verdict.Kept), `of "m"`},
		{id, decided("m", "Q8_0", verdict.Kept), "decides [Q2_K Q4_K_M]"},
		{id, both, "a decision or a failure"},
		{id, neither, "a decision or a failure"},
		{id, failed("m", "Q4_K_M", ""), "no reason"},
		{id, decided("m", "Q4_K_M", verdict.GoOn), `"go_on" is not a decision`},
		{id, infinite, "+Inf"},
		{id, never, "its times cannot be stored"},
	} {
		_, err := s.Commit(test.cycle, test.result)
		require.ErrorContains(t, err, test.message)
		assert.Same(t, before, s.State(), test.message)
	}
	_, err = s.Commit(id, first)
	require.ErrorIs(t, err, ErrCommitted)
}

func TestBeginCycleRefuses(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	begin(t, s, "m", "Q2_K")
	for message, c := range map[string]Cycle{
		"cannot be the name of a model":  {Targets: []string{"Q2_K"}},
		"none of them NUL":               {Model: "m\x00", Targets: []string{"Q2_K"}},
		"no targets":                     {Model: "m"},
		"cannot be the name of a target": {Model: "m", Targets: []string{""}},
		"Q8_0 twice":                     {Model: "m", Targets: []string{"Q8_0", "Q8_0"}},
	} {
		_, err := s.BeginCycle(c)
		require.ErrorContains(t, err, message)
	}
	id, err := s.BeginCycle(Cycle{ID: 77, Model: "n", Targets: []string{"Q2_K"}})
	require.NoError(t, err)
	assert.Equal(t, uint64(2), id)
	assert.Equal(t, start(), s.State().Running[1].Started)
}

// Its results and its end were not stored, for a full disk; there is room again.
func TestBeginCycleEndsOneThatWasGivenUp(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	first := begin(t, s, "m", "Q2_K", "Q4_K_M")
	_, err := s.Commit(first, decided("m", "Q4_K_M", verdict.Kept))
	require.NoError(t, err)
	apart := begin(t, s, "m", "Q4_K_M", "Q8_0")
	other := begin(t, s, "n", "Q2_K")
	require.Len(t, s.State().Running, 3, "no pair is undecided in two")

	next := begin(t, s, "m", "Q2_K")
	var running []uint64
	for _, c := range s.State().Running {
		running = append(running, c.ID)
	}
	assert.Equal(t, []uint64{apart, other, next}, running)
	assert.Equal(t, uint64(1), s.State().Counters.Of(failuresOf("m", runner.ReasonInternal)))
	_, err = s.Commit(first, decided("m", "Q2_K", verdict.Kept))
	require.ErrorIs(t, err, ErrCommitted)
	_, err = s.Commit(next, decided("m", "Q2_K", verdict.Kept))
	require.NoError(t, err)
}

func TestHistoryAndCyclesArePaged(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	for i := range 6 {
		r := decided("m", "Q2_K", verdict.Rejected)
		if i%3 == 2 {
			r = failed("m", "Q2_K", runner.ReasonCrash)
		}
		record(t, s, r)
		record(t, s, decided("m", "Q2_K_S", verdict.Kept)) // a name that begins alike
	}
	cycles := func(points []Point) (ids []uint64) {
		for _, p := range points {
			ids = append(ids, p.Cycle)
		}
		return ids
	}
	id := PairID{Model: "m", Target: "Q2_K"}
	all, err := s.History(id, 0)
	require.NoError(t, err)
	assert.Equal(t, []uint64{1, 3, 5, 7, 9, 11}, cycles(all))
	latest, err := s.History(id, 3)
	require.NoError(t, err)
	assert.Equal(t, []uint64{7, 9, 11}, cycles(latest))
	none, err := s.History(PairID{Model: "m", Target: "Q8_0"}, 3)
	require.NoError(t, err)
	assert.Empty(t, none)

	p := all[0]
	assert.Equal(t, verdict.Rejected, p.Outcome)
	assert.Equal(t, verdict.Generation, p.Gate)
	assert.True(t, p.Changed)
	assert.Equal(t, int64(500), p.Bytes)
	assert.InDelta(t, 0.12, p.Threshold, 0)
	assert.InDelta(t, 0.19, *p.Phases[0].Lower, 1e-12)
	assert.Equal(t, runner.ReasonCrash, all[2].Reason)

	unmeasured := decided("m", "Q6_K", verdict.Inconclusive)
	unmeasured.Verdict.Rounds = 0
	assert.Empty(t, (&Record{Result: *unmeasured}).point().Phases, "no figure is not 0")

	for _, test := range []struct {
		before uint64
		limit  int
		want   []uint64
	}{
		{0, 2, []uint64{12, 11}},
		{11, 2, []uint64{10, 9}},
		{99, 1, []uint64{12}},
		{2, 9, []uint64{1}},
		{1, 9, nil},
	} {
		page, err := s.Cycles(test.before, test.limit)
		require.NoError(t, err)
		var ids []uint64
		for _, c := range page {
			ids = append(ids, c.ID)
		}
		assert.Equal(t, test.want, ids, "before %d", test.before)
	}
	_, _, ok, err := s.Cycle(99)
	require.NoError(t, err)
	assert.False(t, ok)
}

// Where the disk took a transaction whose error said otherwise, the state follows the
// file.
func TestReloadFollowsTheFile(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	require.NoError(t, s.db.Update(func(tx *bbolt.Tx) error {
		d := s.content.begin(tx)
		return d.count(skips(SkipOverlap), 1)
	}))
	require.Error(t, s.Check())
	s.mu.Lock()
	s.reload()
	s.mu.Unlock()
	require.NoError(t, s.Check())
	assert.Equal(t, uint64(1), s.State().Counters.Of(skips(SkipOverlap)))
}

func TestClosedStateSaysSo(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	record(t, s, decided("m", "Q2_K", verdict.Kept))
	require.NoError(t, s.Close())
	_, err := s.BeginCycle(Cycle{Model: "m", Targets: []string{"Q2_K"}})
	require.ErrorContains(t, err, "not open")
	_, err = s.History(PairID{Model: "m", Target: "Q2_K"}, 1)
	require.ErrorContains(t, err, "not open")
	assert.Len(t, s.State().Pairs, 1)
	assert.Positive(t, s.Stats().FileBytes)
}

func TestReadersAndWritersTogether(t *testing.T) {
	s := open(t, t.TempDir(), Options{Bus: true, Retention: config.Retention{Cycles: 2}})
	done := make(chan error)
	go func() {
		defer close(done)
		for i := range 30 {
			outcome := []verdict.Outcome{verdict.Kept, verdict.Rejected}[i%2]
			id, err := s.BeginCycle(Cycle{Model: "m", Targets: []string{"Q2_K"}})
			if err == nil {
				_, err = s.Commit(id, decided("m", "Q2_K", outcome))
			}
			if err == nil {
				err = s.EndCycle(id, nil)
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	for {
		select {
		case err := <-done:
			require.NoError(t, err)
			return
		default:
		}
		// One snapshot is of one transaction: the counters and the pair agree.
		state := s.State()
		if pair := state.Pairs[PairID{Model: "m", Target: "Q2_K"}]; pair != nil {
			kept := state.Counters.Of(decisions(verdict.Kept))
			rejected := state.Counters.Of(decisions(verdict.Rejected))
			want := verdict.Rejected
			if kept > rejected {
				want = verdict.Kept
			}
			require.Equal(t, want, pair.Standing, fmt.Sprint(kept, rejected))
		}
		require.NoError(t, s.Check())
		_, err := s.History(PairID{Model: "m", Target: "Q2_K"}, 3)
		require.NoError(t, err)
		s.Stats()
	}
}

func FuzzCounterKey(f *testing.F) {
	for _, counter := range []Counter{
		decisions(verdict.Kept), failuresOf("m", runner.ReasonCrash), skips(SkipOverlap), inputChanges(runner.InputEngine),
		{Kind: CountRejection, Model: "m", Target: "Q2_K", By: "prompt"},
		{Kind: CountDelivered},
		{Kind: CountDeliveryFailure, By: "refused"},
		unpublished(PairID{Model: "m", Target: "Q2_K"}),
		{},
	} {
		f.Add(counter.key(), uint64(1))
	}
	f.Fuzz(func(t *testing.T, key []byte, n uint64) {
		counter, err := counterAt(key)
		if err != nil {
			return
		}
		assert.Equal(t, key, counter.key(), "no two keys are of one counter")
		line, err := exportedCounter(counter, n)
		require.NoError(t, err)
		assert.True(t, json.Valid(line))
	})
}

// counted gives the counters of a kind.
func counted(s *Store, kind CounterKind) map[Counter]uint64 {
	counters := maps.Collect(s.State().Counters.All())
	maps.DeleteFunc(counters, func(c Counter, _ uint64) bool { return c.Kind != kind })
	return counters
}

// decisions is the counter of the decisions on the pair that most tests decide.
func decisions(outcome verdict.Outcome) Counter {
	return Counter{Kind: CountDecision, Model: "m", Source: "F16", Target: "Q2_K", By: string(outcome)}
}

func failuresOf(model string, reason runner.Reason) Counter {
	return Counter{Kind: CountFailure, Model: model, By: string(reason)}
}

func skips(reason SkipReason) Counter {
	return Counter{Kind: CountSkipped, Entry: "nightly", By: string(reason)}
}

func inputChanges(input runner.Input) Counter {
	return Counter{Kind: CountInputChange, Model: "m", By: string(input)}
}

func unpublished(id PairID) Counter {
	return Counter{Kind: CountPublishFailure, Model: id.Model, Target: id.Target}
}
