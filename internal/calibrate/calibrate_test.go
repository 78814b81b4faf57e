package calibrate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"path/filepath"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/test/golden"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

func benchmark(minRounds, maxRounds int) config.Benchmark {
	b := config.DefaultBenchmark()
	b.Rounds = config.Rounds{Min: minRounds, Max: maxRounds}
	return b
}

// rounds of which each is so much slower or faster, in turn, that the log ratios are
// ±noise; both phases alike.
func rounds(n int, throughput, noise float64) []runner.Round {
	sample := func(v float64) runner.Sample {
		return runner.Sample{Measurement: runner.Measurement{Throughput: map[verdict.Phase]float64{verdict.Generation: v, verdict.Prompt: 8 * v}}}
	}
	all := make([]runner.Round, n)
	for i := range all {
		all[i] = runner.Round{Set: 1, Counted: true, Original: sample(throughput), Quantized: sample(throughput * math.Exp(noise))}
		noise = -noise
	}
	return all
}

func TestRow(t *testing.T) {
	t.Run("figures", func(t *testing.T) {
		// Four values of ±0.03 have a standard deviation of 0.03·√(4/3).
		measured := append(rounds(4, 100, 0.03), runner.Round{Original: rounds(1, 1, 0)[0].Original})
		r := row(2, runner.Noise{Rounds: measured, Method: config.MethodPaired, Took: 20 * time.Second}, benchmark(3, 56))
		assert.Equal(t, 2, r.Threads)
		assert.Equal(t, config.MethodPaired, r.Method)
		assert.InEpsilon(t, 5, r.Seconds, 1e-12)
		assert.Equal(t, 4, r.Rounds)
		assert.Equal(t, 1, r.Repeated)
		require.Len(t, r.Phases, 2)
		for i, name := range []verdict.Phase{verdict.Generation, verdict.Prompt} {
			p := r.Phases[i]
			assert.Equal(t, name, p.Phase)
			assert.InEpsilon(t, []float64{100, 800}[i], p.Throughput, 1e-12)
			assert.InEpsilon(t, 0.03*math.Sqrt(4./3), p.Spread, 1e-9)
		}
	})
	t.Run("no noise at all", func(t *testing.T) {
		p := row(1, runner.Noise{Rounds: rounds(8, 100, 0)}, benchmark(3, 56)).Phases[0]
		assert.Zero(t, p.Spread)
		for _, at := range p.Resolves {
			assert.Positive(t, at.Drop, "nothing is known for certain")
			assert.Less(t, at.Drop, 0.05)
		}
	})
	t.Run("noise beyond all bounds", func(t *testing.T) {
		measured := rounds(4, 100, 0)
		measured[0].Quantized.Measurement.Throughput[verdict.Generation] = 1e12
		measured[1].Quantized.Measurement.Throughput[verdict.Generation] = 1e-9
		p := row(1, runner.Noise{Rounds: measured}, benchmark(3, 56)).Phases[0]
		assert.False(t, math.IsInf(p.Spread, 0) || math.IsNaN(p.Spread))
		assert.InDelta(t, 1, p.Resolves[0].Drop, 1e-6)
	})
	t.Run("figures that are none", func(t *testing.T) {
		measured := rounds(4, 100, 0.03)
		measured[0].Original.Measurement.Throughput[verdict.Prompt] = math.NaN()
		report := Report{Threshold: 0.12, MaxRounds: 56, Threads: []Row{row(1, runner.Noise{Rounds: measured}, benchmark(3, 56))}}
		report.recommend()
		_, err := json.Marshal(report)
		assert.NoError(t, err)
	})
}

func TestResolutions(t *testing.T) {
	for name, c := range map[string]struct {
		min, max int
		rounds   []int
	}{
		"default":           {3, 56, []int{4, 8, 20, 56}},
		"max among them":    {3, 20, []int{4, 8, 20}},
		"max below":         {3, 6, []int{4, 6, 8, 20}},
		"min leaves some":   {10, 56, []int{20, 56}},
		"nothing but max":   {30, 56, []int{56}},
		"min is one of it":  {8, 8, []int{8, 20}},
		"as few as they go": {3, 3, []int{3, 4, 8, 20}},
	} {
		t.Run(name, func(t *testing.T) {
			var at []int
			last := 1.0
			for _, r := range resolutions(benchmark(c.min, c.max).Decision(anyThreshold), 0.03) {
				at = append(at, r.Rounds)
				assert.Less(t, r.Drop, last, "%d rounds resolve more than fewer", r.Rounds)
				last = r.Drop
			}
			assert.Equal(t, c.rounds, at)
		})
	}
}

