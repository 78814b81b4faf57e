//go:build !race

// Nothing runs concurrently in a simulation but cycles that share nothing, and the race
// detector makes it some ten times slower: make test runs it without.

package verdict

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/program"
)

// tableFile is where the simulation writes its table as Markdown:
//
//	go test ./internal/verdict -run TestErrorRates -v -args -table /tmp/table.md
var tableFile = flag.String("table", "", "file to write the table of simulated error rates to, as Markdown")

// cyclesPerCell, and how far above a true rate of 5 % chance takes so many cycles: three
// standard deviations.
const cyclesPerCell = 20_000

var (
	trueDrops = []float64{0, 0.03, 0.09, 0.12, 0.20}
	tolerated = 0.05 + 3*math.Sqrt(0.05*0.95/cyclesPerCell)
)

// noiseKinds are the kinds of the design notes, then what real hosts do.
func noiseKinds(t *testing.T) []noiseKind {
	kinds := []noiseKind{
		{name: "none", quiet: true, start: perPhase(iid(0))},
		{name: "iid 1 %", quiet: true, start: perPhase(iid(0.01))},
		{name: "iid 3 %", quiet: true, start: perPhase(iid(0.03))},
		{name: "random walk 1 % + iid 1 %", quiet: true, start: perPhase(walking(0.01, 0.01))},
		{name: "trend −1 % a run + iid 1 %", quiet: true, start: perPhase(trending(0.99, 0.01))},
		{name: "the same, fifth of a ladder", certain: true, start: perPhase(ladder(trending(0.99, 0.01)))},
		{name: "3 % lasting for a run or two (AR 0.5)", quiet: true, start: perPhase(lasting(0.5, 0.03))},
		{name: "5 % outliers + iid 1 %", start: perPhase(outlying(0.05, 0.01))},
		{name: "15 % outliers + iid 1 %", start: perPhase(outlying(0.15, 0.01))},
		// A round has two executions, so that 15 % of rounds have one that is shifted.
		{name: "15 % of rounds shifted by 5 to 15 % + iid 0.5 %", start: perPhase(shifted(0.078, 0.005))},
		{name: "the same, both phases alike", start: wholeRun(shifted(0.078, 0.005))},
	}
	halved := bursts{slow: 0.4, factor: 0.5, dwell: 2, sd: 0.01}
	kinds = append(kinds,
		noiseKind{name: "halved 40 % of the time", start: bursty(halved, halved)},
		noiseKind{name: "halved 40 % of the time, repeated", start: bursty(halved, halved), repeats: 3})

	for threads := 1; threads <= 2; threads++ {
		quiet := readTrace(t, fmt.Sprintf("quiet-t%d.json", threads))
		loaded := readTrace(t, fmt.Sprintf("neighbour-t%d.json", threads))
		generation, prompt := fitTraces(loaded, quiet)
		t.Logf("%d threads beside a neighbour, fitted: generation %+v, prompt %+v", threads, generation, prompt)

		name := fmt.Sprintf("%d of %d threads", threads, loaded.Cores)
		kinds = append(kinds,
			noiseKind{name: name + ", host at rest, resampled", start: quiet.resampled()},
			noiseKind{name: name + ", neighbour, fitted", start: bursty(generation, prompt)},
			noiseKind{name: name + ", neighbour, fitted, repeated", start: bursty(generation, prompt), repeats: 3},
			noiseKind{name: name + ", neighbour, resampled", start: loaded.resampled()},
			noiseKind{name: name + ", neighbour, resampled, repeated", start: loaded.resampled(), repeats: 3})
	}
	return append(kinds,
		noiseKind{name: "paired, 1 of 2 threads, host at rest, resampled", start: readPairedTrace(t, "paired-quiet-t1.json").resampled()},
		noiseKind{name: "paired, 1 of 2 threads, neighbour, resampled", start: readPairedTrace(t, "paired-neighbour-t1.json").resampled()},
		noiseKind{name: "paired, 2 of 2 threads, host at rest, resampled", start: readPairedTrace(t, "paired-quiet-t2.json").resampled()})
}

