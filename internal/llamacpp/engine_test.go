package llamacpp_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

const bundledModel = "../../examples/models/kjv-4m-f16.gguf"

// place is a working directory with the bundled model as original.gguf, and a fake
// llama.cpp.
type place struct {
	dir, tools string
	config     config.Engine
}

func newPlace(t *testing.T, behaviour fakellama.Behaviour) *place {
	t.Helper()
	p := &place{dir: t.TempDir(), tools: fakellama.BuildWith(t, behaviour), config: config.DefaultEngine()}
	p.config.Dir = p.tools
	source, err := filepath.Abs(bundledModel)
	require.NoError(t, err)
	require.NoError(t, os.Symlink(source, filepath.Join(p.dir, "original.gguf")))
	return p
}

func (p *place) engine() *llamacpp.Engine {
	return llamacpp.New(p.config, llamacpp.Threads{Measuring: 3, Preparing: 4}, slog.New(slog.DiscardHandler))
}

func (p *place) quantizeJob() runner.QuantizeJob {
	return runner.QuantizeJob{Dir: p.dir, Input: "original.gguf", Output: "copy.gguf", Format: "Q2_K"}
}

// roundJob is a round of the process method with one file.
func (p *place) roundJob() runner.RoundJob {
	return runner.RoundJob{
		Dir: p.dir, Files: []string{"original.gguf"}, Order: []int{0}, Method: config.MethodProcess,
		Observe:      unobserved,
		Phases:       []verdict.Phase{verdict.Generation, verdict.Prompt},
		PromptTokens: 128, GenerationTokens: 64,
	}
}

// unobserved tells nothing of the load.
func unobserved() func(time.Duration, int) *host.Load {
	return func(time.Duration, int) *host.Load { return nil }
}

// measure measures the one file of a job.
func measure(ctx context.Context, engine *llamacpp.Engine, job runner.RoundJob, report func(float64)) (runner.Measurement, error) {
	files, err := engine.Round(ctx, job, func(_ int, done float64) { report(done) })
	if err != nil {
		return runner.Measurement{}, err
	}
	return files[0].Measurement, files[0].Err
}

// lastArgs are the arguments of the last run of a tool's step.
func (p *place) lastArgs(t *testing.T, tool, step string) string {
	t.Helper()
	calls := fakellama.Calls(t, p.tools)
	for _, call := range slices.Backward(calls) {
		if call.Tool == tool && call.Step == step {
			return strings.Join(call.Args, " ")
		}
	}
	require.Fail(t, "no such call", "%s %s", tool, step)
	return ""
}

func noTensors(int, int)   {}
func noProgress(_ float64) {}

func requireFailure(t *testing.T, err error, reason runner.Reason, texts ...string) {
	t.Helper()
	require.Error(t, err)
	var failure *runner.Failure
	require.ErrorAs(t, err, &failure)
	assert.Equal(t, reason, failure.Reason, err)
	for _, text := range texts {
		assert.ErrorContains(t, err, text)
	}
}

func TestProbe(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	info, err := p.engine().Probe(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "llama.cpp", info.Name)
	assert.Equal(t, "0.7.0", info.Version)
	assert.Equal(t, 11669, info.Build)
	assert.Equal(t, "fake", info.Commit)
	assert.Contains(t, info.Formats, runner.Format{Name: "Q4_K", Alias: "Q4_K_M"})
	assert.Equal(t, 3, info.Threads)
	assert.False(t, info.Imatrix)
}