// threads is a row that resolves so much within 56 rounds, and much less within fewer.
func threads(n int, speed, resolves float64) Row {
	at := []Resolution{{Rounds: 4, Drop: 0.9}, {Rounds: 8, Drop: 0.8}, {Rounds: 20, Drop: 0.7}, {Rounds: 56, Drop: resolves}}
	return Row{Threads: n, Rounds: 8, Phases: []Phase{
		{Phase: verdict.Generation, Throughput: speed, Spread: resolves, Resolves: []Resolution{{Rounds: 56, Drop: resolves / 2}}},
		{Phase: verdict.Prompt, Throughput: 9 * speed, Spread: resolves, Resolves: at},
	}}
}

func TestRecommend(t *testing.T) {
	for name, c := range map[string]struct {
		rows        []Row
		recommended int
		warns       bool
	}{
		"the fastest of equally quiet ones":     {[]Row{threads(1, 10, 0.05), threads(3, 25, 0.05), threads(4, 20, 0.05)}, 3, false},
		"a little more noise is none":           {[]Row{threads(1, 10, 0.05), threads(4, 20, 0.0625)}, 4, false},
		"much more is":                          {[]Row{threads(1, 10, 0.05), threads(4, 20, 0.0626)}, 1, false},
		"the fewest of equally fast ones":       {[]Row{threads(4, 20, 0.05), threads(2, 20, 0.05), threads(3, 20, 0.05)}, 2, false},
		"at the threshold":                      {[]Row{threads(1, 10, 0.12), threads(2, 9, 0.12)}, 1, false},
		"above the threshold":                   {[]Row{threads(1, 10, 0.1201), threads(2, 9, 0.1201)}, 1, true},
		"only one number tried":                 {[]Row{threads(64, 10, 0.05)}, 0, false},
		"only one, and noisy":                   {[]Row{threads(64, 10, 0.1201)}, 0, true},
		"the one that is chosen is what counts": {[]Row{threads(1, 10, 0.11), threads(2, 20, 0.13)}, 2, true},
		"nothing resolved":                      {[]Row{threads(2, 20, 1), threads(1, 10, 1)}, 2, true},
		"no figures beside some":                {[]Row{{Threads: 8}, threads(2, 20, 0.05)}, 2, false},
		"no figures":                            {[]Row{{Threads: 8}, {Threads: 9}}, 8, true},
		"nothing measured":                      {nil, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := Report{Threshold: 0.12, MaxRounds: 56, Threads: c.rows}
			r.recommend()
			assert.Equal(t, c.recommended, r.Recommended)
			assert.Equal(t, c.warns, r.Warning != "", r.Warning)
		})
	}
}

func TestTheWarningIsAboutTheRoundsThatACycleTakes(t *testing.T) {
	r := Report{Threshold: 0.12, MaxRounds: 56, Threads: []Row{threads(1, 10, 0.1534)}}
	r.recommend()
	assert.Equal(t, "within 56 rounds (benchmark.rounds.max) this host tells only 0.85× or less from 1×, and a copy is rejected at 0.88×: expect inconclusive cycles; free the host of other work, measure more tokens, or raise benchmark.rounds.max", r.Warning)

	r = Report{Threshold: 0.12, MaxRounds: 20, Threads: []Row{threads(1, 10, 0.01)}}
	r.Threads[0].Phases = r.Threads[0].Phases[1:]
	r.recommend()
	assert.Contains(t, r.Warning, "within 20 rounds (benchmark.rounds.max) this host tells only 0.30× or less", "what 56 would resolve is of no use")
}

// found is a report with figures of its own: what a verdict computes is not tested here.
func found() *Report {
	phases := func(speed, spread float64, resolves ...float64) []Phase {
		at := []Resolution{{Rounds: 4, Drop: resolves[0]}, {Rounds: 8, Drop: resolves[1]}, {Rounds: 20, Drop: resolves[2]}, {Rounds: 56, Drop: resolves[3]}}
		return []Phase{
			{Phase: verdict.Generation, Throughput: speed, Spread: spread, Resolves: at, Within: at[1:3]},
			{Phase: verdict.Prompt, Throughput: 8 * speed, Spread: 2 * spread, Resolves: at, Within: at[1:3]},
		}
	}
	r := &Report{Model: "llama-7b", Format: "F16", Threshold: 0.12, MaxRounds: 56, Threads: []Row{
		{Threads: 1, Method: config.MethodPaired, Rounds: 8, Seconds: 7.5, Phases: phases(4, 0.015, 0.072, 0.026, 0.013, 0.007)},
		{Threads: 7, Method: config.MethodProcess, Rounds: 8, Seconds: 61.25, Repeated: 2, Phases: phases(13.5, 0.25, 1, 0.542, 0.315, 0.187)},
	}}
	r.recommend()
	return r
}

