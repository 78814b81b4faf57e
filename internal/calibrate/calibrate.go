// Package calibrate finds out how small a drop in throughput a host can tell from
// none, by measuring a model against itself: whatever difference its rounds show is
// noise.
package calibrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Options say what to calibrate with.
type Options struct {
	Model     model.Model
	Baseline  string // format in which it is measured; "" as it is
	Rounds    int    // for each number of threads, 4 to 100
	Threads   []int  // the numbers of threads to try, each 1 to CPUs
	CPUs      int    // logical CPUs of the host; 0 for those this process may use
	Benchmark config.Benchmark
	Threshold float64 // a ratio, 0 < t < 1
	// Runner makes a runner whose engine uses that many threads.
	Runner func(threads int) *runner.Runner
	// Progress receives what is being measured, as runner.Request.Progress does. May be nil.
	Progress func(runner.Progress)
}

// Validate returns all problems of the options at once. It names the flags of the command
// line, and the keys of the configuration.
func (o Options) Validate() error {
	var errs []error
	if o.Rounds < 4 || o.Rounds > 100 {
		errs = append(errs, fmt.Errorf("--rounds %d: a spread needs 4 to 100 rounds", o.Rounds))
	}
	if len(o.Threads) == 0 {
		errs = append(errs, errors.New("--threads: give at least one number of threads"))
	}
	cpus := o.CPUs
	if cpus == 0 {
		cpus = runtime.NumCPU()
	}
	for i, threads := range o.Threads {
		switch {
		case threads < 1:
			errs = append(errs, fmt.Errorf("--threads %d: use 1 or more", threads))
		case threads > cpus:
			errs = append(errs, fmt.Errorf("--threads %d: this host has %d logical %s: use no more threads", threads, cpus, text.Plural(cpus, "CPU", "CPUs")))
		case slices.Contains(o.Threads[:i], threads):
			errs = append(errs, fmt.Errorf("--threads %d is given twice: give each number once", threads))
		}
	}
	for _, problem := range o.Benchmark.Validate() {
		errs = append(errs, fmt.Errorf("benchmark.%s: %w", problem.Path, problem.Err))
	}
	if err := verdict.ValidateThreshold(o.Threshold); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// DefaultThreads returns the numbers of threads to try on so many cores: one, half of
// them, all but one, and all.
func DefaultThreads(cores int) []int {
	threads := []int{1, cores / 2, cores - 1, cores}
	threads = slices.DeleteFunc(threads, func(n int) bool { return n < 1 })
	slices.Sort(threads)
	return slices.Compact(threads)
}

// Run measures. It fails before anything is measured when an option cannot be used, and
// when any measurement does.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	found := &Report{Model: o.Model.Name, Format: cmp.Or(o.Baseline, o.Model.Header.Format), Threshold: o.Threshold, MaxRounds: o.Benchmark.Rounds.Max}
	for _, threads := range o.Threads {
		noise, err := o.measure(ctx, threads, o.Benchmark)
		if err != nil {
			return nil, err
		}
		found.Threads = append(found.Threads, row(threads, noise, o.Benchmark))
		found.Unpaired = noise.Reason
		if o.Benchmark.Method != config.MethodAuto || noise.Method != config.MethodPaired {
			continue
		}
		process := o.Benchmark.Basic() // which is all that the other method measures
		process.Method = config.MethodProcess
		if noise, err = o.measure(ctx, threads, process); err != nil {
			return nil, err
		}
		found.Threads = append(found.Threads, row(threads, noise, process))
	}
	found.recommend()
	return found, nil
}

// measure measures the model against itself.
func (o Options) measure(ctx context.Context, threads int, benchmark config.Benchmark) (runner.Noise, error) {
	noise, err := o.Runner(threads).MeasureNoise(ctx, runner.Request{
		Model:     o.Model,
		Settings:  config.Settings{Benchmark: benchmark, Baseline: o.Baseline},
		OrderSeed: rand.Uint64(),
		Progress:  o.progress(threads),
	}, o.Rounds)
	if err != nil {
		return runner.Noise{}, fmt.Errorf("measuring %s against itself with %s: %w", o.Model.Name, countThreads(threads), err)
	}
	return noise, nil
}

// progress adds the number of threads to each report of progress.
func (o Options) progress(threads int) func(runner.Progress) {
	if o.Progress == nil {
		return nil
	}
	return func(now runner.Progress) {
		if now.Round > 0 {
			now.Detail = countThreads(threads) + ", " + now.Detail
		}
		o.Progress(now)
	}
}

