// Command bench-verdicts counts right and wrong verdicts of real cycles on this host,
// for BENCHMARKS.md: a model against a copy of itself, at rest or beside a busy
// neighbour, with the copy made to look slower by a known factor where asked for.
//
//	go run ./scripts/bench-verdicts -tools DIR -cycles 100 -neighbour
//	go run ./scripts/bench-verdicts -tools DIR -cycles 50 -factor 1.25
//
// It builds the program and its helpers itself, and prints one row of a Markdown
// table. Nothing else should run on the host meanwhile.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

type options struct {
	tools     string
	model     string
	cycles    int
	factor    float64
	neighbour bool
	threads   int
	tokens    int
	record    string
}

func main() {
	var o options
	flag.StringVar(&o.tools, "tools", "", "folder of llama-bench and llama-quantize")
	flag.StringVar(&o.model, "model", "examples/models/kjv-4m-f16.gguf", "F16 model")
	flag.IntVar(&o.cycles, "cycles", 100, "cycles to run")
	flag.Float64Var(&o.factor, "factor", 1, "how much longer the copy's samples shall have taken")
	flag.BoolVar(&o.neighbour, "neighbour", false, "run beside a neighbour that is busy 1 to 3 s and idle 0 to 2 s in turn")
	flag.IntVar(&o.threads, "threads", 0, "engine.threads; 0 is the program's default")
	flag.IntVar(&o.tokens, "tokens", 1024, "tokens of each phase")
	flag.StringVar(&o.record, "record", "", "append every cycle's evidence to this file, one object a line")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-verdicts:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	dir, err := os.MkdirTemp("", "bench-verdicts-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	config, err := prepare(o, dir)
	if err != nil {
		return err
	}
	if o.neighbour {
		neighbour := exec.Command(filepath.Join(dir, "neighbour"))
		if err := neighbour.Start(); err != nil {
			return fmt.Errorf("starting the neighbour: %w", err)
		}
		defer func() { _ = neighbour.Process.Kill(); _ = neighbour.Wait() }()
	}
	t := tally{}
	if t.byHand, err = byHand(o); err != nil {
		return fmt.Errorf("llama-bench by hand: %w", err)
	}
	for i := range o.cycles {
		line, err := cycle(o, dir, config)
		if err != nil {
			return fmt.Errorf("cycle %d: %w", i+1, err)
		}
		t.add(line)
		fmt.Fprintf(os.Stderr, "%d/%d %s after %d rounds (kept %d, rejected %d, inconclusive %d)\n",
			i+1, o.cycles, line.Decision, line.Rounds, t.kept, t.rejected, t.inconclusive)
		if err := record(o.record, line); err != nil {
			return err
		}
	}
	t.print(o)
	return nil
}

// prepare builds what a cycle needs and writes its configuration.
func prepare(o options, dir string) (config string, err error) {
	for name, pkg := range map[string]string{"quant-exporter": ".", "neighbour": "./scripts/neighbour", "llama-bench": "./scripts/slowbench"} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg)
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return "", fmt.Errorf("building %s: %w", pkg, err)
		}
	}
	tools, err := filepath.Abs(o.tools)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("engine:\n  dir: %q\n  threads: %d\n", tools, o.threads)
	if o.factor != 1 {
		if err := os.Symlink(filepath.Join(tools, "llama-quantize"), filepath.Join(dir, "llama-quantize")); err != nil {
			return "", err
		}
		text = fmt.Sprintf("engine:\n  dir: %q\n  threads: %d\n  env: {SLOWBENCH_REAL: %q, SLOWBENCH_MODEL: F16.gguf, SLOWBENCH_FACTOR: %q}\n",
			dir, o.threads, filepath.Join(tools, "llama-bench"), strconv.FormatFloat(o.factor, 'g', -1, 64))
	}
	text += fmt.Sprintf("benchmark: {prompt_tokens: %d, generation_tokens: %d}\n", o.tokens, o.tokens)
	config = filepath.Join(dir, "config.yml")
	return config, os.WriteFile(config, []byte(text), 0o600)
}

