// Command bench-cycle compares whole cycles with the same work done by hand, in one
// run on this host, for BENCHMARKS.md: first measurements alone, then with quality and a
// choice. It prints Markdown.
//
//	go run ./scripts/bench-cycle -tools DIR
//
// With -choices 20 it makes that many cycles that choose the fastest, with nothing changed in
// between, and prints what each chose and what the least drop alone would have chosen; before
// them, how long evaluations take that end when every limit is clear, and evaluations of all
// chunks.
//
// With -serving it compares cycles that also measure eight clients, a further depth (-depth) and
// quality with cycles that measure none of these.
//
// Nothing else should run on the host meanwhile.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

var ladder = []string{"Q8_0", "Q6_K", "Q4_K_M", "Q3_K_M", "Q2_K"}

func main() {
	tools := flag.String("tools", "", "folder of llama-bench, llama-quantize and llama-perplexity")
	model := flag.String("model", "examples/models/kjv-4m-f16.gguf", "F16 model")
	text := flag.String("text", "examples/models/kjv-heldout.txt", "text to evaluate quality on")
	repeat := flag.Int("repeat", 3, "times to run everything, in turn")
	choices := flag.Int("choices", 0, "instead: evaluations, and so many cycles that choose the fastest")
	more := flag.Bool("serving", false, "instead: cycles with clients, depths and quality, and without")
	depth := flag.Int("depth", 4096, "further depth of -serving")
	flag.Parse()
	if !*more {
		*depth = 0
	}
	if err := run(*tools, *model, *text, *repeat, *choices, *depth); err != nil {
		fmt.Fprintln(os.Stderr, "bench-cycle:", err)
		os.Exit(1)
	}
}

func run(tools, model, text string, repeat, choices, depth int) error {
	dir, err := os.MkdirTemp("", "bench-cycle-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "quant-exporter")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building: %w", err)
	}
	if tools, err = filepath.Abs(tools); err != nil {
		return err
	}
	if model, err = filepath.Abs(model); err != nil {
		return err
	}
	if text, err = filepath.Abs(text); err != nil {
		return err
	}
	if depth > 0 {
		return serving(binary, tools, model, text, dir, repeat, depth)
	}
	if choices > 0 {
		if err := evaluations(binary, tools, model, text, dir, repeat); err != nil {
			return err
		}
		return repeatedChoice(binary, tools, model, dir, choices)
	}
	size, large, err := largeModelMemory(binary, dir)
	if err != nil {
		return fmt.Errorf("the cycle on a large model: %w", err)
	}
	fmt.Printf("Peak memory of our process on a sparse file of %.0f GB: %.1f MB\n\n", float64(size)/1e9, float64(large.peak)/1e6)
	fmt.Println("| run | one cycle, ladder of five | overhead: wall / summed wall of the tools | rounds per format | peak memory | by hand, F16 once a format | by hand, F16 once | by hand, once a format, all cores |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for i := range repeat {
		ours, err := cycle(binary, tools, model, dir)
		if err != nil {
			return fmt.Errorf("the cycle: %w", err)
		}
		each, err := byHand(tools, model, "", dir, ours.threads, false)
		if err != nil {
			return fmt.Errorf("by hand: %w", err)
		}
		once, err := byHand(tools, model, "", dir, ours.threads, true)
		if err != nil {
			return fmt.Errorf("by hand, the original once: %w", err)
		}
		all, err := byHand(tools, model, "", dir, 0, false)
		if err != nil {
			return fmt.Errorf("by hand, all cores: %w", err)
		}
		fmt.Printf("| %d | %.1f s | %.3f | %s | %.1f MB | %.1f s | %.1f s | %.1f s |\n", i+1, ours.wall.Seconds(),
			ours.wall.Seconds()/ours.tools.Seconds(), strings.Join(ours.rounds, ", "), float64(ours.peak)/1e6, each.Seconds(), once.Seconds(), all.Seconds())
	}
	return ladders(binary, tools, model, text, dir, repeat)
}

// chunks of the text that quality is evaluated on.
const chunks = 32

