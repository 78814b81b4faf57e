package llamacpp_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// pairedPlace has a fake llama-server, a copy in Q2_K, and a round of it and its original.
func pairedPlace(t *testing.T, behaviour fakellama.Behaviour) (*place, runner.RoundJob) {
	t.Helper()
	behaviour.Server = true
	p := newPlace(t, behaviour)
	quantize := exec.CommandContext(t.Context(), filepath.Join(p.tools, "llama-quantize"), "original.gguf", "Q2_K.gguf", "Q2_K")
	quantize.Dir = p.dir
	said, err := quantize.CombinedOutput()
	require.NoError(t, err, "%s", said)
	job := p.roundJob()
	job.Files, job.Order, job.Method = []string{"original.gguf", "Q2_K.gguf"}, []int{1, 0}, config.MethodPaired
	job.Vocabulary, job.Seed, job.MaxDisturbance = 1024, 1, 1
	job.Turns = []runner.Turn{
		{Phase: verdict.Prompt, Tokens: 128, Order: []int{0, 1}},
		{Phase: verdict.Prompt, Tokens: 128, Order: []int{1, 0}},
		{Phase: verdict.Generation, Depth: 32, Tokens: 32, Order: []int{1, 0}},
		{Phase: verdict.Generation, Depth: 1, Tokens: 32, Order: []int{0, 1}},
	}
	return p, job
}

// round measures a round, and says that nothing is left of it.
func (p *place) round(ctx context.Context, t *testing.T, job runner.RoundJob) ([]runner.FileRound, error) {
	t.Helper()
	files, err := p.engine().Round(ctx, job, func(int, float64) {})
	fakellama.NoneLeft(t, p.tools)
	sockets, globErr := filepath.Glob(filepath.Join(p.dir, "*.sock"))
	require.NoError(t, globErr)
	assert.Empty(t, sockets, "sockets that are left")
	return files, err
}

// withWaits gives the throughputs with the waits that are subtracted: the fake says a time, whatever it waits.
func withWaits(t *testing.T, m runner.Measurement) map[verdict.Phase]float64 {
	t.Helper()
	assert.Equal(t, runner.Throughputs(m.Bursts), m.Throughput)
	bursts := slices.Clone(m.Bursts)
	for i, b := range bursts {
		bursts[i].Time = time.Duration(float64(b.Time) / (1 - b.Waited))
	}
	return runner.Throughputs(bursts)
}

func TestPairedRound(t *testing.T) {
	p, job := pairedPlace(t, fakellama.Behaviour{Factors: []fakellama.Factor{{Format: "Q2_K", Phase: "generation", By: 2}}})
	files, err := p.round(t.Context(), t, job)
	require.NoError(t, err)
	for i, want := range []map[verdict.Phase]float64{
		{verdict.Prompt: 1e6, verdict.Generation: 1e5},
		{verdict.Prompt: 1e6 / 0.8, verdict.Generation: 1e5 / 1.6},
	} {
		require.NoError(t, files[i].Err)
		m := files[i].Measurement
		for phase, throughput := range want {
			assert.InEpsilon(t, throughput, withWaits(t, m)[phase], 1e-4, phase)
		}
		require.Len(t, m.Bursts, len(job.Turns))
		for n, burst := range m.Bursts {
			assert.Equal(t, n, burst.Turn)
			assert.Equal(t, job.Turns[n].Depth, burst.Depth)
		}
		assert.Equal(t, "CPU", m.Backends)
		assert.Equal(t, map[string]int64{}, m.Memory.Devices, "nothing of a device, which is known")
		if runtime.GOOS == "linux" {
			assert.Greater(t, m.Memory.Host, int64(1<<20))
		}
		require.NotNil(t, m.Offload)
		assert.Len(t, m.Offload.Buffers, 2)
	}
}

// Eight clients at once are one answer, whose tokens are those of all.
func TestClientsAtOnce(t *testing.T) {
	p, job := pairedPlace(t, fakellama.Behaviour{})
	eight := verdict.AtOnce(8)
	job.Phases = append(job.Phases, eight, verdict.AtDepth(300))
	job.Turns = slices.Concat([]runner.Turn{
		{Phase: verdict.AtDepth(300), Depth: 300, Tokens: 32, Order: []int{0, 1}},
		{Phase: verdict.AtDepth(300), Depth: 300, Tokens: 32, Order: []int{1, 0}},
	}, job.Turns, []runner.Turn{
		{Phase: eight, Depth: 1, Tokens: 32, Clients: 8, Order: []int{1, 0}},
		{Phase: eight, Depth: 1, Tokens: 32, Clients: 8, Order: []int{0, 1}},
	})
	files, err := p.round(t.Context(), t, job)
	require.NoError(t, err)
	for i, factor := range []float64{1, 0.8} {
		require.NoError(t, files[i].Err)
		m := files[i].Measurement
		assert.InEpsilon(t, 1e5/factor, withWaits(t, m)[eight], 1e-3, "the fake is as fast with eight as with one")
		assert.InEpsilon(t, 1e5/factor, withWaits(t, m)[verdict.AtDepth(300)], 1e-3)
		last := m.Bursts[len(m.Bursts)-1]
		assert.Equal(t, []int{8, 8 * 32, 1}, []int{last.Clients, last.Tokens, last.Depth})
		assert.Contains(t, strings.Join(m.Run.Args, " "), "-np 8 --kv-unified -c 396")
	}
}

