package runner_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// pairing is an engine that measures in pairs, and otherwise is one without tools.
type pairing struct {
	*engine
	jobs []runner.RoundJob
	// paired is what a paired round does with its figures; nil leaves them.
	paired func(job runner.RoundJob, files []runner.FileRound) error
	device int64 // free memory of accelerators
}

func (e *pairing) Probe(ctx context.Context) (runner.EngineInfo, error) {
	info, err := e.engine.Probe(ctx)
	info.Unpaired = ""
	return info, err
}

func (e *pairing) FreeDeviceMemory(context.Context) (int64, error) { return e.device, nil }

func (e *pairing) Round(ctx context.Context, job runner.RoundJob, report func(int, float64)) ([]runner.FileRound, error) {
	e.jobs = append(e.jobs, job)
	if job.Method == config.MethodProcess {
		return e.engine.Round(ctx, job, report)
	}
	report(-1, 0.5)
	files := make([]runner.FileRound, len(job.Files))
	for i, file := range job.Files {
		found, err := e.benchmark(file, job.Phases)
		for n, turn := range job.Turns {
			if len(turn.Order) == 0 {
				continue
			}
			speed := found.Throughput[turn.Phase]
			found.Bursts = append(found.Bursts, runner.Burst{
				Turn: n, Phase: turn.Phase, Depth: turn.Depth, Tokens: turn.Tokens * max(turn.Clients, 1),
				Time: time.Duration(float64(turn.Tokens*max(turn.Clients, 1)) / speed * float64(time.Second)),
			})
		}
		files[i] = runner.FileRound{Sample: runner.Sample{Measurement: found}, Err: err}
	}
	if e.paired != nil {
		return files, e.paired(job, files)
	}
	return files, nil
}

// room is a host with so much free memory.
type room struct {
	quiet
	free int64
}

func (r room) FreeMemory() int64 { return r.free }

// runPaired runs the fixture's cycle on an engine that measures in pairs.
func (f *fixture) runPaired(e *pairing) map[string]runner.Result {
	f.t.Helper()
	results := map[string]runner.Result{}
	runner.New(e, f.options).Run(f.t.Context(), f.request, func(r runner.Result) { results[r.TargetFormat] = r })
	return results
}

func methods(jobs []runner.RoundJob) string {
	var all []string
	for _, job := range jobs {
		all = append(all, string(job.Method))
	}
	return strings.Join(slices.Compact(all), " then ")
}

func TestPairedWhereThatCanBe(t *testing.T) {
	f := newFixture(t, &engine{speed: factors(map[string]float64{"Q2_K.gguf": 0.5})}, "Q8_0", "Q2_K")
	e := &pairing{engine: f.engine}
	results := f.runPaired(e)
	assert.Equal(t, verdict.Kept, results["Q8_0"].Outcome())
	assert.Equal(t, verdict.Rejected, results["Q2_K"].Outcome())
	assert.Equal(t, "paired", methods(e.jobs))
	for _, r := range results {
		assert.Equal(t, config.MethodPaired, r.Evidence.Method)
		assert.Empty(t, r.Evidence.MethodReason)
		assert.Equal(t, config.MethodPaired, r.Inputs.Method)
		again := r.Evidence.Verdict()
		assert.Equal(t, *r.Verdict, again, "the evidence alone gives another verdict")
	}
	assert.Equal(t, []string{"original.gguf", "Q8_0.gguf", "Q2_K.gguf"}, e.jobs[0].Files, "all in memory together")
}

func TestMethodThatIsAskedFor(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0")
	f.request.Benchmark.Method = config.MethodProcess
	e := &pairing{engine: f.engine}
	r := f.runPaired(e)["Q8_0"]
	assert.Equal(t, "process", methods(e.jobs))
	assert.Empty(t, r.Evidence.MethodReason)

	f = newFixture(t, &engine{}, "Q8_0") // which cannot pair
	f.request.Benchmark.Method = config.MethodPaired
	failure := f.failure("Q8_0", f.run(t.Context()))
	assert.Equal(t, runner.ReasonEngineMissing, failure.Reason)
	require.ErrorContains(t, failure, "benchmark.method is paired, and the files cannot be measured in pairs: it has no server; use auto or process")

	f = newFixture(t, &engine{}, "Q8_0")
	r = f.run(t.Context())["Q8_0"]
	assert.Equal(t, config.MethodProcess, r.Evidence.Method)
	assert.Equal(t, "it has no server", r.Evidence.MethodReason)
}