// What results depend on is reported, without secrets, and without what differs from
// terminal to terminal.
func TestProbeTellsTheArguments(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	info, err := p.engine().Probe(t.Context())
	require.NoError(t, err)
	assert.Empty(t, info.Files)
	before := info.Arguments

	t.Setenv("OMP_NUM_THREADS", "2")
	t.Setenv("PATH", os.Getenv("PATH")+":/elsewhere")
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/1")
	t.Setenv("LC_ALL", "C.UTF-8")
	types := filepath.Join(t.TempDir(), "types.txt")
	require.NoError(t, os.WriteFile(types, []byte("attn_v=q8_0"), 0o600))
	p.config.BenchArgs, p.config.QuantizeArgs, p.config.EvaluateArgs = []string{"-fa", "1"}, []string{"--tensor-type-file", types}, []string{"-nr"}
	p.config.Env = map[string]string{"CUDA_VISIBLE_DEVICES": "1", "HF_TOKEN": "geheim", "PROXY": "http://user:geheim@proxy"}
	p.config.Imatrix = filepath.Join(t.TempDir(), "imatrix.gguf")
	require.NoError(t, os.WriteFile(p.config.Imatrix, nil, 0o600))
	info, err = p.engine().Probe(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"imatrix": p.config.Imatrix, "quantize_args " + types: types}, info.Files, "what they hold counts")
	added := maps.Clone(info.Arguments)
	maps.DeleteFunc(added, func(name, value string) bool { return before[name] == value })
	assert.Regexp(t, "^sha256:[0-9a-f]{12}$", added["env.PROXY"])
	delete(added, "env.PROXY")
	assert.Equal(t, map[string]string{
		"bench_args": "[-fa 1]", "quantize_args": "[--tensor-type-file " + types + "]", "evaluate_args": "[-nr]", "env.CUDA_VISIBLE_DEVICES": "1", "env.OMP_NUM_THREADS": "2",
	}, added)
	assert.NotContains(t, fmt.Sprint(info.Arguments), "geheim")
}

func TestProbeOfOldBuilds(t *testing.T) {
	for _, age := range []fakellama.Age{fakellama.Old, fakellama.IK} {
		t.Run(string(age), func(t *testing.T) {
			info, err := newPlace(t, fakellama.Behaviour{Build: age}).engine().Probe(t.Context())
			require.NoError(t, err)
			assert.Empty(t, info.Version)
			assert.Zero(t, info.Build)
			assert.NotEmpty(t, info.Formats)
		})
	}
}

func TestProbeAsksOncePerBinary(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	other := fakellama.Build(t)
	p.config.SandboxReads = []string{other}
	engine := p.engine()
	for range 3 {
		_, err := engine.Probe(t.Context())
		require.NoError(t, err)
	}
	assert.Len(t, fakellama.Calls(t, p.tools), 4, "help of both, version and devices of one")

	// The tool is exchanged for another file.
	path := filepath.Join(p.tools, "llama-bench")
	require.NoError(t, os.Remove(path))
	script := "#!/bin/sh\nexec '" + filepath.Join(other, "llama-bench") + "' \"$@\"\n"
	require.NoError(t, os.WriteFile(path, []byte(script), 0o700))
	_, err := engine.Probe(t.Context())
	require.NoError(t, err)
	assert.Len(t, fakellama.Calls(t, other), 3, "the new one was asked for its help, version and devices")
}

func TestFreeDeviceMemory(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{GPU: true})
	for range 2 {
		_, err := p.engine().Probe(t.Context())
		require.NoError(t, err)
	}
	assert.Len(t, fakellama.Calls(t, p.tools), 2*4, "a probe does not ask what is free: it is made also where nothing is measured")
	for _, test := range []struct {
		args []string
		want int64
	}{{nil, 142634 << 20}, {[]string{"-fa", "1"}, 142634 << 20}, {[]string{"-ngl", "20"}, 0}, {[]string{"--n-cpu-moe", "8"}, 0}} {
		p.config.BenchArgs = test.args
		free, err := p.engine().FreeDeviceMemory(t.Context())
		require.NoError(t, err)
		assert.Equal(t, test.want, free, test.args)
	}
}

