// Command fakellama stands in for llama.cpp's tools in tests; see package
// internal/test/fakellama for what a test can make it do. The name that it is started
// under says which tool it is.
package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
)

//go:embed help/llama-quantize.txt
var quantizeHelp string

//go:embed help/llama-bench.txt
var benchHelp string

//go:embed help/llama-perplexity.txt
var perplexityHelp string

//go:embed help/llama-server.txt
var serverHelp string

// grandchildEnv makes the fake a stubborn grandchild.
const grandchildEnv = "FAKELLAMA_GRANDCHILD"

// fake is one run of a tool.
type fake struct {
	tool      string
	home      string // folder of the tools
	args      []string
	behaviour fakellama.Behaviour
}

func main() {
	f, err := start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fakellama:", err)
		os.Exit(99)
	}
	if os.Getenv(grandchildEnv) != "" {
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready") // to the fake that started it
		time.Sleep(time.Hour)
	}
	switch f.tool {
	case "llama-quantize":
		f.quantize()
	case "llama-bench":
		f.bench()
	case "llama-perplexity":
		f.perplexity()
	case "llama-server":
		f.server()
	default:
		f.fail("the fake is not such a tool")
	}
}

func start() (*fake, error) {
	// Through PATH the first argument has no folder; with a path it names the link.
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return nil, err
	}
	f := &fake{tool: filepath.Base(path), home: filepath.Dir(path), args: os.Args[1:]}
	if err := f.holdLock(); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(f.home, fakellama.BehaviourFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, nil
	case err != nil:
		return nil, err
	}
	return f, json.Unmarshal(text, &f.behaviour)
}

// holdLock takes a lock that only the end of this process releases.
func (f *fake) holdLock() error {
	if err := os.MkdirAll(fakellama.Notes(f.home), 0o700); err != nil {
		return err
	}
	fd, err := syscall.Open(fakellama.LockPath(f.home), syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return syscall.Flock(fd, syscall.LOCK_SH)
}

// begin logs the call and commits the fault that is due, if it is one of any tool. It
// returns the fault otherwise, and which call of its kind this is.
func (f *fake) begin(step, stage, format string) (do fakellama.Do, nth int) {
	dir, err := os.Getwd()
	if err != nil {
		f.fail(err.Error())
	}
	nth, err = fakellama.LogCall(f.home, fakellama.Call{Tool: f.tool, Step: step, Args: f.args, Dir: dir, Env: os.Environ()})
	if err != nil {
		f.fail(err.Error())
	}
	do = f.due(step, stage, format, nth)
	f.commit(do)
	return do, nth
}

// due is the fault of a call; "" where nothing goes wrong.
func (f *fake) due(step, stage, format string, nth int) fakellama.Do {
	for _, fault := range f.behaviour.Faults {
		if fault.Step == step && matches(fault.Tool, f.tool) && matches(fault.Stage, stage) && matches(fault.Format, format) &&
			(len(fault.Calls) == 0 || slices.Contains(fault.Calls, nth)) {
			return fault.Do
		}
	}
	return ""
}

func matches(want, is string) bool { return want == "" || want == is }

// commit does what goes wrong in the same way with every tool.
func (f *fake) commit(do fakellama.Do) {
	switch do {
	case fakellama.Hang:
		f.firstProgress()
		time.Sleep(time.Hour)
	case fakellama.HangIgnoringSIGTERM:
		signal.Ignore(syscall.SIGTERM)
		f.firstProgress()
		time.Sleep(time.Hour)
	case fakellama.HangWithGrandchild:
		f.startGrandchild()
		f.firstProgress()
		time.Sleep(time.Hour)
	case fakellama.LeaveGrandchild:
		f.startGrandchild()
	case fakellama.SegmentationFault:
		f.firstProgress()
		f.die(syscall.SIGSEGV)
	case fakellama.IllegalInstruction:
		f.firstProgress()
		f.die(syscall.SIGILL)
	case fakellama.Kill:
		f.firstProgress()
		f.die(syscall.SIGKILL)
	case fakellama.Abort:
		f.say("ggml-cpu.c:3395: GGML_ASSERT(cplan->n_threads > 0) failed")
		f.die(syscall.SIGABRT)
	case fakellama.WrapperCrash:
		f.say("Segmentation fault (core dumped)")
		os.Exit(128 + int(syscall.SIGSEGV))
	case fakellama.ExitWithMessage:
		f.fail("error: something went wrong in the fake")
	case fakellama.NoResult:
		os.Exit(0)
	case fakellama.OutOfMemory:
		f.say("ggml_aligned_malloc: insufficient memory (attempted to allocate 390625.00 MB)")
		f.say("ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 409600000000")
		f.fail("error: failed to create context with model 'original.gguf'")
	case fakellama.OutOfGPUMemory:
		f.say("CUDA error: out of memory")
		f.die(syscall.SIGABRT)
	case fakellama.NoBuffer:
		f.say("llama_model_load: error loading model: unable to allocate CUDA0 buffer")
		f.fail("error: failed to load model 'original.gguf'")
	case fakellama.FloodStdout:
		for {
			fmt.Println(strings.Repeat("x", 1000))
		}
	case fakellama.FloodStderr:
		for range 2000 {
			f.say(strings.Repeat("y", 10_000))
		}
	case fakellama.Garbage:
		fmt.Println("\x1b[31m<html>502 Bad Gateway</html>\x00\xff")
		os.Exit(0)
	}
}

// startGrandchild starts a process that ignores SIGTERM and holds our pipes, and
// returns when it does.
func (f *fake) startGrandchild() {
	ready, writer, err := os.Pipe()
	if err != nil {
		f.fail(err.Error())
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), grandchildEnv+"=1")
	child.Stdout, child.Stderr, child.ExtraFiles = writer, os.Stderr, []*os.File{os.Stdout}
	if err := child.Start(); err != nil {
		f.fail(err.Error())
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		f.fail(err.Error())
	}
}