func written(t *testing.T, r *Report) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, r.WriteText(&out))
	return out.String()
}

func TestWriteText(t *testing.T) {
	golden.Check(t, "quiet.txt", written(t, found()))

	noisy := found()
	noisy.Threads[0] = noisy.Threads[1]
	noisy.Threads[0].Threads = 6
	noisy.recommend()
	golden.Check(t, "noisy.txt", written(t, noisy))

	one := found()
	one.Threads, one.Recommended = one.Threads[:1], 0
	one.recommend()
	assert.NotContains(t, written(t, one), "Recommended")

	for line := range bytes.Lines([]byte(written(t, found()))) {
		assert.LessOrEqual(t, utf8.RuneCount(line), 121, "%s", line)
	}

	evil := found()
	evil.Model = "\x1b[2J\u202e\n"
	assert.Contains(t, written(t, evil), `"\x1b[2J\u202e\n" (F16)`)
}

func TestWriteJSON(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, found().WriteJSON(&out))
	golden.Check(t, "report.json", out.String())
}

type full struct{}

var errFull = errors.New("no space left on device")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestErrorsOfTheWriterAreNotLost(t *testing.T) {
	assert.ErrorIs(t, found().WriteText(full{}), errFull)
	assert.ErrorIs(t, found().WriteJSON(full{}), errFull)
}

func TestDefaultThreads(t *testing.T) {
	for cores, want := range map[int][]int{0: {1}, 1: {1}, 2: {1, 2}, 3: {1, 2, 3}, 4: {1, 2, 3, 4}, 16: {1, 8, 15, 16}} {
		assert.Equal(t, want, append([]int{}, DefaultThreads(cores)...), "%d cores", cores)
	}
}

// engine measures without a tool: the same speed always, more with more threads.
type engine struct {
	threads int
	err     error
}

func (engine) FreeDeviceMemory(context.Context) (int64, error) { return 0, nil }

func (e engine) Probe(context.Context) (runner.EngineInfo, error) {
	return runner.EngineInfo{Name: "fake"}, nil
}

func (e engine) QuantizeArgs(context.Context, runner.QuantizeJob) ([]string, error) {
	return nil, errors.ErrUnsupported
}

func (e engine) PredictionsSize(context.Context, runner.EvaluateJob) (int64, error) {
	panic("calibrating evaluates nothing")
}

func (e engine) Predict(context.Context, runner.EvaluateJob) (runner.ToolRun, error) {
	panic("calibrating evaluates nothing")
}

func (e engine) Evaluate(context.Context, runner.EvaluateJob) (runner.Evaluation, error) {
	panic("calibrating evaluates nothing")
}

func (e engine) QuantizedSize(context.Context, runner.QuantizeJob) (int64, bool, error) {
	return 0, true, errors.New("not asked for in a calibration")
}

func (e engine) Quantize(context.Context, runner.QuantizeJob, func(done, total int)) (runner.ToolRun, error) {
	return runner.ToolRun{}, errors.New("not asked for in a calibration")
}

func (e engine) Round(_ context.Context, job runner.RoundJob, report func(int, float64)) ([]runner.FileRound, error) {
	report(-1, 0.5)
	throughput := map[verdict.Phase]float64{}
	for _, phase := range job.Phases {
		throughput[phase] = 10 * float64(e.threads)
	}
	file := runner.FileRound{Sample: runner.Sample{Measurement: runner.Measurement{Throughput: throughput, Threads: e.threads}}, Err: e.err}
	return []runner.FileRound{file, file}, nil
}

// options calibrate the bundled model on an engine of ours.
func options(t *testing.T, err error) Options {
	t.Helper()
	path, absErr := filepath.Abs("../../examples/models/kjv-4m-f16.gguf")
	require.NoError(t, absErr)
	models, selectErr := model.Found{}.Select([]string{path})
	require.NoError(t, selectErr)
	require.Len(t, models, 1)
	return Options{
		Model: models[0], Rounds: 4, Threads: []int{1, 2}, CPUs: 2, Benchmark: benchmark(3, 56), Threshold: 0.12,
		Runner: func(threads int) *runner.Runner {
			return runner.New(engine{threads, err}, runner.Options{WorkDir: t.TempDir(), Isolation: disk.Symlink})
		},
	}
}