func TestProbeFindsNoTools(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})

	p.config.Dir = t.TempDir()
	_, err := p.engine().Probe(t.Context())
	requireFailure(t, err, runner.ReasonEngineMissing,
		"llama-quantize is not in "+p.config.Dir, "llama-bench is not in", "brew install llama.cpp", "--llamacpp.dir", "LLAMA_CPP_DIR")

	t.Setenv("PATH", t.TempDir())
	p.config.Dir = ""
	_, err = p.engine().Probe(t.Context())
	requireFailure(t, err, runner.ReasonEngineMissing, "llama-quantize is not on PATH")

	t.Setenv("PATH", p.tools)
	_, err = p.engine().Probe(t.Context())
	require.NoError(t, err, "found on PATH")
}

func TestProbeRefusesWhatIsNoTool(t *testing.T) {
	for name, test := range map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"not executable":   {"#!/bin/sh\n", 0o600, "llama-bench in"},
		"no program":       {"\x00\x01\x02", 0o700, "could not be started"},
		"another program":  {"#!/bin/sh\necho I am something else\n", 0o700, "I am something else"},
		"missing library":  {"#!/bin/sh\necho 'error while loading shared libraries: libllama.so.0: cannot open' >&2\nexit 127\n", 0o700, "libllama.so.0"},
		"dead interpreter": {"#!/nowhere/sh\n", 0o700, "could not be started"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, fakellama.Behaviour{})
			path := filepath.Join(p.tools, "llama-bench")
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.WriteFile(path, []byte(test.content), test.mode))
			_, err := p.engine().Probe(t.Context())
			requireFailure(t, err, runner.ReasonEngineMissing, test.want)
		})
	}
}

func TestProbeOfAToolThatCrashes(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-bench", Step: "help", Do: fakellama.IllegalInstruction}}})
	_, err := p.engine().Probe(t.Context())
	requireFailure(t, err, runner.ReasonCrash, "llama-bench was killed by SIGILL while printing its help", "GGML_BACKEND_PATH")
}

func TestThreads(t *testing.T) {
	for name, test := range map[string]struct {
		gpu    bool
		change func(*config.Engine)
		want   int
		args   string // of llama-bench
	}{
		"automatic on CPUs":      {false, func(*config.Engine) {}, 3, "-t 3"},
		"the tool's own on GPUs": {true, func(*config.Engine) {}, 0, ""},
		"GPU not used":           {true, func(c *config.Engine) { c.BenchArgs = []string{"-ngl", "0"} }, 3, "-t 3"},
		"configured":             {true, func(c *config.Engine) { c.Threads = 2 }, 2, "-t 2"},
		"by argument":            {false, func(c *config.Engine) { c.BenchArgs = []string{"-t", "7"} }, 7, "-t 7"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, fakellama.Behaviour{GPU: test.gpu})
			test.change(&p.config)
			require.Empty(t, p.config.Validate())
			engine := p.engine()
			info, err := engine.Probe(t.Context())
			require.NoError(t, err)
			assert.Equal(t, test.want, info.Threads)

			measured, err := measure(t.Context(), engine, p.roundJob(), noProgress)
			require.NoError(t, err)
			args := p.lastArgs(t, "llama-bench", "")
			if test.args == "" {
				assert.NotContains(t, args, "-t ")
				return
			}
			assert.Contains(t, args, test.args)
			assert.Equal(t, test.want, measured.Threads)
		})
	}
}

func TestQuantize(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	matrix := filepath.Join(t.TempDir(), "imatrix, of two words.gguf")
	require.NoError(t, os.WriteFile(matrix, nil, 0o600))
	p.config.Imatrix = matrix
	p.config.QuantizeArgs = []string{"--pure"}
	p.config.Env = map[string]string{"GGML_TEST": "yes"}
	engine := p.engine()
	job := p.quantizeJob()
	job.AllowRequantize = true

	var done []int
	run, err := engine.Quantize(t.Context(), job, func(n, total int) {
		assert.Equal(t, 39, total)
		done = append(done, n)
	})
	require.NoError(t, err)

	assert.Len(t, done, 39)
	assert.IsIncreasing(t, done)
	assert.FileExists(t, filepath.Join(p.dir, "copy.gguf"))
	want := []string{"--allow-requantize", "--imatrix", matrix, "--pure", "original.gguf", "copy.gguf", "Q2_K", "4"}
	assert.Equal(t, append([]string{"llama-quantize"}, want...), run.Args)
	assert.Positive(t, run.Wall)
	call := fakellama.Calls(t, p.tools)[len(fakellama.Calls(t, p.tools))-1]
	assert.Equal(t, want, call.Args)
	assert.Equal(t, p.dir, call.Dir)
	assert.Contains(t, call.Env, "GGML_TEST=yes")
	fakellama.NoneLeft(t, p.tools)
}

