package runner_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	prom "github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// engine is an engine without tools: it copies files instead of quantizing them, and
// its throughputs are what the test says.
type engine struct {
	probe    func() error
	info     runner.EngineInfo // what of it the tests set
	size     func(format string) (int64, bool)
	refuse   string // a format whose size it does not tell but fails
	quantize func(job runner.QuantizeJob) error
	// speed of the n-th measurement (from 0) of a file, in tokens per second.
	speed    func(file string, n int) (float64, error)
	measured runner.Measurement // what of it the tests set
	// quality of a file; nil evaluates nothing.
	quality    func(file string) (quality.Chunk, error)
	perplexity float64 // of the original; 0 is 10
	predict    error
	quantized  []string // formats in the order in which they were made
	evaluated  []string // files in the order in which they were evaluated
	measure    []string // files in the order in which they were measured
	counts     map[string]int
}

func (*engine) FreeDeviceMemory(context.Context) (int64, error) { return 0, nil }

func (e *engine) Probe(context.Context) (runner.EngineInfo, error) {
	var err error
	if e.probe != nil {
		err = e.probe()
	}
	info := e.info
	info.Unpaired = "it has no server"
	info.Name, info.Formats = "made up", []runner.Format{
		{Name: "F16"}, {Name: "Q8_0"}, {Name: "Q4_K", Alias: "Q4_K_M"}, {Name: "Q4_K_M"}, {Name: "Q2_K"}, {Name: "IQ2_XS", NeedsImatrix: true},
	}
	return info, err
}

func (e *engine) QuantizedSize(_ context.Context, job runner.QuantizeJob) (int64, bool, error) {
	if _, err := os.Stat(filepath.Join(job.Dir, job.Input)); err != nil {
		return 0, false, err
	}
	if job.Format == e.refuse {
		return 0, false, runner.Failf(runner.ReasonQuantize, "needs an importance matrix")
	}
	if e.size == nil {
		return 1000, true, nil
	}
	bytes, exact := e.size(job.Format)
	return bytes, exact, nil
}

func (e *engine) Quantize(_ context.Context, job runner.QuantizeJob, report func(done, total int)) (runner.ToolRun, error) {
	report(1, 1)
	e.quantized = append(e.quantized, job.Format)
	run := runner.ToolRun{Args: []string{"quantize", job.Format}}
	if e.quantize != nil {
		return run, e.quantize(job)
	}
	return run, makeCopy(job)
}

func (e *engine) QuantizeArgs(_ context.Context, job runner.QuantizeJob) ([]string, error) {
	return []string{"quantize", job.Format}, nil
}

func (e *engine) Round(_ context.Context, job runner.RoundJob, report func(int, float64)) ([]runner.FileRound, error) {
	files := make([]runner.FileRound, len(job.Files))
	for n, i := range job.Order {
		report(i, (float64(n)+0.5)/float64(len(job.Order)))
		observed, started := job.Observe(), time.Now()
		measured, err := e.benchmark(job.Files[i], job.Phases)
		files[i] = runner.FileRound{Sample: runner.Sample{Started: started, Measurement: measured, Load: observed(0, e.info.Threads)}, Err: err}
		if err != nil && i == 0 {
			break
		}
	}
	return files, nil
}

func (e *engine) benchmark(file string, phases []verdict.Phase) (runner.Measurement, error) {
	if e.counts == nil {
		e.counts = map[string]int{}
	}
	n := e.counts[file]
	e.counts[file]++
	e.measure = append(e.measure, file)
	speed, err := e.speed(file, n)
	throughput := map[verdict.Phase]float64{}
	for _, phase := range phases {
		throughput[phase] = speed
	}
	found := e.measured
	found.Throughput, found.Threads = throughput, 1
	return found, err
}

func (e *engine) PredictionsSize(_ context.Context, job runner.EvaluateJob) (int64, error) {
	return job.Vocabulary * int64(job.Chunks), nil
}

