package cycle

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/publish"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// fixture is a store, a model and a directory to publish in.
type fixture struct {
	*testing.T
	store *store.Store
	model model.Model
	dir   string
	work  string
	rule  choice.Rule
	// stored are the targets whose results are; nil for all.
	stored  []string
	load    error
	during  func() // what happens while a cycle runs
	changed error  // of the model
	holds   string // SHA-256 of the copies as they were made; "" where that is not known
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{T: t, dir: filepath.Join(t.TempDir(), "published"), work: t.TempDir()}
	var err error
	f.store, err = store.Open(filepath.Join(t.TempDir(), "state"), store.Options{Host: "here"})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, f.store.Check())
		assert.NoError(t, f.store.Close())
	})
	models := t.TempDir()
	gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(models, "m.gguf"))
	found, err := model.Discover(models, false, nil)
	require.NoError(t, err)
	require.Len(t, found.Models, 1)
	f.model = found.Models[0]
	return f
}

// result of a target.
func result(target string, outcome verdict.Outcome, bytes int64) *runner.Result {
	lower, upper := -0.3, 0.1
	return &runner.Result{
		Model: "m", SourceFormat: "F16", TargetFormat: target, Threshold: 0.12, Started: time.Now(), Finished: time.Now(),
		Quantized: runner.FileFigures{Format: target, Bytes: bytes},
		Verdict: &verdict.Verdict{Outcome: outcome, Gate: verdict.Generation, Rounds: 3, Phases: []verdict.PhaseVerdict{
			{Phase: verdict.Generation, Drop: -0.25, Lower: &lower, Original: 100, Quantized: 125, Upper: &upper},
			{Phase: verdict.Prompt, Drop: 0.05, Original: 100, Quantized: 95},
		}},
		Inputs:  &runner.Inputs{Source: "abc"},
		Quality: &runner.Evaluated{Verdict: quality.Verdict{KLDivergence: quality.Interval{Estimate: 0.0115}}},
		Evidence: runner.Evidence{
			Engine:   runner.EngineInfo{Name: "llama.cpp", Version: "0.7.0", Build: 11669, Commit: "abc"},
			Quantize: runner.ToolRun{Args: []string{"llama-quantize", "original.gguf", target + ".gguf", target}},
		},
	}
}

// cycle runs one in which targets came to these outcomes; copies have the content of their
// version.
func (f *fixture) cycle(ctx context.Context, version string, outcomes map[string]verdict.Outcome) (id uint64, all []store.Publication) {
	f.Helper()
	targets := []string{"Q2_K", "Q4_K_M", "Q8_0"}
	id, err := f.store.BeginCycle(store.Cycle{Entry: "nightly", Model: "m", Targets: targets, Choose: f.rule})
	require.NoError(f, err)
	finished := runner.Finished{
		Model:     f.model,
		Load:      func(context.Context, string, string) error { return f.load },
		Unchanged: func(context.Context) error { return f.changed },
	}
	for i, target := range targets {
		outcome := outcomes[target]
		r := result(target, outcome, int64(1000*(i+1)))
		if outcome == "" {
			r.Verdict, r.Failure = nil, runner.Failf(runner.ReasonCrash, "it crashed")
		} else {
			path := filepath.Join(f.work, target+".gguf")
			require.NoError(f, os.RemoveAll(path))
			require.NoError(f, os.WriteFile(path, []byte(target+" "+version), 0o600))
			finished.Copies = append(finished.Copies, runner.Copy{Target: target, Path: path, SHA256: f.holds, Outcome: outcome})
		}
		if f.stored == nil || len(f.stored) > i {
			_, err = f.store.Commit(id, r)
			require.NoError(f, err)
		}
	}
	if f.during != nil {
		f.during()
	}
	all = publishCopies(ctx, f.store, id, config.Publish{Dir: f.dir, Keep: 2}, finished, slog.New(slog.DiscardHandler))
	require.NoError(f, f.store.Published(id, all))
	require.NoError(f, f.store.EndCycle(id, nil))
	return id, all
}

// served is the content of the copy that a link leads to; "" without one.
func (f *fixture) served(link string) string {
	f.Helper()
	files, err := filepath.Glob(filepath.Join(f.dir, link, "*.gguf"))
	require.NoError(f, err)
	if len(files) == 0 {
		return ""
	}
	require.Len(f, files, 1)
	text, err := os.ReadFile(files[0])
	require.NoError(f, err)
	return string(text)
}