func TestRun(t *testing.T) {
	o := options(t, nil)
	var mu sync.Mutex
	details := map[string]bool{}
	o.Progress = func(now runner.Progress) {
		mu.Lock()
		defer mu.Unlock()
		details[now.Detail] = true
	}
	found, err := Run(t.Context(), o)
	require.NoError(t, err)
	assert.Equal(t, "kjv-4m-f16", found.Model)
	assert.Equal(t, "F16", found.Format)
	assert.Equal(t, 56, found.MaxRounds)
	require.Len(t, found.Threads, 4)
	for i, row := range found.Threads {
		assert.Equal(t, i/2+1, row.Threads)
		assert.Equal(t, []config.Method{config.MethodPaired, config.MethodProcess}[i%2], row.Method)
		assert.Equal(t, 4, row.Rounds)
		assert.InEpsilon(t, 10*float64(i/2+1), row.Phases[0].Throughput, 1e-12)
		assert.Zero(t, row.Phases[0].Spread)
		assert.Equal(t, []int{60, 300}, []int{row.Phases[0].Within[0].Seconds, row.Phases[0].Within[1].Seconds})
	}
	assert.Equal(t, 2, found.Recommended)
	assert.Equal(t, config.MethodPaired, found.RecommendedMethod)
	assert.Empty(t, found.Warning)
	assert.Contains(t, details, "1 thread, round 1")
	assert.Contains(t, details, "2 threads, round 4")
}

func TestMethodsThatAreMeasured(t *testing.T) {
	o := options(t, nil)
	o.Benchmark.Method = config.MethodProcess
	found, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Len(t, found.Threads, 2, "only the method that is asked for")
	assert.Empty(t, found.Unpaired)

	o = options(t, nil)
	o.Runner = func(threads int) *runner.Runner {
		return runner.New(unpaired{engine{threads: threads}}, runner.Options{WorkDir: t.TempDir(), Isolation: disk.Symlink})
	}
	found, err = Run(t.Context(), o)
	require.NoError(t, err)
	require.Len(t, found.Threads, 2)
	assert.Equal(t, config.MethodProcess, found.Threads[0].Method)
	assert.Contains(t, written(t, found), "Not measured in pairs: there is no llama-server.\n")
}

// unpaired is an engine that cannot measure in pairs.
type unpaired struct{ engine }

func (unpaired) Probe(context.Context) (runner.EngineInfo, error) {
	return runner.EngineInfo{Name: "fake", Unpaired: "there is no llama-server"}, nil
}

func TestWithin(t *testing.T) {
	c := benchmark(3, 56).Decision(anyThreshold)
	at := within(c, 0.01, 2)
	assert.Equal(t, Resolution{Rounds: 30, Seconds: 60, Drop: verdict.Resolvable(c, 0.01, 30)}, at[0])
	assert.Equal(t, Resolution{Rounds: 56, Seconds: 300, Drop: verdict.Resolvable(c, 0.01, 56)}, at[1], "no more than a cycle takes")
	assert.Equal(t, []Resolution{{Rounds: 0, Seconds: 60, Drop: 1}, {Rounds: 2, Seconds: 300, Drop: 1}}, within(c, 0.01, 120), "fewer than the first look needs")
	assert.InDelta(t, 1, within(c, 0.01, 0)[0].Drop, 0, "a time that is not known")
}

func TestRunFailsWithItsMeasurement(t *testing.T) {
	_, err := Run(t.Context(), options(t, runner.Failf(runner.ReasonCrash, "died of signal 11")))
	require.ErrorContains(t, err, "against itself with 1 thread: ")
	require.ErrorContains(t, err, "died of signal 11")
	var failure *runner.Failure
	require.ErrorAs(t, err, &failure)
	assert.Equal(t, runner.ReasonCrash, failure.Reason)
}

func TestOptionsAreCheckedBeforeAnythingIsMeasured(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"--rounds 3: a spread needs 4 to 100 rounds":   func(o *Options) { o.Rounds = 3 },
		"--rounds 101: a spread needs 4 to 100 rounds": func(o *Options) { o.Rounds = 101 },
		"--threads 0: use 1 or more":                   func(o *Options) { o.Threads = []int{1, 0} },
		"--threads 2 is given twice":                   func(o *Options) { o.Threads = []int{2, 1, 2} },
		"--threads 64: this host has 2 logical CPUs":   func(o *Options) { o.Threads = []int{1, 64} },
		"--threads: give at least one":                 func(o *Options) { o.Threads = nil },
		"benchmark.alpha: ":                            func(o *Options) { o.Benchmark.Alpha = math.NaN() },
		"benchmark.phases: ":                           func(o *Options) { o.Benchmark.Phases = nil },
		"such as 0.12 for 12 %":                        func(o *Options) { o.Threshold = math.NaN() },
	} {
		t.Run(want, func(t *testing.T) {
			o := options(t, nil)
			o.Runner = func(int) *runner.Runner {
				t.Error("a runner was asked for")
				return nil
			}
			change(&o)
			_, err := Run(t.Context(), o)
			assert.ErrorContains(t, err, want)
		})
	}
}