func TestQuantizedSize(t *testing.T) {
	for _, format := range []string{"Q2_K", "Q4_K_M", "Q6_K", "Q8_0", "F16", "F32"} {
		t.Run(format, func(t *testing.T) {
			p := newPlace(t, fakellama.Behaviour{})
			engine := p.engine()
			job := p.quantizeJob()
			job.Format = format
			bytes, exact, err := engine.QuantizedSize(t.Context(), job)
			require.NoError(t, err)
			assert.True(t, exact)
			assert.NoFileExists(t, filepath.Join(p.dir, job.Output))

			_, err = engine.Quantize(t.Context(), job, noTensors)
			require.NoError(t, err)
			info, err := os.Stat(filepath.Join(p.dir, job.Output))
			require.NoError(t, err)
			assert.GreaterOrEqual(t, bytes, info.Size())
			assert.LessOrEqual(t, bytes, info.Size()+20_000)
		})
	}
}

func TestQuantizedSizeIsUnknownToOldBuilds(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{Build: fakellama.Old})
	bytes, exact, err := p.engine().QuantizedSize(t.Context(), p.quantizeJob())
	require.NoError(t, err)
	assert.False(t, exact)
	assert.Zero(t, bytes)
}

func TestFormatsThatNeedAMatrix(t *testing.T) {
	for _, format := range []string{"IQ2_S", "IQ3_XS"} { // the latter only for this model
		p := newPlace(t, fakellama.Behaviour{})
		job := p.quantizeJob()
		job.Format = format
		_, _, err := p.engine().QuantizedSize(t.Context(), job)
		requireFailure(t, err, runner.ReasonQuantize, format+" needs an importance matrix", "engine.imatrix")
		_, err = p.engine().Quantize(t.Context(), job, noTensors)
		requireFailure(t, err, runner.ReasonQuantize, "engine.imatrix")
	}
	p := newPlace(t, fakellama.Behaviour{})
	p.config.Imatrix = filepath.Join(p.dir, "missing")
	_, err := p.engine().Probe(t.Context())
	requireFailure(t, err, runner.ReasonQuantize, "engine.imatrix", "no such file")
}

func TestQuantizeAgainNeedsLeave(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	engine := p.engine()
	_, err := engine.Quantize(t.Context(), p.quantizeJob(), noTensors)
	require.NoError(t, err)
	job := p.quantizeJob()
	job.Input, job.Output, job.Format = "copy.gguf", "again.gguf", "Q4_0"
	_, err = engine.Quantize(t.Context(), job, noTensors)
	requireFailure(t, err, runner.ReasonQuantize, "models.allow_requantize")
	job.AllowRequantize = true
	_, err = engine.Quantize(t.Context(), job, noTensors)
	require.NoError(t, err)
}