func (e *engine) Predict(_ context.Context, job runner.EvaluateJob) (runner.ToolRun, error) {
	e.evaluated = append(e.evaluated, job.Model)
	if e.predict != nil {
		return runner.ToolRun{}, e.predict
	}
	return runner.ToolRun{Args: []string{"predict"}}, copyFile(filepath.Join(job.Dir, job.Corpus), filepath.Join(job.Dir, job.Predictions))
}

func (e *engine) Evaluate(_ context.Context, job runner.EvaluateJob) (runner.Evaluation, error) {
	e.evaluated = append(e.evaluated, job.Model)
	if _, err := os.Stat(filepath.Join(job.Dir, job.Predictions)); err != nil {
		return runner.Evaluation{}, err
	}
	chunk, err := e.quality(job.Model)
	result := runner.Evaluation{Perplexity: 11, OriginalPerplexity: cmp.Or(e.perplexity, 10), Run: runner.ToolRun{Args: []string{"evaluate", job.Model}}}
	for i := range job.Chunks {
		c := chunk
		c.KLDivergence *= 1 + 0.05*float64(i%5-2)
		result.Chunks = append(result.Chunks, c)
	}
	return result, err
}

// fileTypes are what files of the formats say to be.
var fileTypes = map[string]byte{"F16": 1, "Q8_0": 7, "Q2_K": 10, "Q4_K_M": 15, "IQ2_XS": 20}

// makeCopy makes a copy as a tool would, but for the types of its tensors.
func makeCopy(job runner.QuantizeJob) error {
	content, err := os.ReadFile(filepath.Join(job.Dir, job.Input))
	if err != nil {
		return err
	}
	const key = "general.file_type"
	if at := bytes.Index(content, []byte(key)); at >= 0 {
		content[at+len(key)+4] = fileTypes[job.Format]
	}
	return os.WriteFile(filepath.Join(job.Dir, job.Output), content, 0o600)
}

// makeSmallCopy makes a copy that is as small as a copy of any format.
func makeSmallCopy(t *testing.T, job runner.QuantizeJob) error {
	shape := gguftest.Tiny()
	shape.Weights, shape.FileType = gguf.Q2_K, uint32(fileTypes[job.Format])
	gguftest.Model(shape).Write(t, filepath.Join(job.Dir, job.Output))
	return nil
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o600)
}

// factors gives every file the original's speed times its factor, with a little noise
// that differs from run to run and is the same in every test run.
func factors(f map[string]float64) func(string, int) (float64, error) {
	return func(file string, n int) (float64, error) {
		factor, ok := f[file]
		if !ok {
			factor = 1
		}
		return 100 * factor * (1 + 0.002*float64((n*7)%5-2)), nil
	}
}

// fixture is a model on disk and a runner for it.
type fixture struct {
	t       *testing.T
	model   model.Model
	options runner.Options
	engine  *engine
	request runner.Request
	// passed are the targets that were passed over, as "target by target".
	passed []string
}

func newFixture(t *testing.T, e *engine, targets ...string) *fixture {
	t.Helper()
	dir := t.TempDir()
	path := gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(dir, "models", "tiny.gguf"))
	found, err := model.Discover(filepath.Dir(path), false, nil)
	require.NoError(t, err)
	require.Len(t, found.Models, 1)
	if e.speed == nil {
		e.speed = factors(nil)
	}
	f := &fixture{t: t, model: found.Models[0], engine: e, options: runner.Options{WorkDir: filepath.Join(dir, "work"), Isolation: disk.Auto}}
	f.request = runner.Request{Model: f.model, Targets: targets, Settings: config.DefaultSettings()}
	return f
}

// run runs the cycle and sees that nothing of it is left.
func (f *fixture) run(ctx context.Context) map[string]runner.Result {
	f.t.Helper()
	results := map[string]runner.Result{}
	f.passed = nil
	f.request.PassedOver = func(by string, targets []string) {
		assert.Empty(f.t, f.passed, "called a second time")
		for _, target := range targets {
			assert.NotContains(f.t, results, target)
			f.passed = append(f.passed, target+" for "+by)
		}
	}
	runner.New(f.engine, f.options).Run(ctx, f.request, func(r runner.Result) {
		assert.NotContains(f.t, results, r.TargetFormat, "a second result")
		results[r.TargetFormat] = r
	})
	assert.Len(f.t, results, len(f.request.Targets)-len(f.passed))
	left, err := filepath.Glob(filepath.Join(f.options.WorkDir, "cycle-*"))
	require.NoError(f.t, err)
	assert.Empty(f.t, left, "the working directory is still there")
	return results
}