// ladders compares cycles with a limit of quality and a choice with the same by hand.
func ladders(binary, tools, model, text, dir string, repeat int) error {
	config := filepath.Join(dir, "quality.yml")
	content := fmt.Sprintf("quality: {corpus: %q, chunks: %d, max_kl_divergence: 0.05}\n", text, chunks)
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		return err
	}
	rules := []string{string(choice.Smallest), string(choice.BestQuality), string(choice.Fastest)}
	fmt.Printf("\nWith quality (%d chunks of 512 tokens) and a choice; by hand the original's predictions are computed once.\n\n", chunks)
	fmt.Println("| run | choose | chosen | one cycle, ladder of five | rounds per format that was measured | by hand, F16 once a format | ratio | by hand, F16 once | ratio |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	for i := range repeat {
		var cycles []*measured
		for _, rule := range rules {
			ours, err := cycle(binary, tools, model, dir, "--config.file", config, "--choose", rule)
			if err != nil {
				return fmt.Errorf("the cycle that chooses the %s: %w", rule, err)
			}
			cycles = append(cycles, ours)
		}
		threads := cycles[0].threads
		each, err := byHand(tools, model, text, dir, threads, false)
		if err != nil {
			return fmt.Errorf("by hand, with quality: %w", err)
		}
		once, err := byHand(tools, model, text, dir, threads, true)
		if err != nil {
			return fmt.Errorf("by hand, with quality, the original once: %w", err)
		}
		for j, ours := range cycles {
			wall := ours.wall.Seconds()
			fmt.Printf("| %d | %s | %s | %.1f s | %s | %.1f s | %.2f | %.1f s | %.2f |\n", i+1, rules[j], ours.chosen, wall,
				strings.Join(ours.rounds, ", "), each.Seconds(), wall/each.Seconds(), once.Seconds(), wall/once.Seconds())
		}
	}
	return nil
}

// evaluations compares the time of evaluations that end early with the time of all chunks, which
// a limit on a tail needs.
func evaluations(binary, tools, model, text, dir string, repeat int) error {
	fmt.Printf("| run | evaluation, ladder of five | chunks | of %d chunks |\n|---|---|---|---|\n", chunks)
	for i := range repeat {
		var found [2]*measured
		for j, more := range []string{"", ", max_rms_dp: 1"} {
			config := filepath.Join(dir, "evaluate.yml")
			content := fmt.Sprintf("quality: {corpus: %q, chunks: %d, max_kl_divergence: 0.05%s}\n", text, chunks, more)
			if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
				return err
			}
			var err error
			if found[j], err = cycle(binary, tools, model, dir, "--config.file", config, "--no-record"); err != nil {
				return fmt.Errorf("the cycle with quality: %w", err)
			}
		}
		fmt.Printf("| %d | %.1f s | %s | %.1f s |\n", i+1, found[0].evaluate, strings.Join(found[0].chunks, ", "), found[1].evaluate)
	}
	fmt.Println()
	return nil
}

// serving compares cycles that measure what people serve with plain ones, in turn. The model
// need not be made for so many tokens: the speed is the same.
func serving(binary, tools, model, text, dir string, repeat, depth int) error {
	config := filepath.Join(dir, "serving.yml")
	content := fmt.Sprintf("benchmark: {clients: [1, 8], depth: [0, %d]}\nquality: {corpus: %q, chunks: %d, max_kl_divergence: 0.05}\n", depth, text, chunks)
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		return err
	}
	fmt.Printf("| run | one cycle, ladder of five | rounds per format | clients [1, 8], depths [0, %d] and quality | rounds per format | ratio |\n|---|---|---|---|---|---|\n", depth)
	for i := range repeat {
		plain, err := cycle(binary, tools, model, dir, "--no-record")
		if err != nil {
			return fmt.Errorf("the plain cycle: %w", err)
		}
		more, err := cycle(binary, tools, model, dir, "--config.file", config, "--no-record")
		if err != nil {
			return fmt.Errorf("the cycle with further phases: %w", err)
		}
		fmt.Printf("| %d | %.1f s | %s | %.1f s | %s | %.2f |\n", i+1, plain.wall.Seconds(), strings.Join(plain.rounds, ", "),
			more.wall.Seconds(), strings.Join(more.rounds, ", "), more.wall.Seconds()/plain.wall.Seconds())
	}
	return nil
}

// repeatedChoice makes the same cycle again and again, each with the choice of the one before.
func repeatedChoice(binary, tools, model, dir string, times int) error {
	fmt.Println("| cycle | chosen | least drop in generation |\n|---|---|---|")
	seen := map[string]int{}
	for i := range times {
		ours, err := cycle(binary, tools, model, dir, "--choose", string(choice.Fastest))
		if err != nil {
			return fmt.Errorf("the cycle that chooses the fastest: %w", err)
		}
		seen[ours.chosen]++
		fmt.Printf("| %d | %s | %s |\n", i+1, ours.chosen, ours.fastest)
	}
	fmt.Printf("\nchosen: %v\n", seen)
	return nil
}

type measured struct {
	wall, tools time.Duration
	rounds      []string
	peak        int64 // bytes of resident memory of our process alone
	threads     int
	chosen      string
	fastest     string   // with the least drop in the primary phase, of those that are kept
	evaluate    float64  // seconds
	chunks      []string // that were evaluated, by format
}