func TestEveryKeptCopyIsPublished(t *testing.T) {
	f := newFixture(t)
	id, all := f.cycle(t.Context(), "1", map[string]verdict.Outcome{"Q2_K": verdict.Rejected, "Q4_K_M": verdict.Kept, "Q8_0": verdict.Kept})
	require.Len(t, all, 2)
	assert.Equal(t, "Q4_K_M 1", f.served("m/Q4_K_M/stable"))
	assert.Equal(t, "Q8_0 1", f.served("m/Q8_0/stable"))
	assert.NoDirExists(t, filepath.Join(f.dir, "m", "Q2_K"))

	pair := f.store.State().Pairs[store.PairID{Model: "m", Target: "Q4_K_M"}]
	require.NotNil(t, pair.Published)
	assert.Equal(t, filepath.Join(f.dir, "m", "Q4_K_M", "stable"), pair.Published.Stable)
	cycle, records, _, err := f.store.Cycle(id)
	require.NoError(t, err)
	assert.Equal(t, *pair.Published, cycle.Published[0])

	text, err := os.ReadFile(filepath.Join(pair.Published.Stable, "manifest.json"))
	require.NoError(t, err)
	var m publish.Manifest
	require.NoError(t, json.Unmarshal(text, &m))
	assert.Equal(t, "m", m.Model)
	assert.Equal(t, "F16", m.SourceFormat)
	assert.Equal(t, "abc", m.Source.SHA256, "what the decision depends on")
	require.Len(t, m.Source.Files, 1)
	assert.Equal(t, f.model.Path, m.Source.Files[0].Path)
	assert.Equal(t, publish.Engine{Name: "llama.cpp", Version: "0.7.0", Build: 11669, Commit: "abc"}, m.Engine)
	assert.Equal(t, []string{"llama-quantize", "original.gguf", "Q4_K_M.gguf", "Q4_K_M"}, m.Arguments)
	d := m.Decision
	assert.Equal(t, id, d.Cycle)
	assert.Equal(t, records[1].EventID, *d.EventID)
	assert.Equal(t, "kept", d.Decision)
	assert.Equal(t, "nightly", d.Entry)
	assert.Equal(t, "here", d.Host)
	assert.InDelta(t, 12.0, d.Threshold, 0)
	assert.InDelta(t, 0.0115, *d.KLDivergence, 0)
	require.Len(t, d.Phases, 2)
	assert.InDelta(t, -25.0, d.Phases[0].Drop, 1e-9)
	assert.InDelta(t, 10.0, *d.Phases[0].Interval[1], 1e-9)
	assert.Nil(t, d.Phases[1].Interval[0], "an open end")
}

func TestWhatIsNotKeptLeavesWhatWasPublished(t *testing.T) {
	f := newFixture(t)
	f.cycle(t.Context(), "1", map[string]verdict.Outcome{"Q4_K_M": verdict.Kept})
	for _, outcome := range []verdict.Outcome{verdict.Rejected, verdict.Inconclusive, ""} {
		_, all := f.cycle(t.Context(), "2", map[string]verdict.Outcome{"Q4_K_M": outcome})
		assert.Empty(t, all, outcome)
		assert.Equal(t, "Q4_K_M 1", f.served("m/Q4_K_M/stable"), outcome)
	}
	_, all := f.cycle(t.Context(), "3", map[string]verdict.Outcome{"Q4_K_M": verdict.Kept})
	assert.Len(t, all, 1)
	assert.Equal(t, "Q4_K_M 3", f.served("m/Q4_K_M/stable"))
}

func TestTheChosenCopyIsPublished(t *testing.T) {
	f := newFixture(t)
	f.rule = choice.Smallest
	both := map[string]verdict.Outcome{"Q4_K_M": verdict.Kept, "Q8_0": verdict.Kept}
	_, all := f.cycle(t.Context(), "1", both)
	require.Len(t, all, 1)
	assert.Equal(t, "Q4_K_M", all[0].Target)
	assert.Equal(t, "Q4_K_M 1", f.served("m/stable"))
	assert.NoDirExists(t, filepath.Join(f.dir, "m", "Q8_0"))

	_, all = f.cycle(t.Context(), "2", map[string]verdict.Outcome{"Q4_K_M": verdict.Rejected, "Q8_0": verdict.Kept})
	require.Len(t, all, 1)
	assert.Equal(t, "Q8_0 2", f.served("m/stable"))

	// It is kept again; then it is the one to serve, although this cycle's copy of it failed.
	_, all = f.cycle(t.Context(), "3", both)
	require.Len(t, all, 1)
	assert.Equal(t, "Q4_K_M 3", f.served("m/stable"))
	_, all = f.cycle(t.Context(), "4", map[string]verdict.Outcome{"Q8_0": verdict.Kept})
	assert.Empty(t, all, "the link leads there already")
	assert.Equal(t, "Q4_K_M 3", f.served("m/stable"))

	// Nobody is kept: what was published stays.
	_, all = f.cycle(t.Context(), "5", map[string]verdict.Outcome{"Q4_K_M": verdict.Rejected, "Q8_0": verdict.Rejected})
	assert.Empty(t, all)
	assert.Equal(t, "Q4_K_M 3", f.served("m/stable"))
}