func (f *fixture) failure(target string, results map[string]runner.Result) *runner.Failure {
	f.t.Helper()
	r := results[target]
	require.NotNil(f.t, r.Failure, "%s did not fail: %v", target, r.Outcome())
	assert.Nil(f.t, r.Verdict)
	return r.Failure
}

func TestLadderDecidesEveryTargetByItself(t *testing.T) {
	e := &engine{speed: factors(map[string]float64{"Q8_0.gguf": 1.4, "Q2_K.gguf": 0.7})}
	results := newFixture(t, e, "Q8_0", "Q2_K").run(t.Context())

	assert.Equal(t, verdict.Kept, results["Q8_0"].Outcome())
	assert.Equal(t, verdict.Rejected, results["Q2_K"].Outcome())
	worst := results["Q2_K"].Verdict.Worst()
	assert.InDelta(t, 0.3, worst.Drop, 0.01)
	assert.Equal(t, "F16", results["Q2_K"].SourceFormat)
	assert.Positive(t, results["Q2_K"].Quantized.Bytes)
	assert.Positive(t, results["Q2_K"].Original.Parameters)
}

func TestOriginalServesTheLadderInTurnedOrder(t *testing.T) {
	// Q2_K is clear at once; Q8_0 has a drop near the threshold and needs more rounds.
	e := &engine{speed: func(file string, n int) (float64, error) {
		speed := 100 * (1 + 0.01*float64((n*7)%5-2))
		switch file {
		case "Q8_0.gguf":
			speed = 91 * (1 + 0.02*float64((n*3)%5-2))
		case "Q2_K.gguf":
			speed *= 2
		}
		return speed, nil
	}}
	f := newFixture(t, e, "Q8_0", "Q2_K")
	results := f.run(t.Context())

	require.Less(t, results["Q2_K"].Verdict.Rounds, results["Q8_0"].Verdict.Rounds)
	assert.Equal(t, results["Q8_0"].Verdict.Rounds, e.counts["original.gguf"], "one original a round, for all targets")
	assert.Equal(t, results["Q2_K"].Verdict.Rounds, e.counts["Q2_K.gguf"], "a decided target is not measured any more")
	forward := []string{"original.gguf", "Q8_0.gguf", "Q2_K.gguf"}
	for i, round := range results["Q8_0"].Evidence.Rounds {
		order, first := slices.Clone(forward), runner.StageOriginal
		if verdict.QuantizedFirst(f.request.OrderSeed, i) {
			slices.Reverse(order)
			first = runner.StageQuantized
		}
		assert.Equal(t, first, round.First, "round %d", i+1)
		if i < results["Q2_K"].Verdict.Rounds {
			assert.Equal(t, order, e.measure[3*i:3*i+3], "round %d", i+1)
		}
	}
}

func TestChangeOfTheStandingDecisionIsConfirmed(t *testing.T) {
	slower := map[string]float64{"Q2_K.gguf": 0.7}
	tests := []struct {
		name        string
		previous    verdict.Outcome
		speed       func(string, int) (float64, error)
		want        verdict.Outcome
		sets        int
		unconfirmed bool
	}{
		{"same decision", verdict.Rejected, factors(slower), verdict.Rejected, 1, false},
		{"first decision", "", factors(slower), verdict.Rejected, 1, false},
		{"confirmed", verdict.Kept, factors(slower), verdict.Rejected, 2, false},
		{"not confirmed", verdict.Kept, func(file string, n int) (float64, error) {
			if file == "Q2_K.gguf" && n < 3 { // only the first set sees it slow
				return 70, nil
			}
			return 100, nil
		}, verdict.Inconclusive, 2, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, &engine{speed: tt.speed}, "Q2_K")
			f.request.Previous = func(target string) verdict.Outcome {
				assert.Equal(t, "Q2_K", target)
				return tt.previous
			}
			r := f.run(t.Context())["Q2_K"]
			assert.Equal(t, tt.want, r.Outcome())
			assert.Equal(t, tt.unconfirmed, r.Unconfirmed)
			assert.Equal(t, tt.previous, r.Previous)
			assert.Len(t, r.Evidence.Verdicts, tt.sets)
			// The figures come from the last set alone.
			assert.Equal(t, r.Evidence.Verdicts[tt.sets-1].Phases, r.Verdict.Phases)
		})
	}
}

