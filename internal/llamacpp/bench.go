package llamacpp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// processRound runs llama-bench once for each file, one after the other.
func (e *Engine) processRound(ctx context.Context, tools toolset, job runner.RoundJob, report func(file int, done float64)) []runner.FileRound {
	files := make([]runner.FileRound, len(job.Files))
	for n, i := range job.Order {
		file := &files[i]
		observed := job.Observe()
		file.Started = time.Now()
		file.Measurement, file.Err = e.benchmark(ctx, tools, job, i, func(done float64) {
			report(i, (float64(n)+done)/float64(len(job.Order)))
		})
		file.Load = observed(file.Measurement.Run.CPUTime, e.benchThreads(tools.gpu))
		if file.Err != nil && (i == 0 || ctx.Err() != nil) {
			for _, rest := range job.Order[n+1:] { // nobody needs them now
				files[rest].Err = file.Err
			}
			break
		}
	}
	return files
}

// benchmark runs llama-bench on one file.
func (e *Engine) benchmark(ctx context.Context, tools toolset, job runner.RoundJob, file int, report func(done float64)) (runner.Measurement, error) {
	report(0)
	c, err := e.benchCommand(tools, job, job.Files[file])
	if err != nil {
		return runner.Measurement{}, err
	}
	progress := benchProgress{}
	c.onStderr = func(line string) {
		if progress.add(line) {
			report(progress.done)
		}
	}
	result, trace, err := e.run(ctx, c)
	if err != nil {
		return runner.Measurement{Run: trace}, err
	}
	asked := benchAsked{RoundJob: job, file: file, threads: e.benchThreads(tools.gpu), wall: result.Wall}
	measurement, err := asked.measure(result.Stdout, tools.jsonl)
	measurement.Run, measurement.CPUs = trace, job.CPUs
	measurement.Memory.Host = result.Peak
	if err != nil {
		return measurement, runner.Failf(runner.ReasonBenchmark, "%s gave no usable figure for %s: %w%s", c.tool, job.Files[file], err, lastWords(result))
	}
	report(1)
	return measurement, nil
}

// benchCommand is a run of llama-bench on a file.
func (e *Engine) benchCommand(tools toolset, job runner.RoundJob, file string) (command, error) {
	if job.Depth > 0 && !tools.depth {
		return command{}, runner.Failf(runner.ReasonBenchmark,
			"benchmark.depth is %d and this build of llama-bench (%s) has no -d: set it to 0, or install llama.cpp b5212 or later", job.Depth, tools.bench.path)
	}
	number := strconv.Itoa
	args := []string{"-m", file, "-r", "1", "-p", "0", "-n", "0"}
	if slices.Contains(job.Phases, verdict.Prompt) {
		args[5] = number(job.PromptTokens)
		args = append(args, "-b", number(job.PromptTokens), "-ub", number(job.PromptTokens))
	}
	if slices.Contains(job.Phases, verdict.Generation) {
		args[7] = number(job.GenerationTokens)
	}
	if job.Depth > 0 {
		args = append(args, "-d", number(job.Depth))
	}
	// Given twice, it would be measured twice.
	if threads := e.benchThreads(tools.gpu); threads > 0 && !hasOption(e.cfg.BenchArgs, "-t", "--threads") {
		args = append(args, "-t", number(threads))
	}
	if tools.jsonl {
		args = append(args, "-o", "jsonl")
	} else {
		args = append(args, "-o", "json")
	}
	if tools.progress {
		args = append(args, "--progress")
	}
	return command{
		operation: operation{
			tool:     benchTool,
			doing:    "measuring " + file,
			reason:   runner.ReasonBenchmark,
			limit:    time.Duration(e.cfg.Timeouts.Benchmark),
			limitKey: "engine.timeouts.benchmark",
		},
		program: tools.bench,
		args:    append(args, e.cfg.BenchArgs...),
		dir:     job.Dir,
		cpus:    job.CPUs,
	}, nil
}

// benchProgress follows what llama-bench --progress prints:
//
//	llama-bench: benchmark 1/2: warmup prompt run
//	llama-bench: benchmark 1/2: prompt run 1/1
type benchProgress struct{ done float64 }

var progressLine = regexp.MustCompile(`\bbenchmark (\d{1,3})/(\d{1,3}): (starting|warmup|depth|prompt|generation)\b`)

// stepDone is which part of a test is over when its step begins: a warm-up of the
// prompt is a whole run, one of the generation is a single token.
var stepDone = map[string]float64{"starting": 0, "warmup": 0.05, "depth": 0.2, "prompt": 0.5, "generation": 0.3}

// add takes a line and reports whether there was progress.
func (p *benchProgress) add(line string) bool {
	match := progressLine.FindStringSubmatch(line)
	if match == nil {
		return false
	}
	test, _ := strconv.Atoi(match[1]) // three digits
	tests, _ := strconv.Atoi(match[2])
	if test < 1 || test > tests {
		return false
	}
	done := (float64(test-1) + stepDone[match[3]]) / float64(tests)
	if done <= p.done {
		return false
	}
	p.done = done
	return true
}