// cycle is one simulated cycle: what its rounds measured, whatever the true drop is. Rounds
// are measured only once a look asks for them: most true drops need few.
type cycle struct {
	turned   logs    // in the order of QuantizedFirst
	inTurn   logs    // the same runs, strictly A B and B A in turn
	measured []int   // rounds measured by the time so many count: more where some were repeated
	runs     [10]run // of their own, for the methods without rounds

	next    func() run
	coins   uint64
	repeats int
}

// logs are log ratios without the drop, by phase, and what was estimated from them.
type logs struct {
	ratios    [2][]float64
	estimates [2][]estimate // by the number of rounds, less one; zero is not yet known
}

func newLogs(rounds int) logs {
	var l logs
	for phase := range l.ratios {
		l.ratios[phase] = make([]float64, 0, rounds)
		l.estimates[phase] = make([]estimate, rounds)
	}
	return l
}

func (l *logs) add(first, second run, quantizedFirst bool) {
	if quantizedFirst {
		first, second = second, first
	}
	for phase := range l.ratios {
		l.ratios[phase] = append(l.ratios[phase], second.noise[phase]-first.noise[phase])
	}
}

// estimate is production's. A true drop shifts the mean and nothing else, so that one
// estimate serves all of them: most of what a simulation costs.
func (l *logs) estimate(phase, rounds int) estimate {
	known := &l.estimates[phase][rounds-1]
	if known.se == 0 {
		*known = estimateLogRatio(l.ratios[phase][:rounds])
	}
	return *known
}

// newCycle has room for so many rounds, and none measured yet.
func newCycle(kind noiseKind, random *rand.Rand, rounds int) *cycle {
	c := cycle{
		turned: newLogs(rounds), inTurn: newLogs(rounds), measured: make([]int, 0, rounds),
		coins: random.Uint64(), repeats: kind.repeats,
	}
	next := kind.start(random)
	for i := range c.runs {
		c.runs[i] = next()
	}
	c.next = kind.start(random)
	return &c
}

// measure goes on until there are so many rounds, as production does: one in which load was
// visible is measured again, a bounded number of times.
func (c *cycle) measure(rounds int) {
	for i := len(c.measured); i < rounds; i++ {
		first, second := c.next(), c.next()
		measured := 1
		for again := 0; again < c.repeats && (first.contended || second.contended); again++ {
			first, second = c.next(), c.next()
			measured++
		}
		if i > 0 {
			measured += c.measured[i-1]
		}
		c.turned.add(first, second, QuantizedFirst(c.coins, i))
		c.inTurn.add(first, second, i%2 == 1)
		c.measured = append(c.measured, measured)
	}
}

// A rule decides a simulated cycle whose true log ratio is shift in each of its phases.
type rule func(c *cycle, shift float64) (outcome Outcome, measured int)

// sequential is the method of this package, the code that production runs. order is turned
// or inTurn.
func sequential(config Config, order func(*cycle) *logs) rule {
	p, phases, last := newPlan(config), len(config.Phases), config.MaxRounds
	return func(c *cycle, shift float64) (Outcome, int) {
		l := order(c)
		taken, outcome := p.decide(slices.Repeat([]int{last}, phases), func(phase, rounds int) estimate {
			c.measure(rounds)
			e := l.estimate(phase, rounds)
			e.mean += shift
			return e
		})
		return outcome, c.measured[p.looks[slices.Max(taken)-1].rounds-1]
	}
}

func turned(c *cycle) *logs { return &c.turned }
func inTurn(c *cycle) *logs { return &c.inTurn }