func TestFilesThatDoNotFitAreMeasuredApart(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0")
	f.options.Host = room{free: 1 << 20}
	e := &pairing{engine: f.engine}
	r := f.runPaired(e)["Q8_0"]
	assert.Equal(t, "process", methods(e.jobs))
	assert.Regexp(t, `^two files take about .* of memory and .* are free$`, r.Evidence.MethodReason)

	f.request.Benchmark.Method = config.MethodPaired
	assert.Equal(t, runner.ReasonOutOfMemory, f.runPaired(e)["Q8_0"].Failure.Reason)
}

func TestMemoryOfADeviceDecidesWhereItGetsAllOfAModel(t *testing.T) {
	for name, test := range map[string]struct {
		host, device int64
		want         string
	}{
		"both fit the device":           {1 << 20, 1 << 40, "paired"},
		"the device is full":            {1 << 40, 1 << 20, "process"},
		"the device does not say":       {1 << 40, 0, "paired"},
		"nor is there room on the host": {1 << 20, 0, "process"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, &engine{}, "Q8_0")
			f.options.Host = room{free: test.host}
			e := &pairing{engine: f.engine, device: test.device}
			require.Nil(t, f.runPaired(e)["Q8_0"].Failure)
			assert.Equal(t, test.want, methods(e.jobs))
		})
	}
}

func TestAsManyFilesAtATimeAsFit(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0", "Q4_K_M", "Q2_K")
	f.options.Host = room{free: 270 << 20} // a server has some 64 MB of its own
	e := &pairing{engine: f.engine}
	results := f.runPaired(e)
	assert.Equal(t, []string{"original.gguf", "Q8_0.gguf", "Q4_K_M.gguf"}, e.jobs[0].Files)
	assert.Equal(t, []string{"original.gguf", "Q2_K.gguf"}, e.jobs[1].Files)
	for _, r := range results {
		assert.Equal(t, verdict.Kept, r.Outcome())
	}
}

func TestLoadThatFailsForMemoryFallsBackWithinTheCycle(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0", "Q4_K_M", "Q2_K")
	e := &pairing{engine: f.engine}
	e.paired = func(job runner.RoundJob, _ []runner.FileRound) error {
		if len(job.Files) > 2 {
			return &runner.Unpaired{Err: runner.Failf(runner.ReasonOutOfMemory, "no memory for %d", len(job.Files))}
		}
		return nil
	}
	results := f.runPaired(e)
	assert.Equal(t, "paired", methods(e.jobs))
	for _, r := range results {
		assert.Equal(t, verdict.Kept, r.Outcome())
	}

	e.jobs, e.paired = nil, func(runner.RoundJob, []runner.FileRound) error {
		return &runner.Unpaired{Err: runner.Failf(runner.ReasonOutOfMemory, "no memory at all")}
	}
	r := f.runPaired(e)["Q8_0"]
	assert.Equal(t, "paired then process", methods(e.jobs))
	assert.Equal(t, config.MethodProcess, r.Evidence.Method)
	assert.Contains(t, r.Evidence.MethodReason, "no memory at all")
}

func TestFiguresOfTwoMethodsAreNeverCompared(t *testing.T) {
	f := newFixture(t, &engine{speed: factors(map[string]float64{"Q8_0.gguf": 0.97})}, "Q8_0")
	e := &pairing{engine: f.engine}
	e.paired = func(_ runner.RoundJob, files []runner.FileRound) error {
		if len(e.jobs) == 3 { // after two rounds that count
			files[1].Err = runner.Failf(runner.ReasonOutOfMemory, "killed")
		}
		return nil
	}
	r := f.runPaired(e)["Q8_0"]
	assert.Equal(t, verdict.Kept, r.Outcome())
	assert.Len(t, r.Evidence.Rounds, 2+r.Verdict.Rounds)
	for i, round := range r.Evidence.Rounds {
		assert.Equal(t, i >= 2, round.Counted)
		assert.Equal(t, map[bool]config.Method{true: config.MethodProcess, false: config.MethodPaired}[round.Counted], round.Method)
	}
	assert.Equal(t, *r.Verdict, r.Evidence.Verdict())
}