// A server that computes a client's prompt again, as it does where a cache cannot be cut, has the
// others wait. That the prompts are computed once, before the first turn of clients, is as it should be.
func TestClientsWhosePromptsAreComputedAgainAreUnpaired(t *testing.T) {
	const filling = 6 // the answer: after the warm-up and four turns of one client
	for name, test := range map[string]struct {
		answer int
		want   string
	}{
		"to fill the caches": {filling, ""},
		"in the first turn":  {filling + 1, "llama-server evaluated 16 tokens of a prompt that was in its cache but for the last one, with 8 clients at once"},
		"in the second turn": {filling + 2, "llama-server evaluated 16 tokens of a prompt"},
	} {
		t.Run(name, func(t *testing.T) {
			p, job := pairedPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{
				{Tool: "llama-server", Step: "answer", Stage: "quantized", Calls: []int{test.answer}, Do: fakellama.NothingCached},
			}})
			eight := verdict.AtOnce(8)
			job.Phases = append(job.Phases, eight)
			job.Turns = append(job.Turns,
				runner.Turn{Phase: eight, Depth: 16, Tokens: 32, Clients: 8, Order: []int{1, 0}},
				runner.Turn{Phase: eight, Depth: 16, Tokens: 32, Clients: 8, Order: []int{0, 1}},
			)
			files, err := p.round(t.Context(), t, job)
			if test.want != "" {
				var unpaired *runner.Unpaired
				require.ErrorAs(t, err, &unpaired)
				require.ErrorContains(t, err, test.want)
				return
			}
			require.NoError(t, err)
			for _, file := range files {
				require.NoError(t, file.Err)
				assert.Len(t, file.Measurement.Bursts, len(job.Turns))
			}
		})
	}
}

// longBursts measures a round in which the bursts of a phase take long, and returns all bursts. The
// servers have to take turns within them: one runs while the other is stopped, and the time of
// either holds nothing of the other's.
func longBursts(t *testing.T, phase verdict.Phase) (all []runner.Burst) {
	p, job := pairedPlace(t, fakellama.Behaviour{Computes: true, Factors: []fakellama.Factor{{Phase: string(phase), By: 500}}})
	began := time.Now()
	files, err := p.round(t.Context(), t, job)
	took := time.Since(began)
	require.NoError(t, err)
	sum := time.Duration(0)
	for _, file := range files {
		require.NoError(t, file.Err)
		for _, burst := range file.Measurement.Bursts {
			sum += burst.Time
			if burst.Phase == phase && runtime.GOOS == "linux" { // elsewhere nobody says which process listens
				assert.Greater(t, burst.Slices, 1)
			}
			all = append(all, burst)
		}
	}
	assert.LessOrEqual(t, sum, took, "time that counts for two servers")
	return all
}

func TestServersTakeTurnsWithinAPrompt(t *testing.T) {
	const computing = 64 * time.Millisecond
	for _, burst := range longBursts(t, verdict.Prompt) {
		if burst.Phase == verdict.Generation {
			assert.Zero(t, burst.Slices)
			continue
		}
		assert.GreaterOrEqual(t, burst.Time, computing/2) // a stop takes its time to arrive
	}
}

// As with a large model, of which a few tokens take long enough for a neighbour to begin.
func TestServersTakeTurnsWithinLongBursts(t *testing.T) { longBursts(t, verdict.Generation) }

func TestServersOnADeviceAreMeasuredOneAfterTheOther(t *testing.T) {
	p, job := pairedPlace(t, fakellama.Behaviour{GPU: true, Computes: true, Factors: []fakellama.Factor{{Phase: "prompt", By: 500}}})
	files, err := p.round(t.Context(), t, job)
	require.NoError(t, err)
	for _, file := range files {
		require.NoError(t, file.Err)
		for _, burst := range file.Measurement.Bursts {
			assert.Zero(t, burst.Slices)
		}
	}
}