// blocks is what most people do: several runs of one model, then as many of the other,
// and the ratio of the means against the threshold. With one run each it is a single shot.
// They look at one phase.
func blocks(runs int) rule {
	return func(c *cycle, shift float64) (Outcome, int) {
		original, quantized := 0.0, 0.0
		for i := range runs { // relative to the first run: a log throughput may be any number
			original += math.Exp(c.runs[i].noise[0] - c.runs[0].noise[0])
			quantized += math.Exp(c.runs[runs+i].noise[0] - c.runs[0].noise[0] + shift)
		}
		if 1-quantized/original >= 0.12 {
			return Rejected, runs
		}
		return Kept, runs
	}
}

// cell is what one rule did with one kind of noise, by true drop.
type cell struct {
	phases int
	method string
	decide rule

	outcomes [5]map[Outcome]int
	rounds   [5]int
}

func newCell(phases int, method string, decide rule) *cell {
	c := &cell{phases: phases, method: method, decide: decide}
	for i := range c.outcomes {
		c.outcomes[i] = map[Outcome]int{}
	}
	return c
}

// name of the method, with the phases where it looks at more than one.
func (c *cell) name() string {
	if c.phases == 1 {
		return c.method
	}
	return fmt.Sprintf("%s, %d phases", c.method, c.phases)
}

func (c *cell) add(simulated *cycle) {
	for i, drop := range trueDrops {
		outcome, measured := c.decide(simulated, math.Log1p(-drop))
		c.outcomes[i][outcome]++
		c.rounds[i] += measured
	}
}

// rate of an outcome at trueDrops[drop].
func (c *cell) rate(drop int, outcome Outcome) float64 {
	return float64(c.outcomes[drop][outcome]) / cyclesPerCell
}

// this names the method whose rates are asserted.
const this = "this"

// The indices in trueDrops.
const (
	atNone = iota
	at3
	at9
	at12
	at20
)

// TestErrorRates simulates whole cycles, and holds the method to what the package's
// documentation says of it: under every kind of noise, one phase or two.
func TestErrorRates(t *testing.T) {
	program.NotShort(t)
	kinds := noiseKinds(t)
	cells := make([][]*cell, len(kinds))

	t.Run("noise", func(t *testing.T) {
		for i, kind := range kinds {
			t.Run(kind.name, func(t *testing.T) {
				t.Parallel()
				cells[i] = simulate(kind, uint64(i))
				for _, c := range cells[i] {
					if c.method != this {
						continue
					}
					assert.LessOrEqual(t, c.rate(at12, Kept), tolerated, "false keeps, %d phases", c.phases)
					assert.LessOrEqual(t, c.rate(at12, Rejected), tolerated, "false rejections, %d phases", c.phases)
					if kind.certain {
						assert.Zero(t, c.outcomes[at12][Kept], "false keeps, %d phases", c.phases)
						assert.Zero(t, c.outcomes[at12][Rejected], "false rejections, %d phases", c.phases)
					}
					if kind.quiet {
						assert.GreaterOrEqual(t, c.rate(at3, Kept), 0.99, "kept at 3 %%, %d phases", c.phases)
						assert.GreaterOrEqual(t, c.rate(at20, Rejected), 0.99, "rejected at 20 %%, %d phases", c.phases)
					}
				}
			})
		}
	})

	table := formatTable(kinds, cells)
	t.Log("\n" + table)
	if *tableFile != "" {
		require.NoError(t, os.WriteFile(*tableFile, []byte(table), 0o644))
	}
}

// simulate runs every method on the same cycles.
func simulate(kind noiseKind, seed uint64) []*cell {
	var cells []*cell
	for phases := 1; phases <= 2; phases++ {
		config := Default()
		config.Phases = config.Phases[:phases]
		cells = append(cells, newCell(phases, this, sequential(config, turned)))
	}
	one := Default()
	one.Phases = one.Phases[:1]
	cells = append(cells,
		newCell(1, "in turn", sequential(one, inTurn)),
		newCell(1, "single shot", blocks(1)), newCell(1, "5 + 5 runs", blocks(5)),
	)
	random := rand.New(rand.NewPCG(seed, 12))
	for range cyclesPerCell {
		simulated := newCycle(kind, random, Default().MaxRounds)
		for _, c := range cells {
			c.add(simulated)
		}
	}
	return cells
}

