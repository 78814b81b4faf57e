// Command record-traces records what a real host does to a benchmark: the throughputs of
// the same model, measured again and again by llama-bench, with and without a busy
// neighbour. The simulation of internal/verdict fits its bursty noise to these traces.
//
//	go run ./scripts/record-traces                       all four traces, 15 to 30 minutes
//	go run ./scripts/record-traces --runs 20 --out DIR   quicker, elsewhere
//
// Run it from the root of the repository, on a host that does nothing else: the quiet
// traces are only quiet if the host is. llama-bench comes from PATH or from the directory
// that scripts/get-llama-cpp prints.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// Trace is one file: what was measured, under which conditions, run after run.
type Trace struct {
	Recorded  time.Time `json:"recorded"`
	CPU       string    `json:"cpu"`
	Cores     int       `json:"cores"`   // logical CPUs
	Threads   int       `json:"threads"` // of llama-bench
	Neighbour []string  `json:"neighbour"`
	Build     int       `json:"build"` // of llama.cpp
	Args      []string  `json:"args"`
	Runs      []Run     `json:"runs"`
}

// Run is one run of llama-bench.
type Run struct {
	Start      float64 `json:"start_s"` // since the trace began
	Wall       float64 `json:"wall_s"`
	Prompt     float64 `json:"prompt"`       // tokens per second
	Generation float64 `json:"generation"`   // tokens per second
	Others     float64 `json:"others_cpu_s"` // CPU time that other processes took meanwhile
	Steal      float64 `json:"steal_s"`      // CPU time that the hypervisor took meanwhile
}

func main() {
	bench := flag.String("llama-bench", "", "path of llama-bench (default: PATH, then scripts/get-llama-cpp)")
	model := flag.String("model", "examples/models/kjv-4m-f16.gguf", "GGUF file to measure")
	out := flag.String("out", "internal/verdict/testdata/traces", "folder of the traces")
	runs := flag.Int("runs", 60, "runs in each trace")
	seed := flag.Int("seed", 1, "seed of the neighbour")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if err := recordAll(ctx, *bench, *model, *out, *runs, *seed); err != nil {
		fmt.Fprintf(os.Stderr, "record-traces: %v\n", err)
		os.Exit(1)
	}
	stop()
}