// What goes wrong with a copy takes nothing from its original.
func TestPairedFaults(t *testing.T) {
	load, answer := "", "answer"
	for _, test := range []struct {
		step   string
		do     fakellama.Do
		reason runner.Reason
		texts  []string
	}{
		{load, fakellama.SegmentationFault, runner.ReasonCrash, []string{"llama-server was killed by SIGSEGV while measuring"}},
		{load, fakellama.Abort, runner.ReasonCrash, []string{"SIGABRT", "GGML_ASSERT"}},
		{load, fakellama.IllegalInstruction, runner.ReasonCrash, []string{"SIGILL", "GGML_BACKEND_PATH"}},
		{load, fakellama.WrapperCrash, runner.ReasonCrash, []string{"SIGSEGV", "its wrapper says exit status 139"}},
		{load, fakellama.ExitWithMessage, runner.ReasonBenchmark, []string{"failed (exit status 1)", "something went wrong in the fake"}},
		{load, fakellama.NoResult, runner.ReasonBenchmark, []string{"exited with status 0"}},
		{load, fakellama.NotLoaded, runner.ReasonBenchmark, []string{"failed to load model"}},
		{load, fakellama.FloodStdout, runner.ReasonBenchmark, []string{"more than its limit", "was killed"}},
		{load, fakellama.Hang, runner.ReasonTimeout, []string{"ran past its limit", "raise engine.timeouts.benchmark"}},

		{answer, fakellama.SegmentationFault, runner.ReasonCrash, []string{"llama-server was killed by SIGSEGV while measuring"}},
		{answer, fakellama.Kill, runner.ReasonOutOfMemory, []string{"SIGKILL", "out-of-memory killer"}},
		{answer, fakellama.OutOfMemory, runner.ReasonOutOfMemory, []string{"failed to allocate buffer"}},
		{answer, fakellama.OutOfGPUMemory, runner.ReasonOutOfMemory, []string{"CUDA error: out of memory"}},
		{answer, fakellama.NoResult, runner.ReasonBenchmark, []string{"exited with status 0"}},
		{answer, fakellama.FloodStdout, runner.ReasonBenchmark, []string{"more than its limit", "was killed"}},
		{answer, fakellama.Hang, runner.ReasonTimeout, []string{"ran past its limit", "raise engine.timeouts.benchmark"}},
		{answer, fakellama.HangIgnoringSIGTERM, runner.ReasonTimeout, []string{"raise engine.timeouts.benchmark"}},
		{answer, fakellama.HangWithGrandchild, runner.ReasonTimeout, []string{"raise engine.timeouts.benchmark"}},
		{answer, fakellama.CloseConnection, runner.ReasonBenchmark, []string{"gave no answer while measuring", "still runs"}},
		{answer, fakellama.Garbage, runner.ReasonBenchmark, []string{"gave no usable figure", "JSON is damaged", "<html>"}},
		{answer, fakellama.Truncated, runner.ReasonBenchmark, []string{"cut off"}},
		{answer, fakellama.NoTimings, runner.ReasonBenchmark, []string{"has no timings"}},
		{answer, fakellama.Zero, runner.ReasonBenchmark, []string{"predicted_ms is 0"}},
		{answer, fakellama.Negative, runner.ReasonBenchmark, []string{"predicted_ms is -1"}},
		{answer, fakellama.NaN, runner.ReasonBenchmark, []string{"JSON is damaged"}},
		{answer, fakellama.Huge, runner.ReasonBenchmark, []string{"the answer came after"}},
		{answer, fakellama.MoreThanItTook, runner.ReasonBenchmark, []string{"the answer came after"}},
		{answer, fakellama.WrongTokens, runner.ReasonBenchmark, []string{"generated 32 tokens instead of 33"}},
		{answer, fakellama.OtherPrompt, runner.ReasonBenchmark, []string{"evaluated 127 tokens of a prompt of which 128"}},
		{answer, fakellama.InternalError, runner.ReasonBenchmark, []string{"it says 500", "something went wrong in the fake"}},
		{answer, fakellama.AnswerWithoutEnd, runner.ReasonBenchmark, []string{"more than 4194304 bytes"}},
	} {
		for file, stage := range []string{"original", "quantized"} {
			t.Run(stage+" "+test.step+" "+string(test.do), func(t *testing.T) {
				t.Parallel()
				fault := fakellama.Fault{Tool: "llama-server", Step: test.step, Stage: stage, Do: test.do}
				switch {
				case test.do == fakellama.OtherPrompt:
					fault.Calls = []int{2} // the first prompt after the warm-up
				case test.step == answer:
					fault.Calls = []int{4} // the first burst of generation
				}
				p, job := pairedPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{fault}})
				if test.reason == runner.ReasonTimeout { // which may be that of the other file, too
					p.config.Timeouts.Benchmark = model.Duration(500 * time.Millisecond)
				}
				files, err := p.round(t.Context(), t, job)
				require.NoError(t, err)
				requireFailure(t, files[file].Err, test.reason, test.texts...)
				assert.NotContains(t, files[file].Err.Error(), "\n")
				if stage == "quantized" && test.reason != runner.ReasonTimeout {
					require.NoError(t, files[0].Err)
					assert.Len(t, files[0].Measurement.Bursts, len(job.Turns))
					assert.Len(t, files[0].Measurement.Throughput, 2)
				}
			})
		}
	}
}