func TestEvidenceAloneGivesTheVerdictAgain(t *testing.T) {
	for _, previous := range []verdict.Outcome{"", verdict.Kept, verdict.Rejected} {
		t.Run("previous "+string(previous), func(t *testing.T) {
			f := newFixture(t, &engine{speed: factors(map[string]float64{"Q2_K.gguf": 0.8})}, "Q8_0", "Q2_K")
			f.request.Previous = func(string) verdict.Outcome { return previous }
			for _, r := range f.run(t.Context()) {
				text, err := json.Marshal(r.Evidence)
				require.NoError(t, err)
				var read runner.Evidence
				require.NoError(t, json.Unmarshal(text, &read))
				assert.Equal(t, *r.Verdict, read.Verdict(), r.TargetFormat)
			}
		})
	}
}

// quiet is a host that has nothing to tell.
type quiet struct{}

func (quiet) String() string  { return "" }
func (quiet) Machine() string { return "" }
func (quiet) Driver() string  { return "" }
func (quiet) Observe() func(time.Duration, int) *host.Load {
	return func(time.Duration, int) *host.Load { return nil }
}
func (quiet) WaitIdle(context.Context, time.Duration) (bool, error) { return true, nil }
func (quiet) Pin(int, int) []int                                    { return nil }
func (quiet) FreeMemory() int64                                     { return 0 }

// lock is a measurement lock that nobody else has.
type lock func() (release func(), err error)

func (l lock) Acquire(context.Context, bool, func(disk.Holder)) (func(), error) { return l() }

// load is a host whose n-th observation returns what the test says.
type load struct {
	quiet
	n     int
	share func(n int) float64
}

func (l *load) Observe() func(time.Duration, int) *host.Load {
	share := l.share(l.n)
	l.n++
	return func(time.Duration, int) *host.Load { return &host.Load{Share: share} }
}

func TestContaminatedRoundIsRepeated(t *testing.T) {
	e := &engine{speed: func(file string, n int) (float64, error) {
		if n == 1 { // while others took the CPU
			return map[string]float64{"Q2_K.gguf": 10, "original.gguf": 100}[file], nil
		}
		return 100, nil
	}}
	f := newFixture(t, e, "Q2_K")
	// The third run is one of the two in the second round.
	f.options.Host = &load{share: func(n int) float64 { return map[bool]float64{true: 0.5}[n == 2] }}
	r := f.run(t.Context())["Q2_K"]

	assert.Equal(t, verdict.Kept, r.Outcome())
	var counted []bool
	for _, round := range r.Evidence.Rounds {
		counted = append(counted, round.Counted)
	}
	assert.Equal(t, []bool{true, false, true, true}, counted)
	assert.InDelta(t, 0, r.Verdict.Worst().Drop, 1e-9, "the contaminated round was used")
}

func TestRepeatedRoundsAreBounded(t *testing.T) {
	f := newFixture(t, &engine{}, "Q2_K")
	f.options.Host = &load{share: func(int) float64 { return 1 }}
	r := f.run(t.Context())["Q2_K"]

	assert.Equal(t, verdict.Kept, r.Outcome())
	assert.Len(t, r.Evidence.Rounds, 4*r.Verdict.Rounds)
	for i, round := range r.Evidence.Rounds {
		assert.Equal(t, i%4 == 3, round.Counted, "measurement %d: each round is repeated three times, then it counts", i+1)
	}
}