func TestCopyWithLessOfADeviceIsNotComparedInPairs(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0")
	e := &pairing{engine: f.engine}
	e.paired = func(_ runner.RoundJob, files []runner.FileRound) error {
		files[0].Measurement.Offload = &runner.Offload{Layers: 33, AllLayers: 33}
		files[1].Measurement.Offload = &runner.Offload{Layers: 20, AllLayers: 33}
		return nil
	}
	r := f.runPaired(e)["Q8_0"]
	assert.Equal(t, config.MethodProcess, r.Evidence.Method)
	assert.Equal(t, "the original and the copy were not on the same devices: 33 of 33 layers on devices, and 20 of 33 layers on devices", r.Evidence.MethodReason)
}

func TestServerOfOneCopyThatFailsLeavesTheOthers(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0", "Q2_K")
	e := &pairing{engine: f.engine}
	e.paired = func(job runner.RoundJob, files []runner.FileRound) error {
		if i := slices.Index(job.Files, "Q2_K.gguf"); i >= 0 {
			files[i].Err = runner.Failf(runner.ReasonCrash, "it died")
		}
		return nil
	}
	results := f.runPaired(e)
	assert.Equal(t, verdict.Kept, results["Q8_0"].Outcome())
	assert.Equal(t, runner.ReasonCrash, results["Q2_K"].Failure.Reason)

	e.paired = func(_ runner.RoundJob, files []runner.FileRound) error {
		files[0].Err = runner.Failf(runner.ReasonBenchmark, "it printed nonsense")
		return nil
	}
	for _, r := range f.runPaired(e) {
		assert.Equal(t, runner.ReasonBenchmark, r.Failure.Reason)
		require.ErrorContains(t, r.Failure, "measuring the original: it printed nonsense")
	}
}

func TestCopyThatIsWrittenToWhileItIsMeasuredIsNotDecided(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0", "Q2_K")
	e := &pairing{engine: f.engine}
	e.paired = func(job runner.RoundJob, _ []runner.FileRound) error {
		return errors.Join(copyFile(f.model.Path, job.Dir+"/new"), os.Rename(job.Dir+"/new", job.Dir+"/Q2_K.gguf"))
	}
	results := f.runPaired(e)
	assert.Equal(t, verdict.Kept, results["Q8_0"].Outcome())
	require.NotNil(t, results["Q2_K"].Failure)
	require.ErrorContains(t, results["Q2_K"].Failure, "nothing can be said about the copy: it is no longer the file that was made")
}

func TestCopyThatIsWrittenToInPlaceIsNotDecidedWhateverItsTime(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0", "Q2_K")
	e := &pairing{engine: f.engine}
	e.paired = func(job runner.RoundJob, _ []runner.FileRound) error {
		path := filepath.Join(job.Dir, "Q2_K.gguf")
		before, err := os.Stat(path)
		if err != nil {
			return err
		}
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = file.WriteAt([]byte("x"), before.Size()-1)
		return errors.Join(err, file.Close(), os.Chtimes(path, before.ModTime(), before.ModTime()))
	}
	results := f.runPaired(e)
	assert.Equal(t, verdict.Kept, results["Q8_0"].Outcome())
	require.NotNil(t, results["Q2_K"].Failure)
	require.ErrorContains(t, results["Q2_K"].Failure, "holds something else, although its size and time of modification are what they were")
}

func TestBaselineThatIsExchangedWhileItIsMeasuredDecidesNothing(t *testing.T) {
	f := newFixture(t, &engine{}, "Q4_K_M", "Q2_K")
	f.request.Baseline = "Q8_0"
	e := &pairing{engine: f.engine}
	e.paired = func(job runner.RoundJob, _ []runner.FileRound) error {
		return errors.Join(copyFile(f.model.Path, job.Dir+"/new"), os.Rename(job.Dir+"/new", filepath.Join(job.Dir, job.Files[0])))
	}
	for _, r := range f.runPaired(e) {
		require.NotNil(t, r.Failure, r.TargetFormat)
		require.ErrorContains(t, r.Failure, "nothing can be said about the baseline, Q8_0: it is no longer the file that was made")
	}
}