// benchAsked is what a run of llama-bench was asked for, and the time that it took.
type benchAsked struct {
	runner.RoundJob
	file    int // index of Files
	threads int // 0 where the tool chooses
	wall    time.Duration
}

// benchRow is one test in llama-bench's JSON.
type benchRow struct {
	File        string      `json:"model_filename"`
	Parameters  float64     `json:"model_n_params"`
	Batch       int         `json:"n_batch"`
	UBatch      int         `json:"n_ubatch"`
	BuildCommit string      `json:"build_commit"`
	BuildNumber json.Number `json:"build_number"`
	CPUInfo     string      `json:"cpu_info"`
	GPUInfo     string      `json:"gpu_info"`
	Backends    string      `json:"backends"`
	Threads     int         `json:"n_threads"`
	Prompt      int         `json:"n_prompt"`
	Generation  int         `json:"n_gen"`
	Depth       int         `json:"n_depth"`
	// SamplesNS may hold anything that JSON calls a number.
	SamplesNS []json.Number `json:"samples_ns"`
}

// maxThroughput in tokens per second: nothing that computes is faster. Tokens that are generated
// need each other, so that each takes a pass through the model of its own.
const (
	maxThroughput = 1e12
	maxGeneration = 1e7
)

// measure reads the figures of a run.
func (a benchAsked) measure(stdout []byte, jsonl bool) (runner.Measurement, error) {
	rows, err := parseRows(stdout, jsonl)
	if err != nil {
		return runner.Measurement{}, err
	}
	var measurement runner.Measurement
	measured := func(phase verdict.Phase) bool {
		return slices.ContainsFunc(measurement.Bursts, func(b runner.Burst) bool { return b.Phase == phase })
	}
	spent := time.Duration(0)
	for _, row := range rows {
		phase, tokens, err := row.phase()
		if err != nil {
			return runner.Measurement{}, err
		}
		if measured(phase) {
			return runner.Measurement{}, fmt.Errorf("it measured the phase %s more than once: engine.bench_args must give no option several values", phase)
		}
		if err := a.matches(row, phase, tokens); err != nil {
			return runner.Measurement{}, err
		}
		mean, sum, err := row.times(a.wall)
		if err != nil {
			return runner.Measurement{}, fmt.Errorf("phase %s: %w", phase, err)
		}
		most := map[verdict.Phase]float64{verdict.Prompt: maxThroughput, verdict.Generation: maxGeneration}[phase]
		if float64(tokens)/mean.Seconds() > most {
			return runner.Measurement{}, fmt.Errorf("phase %s: %d tokens in %v is impossible", phase, tokens, mean)
		}
		if spent += sum; spent > a.wall {
			return runner.Measurement{}, fmt.Errorf("its samples_ns come to %v, and it ran for %v", spent, a.wall)
		}
		measurement.Bursts = append(measurement.Bursts, runner.Burst{
			Turn: len(measurement.Bursts), Phase: phase, Depth: row.Depth, Tokens: tokens, Time: mean,
		})

		build, _ := row.BuildNumber.Int64() // missing or odd: unknown
		measurement.Build, measurement.Commit = int(build), commit(row.BuildCommit)
		measurement.Backends, measurement.CPU, measurement.GPU = row.Backends, row.CPUInfo, row.GPUInfo
		measurement.Threads = row.Threads
	}
	for _, phase := range a.Phases {
		if !measured(phase) {
			return runner.Measurement{}, fmt.Errorf("it exited with status 0 and printed no result for the phase %s", phase)
		}
	}
	measurement.Throughput = runner.Throughputs(measurement.Bursts)
	return measurement, nil
}

// matches returns an error if a row is the result of something else than was asked for.
func (a benchAsked) matches(row benchRow, phase verdict.Phase, tokens int) error {
	want := map[verdict.Phase]int{verdict.Prompt: a.PromptTokens, verdict.Generation: a.GenerationTokens}[phase]
	batched := slices.Contains(a.Phases, verdict.Prompt)
	switch {
	case !slices.Contains(a.Phases, phase):
		return fmt.Errorf("it measured the phase %s, which was not asked for", phase)
	case tokens != want:
		return fmt.Errorf("it measured the phase %s with %d tokens instead of %d", phase, tokens, want)
	case row.Depth != a.Depth:
		return fmt.Errorf("it measured the phase %s at a depth of %d tokens instead of %d", phase, row.Depth, a.Depth)
	case batched && (row.Batch != a.PromptTokens || row.UBatch != a.PromptTokens):
		return fmt.Errorf("it measured the phase %s in batches of %d and %d tokens instead of %d", phase, row.Batch, row.UBatch, a.PromptTokens)
	case a.threads > 0 && row.Threads != a.threads:
		return fmt.Errorf("it measured the phase %s with %d threads instead of %d", phase, row.Threads, a.threads)
	case filepath.Base(row.File) != a.Files[a.file]:
		return fmt.Errorf("it measured the file %q instead of %s", clip(row.File, 80), a.Files[a.file])
	}
	return a.fits(row.Parameters)
}