func TestBenchmark(t *testing.T) {
	for _, age := range []fakellama.Age{fakellama.Current, fakellama.Old, fakellama.IK} {
		t.Run("build "+string(age), func(t *testing.T) {
			p := newPlace(t, fakellama.Behaviour{
				Build:   age,
				Factors: []fakellama.Factor{{Stage: "original", Phase: "prompt", By: 2}},
			})
			p.config.BenchArgs = []string{"-fa", "1"}
			var progress []float64
			got, err := measure(t.Context(), p.engine(), p.roundJob(), func(done float64) { progress = append(progress, done) })
			require.NoError(t, err)

			assert.InEpsilon(t, 500_000, got.Throughput[verdict.Prompt], 1e-6)
			assert.InEpsilon(t, 100_000, got.Throughput[verdict.Generation], 1e-6)
			assert.Equal(t, []runner.Burst{
				{Turn: 0, Phase: verdict.Prompt, Tokens: 128, Time: 256 * time.Microsecond},
				{Turn: 1, Phase: verdict.Generation, Tokens: 64, Time: 640 * time.Microsecond},
			}, got.Bursts)
			assert.Equal(t, 11669, got.Build)
			assert.Equal(t, "Fake CPU", got.CPU)
			assert.Equal(t, "CPU", got.Backends)
			assert.Equal(t, 3, got.Threads)
			assert.IsIncreasing(t, append([]float64{-1}, progress...))
			assert.InDelta(t, 1, progress[len(progress)-1], 0)

			want := "-m original.gguf -r 1 -p 128 -n 64 -b 128 -ub 128 -t 3 -o jsonl --progress -fa 1"
			if age != fakellama.Current {
				want = "-m original.gguf -r 1 -p 128 -n 64 -b 128 -ub 128 -t 3 -o json -fa 1"
			}
			assert.Equal(t, want, p.lastArgs(t, "llama-bench", ""))
			assert.Equal(t, "llama-bench "+want, strings.Join(got.Run.Args, " "))
		})
	}
}

func TestBenchmarkOfOnePhaseAtDepth(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	job := p.roundJob()
	job.Phases, job.Depth = []verdict.Phase{verdict.Generation}, 32
	got, err := measure(t.Context(), p.engine(), job, noProgress)
	require.NoError(t, err)
	assert.Len(t, got.Throughput, 1)
	assert.Equal(t, "-m original.gguf -r 1 -p 0 -n 64 -d 32 -t 3 -o jsonl --progress", p.lastArgs(t, "llama-bench", ""))

	old := newPlace(t, fakellama.Behaviour{Build: fakellama.Old})
	job.Dir = old.dir
	_, err = measure(t.Context(), old.engine(), job, noProgress)
	requireFailure(t, err, runner.ReasonBenchmark, "benchmark.depth is 32", "b5212")
}

func TestBenchmarkFaults(t *testing.T) {
	for do, test := range map[fakellama.Do]struct {
		reason runner.Reason
		texts  []string
	}{
		fakellama.SegmentationFault:  {runner.ReasonCrash, []string{"llama-bench was killed by SIGSEGV while measuring original.gguf"}},
		fakellama.Abort:              {runner.ReasonCrash, []string{"SIGABRT", "GGML_ASSERT"}},
		fakellama.IllegalInstruction: {runner.ReasonCrash, []string{"SIGILL", "GGML_BACKEND_PATH"}},
		fakellama.WrapperCrash:       {runner.ReasonCrash, []string{"SIGSEGV", "its wrapper says exit status 139"}},
		fakellama.Kill:               {runner.ReasonOutOfMemory, []string{"SIGKILL", "most likely by the kernel's out-of-memory killer"}},
		fakellama.OutOfMemory:        {runner.ReasonOutOfMemory, []string{"failed to allocate buffer"}},
		fakellama.OutOfGPUMemory:     {runner.ReasonOutOfMemory, []string{"CUDA error: out of memory"}},
		fakellama.NoBuffer:           {runner.ReasonOutOfMemory, []string{"unable to allocate CUDA0 buffer"}},
		fakellama.NotLoaded:          {runner.ReasonBenchmark, []string{"failed to load model"}},
		fakellama.ExitWithMessage:    {runner.ReasonBenchmark, []string{"failed (exit status 1)", "something went wrong in the fake"}},
		fakellama.StopAfterFirst:     {runner.ReasonBenchmark, []string{"failed to create context"}},
		fakellama.NoResult:           {runner.ReasonBenchmark, []string{"exited with status 0 and printed no result"}},
		fakellama.Garbage:            {runner.ReasonBenchmark, []string{"no JSON but", "502 Bad Gateway"}},
		fakellama.Truncated:          {runner.ReasonBenchmark, []string{"JSON is cut off"}},
		fakellama.Zero:               {runner.ReasonBenchmark, []string{"llama-bench gave no usable figure for original.gguf", "samples_ns holds 0"}},
		fakellama.Negative:           {runner.ReasonBenchmark, []string{"samples_ns holds -1"}},
		fakellama.NaN:                {runner.ReasonBenchmark, []string{"JSON is damaged"}},
		fakellama.Huge:               {runner.ReasonBenchmark, []string{"samples_ns holds 1e30"}},
		fakellama.NoSamples:          {runner.ReasonBenchmark, []string{"no samples_ns"}},
		fakellama.WrongTokens:        {runner.ReasonBenchmark, []string{"64 tokens instead of 128"}},
		fakellama.Twice:              {runner.ReasonBenchmark, []string{"more than once"}},
		fakellama.FloodStdout:        {runner.ReasonBenchmark, []string{"more than its limit", "was killed"}},
	} {
		for _, age := range []fakellama.Age{fakellama.Current, fakellama.Old} {
			t.Run(string(do)+" "+string(age), func(t *testing.T) {
				p := newPlace(t, fakellama.Behaviour{Build: age, Faults: []fakellama.Fault{{Tool: "llama-bench", Stage: "original", Do: do}}})
				_, err := measure(t.Context(), p.engine(), p.roundJob(), noProgress)
				requireFailure(t, err, test.reason, test.texts...)
				assert.NotContains(t, err.Error(), "\n")
				fakellama.NoneLeft(t, p.tools)
			})
		}
	}
}