func TestPairsKeepTheirOppositeOrderWhenOthersAreDecided(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0", "Q6_K", "Q4_K_M", "Q3_K_M")
	e := &pairing{engine: f.engine}
	orders := [][]string{}
	e.paired = func(job runner.RoundJob, files []runner.FileRound) error {
		order := []string{}
		for _, file := range job.Turns[0].Order {
			order = append(order, job.Files[file])
		}
		orders = append(orders, order)
		if i := slices.Index(job.Files, "Q6_K.gguf"); i >= 0 && len(orders) == 3 {
			files[i].Err = runner.Failf(runner.ReasonCrash, "it died") // between two rounds of opposite order
		}
		return nil
	}
	f.request.Benchmark.Rounds = config.Rounds{Min: 4, Max: 4}
	f.runPaired(e)
	require.GreaterOrEqual(t, len(orders), 4)
	left := slices.DeleteFunc(slices.Clone(orders[2]), func(name string) bool { return name == "Q6_K.gguf" })
	slices.Reverse(left)
	assert.Equal(t, left, orders[3])
}

func TestFurtherPhasesAreMeasuredAndJudged(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0", "Q4_K_M")
	f.request.Benchmark.Depth, f.request.Benchmark.Clients = config.Depths{0, 64}, config.Clients{1, 8}
	eight := verdict.AtOnce(8)
	e := &pairing{engine: f.engine}
	e.paired = func(_ runner.RoundJob, files []runner.FileRound) error {
		for n := range files[2].Measurement.Bursts { // Q4_K_M is slow with eight clients only
			if burst := &files[2].Measurement.Bursts[n]; burst.Phase == eight {
				burst.Time *= 2
			}
		}
		files[2].Measurement.Throughput = runner.Throughputs(files[2].Measurement.Bursts)
		return nil
	}
	results := f.runPaired(e)
	assert.Equal(t, verdict.Kept, results["Q8_0"].Outcome())
	slow := results["Q4_K_M"]
	require.Equal(t, verdict.Rejected, slow.Outcome())
	assert.Equal(t, eight, slow.Verdict.Gate)
	assert.Equal(t, *slow.Verdict, slow.Evidence.Verdict())
	var phases []verdict.Phase
	for _, p := range slow.Verdict.Phases {
		phases = append(phases, p.Phase)
	}
	assert.Equal(t, []verdict.Phase{verdict.Generation, verdict.Prompt, verdict.AtDepth(64), eight}, phases)
	primary, _ := slow.Verdict.Primary()
	assert.Equal(t, verdict.Generation, primary.Phase)
}

// A phase that is kept is not measured again, until a second set is to confirm the verdict.
func TestPhaseThatIsKeptIsNotMeasuredAgain(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0", "Q4_K_M")
	f.request.Previous = func(target string) verdict.Outcome {
		if target == "Q4_K_M" {
			return verdict.Rejected
		}
		return ""
	}
	e := &pairing{engine: f.engine}
	e.paired = func(job runner.RoundJob, files []runner.FileRound) error {
		for i := range files[1:] { // prompts are slower, by as much as a few rounds cannot tell from the limit
			m := &files[i+1].Measurement
			for n := range m.Bursts {
				if burst := &m.Bursts[n]; burst.Phase == verdict.Prompt {
					burst.Time = time.Duration(float64(burst.Time) * (1.05 + 0.015*float64((job.Number*3)%5-2)))
				}
			}
			m.Throughput = runner.Throughputs(m.Bursts)
		}
		return nil
	}
	results := f.runPaired(e)

	for target, r := range results {
		require.Equal(t, verdict.Kept, r.Outcome(), target)
		assert.Len(t, r.Verdict.Phases[0].Looks, 1, target)
		assert.Greater(t, r.Verdict.Rounds, 3, target)
		assert.Equal(t, *r.Verdict, r.Evidence.Verdict(), target)
	}
	require.Len(t, results["Q4_K_M"].Evidence.Verdicts, 2)
	rounds := results["Q8_0"].Verdict.Rounds
	require.Equal(t, rounds, results["Q4_K_M"].Evidence.Verdicts[0].Rounds)
	both, prompt := []verdict.Phase{verdict.Generation, verdict.Prompt}, []verdict.Phase{verdict.Prompt}
	for i, job := range e.jobs {
		want := prompt
		if i < 3 || i >= rounds && i < rounds+3 {
			want = both
		}
		assert.Equal(t, want, job.Phases, "round %d", i+1)
		for _, turn := range job.Turns {
			assert.Equal(t, slices.Contains(want, turn.Phase), len(turn.Order) > 0, "round %d, %s", i+1, turn.Phase)
		}
		assert.Equal(t, 1024, runner.ContextOf(job.Turns), "as in every round")
	}
}

