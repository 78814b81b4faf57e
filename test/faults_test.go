package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// requireFailed says that the run ended as a failed pair must: exit status 5, one
// QUANT_FAILURE with the reason and a message, no decision, and nothing left behind.
func (p *place) requireFailed(got ended, reason runner.Reason, says ...string) {
	p.t.Helper()
	o := got.one(p.t)
	assert.Equal(p.t, exitFailed, got.status, got.stderr)
	assert.Equal(p.t, "QUANT_FAILURE", o.EventType)
	assert.Equal(p.t, "Q2_K", o.Target)
	assert.Equal(p.t, reason, o.Reason, o.Error)
	assert.Empty(p.t, o.Decision)
	for _, text := range says {
		assert.Contains(p.t, o.Error, text)
	}
	assert.NotContains(p.t, o.Error, "\n", "a message is one line")
	assert.Less(p.t, len(o.Error), 2000, "and no flood")
	p.nothingLeft()
}

func TestFaultsOfTheToolsAreFailures(t *testing.T) {
	const quantizer, bench = "llama-quantize", "llama-bench"
	type want struct {
		reason runner.Reason
		says   []string
	}
	for _, test := range []struct {
		tool, step string
		do         fakellama.Do
		want
	}{
		{quantizer, "", fakellama.SegmentationFault, want{"crash", []string{"SIGSEGV", "quantizing"}}},
		{quantizer, "", fakellama.Abort, want{"crash", []string{"SIGABRT", "GGML_ASSERT"}}},
		{quantizer, "", fakellama.IllegalInstruction, want{"crash", []string{"SIGILL", "install a build for it"}}},
		{quantizer, "", fakellama.WrapperCrash, want{"crash", []string{"SIGSEGV", "139"}}},
		{quantizer, "", fakellama.Kill, want{"out_of_memory", []string{"SIGKILL", "out-of-memory killer"}}},
		{quantizer, "", fakellama.OutOfMemory, want{"out_of_memory", []string{"ran out of memory", "insufficient memory"}}},
		{quantizer, "", fakellama.ExitWithMessage, want{"quantize", []string{"something went wrong"}}},
		{quantizer, "", fakellama.DiskFull, want{"no_space", []string{"the disk is full"}}},
		{quantizer, "", fakellama.FloodStdout, want{"quantize", []string{"was killed"}}},
		{quantizer, "", fakellama.Hang, want{"timeout", []string{"engine.timeouts.quantize"}}},
		{quantizer, "", fakellama.HangIgnoringSIGTERM, want{"timeout", []string{"engine.timeouts.quantize"}}},
		{quantizer, "", fakellama.HangWithGrandchild, want{"timeout", []string{"engine.timeouts.quantize"}}},
		{quantizer, "dry-run", fakellama.SegmentationFault, want{"crash", []string{"SIGSEGV"}}},
		{quantizer, "dry-run", fakellama.Hang, want{"timeout", []string{"engine.timeouts.quantize"}}},
		{quantizer, "help", fakellama.IllegalInstruction, want{"crash", []string{"SIGILL", "install a build for it"}}},
		{quantizer, "help", fakellama.Garbage, want{"engine_missing", []string{"does not work as llama.cpp's llama-quantize"}}},

		{bench, "", fakellama.SegmentationFault, want{"crash", []string{"SIGSEGV", "measuring"}}},
		{bench, "", fakellama.Abort, want{"crash", []string{"SIGABRT", "GGML_ASSERT"}}},
		{bench, "", fakellama.IllegalInstruction, want{"crash", []string{"SIGILL", "install a build for it"}}},
		{bench, "", fakellama.WrapperCrash, want{"crash", []string{"SIGSEGV", "139"}}},
		{bench, "", fakellama.Kill, want{"out_of_memory", []string{"SIGKILL", "out-of-memory killer"}}},
		{bench, "", fakellama.OutOfMemory, want{"out_of_memory", []string{"ran out of memory"}}},
		{bench, "", fakellama.OutOfGPUMemory, want{"out_of_memory", []string{"CUDA error: out of memory"}}},
		{bench, "", fakellama.NoBuffer, want{"out_of_memory", []string{"unable to allocate CUDA0 buffer"}}},
		{bench, "", fakellama.ExitWithMessage, want{"benchmark", []string{"something went wrong"}}},
		{bench, "", fakellama.NotLoaded, want{"benchmark", []string{"failed to load model"}}},
		{bench, "", fakellama.StopAfterFirst, want{"benchmark", []string{"failed to create context"}}},
		{bench, "", fakellama.FloodStdout, want{"benchmark", []string{"was killed"}}},
		{bench, "", fakellama.Hang, want{"timeout", []string{"engine.timeouts.benchmark"}}},
		{bench, "", fakellama.HangIgnoringSIGTERM, want{"timeout", []string{"engine.timeouts.benchmark"}}},
		{bench, "", fakellama.HangWithGrandchild, want{"timeout", []string{"engine.timeouts.benchmark"}}},
		{bench, "version", fakellama.SegmentationFault, want{"crash", []string{"SIGSEGV"}}},
		{bench, "help", fakellama.NoResult, want{"engine_missing", []string{"does not work as llama.cpp's llama-bench"}}},
	} {
		t.Run(strings.TrimSpace(fmt.Sprintf("%s %s %s", test.tool, test.step, test.do)), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: test.tool, Step: test.step, Do: test.do}}})
			if test.reason == runner.ReasonTimeout {
				// Only the operation that hangs is short of time.
				operation := map[string]string{quantizer: "quantize", bench: "benchmark"}[test.tool]
				p.configure(strings.Replace(quick, "engine: {", "engine: {timeouts: {"+operation+": 1s}, ", 1))
			}
			p.requireFailed(p.run("--output", "json"), test.reason, test.says...)
		})
	}
}