func TestBudgetEndsAHopelessCase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// A drop of exactly the threshold, and noise: no number of rounds decides it.
		e := &engine{speed: func(file string, n int) (float64, error) {
			time.Sleep(time.Minute)
			if file == "Q2_K.gguf" {
				return 88 * (1 + 0.05*float64(n%2*2-1)), nil
			}
			return 100, nil
		}}
		f := newFixture(t, e, "Q2_K")
		f.request.Benchmark.Budget = prom.Duration(11 * time.Minute)
		begin := time.Now()
		r := f.run(t.Context())["Q2_K"]

		assert.Equal(t, verdict.Inconclusive, r.Outcome())
		assert.Len(t, r.Evidence.Rounds, 5, "a sixth round of two minutes would end after 12")
		assert.Equal(t, 10*time.Minute, time.Since(begin))
		assert.Equal(t, 10*time.Minute, r.Durations[runner.OperationBenchmark])
		worst := r.Verdict.Worst()
		require.NotNil(t, worst.Lower)
		require.NotNil(t, worst.Upper)
		assert.Positive(t, r.Verdict.Resolvable)
	})
}

func TestBudgetThatLeavesNoRoundToConfirm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{speed: func(file string, _ int) (float64, error) {
			time.Sleep(time.Minute)
			return map[string]float64{"Q2_K.gguf": 50, "original.gguf": 100}[file], nil
		}}
		f := newFixture(t, e, "Q2_K")
		f.request.Benchmark.Budget = prom.Duration(7 * time.Minute) // three rounds, and no fourth
		f.request.Previous = func(string) verdict.Outcome { return verdict.Kept }
		r := f.run(t.Context())["Q2_K"]

		assert.Equal(t, verdict.Inconclusive, r.Outcome())
		assert.True(t, r.Unconfirmed)
		assert.Equal(t, 3, r.Verdict.Rounds, "the figures come from the first set")
		assert.InDelta(t, 0.5, r.Verdict.Worst().Drop, 1e-9)
		assert.Empty(t, r.Verdict.Gate)
		assert.Equal(t, *r.Verdict, r.Evidence.Verdict())
	})
}

func TestModelExchangedSinceItWasFound(t *testing.T) {
	f := newFixture(t, &engine{}, "Q2_K")
	other := gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(t.TempDir(), "other.gguf"))
	require.NoError(t, os.Rename(other, f.model.Path))
	failure := f.failure("Q2_K", f.run(t.Context()))
	assert.Equal(t, runner.ReasonSourceChanged, failure.Reason)
	assert.ErrorContains(t, failure, "is another file now")
}

// threads is a host that notes the numbers of threads of its measurements.
type threads struct {
	quiet
	threads []int
}

func (o *threads) Observe() func(time.Duration, int) *host.Load {
	return func(_ time.Duration, n int) *host.Load {
		o.threads = append(o.threads, n)
		return nil
	}
}

func TestLoadIsJudgedByTheThreadsThatWereAskedFor(t *testing.T) {
	// The engine leaves the number to its tool, as with a GPU: what the tool reports is
	// then not what works on the measurement.
	f := newFixture(t, &engine{}, "Q2_K")
	observer := &threads{}
	f.options.Host = observer
	f.run(t.Context())
	require.NotEmpty(t, observer.threads)
	for _, n := range observer.threads {
		assert.Zero(t, n)
	}
}

func TestHopelessCaseEndsAtTheLastRound(t *testing.T) {
	e := &engine{speed: func(file string, n int) (float64, error) {
		if file == "Q2_K.gguf" {
			return 88 * (1 + 0.05*float64(n%2*2-1)), nil
		}
		return 100, nil
	}}
	f := newFixture(t, e, "Q2_K")
	r := f.run(t.Context())["Q2_K"]
	assert.Equal(t, verdict.Inconclusive, r.Outcome())
	assert.False(t, r.Unconfirmed)
	assert.Equal(t, f.request.Benchmark.Rounds.Max, r.Verdict.Rounds)
}