func TestFilesThatDoNotFitTogetherAreUnpaired(t *testing.T) {
	for _, do := range []fakellama.Do{fakellama.OutOfMemory, fakellama.OutOfGPUMemory, fakellama.NoBuffer, fakellama.Kill} {
		t.Run(string(do), func(t *testing.T) {
			p, job := pairedPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-server", Stage: "original", Do: do}}})
			_, err := p.round(t.Context(), t, job)
			var unpaired *runner.Unpaired
			require.ErrorAs(t, err, &unpaired)
			requireFailure(t, err, runner.ReasonOutOfMemory)
		})
	}
}

func TestFaultsOfServersThatDoNotMatter(t *testing.T) {
	for _, fault := range []fakellama.Fault{
		{Do: fakellama.FloodStderr},
		{Step: "answer", Do: fakellama.FloodStderr, Calls: []int{2}},
		{Do: fakellama.LeaveGrandchild},
		{Step: "answer", Do: fakellama.LeaveGrandchild, Calls: []int{2}},
	} {
		t.Run(fault.Step+" "+string(fault.Do), func(t *testing.T) {
			fault.Tool = "llama-server"
			p, job := pairedPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{fault}})
			files, err := p.round(t.Context(), t, job)
			require.NoError(t, err)
			for _, file := range files {
				require.NoError(t, file.Err)
				assert.Len(t, file.Measurement.Bursts, len(job.Turns))
			}
		})
	}
}

func TestCancelEndsServers(t *testing.T) {
	for name, test := range map[string]struct {
		step  string
		calls []int
		from  float64 // how far the round is then
	}{
		"while one loads":   {"", nil, 0.05}, // that of the copy has come up
		"while one answers": {"answer", []int{2}, 0.1},
	} {
		t.Run(name, func(t *testing.T) {
			fault := fakellama.Fault{Tool: "llama-server", Step: test.step, Stage: "original", Calls: test.calls, Do: fakellama.Hang}
			p, job := pairedPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{fault}})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			files, err := p.engine().Round(ctx, job, func(_ int, done float64) {
				if done >= test.from {
					cancel()
				}
			})
			require.NoError(t, err)
			requireFailure(t, files[0].Err, runner.ReasonCanceled, "llama-server was stopped while measuring")
			fakellama.NoneLeft(t, p.tools)
		})
	}
}

func TestServersThatUseTheCPUWhileOthersAreMeasuredAreNoticed(t *testing.T) {
	p, job := pairedPlace(t, fakellama.Behaviour{
		Factors: []fakellama.Factor{{Stage: "original", By: 500}}, // so that there is something to be noticed
		Faults:  []fakellama.Fault{{Tool: "llama-server", Stage: "quantized", Do: fakellama.BusyWhileIdle}},
	})
	files, err := p.round(t.Context(), t, job)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, files[1].Measurement.Idle, runner.NoticeableIdle)
}

func TestLayersOnADeviceAreTold(t *testing.T) {
	p, job := pairedPlace(t, fakellama.Behaviour{GPU: true, Faults: []fakellama.Fault{{Tool: "llama-server", Stage: "quantized", Do: fakellama.LessOffloaded}}})
	files, err := p.round(t.Context(), t, job)
	require.NoError(t, err)
	assert.Equal(t, "CUDA", files[0].Measurement.Backends)
	for i, layers := range []int{5, 2} {
		require.NotNil(t, files[i].Measurement.Offload)
		assert.Equal(t, layers, files[i].Measurement.Offload.Layers)
		assert.Equal(t, 5, files[i].Measurement.Offload.AllLayers)
	}
}

func TestServersThatAreTooOldAreUnpaired(t *testing.T) {
	p, job := pairedPlace(t, fakellama.Behaviour{Build: fakellama.Old})
	info, err := p.engine().Probe(t.Context())
	require.NoError(t, err)
	assert.Contains(t, info.Unpaired, "is too old")
	_, err = p.round(t.Context(), t, job)
	var unpaired *runner.Unpaired
	require.ErrorAs(t, err, &unpaired)
}
