// Package calibrate finds out how small a drop in throughput a host can tell from
// none, by measuring a model against itself: whatever difference its rounds show is
// noise.
package calibrate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"text/tabwriter"

	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Options say what to calibrate with.
type Options struct {
	Model     runner.Model
	Rounds    int   // for each number of threads, 4 to 100
	Threads   []int // the numbers of threads to try
	Benchmark runner.Benchmark
	Threshold float64
	// Runner makes a runner whose engine uses that many threads.
	Runner   func(threads int) *runner.Runner
	Progress func(runner.Progress)
}

// Report is what a calibration found.
type Report struct {
	Model     string  `json:"model_name"`
	Format    string  `json:"format"`
	Threshold float64 `json:"threshold"` // a ratio
	Threads   []Row   `json:"threads"`
	// Recommended is the number of threads to measure with: of those that resolve
	// nearly the smallest drop, the fastest.
	Recommended int `json:"recommended_threads"`
	// Warning says, where it is so, that the threshold is below what this host
	// resolves; else it is "".
	Warning string `json:"warning,omitempty"`
}

// Row is what one number of threads gave.
type Row struct {
	Threads  int     `json:"threads"`
	Rounds   int     `json:"rounds"`
	Repeated int     `json:"repeated_rounds"` // contaminated by other processes, and not counted
	Phases   []Phase `json:"phases"`
}

// Phase is what one phase of them gave.
type Phase struct {
	Phase      verdict.Phase `json:"phase"`
	Throughput float64       `json:"throughput"` // tokens per second, median
	Spread     float64       `json:"spread"`     // standard deviation of the log ratio from round to round
	// Resolves gives the smallest drop, a ratio, that can be told from none: within 4,
	// 8 and 20 rounds.
	Resolves [3]float64 `json:"resolves"`
}

// horizons are the numbers of rounds that Phase.Resolves is about.
var horizons = [3]int{4, 8, 20}

// DefaultThreads are the numbers of threads to try on so many cores: one, half of
// them, all but one, and all.
func DefaultThreads(cores int) []int {
	threads := []int{1, cores / 2, cores - 1, cores}
	threads = slices.DeleteFunc(threads, func(n int) bool { return n < 1 })
	slices.Sort(threads)
	return slices.Compact(threads)
}

// Run measures. It fails when any measurement does.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Rounds < 4 || o.Rounds > 100 {
		return nil, fmt.Errorf("--rounds %d: a spread needs 4 to 100 rounds", o.Rounds)
	}
	found := &Report{Model: o.Model.Name, Format: o.Model.Header.Format, Threshold: o.Threshold}
	for _, threads := range o.Threads {
		if threads < 1 {
			return nil, fmt.Errorf("--threads %d: use 1 or more", threads)
		}
		rounds, err := o.Runner(threads).MeasureSelf(ctx, runner.Request{Model: o.Model, Benchmark: o.Benchmark, OrderSeed: rand.Uint64(), Progress: o.Progress}, o.Rounds)
		if err != nil {
			return nil, fmt.Errorf("measuring %s against itself with %d threads: %w", o.Model.Name, threads, err)
		}
		found.Threads = append(found.Threads, row(threads, rounds, o.Benchmark))
	}
	found.recommend(o.Benchmark.Rounds.Max)
	return found, nil
}

// row computes what the rounds at one number of threads say.
func row(threads int, rounds []runner.Round, b runner.Benchmark) Row {
	counted, pairs := 0, []verdict.Round{}
	for _, r := range rounds {
		if r.Counted {
			counted++
			pairs = append(pairs, r.Pairs(b.Phases))
		}
	}
	r := Row{Threads: threads, Rounds: counted, Repeated: len(rounds) - counted}
	// The looks of a cycle are of no concern here: one look at all the rounds, and what
	// looks of the default plan would resolve with the spread that it finds.
	once := verdict.Config{Threshold: 0.5, Phases: b.Phases, MinRounds: counted, MaxRounds: counted, Alpha: b.Alpha}
	plan := verdict.Config{Threshold: 0.5, Phases: b.Phases, MinRounds: b.Rounds.Min, MaxRounds: max(b.Rounds.Max, horizons[2]), Alpha: b.Alpha}
	for _, v := range verdict.Decide(once, pairs).Phases {
		p := Phase{Phase: v.Phase, Throughput: v.Original, Spread: v.Spread}
		for i, n := range horizons {
			p.Resolves[i] = verdict.Resolvable(plan, v.Spread, n)
		}
		r.Phases = append(r.Phases, p)
	}
	return r
}

// recommend chooses the number of threads and compares what it resolves with the
// threshold.
func (r *Report) recommend(maxRounds int) {
	const nearly = 1.25 // spreads of a handful of rounds are not known better than that
	best := math.Inf(1)
	for _, row := range r.Threads {
		best = math.Min(best, row.resolves())
	}
	var chosen Row
	for _, row := range r.Threads {
		if row.resolves() <= best*nearly && row.speed() > chosen.speed() {
			chosen = row
		}
	}
	r.Recommended = chosen.Threads
	if resolved := chosen.resolves(); resolved > r.Threshold {
		r.Warning = fmt.Sprintf("this host tells a drop of %s from none within %d rounds, and the threshold is %s: expect inconclusive cycles; free the host of other work, raise benchmark.rounds.max (%d), or measure more tokens",
			report.Percent(resolved), horizons[2], report.Percent(r.Threshold), maxRounds)
	}
}

// resolves is the smallest drop resolved within the last horizon in every phase.
func (r Row) resolves() float64 {
	worst := 0.0
	for _, p := range r.Phases {
		worst = math.Max(worst, p.Resolves[len(horizons)-1])
	}
	return worst
}

// speed is the throughput of the first, primary phase.
func (r Row) speed() float64 {
	if len(r.Phases) == 0 {
		return 0
	}
	return r.Phases[0].Throughput
}

// WriteJSON writes the report as one object on a line.
func (r *Report) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// WriteText writes the report for people to read.
func (r *Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s (%s) against itself: what differs is this host's noise.\n\n", r.Model, r.Format)
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(t, "threads\tphase\ttokens/s\tspread\tsmallest drop told from none in %d\t%d\t%d rounds\trounds\trepeated\n", horizons[0], horizons[1], horizons[2])
	for _, row := range r.Threads {
		for _, p := range row.Phases {
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", row.Threads, p.Phase, report.Throughput(p.Throughput), report.Percent(p.Spread),
				report.Percent(p.Resolves[0]), report.Percent(p.Resolves[1]), report.Percent(p.Resolves[2]), row.Rounds, row.Repeated)
		}
	}
	t.Flush()
	fmt.Fprintf(w, "\nRecommended: %d %s (engine.threads in the configuration file).\n", r.Recommended, map[bool]string{true: "thread", false: "threads"}[r.Recommended == 1])
	if r.Warning != "" {
		fmt.Fprintf(w, "Warning: %s.\n", r.Warning)
	}
	return nil
}
