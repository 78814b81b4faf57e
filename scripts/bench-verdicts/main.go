// Command bench-verdicts counts right and wrong verdicts of real cycles on this host, and how
// far their rounds spread, for BENCHMARKS.md: a model against a copy of itself, at rest or
// beside a busy neighbour, with the copy made to look slower by a known factor where asked for.
//
//	go run ./scripts/bench-verdicts -tools DIR -cycles 100 -neighbour
//	go run ./scripts/bench-verdicts -tools DIR -cycles 50 -factor 1.25 -process-every 10
//	go run ./scripts/bench-verdicts -tools DIR -noise 48 -neighbour -record paired.json
//
// With -noise it measures so many rounds of the model against itself by each method, in batches
// that take turns, instead of whole cycles; -record keeps the log ratios of the paired ones for
// the simulation of package verdict.
//
// It runs cycles of package runner, on the real tools. With -process-every, one of so many is
// repeated by the process method, so that both methods see the same host. It prints rows of a
// Markdown table. Nothing else should run on the host meanwhile.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	prom "github.com/prometheus/common/model"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

type options struct {
	tools        string
	model        string
	cycles       int
	factor       float64
	neighbour    bool
	processEvery int
	noise        int
	threads      int
	record       string
	benchmark    config.Benchmark
	budget       time.Duration
}

func main() {
	o := options{benchmark: config.DefaultBenchmark()}
	o.benchmark.Method = config.MethodPaired
	tokens := 0
	flag.StringVar(&o.tools, "tools", "", "folder of llama.cpp's tools")
	flag.StringVar(&o.model, "model", "examples/models/kjv-4m-f16.gguf", "F16 model")
	flag.IntVar(&o.cycles, "cycles", 100, "cycles to run")
	flag.Float64Var(&o.factor, "factor", 1, "how much longer the copy's bursts shall have taken")
	flag.BoolVar(&o.neighbour, "neighbour", false, "run beside a neighbour that is busy 1 to 3 s and idle 0 to 2 s in turn")
	flag.IntVar(&o.processEvery, "process-every", 0, "repeat one of so many cycles by the process method; 0: none")
	flag.IntVar(&o.noise, "noise", 0, "measure so many rounds by each method, instead of cycles")
	flag.IntVar(&o.threads, "threads", 0, "threads to measure with; 0: all cores but one")
	flag.StringVar(&o.record, "record", "", "with -noise: file for the log ratios of the paired rounds, as JSON")
	flag.IntVar(&tokens, "tokens", 1024, "tokens of each phase")
	flag.DurationVar(&o.budget, "budget", 4*time.Hour, "benchmark.budget of a cycle")
	flag.Parse()
	o.benchmark.PromptTokens, o.benchmark.GenerationTokens, o.benchmark.Budget = tokens, tokens, prom.Duration(o.budget)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-verdicts:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "bench-verdicts-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.neighbour {
		stop, err := startNeighbour(dir)
		if err != nil {
			return err
		}
		defer stop()
	}
	found, err := model.Found{}.Select([]string{o.model})
	if err != nil {
		return err
	}
	here := host.Read()
	threads := cmp.Or(o.threads, here.Threads())
	engine := config.DefaultEngine()
	if engine.Dir, err = filepath.Abs(o.tools); err != nil {
		return err
	}
	r := runner.New(
		slowed{llamacpp.New(engine, llamacpp.Threads{Measuring: threads, Preparing: here.Usable()}, slog.New(slog.DiscardHandler)), o.factor},
		runner.Options{WorkDir: filepath.Join(dir, "work"), Isolation: disk.Auto, Host: here},
	)
	tallies := map[config.Method]*tally{config.MethodPaired: {}, config.MethodProcess: {}}
	if o.noise > 0 {
		return noise(ctx, r, found[0], o, here, tallies)
	}
	for i := range o.cycles {
		methods := []config.Method{config.MethodPaired}
		if o.processEvery > 0 && i%o.processEvery == 0 {
			methods = append(methods, config.MethodProcess)
		}
		for _, method := range methods {
			if err := tallies[method].cycle(ctx, r, found[0], o, method); err != nil {
				return fmt.Errorf("cycle %d: %w", i+1, err)
			}
		}
	}
	printRows(o, tallies)
	return nil
}