// On a noisy host later rounds have more bursts of generation.
func TestNoisyRoundsAreFollowedByLongerOnes(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0")
	e := &pairing{engine: f.engine}
	e.paired = func(_ runner.RoundJob, files []runner.FileRound) error {
		for n := range files[1].Measurement.Bursts {
			if burst := &files[1].Measurement.Bursts[n]; burst.Phase == verdict.Generation {
				burst.Time = time.Duration(float64(burst.Time) * []float64{1.2, 0.8}[n%2])
			}
		}
		return nil
	}
	require.Equal(t, verdict.Kept, f.runPaired(e)["Q8_0"].Outcome())
	var bursts []int
	for _, job := range e.jobs {
		bursts = append(bursts, len(job.Turns)-1) // and one prompt
	}
	assert.Equal(t, []int{12, 16, 16}, bursts)
}

func TestFurtherPhasesNeedPairs(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0") // which cannot pair
	f.request.Benchmark.Clients = config.Clients{1, 8}
	failure := f.failure("Q8_0", f.run(t.Context()))
	assert.Equal(t, runner.ReasonEngineMissing, failure.Reason)
	require.ErrorContains(t, failure, "benchmark.clients and benchmark.depth with more than one value need the paired method")
	assert.Empty(t, f.engine.quantized, "it fails before a copy is made")

	f.options.Host = room{free: 1 << 20}
	e := &pairing{engine: f.engine}
	failure = f.failure("Q8_0", f.runPaired(e))
	assert.Equal(t, runner.ReasonOutOfMemory, failure.Reason)
	assert.Empty(t, e.jobs)
}

// The made-up model was trained on 4096 tokens: its header says so before anything is made.
func TestFurtherPhasesBeyondTheContextFailBeforeACopyIsMade(t *testing.T) {
	for name, benchmark := range map[string]func(*config.Benchmark){
		"a further depth":       func(b *config.Benchmark) { b.Depth = config.Depths{0, 4096} },
		"clients at some depth": func(b *config.Benchmark) { b.Depth, b.Clients = config.Depths{4090}, config.Clients{1, 8} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, &engine{}, "Q8_0")
			benchmark(&f.request.Benchmark)
			failure := f.failure("Q8_0", f.runPaired(&pairing{engine: f.engine}))
			assert.Equal(t, runner.ReasonBenchmark, failure.Reason)
			require.ErrorContains(t, failure, "tokens of context and the model was trained on 4096; give one value")
			assert.Empty(t, f.engine.quantized)
		})
	}
}