// line is what is read of a line of --output json.
type line struct {
	EventType string             `json:"event_type"`
	Decision  verdict.Outcome    `json:"decision"`
	Rounds    int                `json:"rounds"`
	Repeated  int                `json:"repeated_rounds"`
	Seconds   map[string]float64 `json:"duration_seconds"`
	Error     string             `json:"error"`
	Evidence  json.RawMessage    `json:"evidence"`
}

func cycle(o options, dir, config string) (*line, error) {
	cmd := exec.Command(filepath.Join(dir, "quant-exporter"), "run", "--config.file", config, "--work.dir", filepath.Join(dir, "work"),
		"--model", o.model, "--target", "F16", "--output", "json", "--evidence")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	var l line
	if err := json.Unmarshal(out, &l); err != nil {
		return nil, fmt.Errorf("%w: %s %s", err, out, &stderr)
	}
	if l.EventType != "QUANT_DECISION" {
		return nil, errors.New(l.Error)
	}
	return &l, nil
}

func record(file string, l *line) error {
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(append(l.Evidence, '\n'))
	return err
}

// tally counts verdicts, and what single shots would have said of the same rounds.
type tally struct {
	kept, rejected, inconclusive int
	rounds, repeated             int
	seconds                      float64
	single, singleRejected       int
	byHand                       time.Duration
}

// byHand is the wall time of llama-bench with its own five repetitions on both models,
// with as many threads as the program uses.
func byHand(o options) (time.Duration, error) {
	threads := o.threads
	if threads == 0 {
		threads = host.Read().Threads()
	}
	tokens := strconv.Itoa(o.tokens)
	begin := time.Now()
	err := exec.Command(filepath.Join(o.tools, "llama-bench"), "-m", o.model+","+o.model, "-r", "5",
		"-p", tokens, "-n", tokens, "-b", tokens, "-ub", tokens, "-t", strconv.Itoa(threads), "-o", "jsonl").Run()
	return time.Since(begin), err
}

func (t *tally) add(l *line) {
	switch l.Decision {
	case verdict.Kept:
		t.kept++
	case verdict.Rejected:
		t.rejected++
	default:
		t.inconclusive++
	}
	t.rounds += l.Rounds
	t.repeated += l.Repeated
	t.seconds += l.Seconds["benchmark"]

	var evidence runner.Evidence
	if err := json.Unmarshal(l.Evidence, &evidence); err != nil {
		return // the line was read as a whole before
	}
	for _, round := range evidence.Rounds {
		rejected := false
		for _, pair := range round.Throughputs(evidence.Benchmark.Phases) {
			rejected = rejected || 1-pair.Quantized/pair.Original >= evidence.Decision.Threshold
		}
		t.single++
		if rejected {
			t.singleRejected++
		}
	}
}

func (t *tally) print(o options) {
	n := float64(t.kept + t.rejected + t.inconclusive)
	drop := 100 * (1 - 1/o.factor)
	load := "at rest"
	if o.neighbour {
		load = "busy neighbour"
	}
	fmt.Println("| true drop | host | tokens | cycles | kept | rejected | inconclusive | mean rounds | repeated | mean time measuring | `llama-bench -r 5` on both | single shots that reject |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|---|")
	fmt.Printf("| %.1f %% | %s | %d | %.0f | %d | %d | %d | %.1f | %.1f | %s | %s | %d of %d |\n", drop, load, o.tokens, n, t.kept, t.rejected, t.inconclusive,
		float64(t.rounds)/n, float64(t.repeated)/n, time.Duration(t.seconds/n*float64(time.Second)).Round(100*time.Millisecond), t.byHand.Round(100*time.Millisecond), t.singleRejected, t.single)
}
