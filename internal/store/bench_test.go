package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// realistic is a result of eight rounds in two phases, with all that they leave behind.
func realistic(model, target string, outcome verdict.Outcome) *runner.Result {
	r := decided(model, target, outcome)
	sample := func(file string) runner.Sample {
		return runner.Sample{
			Started: start(),
			Measurement: runner.Measurement{
				Throughput: map[verdict.Phase]float64{verdict.Generation: 41.234567890123, verdict.Prompt: 312.34567890123},
				Bursts: []runner.Burst{
					{Turn: 0, Phase: verdict.Generation, Tokens: 1024, Time: 24_832_123_456},
					{Turn: 1, Phase: verdict.Prompt, Tokens: 1024, Time: 3_278_123_456},
				},
				Build: 11669, Commit: "0123456", Backends: "CPU", CPU: "A processor with a name of a usual length @ 2.60GHz", Threads: 7,
				Run: runner.ToolRun{
					Args: []string{"llama-bench", "-m", file, "-o", "json", "-r", "1", "-p", "1024", "-n", "1024", "-b", "1024", "-ub", "1024", "-t", "7"},
					Wall: 31 * time.Second, CPUTime: 217 * time.Second,
				},
			},
			Load: &host.Load{Others: 0.0123456789, Steal: 0.00123456789, Share: 0.00176367},
		}
	}
	r.Evidence.Rounds = nil
	for range 8 {
		r.Evidence.Rounds = append(r.Evidence.Rounds, runner.Round{
			Set: 1, First: runner.StageOriginal, Counted: true, Original: sample("original.gguf"), Quantized: sample("quantized.gguf"),
		})
	}
	for i := range r.Verdict.Phases {
		for _, rounds := range []int{3, 4, 6, 8} {
			lower, upper := 0.1, 0.2
			r.Verdict.Phases[i].Looks = append(r.Verdict.Phases[i].Looks,
				verdict.Look{Rounds: rounds, Alpha: 0.005625, Mean: -0.123456789012, SE: 0.0123456789012, Lower: &lower, Upper: &upper, Outcome: verdict.GoOn})
		}
	}
	r.Evidence.Verdicts = []verdict.Verdict{*r.Verdict}
	return r
}

// BenchmarkCommit is the whole transaction, on the disk, in a state of 500 pairs.
func BenchmarkCommit(b *testing.B) {
	s := filled(b, b.TempDir(), 500, 1)
	results := []*runner.Result{realistic("model 0", "Q2_K", verdict.Kept), realistic("model 0", "Q2_K", verdict.Rejected)}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		id := begin(b, s, "model 0", "Q2_K")
		b.StartTimer()
		if _, err := s.Commit(id, results[i%2]); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		require.NoError(b, s.EndCycle(id, nil))
		b.StartTimer()
	}
}

func BenchmarkState(b *testing.B) {
	s := filled(b, b.TempDir(), 10, 1)
	b.ReportAllocs()
	for b.Loop() {
		if s.State() == nil {
			b.Fatal("no state")
		}
	}
}

// BenchmarkOpen opens a state of 500 pairs with 20 results each.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s := filled(b, dir, 500, 20)
	require.NoError(b, s.Close())
	b.ReportAllocs()
	for b.Loop() {
		s, err := Open(dir, Options{Bus: true})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		require.Len(b, s.State().Pairs, 500)
		require.NoError(b, s.Close())
		b.StartTimer()
	}
}

// filled makes a state, in one transaction.
func filled(b *testing.B, dir string, pairs, results int) *Store {
	b.Helper()
	s, err := Open(dir, Options{Bus: true, Retention: config.DefaultRetention(), Now: (&clock{start()}).Now})
	require.NoError(b, err)
	b.Cleanup(func() { _ = s.Close() })
	for n := range results {
		require.NoError(b, s.update("filling", func(d *draft) error {
			for i := range pairs {
				id, err := d.bucket(bucketCycles).NextSequence()
				if err != nil {
					return err
				}
				model := fmt.Sprintf("model %d", i)
				c := Cycle{ID: id, Model: model, Targets: []string{"Q2_K"}, Undecided: []string{"Q2_K"}, Started: d.now}
				if _, err := d.commit(&c, realistic(model, "Q2_K", []verdict.Outcome{verdict.Kept, verdict.Rejected}[(n/5)%2])); err != nil {
					return err
				}
				running, err := d.running(id)
				if err != nil {
					return err
				}
				if err := d.end(running, nil, nil); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return s
}