// row computes what the rounds by one method at one number of threads say.
func row(threads int, noise runner.Noise, b config.Benchmark) Row {
	counted := runner.Compare(noise.Rounds, 1, b.Measured())
	r := Row{Threads: threads, Method: noise.Method, Rounds: len(counted), Repeated: len(noise.Rounds) - len(counted)}
	if len(counted) > 0 {
		r.Seconds = noise.Took.Seconds() / float64(len(counted))
	}
	// The looks of a cycle do not matter for the spread: one look at all the rounds.
	once := b.Decision(anyThreshold)
	once.MinRounds, once.MaxRounds = len(counted), len(counted)
	for _, v := range verdict.Decide(once, counted).Phases {
		r.Phases = append(r.Phases, Phase{
			Phase:      v.Phase,
			Throughput: v.Original,
			Spread:     v.Spread,
			Resolves:   resolutions(b.Decision(anyThreshold), v.Spread),
			Within:     within(b.Decision(anyThreshold), v.Spread, r.Seconds),
		})
	}
	return r
}

// anyThreshold is a valid threshold: what is computed here does not depend on it.
const anyThreshold = 0.5

// resolutions are for 4, 8 and 20 rounds and for as many as a cycle may take. Beyond
// that, they say what raising the maximum to so many would give.
func resolutions(c verdict.Config, spread float64) []Resolution {
	horizons := []int{4, 8, 20, c.MaxRounds}
	slices.Sort(horizons)
	allowed := c.MaxRounds
	var all []Resolution
	for _, n := range slices.Compact(horizons) {
		if n < c.MinRounds { // a cycle takes no look so early
			continue
		}
		c.MaxRounds = max(allowed, n)
		all = append(all, Resolution{Rounds: n, Drop: verdict.Resolvable(c, spread, n)})
	}
	return all
}

// spans are the times that a report says something about.
var spans = []time.Duration{time.Minute, 5 * time.Minute}

// within returns what the rounds resolve that begin in a minute and in five, where one takes so many
// seconds.
func within(c verdict.Config, spread, seconds float64) []Resolution {
	var all []Resolution
	for _, span := range spans {
		at := Resolution{Seconds: int(span.Seconds()), Drop: 1}
		if seconds > 0 {
			at.Rounds = int(min(span.Seconds()/seconds, float64(c.MaxRounds)))
			at.Drop = verdict.Resolvable(c, spread, at.Rounds)
		}
		all = append(all, at)
	}
	return all
}

// recommend chooses the method and the number of threads, and compares what they resolve with
// the threshold.
func (r *Report) recommend() {
	const nearly = 1.25 // spreads of a handful of rounds are not known better than that
	best := math.Inf(1)
	for _, row := range r.Threads {
		best = min(best, row.resolves(r.MaxRounds))
	}
	var chosen *Row
	for i := range r.Threads {
		if row := &r.Threads[i]; row.resolves(r.MaxRounds) <= best*nearly && row.preferred(chosen) {
			chosen = row
		}
	}
	if chosen == nil {
		return
	}
	if len(r.Threads) > 1 { // else there was nothing to choose from
		r.Recommended, r.RecommendedMethod = chosen.Threads, chosen.Method
	}
	if resolved := chosen.resolves(r.MaxRounds); resolved > r.Threshold {
		r.Warning = fmt.Sprintf("within %d rounds (benchmark.rounds.max) this host tells %s from 1×, and a copy is rejected at %s: expect inconclusive cycles; free the host of other work, measure more tokens, or raise benchmark.rounds.max",
			r.MaxRounds, distinct(resolved), text.SpeedLimit(r.Threshold))
	}
}

// distinct writes the speeds that can be told from 1× if drops from this one on can.
func distinct(drop float64) string {
	if drop >= 1 {
		return "no speed"
	}
	return "only " + text.Speed(drop) + " or less"
}

// preferred reports whether the row is faster than the other one, or as fast with fewer
// threads. What two methods time is not the same: of those, the one is preferred that
// resolves more in a minute.
func (r *Row) preferred(other *Row) bool {
	switch {
	case other == nil:
		return true
	case r.Method != other.Method:
		return r.inAMinute() < other.inAMinute()
	case r.speed() != other.speed():
		return r.speed() > other.speed()
	default:
		return r.Threads < other.Threads
	}
}

// inAMinute returns the smallest drop that a minute resolves in every phase; 1 if that is
// not known.
func (r *Row) inAMinute() float64 {
	worst := 0.0
	for _, p := range r.Phases {
		if len(p.Within) == 0 {
			return 1
		}
		worst = max(worst, p.Within[0].Drop)
	}
	return worst
}

// resolves returns the smallest drop that so many rounds resolve in every phase. It
// returns 1, which resolves nothing, if that is not known.
func (r *Row) resolves(rounds int) float64 {
	if len(r.Phases) == 0 {
		return 1
	}
	worst := 0.0
	for _, p := range r.Phases {
		worst = max(worst, p.resolves(rounds))
	}
	return worst
}

func (p Phase) resolves(rounds int) float64 {
	for _, r := range p.Resolves {
		if r.Rounds == rounds {
			return r.Drop
		}
	}
	return 1
}

// speed returns the throughput of the first, primary phase.
func (r *Row) speed() float64 {
	if len(r.Phases) == 0 {
		return 0
	}
	return r.Phases[0].Throughput
}

func countThreads(n int) string {
	return fmt.Sprintf("%d %s", n, text.Plural(n, "thread", "threads"))
}