func TestFailureOfOneTargetLeavesTheOthers(t *testing.T) {
	tests := []struct {
		name   string
		engine *engine
		reason runner.Reason
		want   string
	}{
		{"the tool fails", &engine{quantize: func(job runner.QuantizeJob) error {
			if job.Format == "Q2_K" {
				return runner.Failf(runner.ReasonCrash, "died of SIGSEGV")
			}
			return makeCopy(job)
		}}, runner.ReasonCrash, "quantizing to Q2_K: died of SIGSEGV"},
		{"the tool refuses before", &engine{refuse: "Q2_K"}, runner.ReasonQuantize, "asking for the size of Q2_K: needs an importance matrix"},
		{"no file", &engine{quantize: func(job runner.QuantizeJob) error {
			if job.Format == "Q2_K" {
				return nil
			}
			return makeCopy(job)
		}}, runner.ReasonQuantize, "left no file"},
		{"a truncated file", &engine{quantize: func(job runner.QuantizeJob) error {
			out := filepath.Join(job.Dir, job.Output)
			err := makeCopy(job)
			if job.Format == "Q2_K" {
				err = errors.Join(err, os.Truncate(out, 100_000))
			}
			return err
		}}, runner.ReasonQuantize, "not whole"},
		{"the benchmark fails", &engine{speed: func(file string, _ int) (float64, error) {
			if file == "Q2_K.gguf" {
				return 0, runner.Failf(runner.ReasonTimeout, "took too long")
			}
			return 100, nil
		}}, runner.ReasonTimeout, "measuring Q2_K: took too long"},
		{"an absurd figure", &engine{speed: func(file string, _ int) (float64, error) {
			return map[bool]float64{true: -1, false: 100}[file == "Q2_K.gguf"], nil
		}}, runner.ReasonBenchmark, "no usable throughput"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, tt.engine, "Q8_0", "Q2_K")
			results := f.run(t.Context())
			failure := f.failure("Q2_K", results)
			assert.Equal(t, tt.reason, failure.Reason)
			require.ErrorContains(t, failure, tt.want)
			assert.Equal(t, verdict.Kept, results["Q8_0"].Outcome())
		})
	}
}

func TestTargetThatCannotBeMadeFailsAlone(t *testing.T) {
	for target, want := range map[string]string{
		"Q2_L":   `"Q2_L" is not a format that this made up makes`,
		"IQ2_XS": "IQ2_XS is useless without an importance matrix",
		"q8_0":   `the targets "Q8_0" and "q8_0" are the same format`,
	} {
		f := newFixture(t, &engine{}, "Q8_0", target)
		results := f.run(t.Context())
		failure := f.failure(target, results)
		assert.Equal(t, runner.ReasonQuantize, failure.Reason)
		require.ErrorContains(t, failure, want)
		assert.Equal(t, verdict.Kept, results["Q8_0"].Outcome(), target)
	}
}

func TestFailureOfTheWholeCycle(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(f *fixture)
		reason  runner.Reason
		want    string
	}{
		{"bad model", func(f *fixture) {
			f.request.Model = model.Model{Name: "bad", Err: errors.New("cut off")}
		}, runner.ReasonBadModel, "cut off"},
		{"engine missing", func(f *fixture) {
			f.engine.probe = func() error { return runner.Failf(runner.ReasonEngineMissing, "no llama-bench") }
		}, runner.ReasonEngineMissing, "no llama-bench"},
		{"original cannot be measured", func(f *fixture) {
			f.engine.speed = func(file string, _ int) (float64, error) {
				if file == "original.gguf" {
					return 0, runner.Failf(runner.ReasonOutOfMemory, "out of memory")
				}
				return 100, nil
			}
		}, runner.ReasonOutOfMemory, "measuring the original: out of memory"},
		{"no space, by an exact figure", func(f *fixture) {
			f.engine.size = func(string) (int64, bool) { return 1 << 60, true }
		}, runner.ReasonNoSpace, "the cycle needs exactly 2305843009213.7 MB (2305843009213693952 bytes) in"},
		{"model is changed while measuring", func(f *fixture) {
			f.engine.speed = func(string, int) (float64, error) {
				return 100, os.Chtimes(f.model.Path, time.Time{}, time.Unix(1, 0))
			}
		}, runner.ReasonSourceChanged, "was modified at"},
		{"model grows while quantizing", func(f *fixture) {
			f.engine.quantize = func(job runner.QuantizeJob) error {
				err := makeCopy(job)
				return errors.Join(err, os.Truncate(f.model.Path, 1<<22))
			}
		}, runner.ReasonSourceChanged, "size"},
		{"model is deleted, and the tool fails of it", func(f *fixture) {
			f.engine.speed = func(string, int) (float64, error) {
				return 0, errors.Join(os.Remove(f.model.Path), runner.Failf(runner.ReasonBenchmark, "failed to load model"))
			}
		}, runner.ReasonSourceChanged, "tiny.gguf"},
		{"model is gone before", func(f *fixture) {
			require.NoError(f.t, os.Remove(f.model.Path))
		}, runner.ReasonSourceChanged, "tiny.gguf"},
		{"panic", func(f *fixture) {
			f.engine.speed = func(string, int) (float64, error) { panic("oops") }
		}, runner.ReasonInternal, "oops"},
		{"unknown error", func(f *fixture) {
			f.options.Lock = lock(func() (func(), error) { return nil, errors.New("odd") })
		}, runner.ReasonInternal, "odd"},
		{"reflink where there is none", func(f *fixture) {
			f.options.Isolation = "teleport"
		}, runner.ReasonInternal, "teleport"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, &engine{}, "Q8_0", "Q2_K")
			tt.prepare(f)
			results := f.run(t.Context())
			for _, target := range []string{"Q8_0", "Q2_K"} {
				failure := f.failure(target, results)
				assert.Equal(t, tt.reason, failure.Reason, failure)
				require.ErrorContains(t, failure, tt.want)
			}
		})
	}
}

func TestCancelledCycleFailsAsCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := newFixture(t, &engine{speed: func(_ string, n int) (float64, error) {
		if n == 1 {
			cancel()
			return 0, ctx.Err()
		}
		return 100, nil
	}}, "Q2_K")
	released := false
	f.options.Lock = lock(func() (func(), error) { return func() { released = true }, nil })
	assert.Equal(t, runner.ReasonCanceled, f.failure("Q2_K", f.run(ctx)).Reason)
	assert.True(t, released, "the measurement lock is still held")
}

func TestUpperBoundServesWhereTheToolCannotTell(t *testing.T) {
	f := newFixture(t, &engine{size: func(string) (int64, bool) { return 0, false }, quantize: func(job runner.QuantizeJob) error { return makeSmallCopy(t, job) }}, "Q2_K")
	assert.Equal(t, verdict.Kept, f.run(t.Context())["Q2_K"].Outcome())
}

func TestSplitSetKeepsItsShardNames(t *testing.T) {
	dir := t.TempDir()
	for i, file := range gguftest.Split(gguftest.Model(gguftest.Tiny()), 2) {
		file.Write(t, filepath.Join(dir, "models", fmt.Sprintf("a, b-%05d-of-00002.gguf", i+1)))
	}
	found, err := model.Discover(filepath.Join(dir, "models"), false, nil)
	require.NoError(t, err)
	require.Len(t, found.Models, 1)
	shape := gguftest.Tiny()
	shape.FileType = uint32(fileTypes["Q2_K"])
	whole := gguftest.Model(shape)
	e := &engine{speed: factors(nil), quantize: func(job runner.QuantizeJob) error {
		assert.Equal(t, "original-00001-of-00002.gguf", job.Input)
		assert.FileExists(t, filepath.Join(job.Dir, "original-00002-of-00002.gguf"))
		whole.Write(t, filepath.Join(job.Dir, job.Output))
		return nil
	}}
	f := &fixture{t: t, engine: e, options: runner.Options{WorkDir: filepath.Join(dir, "work"), Isolation: disk.Auto}}
	f.request = runner.Request{Model: found.Models[0], Targets: []string{"Q2_K"}, Settings: config.DefaultSettings()}
	r := f.run(t.Context())["Q2_K"]
	assert.Equal(t, verdict.Kept, r.Outcome())
	assert.Len(t, r.Evidence.Source, 2)
}