// cycle runs one cycle of the ladder and adds up the tools' own time from the
// evidence. The tools' calls that evidence does not keep (asking for versions, formats
// and sizes) count as overhead.
func cycle(binary, tools, model, dir string, more ...string) (*measured, error) {
	args := append([]string{"run", "--llamacpp.dir", tools, "--model", model, "--work.dir", filepath.Join(dir, "work"), "--output", "json", "--evidence"}, more...)
	for _, target := range ladder {
		args = append(args, "--target", target)
	}
	if err := os.RemoveAll(filepath.Join(dir, "work")); err != nil { // no cycle reuses another's copies
		return nil, err
	}
	cmd := exec.Command(binary, args...)
	cmd.Dir = dir // away from a configuration file
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	m := &measured{}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for tick := time.NewTicker(50 * time.Millisecond); m.wall == 0; {
		select {
		case err := <-ended:
			m.wall = time.Since(begin)
			tick.Stop()
			if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
				return nil, err
			}
		case <-tick.C:
			m.peak = max(m.peak, peakMemory(cmd.Process.Pid))
		}
	}
	seen := map[time.Time]bool{} // the original's samples serve every target
	least := math.Inf(1)
	for line := range bytes.Lines(stdout.Bytes()) {
		var l struct {
			Type     string          `json:"event_type"`
			Chosen   string          `json:"chosen_format"`
			Target   string          `json:"target_format"`
			Decision verdict.Outcome `json:"decision"`
			Rounds   int             `json:"rounds"`
			Evidence runner.Evidence `json:"evidence"`
			Duration struct {
				Evaluate float64 `json:"evaluate"`
			} `json:"duration_seconds"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, fmt.Errorf("%w in %s", err, line)
		}
		switch l.Type {
		case event.TypeDecision:
		case event.TypeChoice:
			m.chosen = l.Chosen
			continue
		case event.TypeSkipped:
			continue
		default:
			return nil, fmt.Errorf("no decision: %s%s", line, &stderr)
		}
		m.rounds = append(m.rounds, l.Target+" "+strconv.Itoa(l.Rounds))
		m.tools += l.Evidence.Quantize.Wall
		m.evaluate = max(m.evaluate, l.Duration.Evaluate)
		if q := l.Evidence.Quality; q != nil {
			m.chunks = append(m.chunks, fmt.Sprintf("%s %d", l.Target, len(q.Chunks)))
		}
		v := l.Evidence.Verdict()
		if phase, ok := v.Primary(); ok && l.Decision == verdict.Kept && phase.Drop < least {
			m.fastest, least = l.Target, phase.Drop
		}
		for _, round := range l.Evidence.Rounds {
			for _, s := range []runner.Sample{round.Original, round.Quantized} {
				if !seen[s.Started] {
					seen[s.Started] = true
					m.tools += s.Measurement.Run.Wall
				}
				m.threads = s.Measurement.Threads
			}
		}
	}
	return m, nil
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMemory of a process so far; 0 if the system does not report it.
func peakMemory(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	m := highWater.FindSubmatch(status)
	if m == nil {
		return 0
	}
	kB, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		return 0
	}
	return kB * 1024
}

// byHand does what a careful person types: llama-quantize for each format, llama-bench
// with its five repetitions, either on both models for each format or on all at once; and,
// with a text, llama-perplexity: a base pass of the original, once, and one run for each
// format.
func byHand(tools, model, text, dir string, threads int, once bool) (time.Duration, error) {
	begin := time.Now()
	bench := func(models ...string) error {
		args := []string{"-m", strings.Join(models, ","), "-p", "1024", "-n", "1024", "-b", "1024", "-ub", "1024", "-r", "5", "-o", "jsonl"}
		if threads > 0 {
			args = append(args, "-t", strconv.Itoa(threads))
		}
		return exec.Command(filepath.Join(tools, "llama-bench"), args...).Run()
	}
	base := filepath.Join(dir, "original.predictions")
	defer os.Remove(base)
	evaluate := func(model string, more ...string) error {
		if text == "" {
			return nil
		}
		args := append([]string{"-m", model, "-c", "512", "--kl-divergence-base", base, "-t", strconv.Itoa(threads)}, more...)
		return exec.Command(filepath.Join(tools, "llama-perplexity"), args...).Run()
	}
	if err := evaluate(model, "-f", text, "--chunks", strconv.Itoa(chunks)); err != nil {
		return 0, err
	}
	models := []string{model}
	for _, target := range ladder {
		out := filepath.Join(dir, target+".gguf")
		if err := exec.Command(filepath.Join(tools, "llama-quantize"), model, out, target).Run(); err != nil {
			return 0, err
		}
		defer os.Remove(out)
		models = append(models, out)
		if err := evaluate(out, "--kl-divergence"); err != nil {
			return 0, err
		}
		if !once {
			if err := bench(model, out); err != nil {
				return 0, err
			}
		}
	}
	if once {
		if err := bench(models...); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}