func TestCopyThatCannotBeMeasuredFailsAlone(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-bench", Format: "Q8_0", Do: fakellama.SegmentationFault}}})
	got := p.run("--target", "Q8_0", "--target", "Q2_K", "--output", "json")
	assert.Equal(t, exitFailed, got.status, got.stderr)
	all := got.outcomes(t)
	require.Len(t, all, 2)
	assert.Equal(t, runner.ReasonCrash, all[0].Reason)
	assert.Equal(t, verdict.Kept, all[1].Decision)
	p.nothingLeft()
}

func TestFaultsThatDoNotMatter(t *testing.T) {
	for _, fault := range []fakellama.Fault{
		{Tool: "llama-bench", Do: fakellama.FloodStderr, Calls: []int{1}},
		{Tool: "llama-quantize", Do: fakellama.FloodStderr},
		{Do: fakellama.LeaveGrandchild},
	} {
		t.Run(fault.Tool+" "+string(fault.Do), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{fault}})
			got := p.run("--output", "json")
			assert.Zero(t, got.status, got.stderr)
			assert.Equal(t, verdict.Kept, got.one(t).Decision)
			p.nothingLeft()
		})
	}
}

func TestToolsThatCannotBeStarted(t *testing.T) {
	replace := func(text string, mode os.FileMode) func(t *testing.T, tool string) {
		return func(t *testing.T, tool string) {
			require.NoError(t, os.Remove(tool))
			require.NoError(t, os.WriteFile(tool, []byte(text), mode))
		}
	}
	for name, test := range map[string]struct {
		spoil func(t *testing.T, tool string)
		says  []string
	}{
		"missing":             {func(t *testing.T, tool string) { require.NoError(t, os.Remove(tool)) }, []string{"is not in", "install llama.cpp", "--llamacpp.dir"}},
		"not executable":      {replace("#!/bin/sh\n", 0o644), []string{"is not executable", "--llamacpp.dir"}},
		"no program":          {replace("this is no program", 0o755), []string{"built for this machine"}},
		"interpreter missing": {replace("#!/no/such/interpreter\n", 0o755), []string{"built for this machine"}},
		"folder": {func(t *testing.T, tool string) {
			require.NoError(t, os.Remove(tool))
			require.NoError(t, os.Mkdir(tool, 0o750))
		}, []string{"llama-"}},
		"without its libraries": {replace("#!/bin/sh\necho 'error while loading shared libraries: libllama.so: cannot open shared object file' >&2\nexit 127\n", 0o755), []string{"does not work as llama.cpp's", "libllama.so"}},
	} {
		for _, tool := range fakellama.Tools {
			t.Run(tool+" "+name, func(t *testing.T) {
				t.Parallel()
				p := newPlace(t, fakellama.Behaviour{})
				p.configure(quick + p.evaluated()) // so that all of them are needed
				test.spoil(t, filepath.Join(p.tools, tool))
				p.requireFailed(p.run("--output", "json"), runner.ReasonEngineMissing, append(test.says, tool)...)
			})
		}
	}
	t.Run("not on PATH", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t, fakellama.Behaviour{})
		p.env = []string{"PATH=/nonexistent"}
		p.requireFailed(p.start("run", "--model", p.model, "--output", "json"), runner.ReasonEngineMissing, "not on PATH", "LLAMA_CPP_DIR")
	})
}

func TestBadModelsAreFailures(t *testing.T) {
	spoils := map[string]func(t *testing.T, path string){
		"header cut off": func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 100)) },
		"data cut off": func(t *testing.T, path string) {
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(path, info.Size()-1))
		},
		"empty": func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 0)) },
		"no GGUF": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("<html>not found</html>"), 0o600))
		},
		"named pipe": func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, syscall.Mkfifo(path, 0o600))
		},
	}
	if os.Geteuid() != 0 { // root may read everything
		spoils["not readable"] = func(t *testing.T, path string) { require.NoError(t, os.Chmod(path, 0)) }
	}
	for name, spoil := range spoils {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, fakellama.Behaviour{})
			spoil(t, p.model)
			p.requireFailed(p.run("--output", "json", "--model", "m"), runner.ReasonBadModel, "m.gguf")
			p.requireFailed(p.start("run", "--output", "json", "--model", p.model, "--llamacpp.dir", p.tools), runner.ReasonBadModel, "m.gguf")
			got := p.run("--output", "json")
			assert.Contains(t, []int{exitError, exitFailed}, got.status, "a folder of nothing else")
		})
	}
}