func startNeighbour(dir string) (stop func(), err error) {
	path := filepath.Join(dir, "neighbour")
	build := exec.Command("go", "build", "-o", path, "./scripts/neighbour")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("building the neighbour: %w", err)
	}
	neighbour := exec.Command(path)
	if err := neighbour.Start(); err != nil {
		return nil, fmt.Errorf("starting the neighbour: %w", err)
	}
	return func() { _ = neighbour.Process.Kill(); _ = neighbour.Wait() }, nil
}

// slowed is an engine whose copies look slower by a factor.
type slowed struct {
	*llamacpp.Engine
	factor float64
}

func (s slowed) Round(ctx context.Context, job runner.RoundJob, report func(int, float64)) ([]runner.FileRound, error) {
	files, err := s.Engine.Round(ctx, job, report)
	for i := 1; i < len(files); i++ {
		m := &files[i].Measurement
		for j := range m.Bursts {
			m.Bursts[j].Time = time.Duration(float64(m.Bursts[j].Time) * s.factor)
		}
		m.Throughput = runner.Throughputs(m.Bursts)
	}
	return files, err
}

// tally counts verdicts, and keeps what the rounds were.
type tally struct {
	kept, rejected, inconclusive int
	rounds, repeated             int
	measuring                    time.Duration
	ratios                       map[verdict.Phase][]float64 // logarithms, of the rounds that counted
}

func (t *tally) cycle(ctx context.Context, r *runner.Runner, m model.Model, o options, method config.Method) error {
	settings := config.DefaultSettings()
	settings.Benchmark = o.benchmark
	settings.Benchmark.Method = method
	var result runner.Result
	r.Run(ctx, runner.Request{Model: m, Targets: []string{"F16"}, Settings: settings, OrderSeed: rand.Uint64()}, func(one runner.Result) { result = one })
	if result.Failure != nil {
		return result.Failure
	}
	switch result.Outcome() {
	case verdict.Kept:
		t.kept++
	case verdict.Rejected:
		t.rejected++
	default:
		t.inconclusive++
	}
	t.rounds += result.Verdict.Rounds
	t.repeated += len(result.Evidence.Rounds) - result.Verdict.Rounds
	t.measuring += result.Durations[runner.OperationBenchmark]
	t.add(result.Evidence.Rounds, settings.Benchmark.Phases)
	fmt.Fprintf(os.Stderr, "%s: %s after %d rounds and %v (kept %d, rejected %d, inconclusive %d)\n", method, result.Outcome(), result.Verdict.Rounds,
		result.Durations[runner.OperationBenchmark].Round(100*time.Millisecond), t.kept, t.rejected, t.inconclusive)
	return nil
}

// batch is how many rounds one method has before it is the other's turn.
const batch = 4

// trace is what the simulation of package verdict reads: log ratios of rounds, generation and
// prompt.
type trace struct {
	Host    string       `json:"host"`
	Load    string       `json:"load"`
	Threads int          `json:"threads"`
	Rounds  [][2]float64 `json:"log_ratios"`
}