func TestQuantizeFaults(t *testing.T) {
	for do, test := range map[fakellama.Do]struct {
		reason runner.Reason
		texts  []string
	}{
		fakellama.SegmentationFault: {runner.ReasonCrash, []string{"llama-quantize was killed by SIGSEGV while quantizing original.gguf to Q2_K"}},
		fakellama.Abort:             {runner.ReasonCrash, []string{"SIGABRT"}},
		fakellama.Kill:              {runner.ReasonOutOfMemory, []string{"SIGKILL"}},
		fakellama.ExitWithMessage:   {runner.ReasonQuantize, []string{"something went wrong in the fake"}},
		fakellama.NoResult:          {runner.ReasonQuantize, []string{"exited with status 0 and left no result"}},
		fakellama.DiskFull:          {runner.ReasonNoSpace, []string{"most likely the disk is full"}},
		fakellama.FloodStdout:       {runner.ReasonQuantize, []string{"more than its limit"}},
	} {
		t.Run(string(do), func(t *testing.T) {
			p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-quantize", Format: "Q2_K", Do: do}}})
			_, err := p.engine().Quantize(t.Context(), p.quantizeJob(), noTensors)
			requireFailure(t, err, test.reason, test.texts...)
			assert.NoFileExists(t, filepath.Join(p.dir, "copy.gguf"), "a partial output")
			fakellama.NoneLeft(t, p.tools)
		})
	}
}

func TestMuchOnStandardErrorIsNoFault(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Do: fakellama.FloodStderr}, {Step: "dry-run", Do: fakellama.FloodStderr}}})
	engine := p.engine()
	_, err := measure(t.Context(), engine, p.roundJob(), noProgress)
	require.NoError(t, err)
	_, exact, err := engine.QuantizedSize(t.Context(), p.quantizeJob())
	require.NoError(t, err)
	assert.True(t, exact)
}

var hangs = []fakellama.Do{fakellama.Hang, fakellama.HangIgnoringSIGTERM, fakellama.HangWithGrandchild}