func TestAPasswordFileThatNobodyWritesIsReported(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	require.NoError(t, syscall.Mkfifo(filepath.Join(p.dir, "password"), 0o600))
	p.configure("a2a: {url: 'redis://" + nobody + "/0', password_file: password}\nschedule: [{name: never, cron: \"@yearly\", targets: [Q2_K]}]\n")
	check := p.start("--config.check", "--model-dir", p.models)
	assert.Equal(t, exitError, check.status)
	assert.Contains(t, check.stderr, "not a regular file")
}

func TestAnyFileNameIsServed(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	require.NoError(t, os.Remove(p.model))
	names := []string{"a,b", "a b", "new\nline", "ünï ✓", "-m", "--help", "$(touch pwned)", "quo'te\"", "sub,dir/x y", strings.Repeat("n", 200)}
	for _, name := range names {
		gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(p.models, name+".gguf"))
	}
	got := p.run("--output", "json")
	require.Zero(t, got.status, got.stderr)
	var found []string
	for _, o := range got.outcomes(t) {
		assert.Equal(t, verdict.Kept, o.Decision, o.Model)
		found = append(found, o.Model)
	}
	assert.ElementsMatch(t, names, found)

	got = p.run()
	require.Zero(t, got.status, got.stderr)
	assert.NotContains(t, got.stdout, "new\nline", "a table's line stays a line")
	p.nothingLeft()
}

func TestFolderNamesAreServed(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	dir := filepath.Join(p.dir, "a, b\nc ünï")
	gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(dir, "m.gguf"))
	p.models = dir
	got := p.run("--output", "json")
	require.Zero(t, got.status, got.stderr)
	assert.Equal(t, "m", got.one(t).Model)
}

func TestModelThatChangesMeanwhile(t *testing.T) {
	for name, test := range map[string]struct {
		command string // of the shell
		tool    string // before whose work it runs
	}{
		"deleted while quantizing":    {"rm -f", "llama-quantize"},
		"deleted while measuring":     {"rm -f", "llama-bench"},
		"written to while quantizing": {"echo more >>", "llama-quantize"},
		"written to while measuring":  {"echo more >>", "llama-bench"},
		// Whoever writes may set the time back, which is what a size and a time do not show.
		"written to in place": {`sh -c 'touch -r "$0" t; printf x | dd of="$0" conv=notrunc bs=1 seek=100 2>&-; touch -r t "$0"'`, "llama-quantize"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, fakellama.Behaviour{})
			wrappers := wrapped(t, p.tools, test.tool, test.command+" '"+p.model+"'")
			p.configure(unconfined)
			got := p.start("run", "--model-dir", p.models, "--llamacpp.dir", wrappers, "--output", "json")
			p.requireFailed(got, runner.ReasonSourceChanged, "m.gguf")
		})
	}
}

// wrapped makes a folder of the fake tools, in which a command of the shell runs before the
// work of the one of this name.
func wrapped(t *testing.T, tools, tool, command string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range fakellama.Tools {
		fake := filepath.Join(tools, name)
		script := fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\"\n", fake)
		if name == tool {
			script = fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *--help*|*--version*|*--list-devices*|*--dry-run*) ;; *) %s ;; esac\nexec '%s' \"$@\"\n", command, fake)
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	return dir
}

func TestSourceIsNeverWrittenTo(t *testing.T) {
	t.Parallel()
	for _, copied := range []string{"false", "true"} {
		p := newPlace(t, fakellama.Behaviour{})
		p.configure(quick + "work: {copy: " + copied + "}\n")
		before, err := os.ReadFile(p.model)
		require.NoError(t, err)
		info, err := os.Stat(p.model)
		require.NoError(t, err)
		got := p.run()
		require.Zero(t, got.status, got.stderr)
		after, err := os.ReadFile(p.model)
		require.NoError(t, err)
		assert.Equal(t, before, after, copied)
		now, err := os.Stat(p.model)
		require.NoError(t, err)
		assert.Equal(t, info.ModTime(), now.ModTime(), copied)
	}
}

func TestMissingImatrixIsSaidBeforeWorkStarts(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(strings.Replace(quick, "engine: {", "engine: {imatrix: none.gguf, ", 1))
	p.requireFailed(p.run("--output", "json"), runner.ReasonQuantize, "engine.imatrix", filepath.Join(p.dir, "none.gguf"))
	for _, call := range fakellama.Calls(t, p.tools) {
		assert.NotEmpty(t, call.Step, "nothing was quantized or measured")
	}
}

func TestWorkFolderThatCannotBeMade(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	require.NoError(t, os.WriteFile(p.work(), nil, 0o600))
	got := p.run("--output", "json")
	assert.Equal(t, exitError, got.status, got.stderr)
	assert.Contains(t, got.stderr, p.work())
}