func recordAll(ctx context.Context, bench, model, out string, runs, seed int) error {
	bench, err := findBench(ctx, bench)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	build, err := os.MkdirTemp("", "record-traces")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(build) }()

	neighbour := filepath.Join(build, "neighbour")
	if output, err := exec.CommandContext(ctx, "go", "build", "-o", neighbour, "./scripts/neighbour").CombinedOutput(); err != nil {
		return fmt.Errorf("building the neighbour (are you in the root of the repository?): %w\n%s", err, output)
	}
	neighbourArgs := []string{
		"neighbour", "--seed", strconv.Itoa(seed),
		"--busy-min", "1s", "--busy-max", "3s", "--idle-min", "0s", "--idle-max", "2s",
	}

	for _, disturbed := range []bool{false, true} {
		for _, threads := range []int{1, 2} {
			name := fmt.Sprintf("quiet-t%d.json", threads)
			var args []string
			if disturbed {
				name, args = fmt.Sprintf("neighbour-t%d.json", threads), neighbourArgs
			}
			if err := recordBeside(ctx, neighbour, args, bench, model, threads, runs, filepath.Join(out, name)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// findBench returns the path of llama-bench: the one asked for, the one on PATH, or the one
// that the project's own script fetched.
func findBench(ctx context.Context, path string) (string, error) {
	if path != "" {
		return path, nil
	}
	if path, err := exec.LookPath("llama-bench"); err == nil {
		return path, nil
	}
	folder, err := exec.CommandContext(ctx, "scripts/get-llama-cpp").Output()
	if err != nil {
		return "", fmt.Errorf("llama-bench is not on PATH, and scripts/get-llama-cpp gave none: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(folder)), "llama-bench"), nil
}

// recordBeside records one trace, with a neighbour when neighbourArgs is not empty, and
// leaves no process behind.
func recordBeside(ctx context.Context, neighbour string, neighbourArgs []string, bench, model string, threads, runs int, file string) error {
	if len(neighbourArgs) > 0 {
		beside := exec.CommandContext(ctx, neighbour, neighbourArgs[1:]...)
		beside.Stderr = os.Stderr
		if err := beside.Start(); err != nil {
			return fmt.Errorf("starting the neighbour: %w", err)
		}
		defer func() {
			_ = beside.Process.Kill()
			_ = beside.Wait()
		}()
	}

	trace := Trace{
		Recorded: time.Now().UTC().Truncate(time.Second), Cores: runtime.NumCPU(), Threads: threads, Neighbour: neighbourArgs,
		Args: []string{"-p", "1024", "-n", "1024", "-b", "1024", "-ub", "1024", "-r", "1", "-t", strconv.Itoa(threads), "-o", "jsonl"},
	}
	begin := time.Now()
	for i := range runs {
		run, err := trace.measure(ctx, bench, model)
		if err != nil {
			return fmt.Errorf("run %d: %w", i+1, err)
		}
		run.Start = milli(time.Since(begin).Seconds() - run.Wall)
		trace.Runs = append(trace.Runs, run)
		fmt.Fprintf(os.Stderr, "%s %d/%d: prompt %.0f, generation %.0f tokens/s; %.2f of %.2f s CPU taken by others\n",
			filepath.Base(file), i+1, runs, run.Prompt, run.Generation, run.Others, run.Wall)
	}

	return write(file, trace)
}

// write puts each run on a line of its own, so that a diff of two recordings can be read.
func write(file string, trace Trace) error {
	runs := trace.Runs
	trace.Runs = nil
	head, err := json.Marshal(trace)
	if err != nil {
		return err
	}
	text, found := bytes.CutSuffix(head, []byte("null}"))
	if !found {
		return errors.New("the runs are no longer the last field of a trace")
	}
	text = append(text, "[\n"...)
	for i, run := range runs {
		line, err := json.Marshal(run)
		if err != nil {
			return err
		}
		text = append(text, line...)
		if i < len(runs)-1 {
			text = append(text, ',')
		}
		text = append(text, '\n')
	}
	text = append(text, "]}\n"...)
	return os.WriteFile(file, text, 0o644)
}

// row is what is read of a line of llama-bench's jsonl.
type row struct {
	Build      int     `json:"build_number"`
	CPU        string  `json:"cpu_info"`
	Prompt     int     `json:"n_prompt"`
	Generation int     `json:"n_gen"`
	SamplesNS  []int64 `json:"samples_ns"`
}

// measure runs llama-bench once, both phases, and notes the build and the CPU it names.
func (t *Trace) measure(ctx context.Context, bench, model string) (Run, error) {
	before, err := hostCPU()
	if err != nil {
		return Run{}, err
	}
	command := exec.CommandContext(ctx, bench, append([]string{"-m", model}, t.Args...)...)
	var output, complaints bytes.Buffer
	command.Stdout, command.Stderr = &output, &complaints
	begin := time.Now()
	if err := command.Run(); err != nil {
		return Run{}, fmt.Errorf("%s: %w\n%s", command, err, complaints.Bytes())
	}
	wall := time.Since(begin).Seconds()
	after, err := hostCPU()
	if err != nil {
		return Run{}, err
	}

	own := (command.ProcessState.UserTime() + command.ProcessState.SystemTime()).Seconds()
	run := Run{
		Wall: milli(wall), Others: milli(math.Max(0, after.busy-before.busy-own)), Steal: milli(after.steal - before.steal),
	}
	for lines := bufio.NewScanner(&output); lines.Scan(); {
		var r row
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return Run{}, fmt.Errorf("llama-bench printed %q, which is not its jsonl: %w", lines.Text(), err)
		}
		if len(r.SamplesNS) != 1 || r.SamplesNS[0] <= 0 {
			return Run{}, fmt.Errorf("llama-bench gave the samples %v: expected one, above 0 ns", r.SamplesNS)
		}
		t.Build, t.CPU = r.Build, r.CPU
		throughput := milli(float64(r.Prompt+r.Generation) / (float64(r.SamplesNS[0]) / 1e9))
		if r.Generation == 0 {
			run.Prompt = throughput
		} else {
			run.Generation = throughput
		}
	}
	if run.Prompt == 0 || run.Generation == 0 {
		return Run{}, errors.New("llama-bench left out a phase: expected one line of each")
	}
	return run, nil
}

type cpuSeconds struct{ busy, steal float64 }

// hostCPU reads what all processes of this host have used since it started.
func hostCPU() (cpuSeconds, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return cpuSeconds{}, fmt.Errorf("the traces need /proc, which only Linux has: %w", err)
	}
	stat, err := fs.Stat()
	if err != nil {
		return cpuSeconds{}, fmt.Errorf("reading /proc/stat: %w", err)
	}
	cpu := stat.CPUTotal
	return cpuSeconds{busy: cpu.User + cpu.Nice + cpu.System + cpu.IRQ + cpu.SoftIRQ, steal: cpu.Steal}, nil
}

// milli rounds to three decimals: more would pretend to know what was not measured.
func milli(x float64) float64 { return math.Round(x*1000) / 1000 }