func TestTheChosenWithoutACopyIsServedAsItWasPublished(t *testing.T) {
	f := newFixture(t)
	f.rule = choice.Smallest
	_, all := f.cycle(t.Context(), "1", map[string]verdict.Outcome{"Q8_0": verdict.Kept})
	require.Len(t, all, 1)
	_, all = f.cycle(t.Context(), "2", map[string]verdict.Outcome{"Q4_K_M": verdict.Kept, "Q8_0": verdict.Kept})
	require.Len(t, all, 1)
	assert.Equal(t, "Q4_K_M 2", f.served("m/stable"))

	_, all = f.cycle(t.Context(), "3", map[string]verdict.Outcome{"Q4_K_M": verdict.Rejected}) // and Q8_0 fails
	require.Len(t, all, 1)
	assert.Equal(t, "Q8_0", all[0].Target)
	assert.Empty(t, all[0].Error)
	assert.Equal(t, "Q8_0 1", f.served("m/stable"))
}

// A cycle that is stopped before it has a copy of the chosen format fails to publish nothing.
func TestAStoppedCycleLeavesTheChosenPublished(t *testing.T) {
	f := newFixture(t)
	f.rule = choice.Smallest
	_, all := f.cycle(t.Context(), "1", map[string]verdict.Outcome{"Q4_K_M": verdict.Kept})
	require.Len(t, all, 1)
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for _, outcomes := range []map[string]verdict.Outcome{{}, {"Q8_0": verdict.Kept}} {
		_, all = f.cycle(stopped, "2", outcomes)
		assert.Empty(t, all)
		assert.Equal(t, "Q4_K_M 1", f.served("m/stable"))
		assert.Nil(t, f.store.State().Pairs[store.PairID{Model: "m", Target: "Q4_K_M"}].Unpublished)
	}
}

// A tool that writes to a kept copy writes to the published one, too, where that is a second name
// of it: the pair fails, and what is served is said to be damaged.
func TestADamagedPublishedCopyIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		write   bool
		outcome verdict.Outcome
		want    string
	}{
		"it was written to":     {true, "", "the published copy is damaged"},
		"it was only linked":    {false, "", ""},
		"the pair did not fail": {true, verdict.Rejected, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.cycle(t.Context(), "1", map[string]verdict.Outcome{"Q4_K_M": verdict.Kept})
			id := store.PairID{Model: "m", Target: "Q4_K_M"}
			path := filepath.Join(f.store.State().Pairs[id].Published.Dir, "m-Q4_K_M.gguf")
			before, err := os.Stat(path)
			require.NoError(t, err)
			f.during = func() {
				require.NoError(t, os.Link(path, filepath.Join(f.work, "linked")))
				if test.write {
					require.NoError(t, os.WriteFile(path, []byte("Q4_K_M x"), 0o600))
				}
				require.NoError(t, os.Chtimes(path, before.ModTime(), before.ModTime()))
			}
			_, all := f.cycle(t.Context(), "2", map[string]verdict.Outcome{"Q4_K_M": test.outcome})
			pair := f.store.State().Pairs[id]
			if test.want == "" {
				assert.Empty(t, all)
				assert.Nil(t, pair.Unpublished)
				return
			}
			require.Len(t, all, 1)
			assert.Contains(t, all[0].Error, test.want)
			assert.Contains(t, all[0].Error, path)
			assert.Equal(t, all[0].Error, pair.Unpublished.Error)
		})
	}
}

func TestFailuresAreToldAndCounted(t *testing.T) {
	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("somebody asked for it"))
	for name, test := range map[string]struct {
		ctx     context.Context
		prepare func(f *fixture)
		want    string
	}{
		"it does not load": {t.Context(), func(f *fixture) { f.load = errors.New("no such tensor") }, "the copy does not load: no such tensor"},
		"no directory": {t.Context(), func(f *fixture) {
			require.NoError(f, os.RemoveAll(f.dir))
			require.NoError(f, os.WriteFile(f.dir, nil, 0o600))
		}, "making the folder to publish in"},
		"the cycle was stopped": {canceled, func(*fixture) {}, "the cycle was stopped: somebody asked for it"},
		"the copy changed":      {t.Context(), func(f *fixture) { f.holds = "abc" }, "does not hold what was measured: its SHA-256 was abc, and is "},
		"the model changed": {t.Context(), func(f *fixture) {
			f.changed = errors.New("another file now")
		}, "the model changed during the cycle: another file now"},
		"the decision is not stored": {t.Context(), func(f *fixture) { f.stored = []string{"Q2_K"} }, "the decision on Q4_K_M could not be stored"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			kept := map[string]verdict.Outcome{"Q4_K_M": verdict.Kept}
			_, all := f.cycle(t.Context(), "1", kept)
			require.Len(t, all, 1)
			require.Empty(t, all[0].Error)
			test.prepare(f)
			_, all = f.cycle(test.ctx, "2", kept)
			require.Len(t, all, 1)
			assert.Contains(t, all[0].Error, test.want)
			id := store.PairID{Model: "m", Target: "Q4_K_M"}
			state := f.store.State()
			assert.EqualValues(t, 1, state.Counters.Of(store.Counter{Kind: store.CountPublishFailure, Model: id.Model, Target: id.Target}))
			assert.NotNil(t, state.Pairs[id].Published, "what was published before stays known")
			assert.Equal(t, all[0].Error, state.Pairs[id].Unpublished.Error)
		})
	}
}
