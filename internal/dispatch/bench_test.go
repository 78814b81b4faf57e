package dispatch

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	prom "github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// BenchmarkUnchanged is a run of an entry whose one model, of five targets, has not
// changed: from its fire to the end, with the models looked for, the tools looked at, and
// what was skipped stored. The model's hash is known.
func BenchmarkUnchanged(b *testing.B) {
	targets := []string{"Q8_0", "Q6_K", "Q4_K_M", "Q3_K_M", "Q2_K"}
	dir := b.TempDir()
	file := gguftest.Model(gguftest.Tiny()).Write(b, filepath.Join(dir, "tiny.gguf"))
	hourAgo := time.Now().Add(-time.Hour)
	require.NoError(b, os.Chtimes(file, hourAgo, hourAgo))
	quiet := slog.New(slog.DiscardHandler)
	state, err := store.Open(b.TempDir(), store.Options{})
	require.NoError(b, err)
	defer state.Close()

	cfg := config.DefaultEngine()
	cfg.Dir = fakellama.Build(b)
	cycles := runner.New(llamacpp.New(cfg, llamacpp.Threads{Measuring: 1, Preparing: 1}, quiet), runner.Options{Hashes: state, Logger: quiet})
	entry := config.Entry{
		Entry: schedule.Entry{Name: "nightly"}, Models: []string{"*"}, Targets: targets,
		Settings: config.DefaultSettings(),
	}
	entry.FreshFor = prom.Duration(time.Hour)
	finder := model.NewFinder(&config.Config{Models: config.Models{Dir: dir}, Schedule: []config.Entry{entry}}, quiet)
	p, err := finder.Plan(nil)
	require.NoError(b, err)
	d := New(state, cycle.NewLog(slog.DiscardHandler))
	d.Configure(Config{
		Entries: []config.Entry{entry}, Models: finder,
		Runners: map[string]cycle.Runner{entry.Name: cycles}, Engine: usable,
	}, p)
	decide(b, state, cycles, entry, p.Entries[0].Models[0])
	before, err := state.Cycles(0, 0)
	require.NoError(b, err)

	fires := 0
	for b.Loop() {
		d.mu.Lock()
		d.running = &Running{Entry: entry.Name}
		d.mu.Unlock()
		d.run(b.Context(), job{Fire: schedule.Fire{Entry: entry.Name, Due: time.Now()}, runner: cycles}, entry)
		fires++
	}
	after, err := state.Cycles(0, 0)
	require.NoError(b, err)
	require.Equal(b, before, after, "a cycle has begun")
	require.Equal(b, uint64(fires*len(targets)), state.State().Counters.Of(store.Counter{Kind: store.CountSkipped, Entry: "nightly", By: string(store.SkipUnchanged)}))
}

// decide stores that every target was kept, with the inputs of now.
func decide(b *testing.B, state *store.Store, cycles cycle.Runner, entry config.Entry, m model.Planned) {
	b.Helper()
	inputs, err := cycles.Inputs(b.Context(), runner.Request{Model: m.Model, Settings: entry.Settings})
	require.NoError(b, err)
	id, err := state.BeginCycle(store.Cycle{Entry: entry.Name, Model: m.Name, Targets: m.Targets})
	require.NoError(b, err)
	for _, target := range m.Targets {
		_, err := state.Commit(id, &runner.Result{
			Model: m.Name, SourceFormat: "F16", TargetFormat: target, Threshold: 0.12, Finished: time.Now(), Inputs: &inputs,
			Verdict: &verdict.Verdict{Outcome: verdict.Kept, Rounds: 3},
		})
		require.NoError(b, err)
	}
	require.NoError(b, state.EndCycle(id, nil))
}