func TestCancelEndsEverything(t *testing.T) {
	for _, do := range hangs {
		t.Run(string(do), func(t *testing.T) {
			p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Do: do}}})
			engine := p.engine()

			ctx, cancel := context.WithCancel(t.Context())
			_, err := measure(ctx, engine, p.roundJob(), func(float64) { cancel() })
			requireFailure(t, err, runner.ReasonCanceled, "llama-bench was stopped while measuring")
			require.ErrorIs(t, err, context.Canceled)
			fakellama.NoneLeft(t, p.tools)

			ctx, cancel = context.WithCancel(t.Context())
			_, err = engine.Quantize(ctx, p.quantizeJob(), func(int, int) { cancel() })
			requireFailure(t, err, runner.ReasonCanceled, "llama-quantize was stopped while quantizing")
			fakellama.NoneLeft(t, p.tools)
		})
	}
}

func TestTimeoutEndsEverything(t *testing.T) {
	for _, do := range hangs {
		t.Run(string(do), func(t *testing.T) {
			p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Do: do}}})
			p.config.Timeouts.Benchmark = model.Duration(200 * time.Millisecond)
			p.config.Timeouts.Quantize = model.Duration(200 * time.Millisecond)
			engine := p.engine()
			_, err := measure(t.Context(), engine, p.roundJob(), noProgress)
			requireFailure(t, err, runner.ReasonTimeout, "ran past its limit of 200ms", "raise engine.timeouts.benchmark")
			_, err = engine.Quantize(t.Context(), p.quantizeJob(), noTensors)
			requireFailure(t, err, runner.ReasonTimeout, "raise engine.timeouts.quantize")
			fakellama.NoneLeft(t, p.tools)
		})
	}
}

func TestALeftBehindGrandchildIsKilled(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Do: fakellama.LeaveGrandchild}}})
	_, err := measure(t.Context(), p.engine(), p.roundJob(), noProgress)
	require.NoError(t, err)
	fakellama.NoneLeft(t, p.tools)
}

func TestUnsafeNamesReachNoTool(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	engine := p.engine()
	for _, name := range []string{"", "a,b.gguf", "-m", "../x.gguf", "/etc/passwd"} {
		bench := p.roundJob()
		bench.Files = []string{name}
		_, err := measure(t.Context(), engine, bench, noProgress)
		require.ErrorContains(t, err, "not a safe file name")
		quantize := p.quantizeJob()
		quantize.Output = name
		_, err = engine.Quantize(t.Context(), quantize, noTensors)
		require.ErrorContains(t, err, "not a safe file name")
	}
}

func TestUnreadableModels(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	whole, err := os.ReadFile(bundledModel)
	require.NoError(t, err)
	for name, content := range map[string][]byte{"truncated": whole[:3_000_000], "garbage": []byte("garbage"), "header": whole[:300]} {
		require.NoError(t, os.WriteFile(filepath.Join(p.dir, name), content, 0o600))
		job := p.quantizeJob()
		job.Input = name
		_, err := p.engine().Quantize(t.Context(), job, noTensors)
		requireFailure(t, err, runner.ReasonBadModel, "llama-quantize cannot read the model")
	}
}

// Installers leave one program, which is the tools by its first argument.
func TestOneProgramIsAllTools(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	one := filepath.Join(t.TempDir(), "llama")
	script := "#!/bin/sh\ntool=$1\nshift\nexec '" + p.tools + "'/llama-$tool \"$@\"\n"
	require.NoError(t, os.WriteFile(one, []byte(script), 0o755))
	p.config.Dir = filepath.Dir(one)
	p.config.SandboxReads = []string{p.tools} // which the script runs
	e := p.engine()
	info, err := e.Probe(t.Context())
	require.NoError(t, err)
	assert.NotEmpty(t, info.Formats)
	_, err = e.Quantize(t.Context(), p.quantizeJob(), func(int, int) {})
	require.NoError(t, err)
	rounds, err := e.Round(t.Context(), p.roundJob(), func(int, float64) {})
	require.NoError(t, err)
	require.NoError(t, rounds[0].Err)

	p.config.Dir = t.TempDir()
	_, err = p.engine().Probe(t.Context())
	requireFailure(t, err, runner.ReasonEngineMissing, "llama-quantize is not in")
}
