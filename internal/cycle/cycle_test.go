package cycle

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// scripted is a Runner that does what a test says.
type scripted func(req runner.Request, emit func(runner.Result))

func (s scripted) Run(_ context.Context, req runner.Request, emit func(runner.Result)) {
	s(req, emit)
}

func (s scripted) Inputs(context.Context, runner.Request) (runner.Inputs, error) {
	return runner.Inputs{}, nil
}

// shown is a Watcher that counts results, and panics at the begin of one if it is to.
type shown struct {
	results []runner.Result
	panics  bool
}

func (s *shown) Began(uint64)                        {}
func (s *shown) Progress(runner.Progress)            {}
func (s *shown) PassedOver(string, string, []string) {}
func (s *shown) Result(r runner.Result, _ store.Committed) {
	if s.panics {
		s.panics = false
		panic("a defect of what shows results")
	}
	s.results = append(s.results, r)
}

// broken is a store that panics instead of committing results.
type broken struct{ *store.Store }

func (broken) Commit(uint64, *runner.Result) (store.Committed, error) {
	panic("a defect of the store")
}

// Wherever a cycle panics, and whoever runs it, the cycle ends, its targets have a result, its
// log has the stack, and the next cycle runs.
func TestAPanicEndsItsCycleOnly(t *testing.T) {
	kept := func(target string) runner.Result { return *result(target, verdict.Kept, 1000) }
	for name, test := range map[string]struct {
		run     scripted
		shows   bool // the watcher panics
		commits bool // the store panics
		decided int
	}{
		"before a result":   {run: func(runner.Request, func(runner.Result)) { panic("a defect") }},
		"after a result":    {run: func(_ runner.Request, emit func(runner.Result)) { emit(kept("Q2_K")); panic("a defect") }, decided: 1},
		"showing a result":  {run: func(_ runner.Request, emit func(runner.Result)) { emit(kept("Q2_K")); emit(kept("Q8_0")) }, shows: true, decided: 1},
		"storing a result":  {run: func(_ runner.Request, emit func(runner.Result)) { emit(kept("Q2_K")); emit(kept("Q8_0")) }, commits: true},
		"storing a failure": {run: func(runner.Request, func(runner.Result)) { panic("a defect") }, commits: true},
	} {
		for _, policy := range []string{"strict", "retry"} {
			t.Run(name+", "+policy, func(t *testing.T) {
				f := newFixture(t)
				log := NewLog(slog.DiscardHandler)
				logger := slog.New(log)
				cycles := &Cycles{Store: f.store, Log: log, Writes: Strict{logger}}
				if policy == "retry" {
					cycles.Writes = NewRetry(f.store.CountSkipped, logger)
				}
				if test.commits {
					cycles.Store = broken{f.store}
				}
				job := Job{Model: f.model, Targets: []string{"Q2_K", "Q8_0"}, Runner: test.run}
				_, err := cycles.Run(t.Context(), job, &shown{panics: test.shows})
				if test.commits && policy == "strict" {
					require.ErrorContains(t, err, "this is a defect of quant-exporter")
				} else {
					require.NoError(t, err)
				}

				stored, records, _, err := f.store.Cycle(1)
				require.NoError(t, err)
				assert.NotNil(t, stored.Ended)
				require.Len(t, records, 2)
				decided := 0
				for _, r := range records {
					if r.Failure == nil {
						decided++
						continue
					}
					assert.Equal(t, runner.ReasonInternal, r.Failure.Reason)
					assert.Contains(t, r.Failure.Error(), "this is a defect")
				}
				assert.Equal(t, test.decided, decided)
				text, err := f.store.Log(1)
				require.NoError(t, err)
				assert.Contains(t, text, "stack=")
				assert.Contains(t, text, "cycle_test.go")

				job.Runner = scripted(func(_ runner.Request, emit func(runner.Result)) { emit(kept("Q2_K")); emit(kept("Q8_0")) })
				cycles.Store = f.store
				watcher := &shown{}
				_, err = cycles.Run(t.Context(), job, watcher)
				require.NoError(t, err)
				assert.Len(t, watcher.results, 2)
			})
		}
	}
}

// A failure that comes before the inputs are known depends on files and settings.
func TestWhatEarlyFailuresDependOn(t *testing.T) {
	base := func() (config.Entry, model.Planned) {
		c := config.Default()
		return c.NewEntry(1, false), model.Planned{Model: model.Model{Name: "m", IDs: []model.FileID{{Path: "/m.gguf", Size: 1}}}}
	}
	of := func(change func(*config.Entry, *model.Planned)) string {
		entry, m := base()
		change(&entry, &m)
		return NewJob(entry, m, nil, 0).DependsOn
	}
	same := of(func(*config.Entry, *model.Planned) {})
	assert.Equal(t, same, of(func(e *config.Entry, m *model.Planned) { e.Line, m.Targets = 7, []string{"Q8_0"} }))
	for name, change := range map[string]func(*config.Entry, *model.Planned){
		"another file":     func(_ *config.Entry, m *model.Planned) { m.IDs = []model.FileID{{Path: "/m.gguf", Size: 2}} },
		"a file beside it": func(_ *config.Entry, m *model.Planned) { m.Against = &m.Model },
		"a setting":        func(e *config.Entry, _ *model.Planned) { e.Baseline = "BF16" },
		"the engine":       func(e *config.Entry, _ *model.Planned) { e.Engine.Imatrix = "{model}.imatrix" },
		"requantizing":     func(e *config.Entry, _ *model.Planned) { e.AllowRequantize = true },
	} {
		changed := of(change)
		assert.NotEmpty(t, changed)
		assert.NotEqual(t, same, changed, name)
	}
	assert.Empty(t, of(func(_ *config.Entry, m *model.Planned) { m.Class = "h100" }), "a worker's files are its own")
}