func TestSourceIsNeverWritten(t *testing.T) {
	for _, mode := range []disk.Mode{disk.Auto, disk.Link, disk.Symlink, disk.Copy} {
		t.Run(string(mode), func(t *testing.T) {
			f := newFixture(t, &engine{}, "Q2_K")
			f.options.Isolation = mode
			before, err := os.ReadFile(f.model.Path)
			require.NoError(t, err)
			r := f.run(t.Context())["Q2_K"]
			require.Nil(t, r.Failure)
			after, err := os.ReadFile(f.model.Path)
			require.NoError(t, err)
			assert.Equal(t, before, after)
			if mode != disk.Auto {
				assert.Equal(t, string(mode), r.Evidence.Isolation)
			}
		})
	}
}

func TestFormatsAreThoseTheEngineMakes(t *testing.T) {
	tests := []struct {
		targets []string
		want    string
	}{
		{[]string{"q2_k", "Q4_K"}, ""}, // in any case, and by an alias
		{[]string{"Q2_L"}, `"Q2_L" is not a format that this made up makes; it makes F16, IQ2_XS, Q2_K, Q4_K, Q4_K_M, Q8_0`},
		{[]string{"IQ2_XS"}, "importance matrix"},
		{[]string{"Q4_K", "q4_k_m"}, "the same format"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.targets, " "), func(t *testing.T) {
			names, err := runner.Formats(t.Context(), &engine{}, tt.targets, nil)
			if tt.want == "" {
				require.NoError(t, err)
				assert.Equal(t, []string{"Q2_K", "Q4_K_M"}, names)
				return
			}
			require.ErrorContains(t, err, tt.want)
			var failure *runner.Failure
			require.NotErrorAs(t, err, &failure, "a wrong target is the user's mistake, not a failed cycle")
		})
	}
}

func TestProgressGrowsToTheNextLook(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0", "Q2_K")
	var last runner.Progress
	f.request.Progress = func(p runner.Progress) {
		assert.GreaterOrEqual(t, p.Done, 0.0)
		assert.LessOrEqual(t, p.Done, 1.0)
		if p.Operation == runner.OperationBenchmark && last.Operation == p.Operation {
			assert.GreaterOrEqual(t, p.Done, last.Done, "after %+v came %+v", last, p)
		}
		last = p
	}
	f.run(t.Context())
	assert.Equal(t, "round 3", last.Detail)
}

func TestMeasureNoise(t *testing.T) {
	e := &engine{}
	f := newFixture(t, e)
	noise, err := runner.New(e, f.options).MeasureNoise(t.Context(), f.request, 5)
	require.NoError(t, err)
	assert.Len(t, noise.Rounds, 5)
	for _, round := range noise.Rounds {
		assert.Len(t, round.Quantized.Measurement.Throughput, 2, "phases, also those that a cycle would have settled")
	}
	assert.Equal(t, config.MethodProcess, noise.Method)
	assert.Equal(t, "it has no server", noise.Reason)
	assert.Len(t, e.measure, 10)
	for _, file := range e.measure {
		assert.Equal(t, "original.gguf", file)
	}

	e.speed = func(string, int) (float64, error) { return 0, runner.Failf(runner.ReasonCrash, "died") }
	_, err = runner.New(e, f.options).MeasureNoise(t.Context(), f.request, 5)
	var failure *runner.Failure
	require.ErrorAs(t, err, &failure)
	assert.Equal(t, runner.ReasonCrash, failure.Reason)
}

func TestNoiseIsMeasuredAsNearTheThreshold(t *testing.T) {
	e := &pairing{engine: &engine{}}
	e.paired = func(_ runner.RoundJob, files []runner.FileRound) error {
		bursts := files[1].Measurement.Bursts
		for i := range bursts {
			bursts[i].Time += bursts[i].Time / 10 * time.Duration(i%2)
		}
		return nil
	}
	f := newFixture(t, e.engine)
	f.request.Threshold = 0.5
	_, err := runner.New(e, f.options).MeasureNoise(t.Context(), f.request, 5)
	require.NoError(t, err)
	bursts := 0
	for _, turn := range e.jobs[len(e.jobs)-1].Turns {
		if turn.Phase == verdict.Generation {
			bursts++
		}
	}
	assert.Equal(t, 16, bursts, "far from a threshold of 0.5 there would be 8")
}