// formatTable writes one line for each method, grouped by the kind of noise. Rates are in
// percent, mean rounds include repeated ones.
func formatTable(kinds []noiseKind, cells [][]*cell) string {
	var b strings.Builder
	b.WriteString("| noise | method | false keep | false reject | kept at 0 / 3 / 9 % | rejected at 20 % | inconclusive at 0 / 9 / 12 % | mean rounds at 0 / 9 / 12 % |\n")
	b.WriteString("|---|---|--:|--:|--:|--:|--:|--:|\n")
	for i, kind := range kinds {
		name := "**" + kind.name + "**"
		for _, c := range cells[i] {
			percent := func(drop int, outcome Outcome) string { return fmt.Sprintf("%.1f", 100*c.rate(drop, outcome)) }
			mean := func(drop int) string { return fmt.Sprintf("%.1f", float64(c.rounds[drop])/cyclesPerCell) }
			columns := []string{
				name, c.name(),
				percent(at12, Kept), percent(at12, Rejected),
				percent(atNone, Kept) + " / " + percent(at3, Kept) + " / " + percent(at9, Kept),
				percent(at20, Rejected),
				percent(atNone, Inconclusive) + " / " + percent(at9, Inconclusive) + " / " + percent(at12, Inconclusive),
				mean(atNone) + " / " + mean(at9) + " / " + mean(at12),
			}
			b.WriteString("| " + strings.Join(columns, " | ") + " |\n")
			name = "" // once a group
		}
	}
	return b.String()
}

// The shares of alpha have to hold for whatever looks a configuration leaves.
func TestErrorRatesOfOtherPlans(t *testing.T) {
	program.NotShort(t)
	for _, c := range []struct {
		low, high int
		alpha     float64
	}{
		{3, 3, 0.05},
		{3, 4, 0.05},
		{3, 6, 0.05},
		{3, 8, 0.05},
		{5, 10, 0.05},
		{3, 12, 0.05},
		{12, 12, 0.05},
		{12, 20, 0.05},
		{3, 20, 0.05},
		{3, 40, 0.05},
		{20, 50, 0.05},
		{3, 20, 0.001},
		{3, 20, 0.005},
		{3, 20, 0.01},
		{3, 20, 0.049},
		{3, 20, 0.1},
		{3, 20, 0.25},
	} {
		for _, kind := range []noiseKind{
			{name: "iid", start: perPhase(iid(0.03))},
			{name: "outliers", start: perPhase(outlying(0.05, 0.01))},
		} {
			t.Run(fmt.Sprintf("%d to %d rounds, alpha %v, %s", c.low, c.high, c.alpha, kind.name), func(t *testing.T) {
				t.Parallel()
				config := Default()
				config.MinRounds, config.MaxRounds, config.Alpha = c.low, c.high, c.alpha
				errorsOf(t, config, kind)
			})
		}
	}
}

// errorsOf asserts both error rates at the boundary, kept with one phase and rejected
// with two, where each is at its worst.
func errorsOf(t *testing.T, config Config, kind noiseKind) {
	t.Helper()
	rejects := sequential(config, turned)
	config.Phases = config.Phases[:1]
	keeps := sequential(config, turned)

	random := rand.New(rand.NewPCG(uint64(config.MinRounds), uint64(config.MaxRounds)))
	kept, rejected := 0, 0
	for range cyclesPerCell {
		simulated := newCycle(kind, random, config.MaxRounds)
		if outcome, _ := keeps(simulated, math.Log1p(-0.12)); outcome == Kept {
			kept++
		}
		if outcome, _ := rejects(simulated, math.Log1p(-0.12)); outcome == Rejected {
			rejected++
		}
	}
	atMost := config.Alpha + 3*math.Sqrt(config.Alpha*(1-config.Alpha)/cyclesPerCell)
	assert.LessOrEqual(t, float64(kept)/cyclesPerCell, atMost, "false keeps")
	assert.LessOrEqual(t, float64(rejected)/cyclesPerCell, atMost, "false rejections")
	t.Logf("false keeps %.4f, false rejections %.4f", float64(kept)/cyclesPerCell, float64(rejected)/cyclesPerCell)
}

