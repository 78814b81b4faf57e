package llamacpp

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/process"
	"github.com/quant-exporter/quant-exporter/runner"
)

var (
	quantizing = operation{quantizeTool, "quantizing original.gguf to Q2_K", runner.ReasonQuantize, time.Hour, "engine.timeouts.quantize", false}
	measuring  = operation{benchTool, "measuring original.gguf", runner.ReasonBenchmark, time.Hour, "engine.timeouts.benchmark", false}
)

// What the real tools print, and the reason that it gets.
func TestFailureOfRealOutput(t *testing.T) {
	exit1 := &process.ExitError{Code: 1}
	for _, test := range []struct {
		recording string
		op        operation
		end       *process.ExitError
		reason    runner.Reason
		want      []string
	}{
		{"bench-truncated.txt", measuring, exit1, runner.ReasonBenchmark, []string{"llama-bench failed (exit status 1) while measuring original.gguf", "corrupted or incomplete"}},
		{"bench-memory.txt", measuring, exit1, runner.ReasonOutOfMemory, []string{"ran out of memory", "failed to allocate"}},
		{"bench-assert.txt", measuring, &process.ExitError{Code: -1, Signal: syscall.SIGABRT}, runner.ReasonCrash, []string{"killed by SIGABRT", "GGML_ASSERT(cplan->n_threads > 0) failed"}},
		{"bench-option.txt", measuring, exit1, runner.ReasonBenchmark, []string{"--bogus", "engine.bench_args"}},
		{"quantize-truncated.txt", quantizing, exit1, runner.ReasonBadModel, []string{"cannot read the model", "corrupted or incomplete"}},
		{"quantize-missing.txt", quantizing, exit1, runner.ReasonBadModel, []string{"No such file or directory"}},
		{"quantize-requantize.txt", quantizing, exit1, runner.ReasonQuantize, []string{"models.allow_requantize", "requantizing from type q2_K is disabled"}},
		{"quantize-imatrix.txt", quantizing, exit1, runner.ReasonQuantize, []string{"engine.imatrix", "requires an imatrix"}},
		{"quantize-full.txt", quantizing, exit1, runner.ReasonNoSpace, []string{"most likely the disk is full", "basic_ios::clear: iostream error"}},
	} {
		t.Run(test.recording, func(t *testing.T) {
			result := process.Result{Tail: strings.Split(read(t, "recorded", test.recording), "\n")}
			err := test.op.failure(t.Context(), result, test.end)
			var failure *runner.Failure
			require.ErrorAs(t, err, &failure)
			assert.Equal(t, test.reason, failure.Reason, err)
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
			assert.NotContains(t, err.Error(), "load_backend", "noise")
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

// Every tool writes: the predictions of llama-perplexity are the largest file of all.
func TestAnyToolMayFindTheDiskFull(t *testing.T) {
	for _, op := range []operation{quantizing, measuring} {
		err := op.failure(t.Context(), process.Result{Tail: []string{"write error: No space left on device"}}, &process.ExitError{Code: 1})
		assert.Equal(t, runner.ReasonNoSpace, runner.AsFailure(err).Reason, err)
	}
}

// A tool that the system does not start is not missing.
func TestSystemThatStartsNothing(t *testing.T) {
	for _, test := range []struct {
		err    error
		reason runner.Reason
	}{
		{&fs.PathError{Op: "fork/exec", Path: "/usr/bin/llama-bench", Err: syscall.EMFILE}, runner.ReasonHostLimit},
		{&fs.PathError{Op: "fork/exec", Path: "/usr/bin/llama-bench", Err: syscall.EAGAIN}, runner.ReasonHostLimit},
		{&os.SyscallError{Syscall: "pipe2", Err: syscall.ENFILE}, runner.ReasonHostLimit},
		{&fs.PathError{Op: "fork/exec", Path: "/usr/bin/llama-bench", Err: syscall.ENOMEM}, runner.ReasonOutOfMemory},
		{&fs.PathError{Op: "chdir", Path: "/var/lib/cycles/cycle-x", Err: syscall.ENOENT}, runner.ReasonWorkDir},
		{&fs.PathError{Op: "fork/exec", Path: "/usr/bin/llama-bench", Err: syscall.ENOENT}, runner.ReasonEngineMissing},
		{&fs.PathError{Op: "fork/exec", Path: "/usr/bin/llama-bench", Err: syscall.ENOEXEC}, runner.ReasonEngineMissing},
	} {
		err := measuring.failure(t.Context(), process.Result{}, &process.StartError{Err: test.err})
		assert.Equal(t, test.reason, runner.AsFailure(err).Reason, err)
	}
}

func TestFailureBySignal(t *testing.T) {
	for name, test := range map[string]struct {
		end    *process.ExitError
		reason runner.Reason
		want   string
	}{
		"segmentation fault": {&process.ExitError{Code: -1, Signal: syscall.SIGSEGV}, runner.ReasonCrash, "killed by SIGSEGV while"},
		"in a wrapper":       {&process.ExitError{Code: 139}, runner.ReasonCrash, "killed by SIGSEGV (its wrapper says exit status 139)"},
		"kernel":             {&process.ExitError{Code: -1, Signal: syscall.SIGKILL}, runner.ReasonOutOfMemory, "killed by SIGKILL while measuring original.gguf: most likely by the kernel's out-of-memory killer"},
		"kernel, wrapper":    {&process.ExitError{Code: 137}, runner.ReasonOutOfMemory, "most likely by the kernel"},
		"wrong back end":     {&process.ExitError{Code: -1, Signal: syscall.SIGILL}, runner.ReasonCrash, "GGML_BACKEND_PATH"},
		"no signal":          {&process.ExitError{Code: 255}, runner.ReasonBenchmark, "failed (exit status 255)"},
	} {
		t.Run(name, func(t *testing.T) {
			err := measuring.failure(t.Context(), process.Result{}, test.end)
			assert.Equal(t, test.reason, runner.AsFailure(err).Reason)
			assert.ErrorContains(t, err, test.want)
		})
	}
}

func TestFailureForMemoryIsNoCrash(t *testing.T) {
	result := process.Result{Tail: []string{"CUDA error: out of memory", "  current device: 0"}}
	err := measuring.failure(t.Context(), result, &process.ExitError{Code: -1, Signal: syscall.SIGABRT})
	assert.Equal(t, runner.ReasonOutOfMemory, runner.AsFailure(err).Reason)
}

func TestFailureNamesTheLimitThatWasPassed(t *testing.T) {
	err := quantizing.failure(t.Context(), process.Result{}, &process.TimeoutError{Limit: time.Hour})
	assert.Equal(t, runner.ReasonTimeout, runner.AsFailure(err).Reason)
	require.ErrorContains(t, err, "ran past its limit of 1h0m0s while quantizing")
	assert.ErrorContains(t, err, "raise engine.timeouts.quantize")
}

func TestFailureOfAStoppedCycle(t *testing.T) {
	cause := errors.New("the entry nightly was suspended")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	err := measuring.failure(ctx, process.Result{}, cause)
	require.ErrorIs(t, err, cause)
	assert.Equal(t, runner.ReasonCanceled, runner.AsFailure(err).Reason)

	late, cancelLate := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelLate()
	err = measuring.failure(late, process.Result{}, context.Cause(late))
	assert.Equal(t, runner.ReasonTimeout, runner.AsFailure(err).Reason)
}

func TestLastWords(t *testing.T) {
	assert.Empty(t, lastWords(process.Result{}))
	assert.Equal(t, "; it said: two | three", lastWords(process.Result{Tail: []string{"one", "two", "", "three"}}))
	assert.Equal(t, "; it said: error: this", lastWords(process.Result{Tail: []string{"error: this", "and", "that"}}))
	assert.Equal(t, "; it said: from stdout", lastWords(process.Result{Stdout: []byte("from stdout\n"), Tail: []string{"load_backend: x"}}))
	long := lastWords(process.Result{Tail: []string{strings.Repeat("é", 500), "\x1b[31mred\x00\xff"}})
	assert.Less(t, len(long), 320)
	assert.Contains(t, long, "… |  [31mred")
}

// Where it is known what to do about an assertion, the failure says so.
func TestAssertionsNameTheirCure(t *testing.T) {
	for said, cure := range map[string]string{
		"tools/perplexity/perplexity.cpp:455: GGML_ASSERT(!llama_vocab_get_add_eos(vocab)) failed":                           "tokenizer.ggml.add_eos_token=bool:false",
		"examples/perplexity/perplexity.cpp:340: GGML_ASSERT(!llama_add_eos_token(model)) failed":                            "engine.evaluate_args",
		"ggml-cpu.c:3395: GGML_ASSERT(cplan->n_threads > 0) failed":                                                          "engine.threads",
		`src/llama-quant.cpp:689: GGML_ASSERT((qs.n_attention_wv == n_attn_layer) && "n_attention_wv is unexpected") failed`: "install a newer one",
	} {
		err := measuring.failure(t.Context(), process.Result{Tail: []string{said}}, &process.ExitError{Code: -1, Signal: syscall.SIGABRT})
		require.ErrorContains(t, err, cure)
		require.ErrorContains(t, err, "SIGABRT")
	}
}