func TestCopiesThatTakeTooMuchMemoryAreRejectedAtOnce(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0", "Q2_K")
	f.request.MaxMemory = config.MaxMemory{Host: 8e9, Device: 2e9}
	e := &pairing{engine: f.engine}
	e.paired = func(_ runner.RoundJob, files []runner.FileRound) error {
		for i, bytes := range []int64{4e9, 3e9, 1e9} {
			if i < len(files) {
				files[i].Measurement.Memory = runner.Memory{Host: 5e9, Devices: map[string]int64{"CUDA0": bytes, "CUDA1": 1}}
			}
		}
		return nil
	}
	f.request.Previous = func(string) verdict.Outcome { return verdict.Kept }
	results := f.runPaired(e)
	large := results["Q8_0"]
	require.Equal(t, verdict.Rejected, large.Outcome())
	assert.Equal(t, verdict.GateMemory, large.Verdict.Gate)
	assert.Len(t, large.Evidence.Rounds, 1, "it is not measured for long, nor twice to confirm")
	assert.Equal(t, "CUDA0: 3.0 GB, limit 2.0 GB", large.Memory.Breach())
	assert.Equal(t, int64(4e9), large.Memory.Original.Device())
	assert.NotZero(t, large.Verdict.Phases[0].Quantized)
	assert.Equal(t, *large.Verdict, large.Evidence.Verdict())

	e.paired = func(_ runner.RoundJob, files []runner.FileRound) error {
		for i := range files {
			files[i].Measurement.Memory = runner.Memory{Host: 9e9}
		}
		return nil
	}
	assert.Equal(t, "host: 9.0 GB, limit 8.0 GB", f.runPaired(e)["Q8_0"].Memory.Breach())

	f.request.MaxMemory = config.MaxMemory{}
	r := f.runPaired(e)["Q8_0"]
	assert.Equal(t, verdict.Kept, r.Outcome(), "no limit")
	assert.Equal(t, map[string]int64{runner.HostMemory: 9e9}, r.Memory.Quantized.All())
}

func TestMemoryThatIsNotKnownPassesNoLimit(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0")
	f.request.MaxMemory.Host = 8e9
	failure := f.failure("Q8_0", f.runPaired(&pairing{engine: f.engine}))
	require.ErrorContains(t, failure, "max_memory.host is set, and this system does not report")

	f = newFixture(t, &engine{info: runner.EngineInfo{Devices: "CUDA0: NVIDIA"}}, "Q8_0")
	f.request.MaxMemory.Device = 8e9
	e := &pairing{engine: f.engine}
	var devices map[string]int64 // of the copy
	e.paired = func(_ runner.RoundJob, files []runner.FileRound) error {
		for i := range files { // layers alone say nothing of bytes
			files[i].Measurement.Offload = &runner.Offload{Layers: 33, AllLayers: 33}
			files[i].Measurement.Memory = runner.Memory{Host: 5e9, Devices: devices}
		}
		return nil
	}
	failure = f.failure("Q8_0", f.runPaired(e))
	require.ErrorContains(t, failure, "max_memory.device is set, and made up does not report")
	devices = map[string]int64{}
	assert.Equal(t, verdict.Kept, f.runPaired(e)["Q8_0"].Outcome(), "it takes nothing of a device, which is known")
	devices = map[string]int64{"CUDA0": 9e9}
	assert.Equal(t, verdict.GateMemory, f.runPaired(e)["Q8_0"].Verdict.Gate)
}

// A choice may go by a limit that was not there when the copy was measured: what is stored tells a
// figure of 0 from none.
func TestStoredResultsSayWhetherTheFigureOfDevicesIsKnown(t *testing.T) {
	limited := choice.Limited(choice.Smallest, choice.Limits{Device: 8e9})
	for name, test := range map[string]struct {
		inputs  *runner.Inputs
		devices map[string]int64
		want    bool
	}{
		"a part is on a device":       {&runner.Inputs{Devices: "CUDA0: NVIDIA"}, map[string]int64{"CUDA0": 7e9}, true},
		"too large a part":            {&runner.Inputs{Devices: "CUDA0: NVIDIA"}, map[string]int64{"CUDA0": 9e9}, false},
		"all of it is on the host":    {&runner.Inputs{Devices: "CUDA0: NVIDIA"}, map[string]int64{}, true},
		"llama-bench does not say":    {&runner.Inputs{Devices: "CUDA0: NVIDIA"}, nil, false},
		"there is no device":          {&runner.Inputs{}, nil, true},
		"nobody knows of any devices": {nil, nil, false},
	} {
		text, err := json.Marshal(runner.Result{
			Verdict: &verdict.Verdict{Outcome: verdict.Kept}, Inputs: test.inputs,
			Memory: &runner.MemoryFigures{Quantized: runner.Memory{Host: 9e9, Devices: test.devices}},
		})
		require.NoError(t, err)
		var stored runner.Result
		require.NoError(t, json.Unmarshal(text, &stored))
		assert.Equal(t, test.want, limited.Chooses(stored.Candidate()), name)
	}
}