// Further depths and clients are further phases: kept still needs all of them, and any of
// them rejects. False keeps are worst where one phase is at the boundary, and false rejections
// where all are.
func TestErrorRatesOfMorePhases(t *testing.T) {
	program.NotShort(t)
	for _, phases := range []int{3, 4, 6} {
		for _, kind := range []noiseKind{
			{name: "iid", start: perPhase(iid(0.03))},
			{name: "outliers", start: perPhase(outlying(0.05, 0.01))},
			{name: "lasting", start: perPhase(lasting(0.5, 0.03))},
			{name: "shifted, two phases alike", start: wholeRun(shifted(0.078, 0.005))},
		} {
			t.Run(fmt.Sprintf("%d phases, %s", phases, kind.name), func(t *testing.T) {
				t.Parallel()
				config := Default()
				for n := len(config.Phases); n < phases; n++ {
					config.Phases = append(config.Phases, AtOnce(n))
				}
				require.NoError(t, config.Validate())
				p := newPlan(config)
				random := rand.New(rand.NewPCG(uint64(phases), 13))
				kept, rejected := 0, 0
				for range cyclesPerCell {
					cycles := make([]*cycle, (phases+1)/2) // of two phases each
					for i := range cycles {
						cycles[i] = newCycle(kind, random, config.MaxRounds)
					}
					decide := func(atBoundary int) Outcome {
						_, outcome := p.decide(slices.Repeat([]int{config.MaxRounds}, phases), func(phase, rounds int) estimate {
							c := cycles[phase/2]
							c.measure(rounds)
							e := c.turned.estimate(phase%2, rounds)
							if phase < atBoundary {
								e.mean += math.Log1p(-0.12)
							}
							return e
						})
						return outcome
					}
					if decide(1) == Kept {
						kept++
					}
					if decide(phases) == Rejected {
						rejected++
					}
				}
				assert.LessOrEqual(t, float64(kept)/cyclesPerCell, tolerated, "false keeps")
				assert.LessOrEqual(t, float64(rejected)/cyclesPerCell, tolerated, "false rejections")
				t.Logf("false keeps %.4f, false rejections %.4f", float64(kept)/cyclesPerCell, float64(rejected)/cyclesPerCell)
			})
		}
	}
}

// A drop of what Resolvable returns is told from no drop about four times in five.
func TestResolvableIsResolved(t *testing.T) {
	const spread = 0.04
	for _, rounds := range []int{3, 4, 8, 20, 56} {
		t.Run(fmt.Sprintf("%d rounds", rounds), func(t *testing.T) {
			t.Parallel()
			config := Default()
			config.Phases = config.Phases[:1]
			config.Threshold = Resolvable(config, spread, rounds)
			p := newPlan(config)
			var last plannedLook
			for _, look := range p.looks {
				if look.rounds <= rounds {
					last = look
				}
			}

			random := rand.New(rand.NewPCG(7, uint64(rounds)))
			kept := 0
			d := make([]float64, rounds)
			for range cyclesPerCell {
				for i := range d {
					d[i] = spread * random.NormFloat64()
				}
				if last.interval(estimateLogRatio(d)).outcome(config.Threshold) == Kept {
					kept++
				}
			}
			t.Logf("threshold %.4f: kept %.3f", config.Threshold, float64(kept)/cyclesPerCell)
			assert.InDelta(t, 0.8, float64(kept)/cyclesPerCell, 0.06)
		})
	}
}