// fits returns an error if a file cannot have so many parameters. Builds of before 2025 count the
// tensors that they load: no draft head at the end of a model, and a token embedding that is the
// output as well twice.
func (a benchAsked) fits(parameters float64) error {
	if a.file >= len(a.Parameters) { // nobody knows
		return nil
	}
	is := a.Parameters[a.file]
	if least, most := is.All-is.All/10, is.All+is.Tied; parameters < float64(least) || parameters > float64(most) {
		return fmt.Errorf("it measured a file of %.0f parameters, and %s has %d", parameters, a.Files[a.file], is.All)
	}
	return nil
}

func (r benchRow) phase() (phase verdict.Phase, tokens int, err error) {
	switch {
	case r.Prompt > 0 && r.Generation == 0:
		return verdict.Prompt, r.Prompt, nil
	case r.Generation > 0 && r.Prompt == 0:
		return verdict.Generation, r.Generation, nil
	default:
		return "", 0, fmt.Errorf("its JSON has a result with n_prompt %d and n_gen %d, which fits no phase", r.Prompt, r.Generation)
	}
}

// times returns mean and sum of the row's durations, none of which is longer than the run.
func (r benchRow) times(wall time.Duration) (mean, sum time.Duration, err error) {
	if len(r.SamplesNS) == 0 {
		return 0, 0, errors.New("its JSON has no samples_ns")
	}
	all := 0.0
	for _, text := range r.SamplesNS {
		// A wrapper may have turned the integers into floating point.
		ns, err := text.Float64()
		if err != nil || !(ns >= 1) || ns > float64(wall) {
			return 0, 0, fmt.Errorf("samples_ns holds %s, which is not a duration between 1 ns and the %v that it ran for", clip(text.String(), 40), wall)
		}
		all += ns
	}
	if all > float64(wall) {
		return 0, 0, fmt.Errorf("its samples_ns come to %.3f s, and it ran for %v", all/1e9, wall)
	}
	return time.Duration(math.Round(all / float64(len(r.SamplesNS)))), time.Duration(all), nil
}

// parseRows reads llama-bench's JSON: an object a line, or one array. It passes over lines
// before and between the results that are not JSON, which back ends and wrappers may print.
// A result that is cut off is an error.
func parseRows(stdout []byte, jsonl bool) ([]benchRow, error) {
	if len(bytes.TrimSpace(stdout)) == 0 {
		return nil, errors.New("it exited with status 0 and printed no result")
	}
	if jsonl {
		return parseLines(stdout)
	}
	return parseArray(stdout)
}

func parseLines(stdout []byte) ([]benchRow, error) {
	var rows []benchRow
	for line := range bytes.Lines(stdout) {
		line = bytes.TrimSpace(line)
		if !bytes.HasPrefix(line, []byte("{")) {
			continue
		}
		var row benchRow
		if err := json.Unmarshal(line, &row); err != nil {
			return nil, jsonError(err, line)
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("it printed no JSON but %q", clip(firstLine(stdout), 80))
	}
	return rows, nil
}

// arrayStart is the line that the array begins with.
var arrayStart = regexp.MustCompile(`(?m)^\[\s*$`)

func parseArray(stdout []byte) ([]benchRow, error) {
	start := arrayStart.FindIndex(stdout)
	if start == nil {
		return nil, fmt.Errorf("it printed no JSON but %q", clip(firstLine(stdout), 80))
	}
	var rows []benchRow
	if err := json.NewDecoder(bytes.NewReader(stdout[start[0]:])).Decode(&rows); err != nil {
		return nil, jsonError(err, stdout[start[0]:])
	}
	return rows, nil
}

// jsonError says what is wrong, and shows the place.
func jsonError(err error, text []byte) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &syntax) && syntax.Offset >= int64(len(text)):
		return fmt.Errorf("its JSON is cut off after %q", clip(tailOf(text, 60), 60))
	case errors.As(err, &syntax):
		begin := max(syntax.Offset-30, 0)
		return fmt.Errorf("its JSON is damaged (%w) near %q", err, clip(string(text[begin:min(syntax.Offset+10, int64(len(text)))]), 60))
	case errors.As(err, &kind):
		return fmt.Errorf("its JSON has a %s where a number or text belongs: field %s", kind.Value, kind.Field)
	default:
		return fmt.Errorf("its JSON cannot be read: %w", err)
	}
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
}

func tailOf(text []byte, n int) string {
	return string(text[max(len(text)-n, 0):])
}