// die ends the process by the signal. A shell does it, since Go's runtime turns a
// SIGSEGV of its own into an exit.
func (f *fake) die(sig syscall.Signal) {
	err := syscall.Exec("/bin/sh", []string{"sh", "-c", fmt.Sprintf("ulimit -c 0; kill -%d $$", sig)}, nil)
	f.fail(err.Error())
}

func (f *fake) say(line string) { fmt.Fprintln(os.Stderr, line) }

func (f *fake) fail(line string) {
	f.say(strings.ReplaceAll(f.tool, "-", "_") + ": " + line)
	os.Exit(1)
}

func (f *fake) firstProgress() {
	switch f.tool {
	case "llama-perplexity":
		f.say("0.01.061.598 I kl_divergence: 0.96 seconds per pass - ETA ")
	case "llama-quantize":
		f.say("[   1/  39] output.weight                        - [   256,   1024,      1,      1], type =    f16, converting to q6_K .. size =     0.50 MiB ->     0.21 MiB")
	case "llama-server":
		f.say("0.00.090.695 I srv    load_model: loading model")
	default:
		f.say("llama-bench: benchmark 1/2: starting")
		f.say("llama-bench: benchmark 1/2: warmup prompt run")
	}
}

// modern reports whether the build has the optional flags.
func (f *fake) modern() bool { return f.behaviour.Build == fakellama.Current }

// help is a tool's help, without the lines and words that the build does not have.
func (f *fake) help(text string, missing ...string) string {
	if f.modern() {
		return text
	}
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.ReplaceAll(line, "|jsonl", "")
		for _, flag := range missing {
			line = strings.ReplaceAll(line, " ["+flag+"]", "")
		}
		if !slices.ContainsFunc(missing, func(flag string) bool { return strings.Contains(line, flag) }) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