// noise measures rounds of the model against itself.
func noise(ctx context.Context, r *runner.Runner, m model.Model, o options, here *host.Host, tallies map[config.Method]*tally) error {
	recorded := trace{Host: here.String(), Load: loadName(o), Threads: cmp.Or(o.threads, here.Threads())}
	for measured := 0; measured < o.noise; measured += batch {
		for _, method := range []config.Method{config.MethodPaired, config.MethodProcess} {
			b := o.benchmark
			b.Method = method
			found, err := r.MeasureNoise(ctx, runner.Request{Model: m, Settings: config.Settings{Benchmark: b}, OrderSeed: rand.Uint64()}, batch)
			if err != nil {
				return err
			}
			t := tallies[method]
			t.rounds += len(found.Rounds)
			t.measuring += found.Took
			t.add(found.Rounds, b.Phases)
			if method != config.MethodPaired {
				continue
			}
			for _, pair := range runner.Compare(found.Rounds, 1, b.Phases) {
				recorded.Rounds = append(recorded.Rounds, [2]float64{pair[verdict.Generation].LogRatio(), pair[verdict.Prompt].LogRatio()})
			}
		}
		fmt.Fprintf(os.Stderr, "%d of %d rounds\n", measured+batch, o.noise)
	}
	fmt.Println("| method | host | threads | tokens | rounds | a round | spread, generation | spread, prompt |")
	fmt.Println("|---|---|--:|--:|--:|--:|--:|--:|")
	for _, method := range []config.Method{config.MethodProcess, config.MethodPaired} {
		t := tallies[method]
		fmt.Printf("| %s | %s | %d | %d | %d | %.2f s | %s | %s |\n", method, recorded.Load, recorded.Threads, o.benchmark.GenerationTokens, t.rounds,
			t.measuring.Seconds()/float64(t.rounds), spread(t.ratios[verdict.Generation]), spread(t.ratios[verdict.Prompt]))
	}
	if o.record == "" {
		return nil
	}
	text, err := json.Marshal(recorded)
	if err != nil {
		return err
	}
	return os.WriteFile(o.record, append(text, '\n'), 0o644)
}

func loadName(o options) string {
	if o.neighbour {
		return "busy neighbour"
	}
	return "at rest"
}

// add keeps the log ratios of rounds that counted.
func (t *tally) add(rounds []runner.Round, phases []verdict.Phase) {
	if t.ratios == nil {
		t.ratios = map[verdict.Phase][]float64{}
	}
	for _, set := range []int{1, 2} {
		for _, round := range runner.Compare(rounds, set, phases) {
			for phase, pair := range round {
				t.ratios[phase] = append(t.ratios[phase], pair.LogRatio())
			}
		}
	}
}

func printRows(o options, tallies map[config.Method]*tally) {
	load := loadName(o)
	fmt.Println("| method | true drop | host | tokens | cycles | kept | rejected | inconclusive | mean rounds | time measuring | a round | spread, generation | spread, prompt |")
	fmt.Println("|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, method := range []config.Method{config.MethodProcess, config.MethodPaired} {
		t := tallies[method]
		n := t.kept + t.rejected + t.inconclusive
		if n == 0 {
			continue
		}
		rounds := t.rounds + t.repeated
		fmt.Printf("| %s | %.1f %% | %s | %d | %d | %d | %d | %d | %.1f | %.1f s | %.2f s | %s | %s |\n",
			method, 100*(1-1/o.factor), load, o.benchmark.GenerationTokens, n, t.kept, t.rejected, t.inconclusive, float64(t.rounds)/float64(n),
			t.measuring.Seconds()/float64(n), t.measuring.Seconds()/float64(rounds), spread(t.ratios[verdict.Generation]), spread(t.ratios[verdict.Prompt]))
	}
}

// spread is the standard deviation of log ratios and, robust against outliers, verdict.MADToDeviation times
// the median distance from the median.
func spread(logs []float64) string {
	if len(logs) < 2 {
		return "-"
	}
	mean, sum := 0.0, 0.0
	for _, d := range logs {
		mean += d / float64(len(logs))
	}
	for _, d := range logs {
		sum += (d - mean) * (d - mean)
	}
	middle := verdict.Median(logs)
	distances := make([]float64, len(logs))
	for i, d := range logs {
		distances[i] = math.Abs(d - middle)
	}
	return fmt.Sprintf("%.4f, robust %.4f", math.Sqrt(sum/float64(len(logs)-1)), verdict.MADToDeviation*verdict.Median(distances))
}
