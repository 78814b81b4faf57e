package runner

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// measure runs paired rounds until every pair of a group is decided, or the budget, which
// is that of all groups together, is used up. Each group has one round at least.
func (c *cycle) measure(ctx context.Context, group []*pair) error {
	if len(undecided(group)) == 0 {
		return nil
	}
	if err := c.waitForIdle(ctx); err != nil {
		return err
	}
	m := c.newMeasuring(group, c.Benchmark.Decision(c.Threshold).NextLook)
	defer m.end()
	for len(m.undecided()) > 0 {
		if m.overBudget() && !m.lacksFigures() {
			m.conclude()
			break
		}
		if err := m.round(ctx); err != nil {
			return err
		}
		// Before anything is decided: a decision about a file that was exchanged
		// meanwhile would be about neither.
		if err := c.sourceUnchanged(); err != nil {
			return err
		}
		m.look()
	}
	return nil
}

func (c *cycle) waitForIdle(ctx context.Context) error {
	limit := time.Duration(c.Benchmark.WaitIdle)
	if limit <= 0 {
		return nil
	}
	c.Progress(Progress{Model: c.Model.Name, Operation: OperationBenchmark, Detail: "waiting for the host to be idle"})
	idle, err := c.Host.WaitIdle(ctx, limit)
	if err == nil && !idle {
		c.Logger.Warn("the host did not become idle in the time given: measuring regardless", "wait_idle", limit)
	}
	return err
}

// maxRepeats is how often one round is repeated; contaminated after that, it counts all the
// same.
const maxRepeats = 3

// measuring is the state of the rounds of a cycle. In a ladder one measurement of
// the original per round serves all targets that are still undecided.
type measuring struct {
	*cycle
	group    []*pair
	decision verdict.Config
	// milestone is the number of rounds, after n rounds, that progress counts up to.
	milestone func(n int) int

	begin   time.Time
	rounds  int           // so far, repeated ones included
	turn    int           // of the order: rounds so far that counted for any pair, of all groups
	longest time.Duration // of all runs of the benchmark so far
	runs    int           // so far
	inRound int           // of them, in the current round
}

func (c *cycle) newMeasuring(group []*pair, milestone func(int) int) *measuring {
	m := &measuring{cycle: c, group: group, decision: c.Benchmark.Decision(c.Threshold), milestone: milestone, begin: time.Now()}
	m.turn = c.turn + c.turn%2 // two rounds belong together
	c.benchmarkBegan = m.begin
	return m
}

// end leaves to the next group what it goes on with.
func (m *measuring) end() {
	m.cycle.turn = m.turn
	m.benchmarked += time.Since(m.begin)
	m.benchmarkBegan = time.Time{}
}

// undecided gives the pairs of the group that are still measured.
func (m *measuring) undecided() []*pair { return undecided(m.group) }

// overBudget reports whether another round would end beyond the budget.
func (m *measuring) overBudget() bool {
	budget := time.Duration(m.Benchmark.Budget)
	next := m.longest * time.Duration(len(m.undecided())+1)
	return budget > 0 && m.rounds > 0 && m.benchmarked+time.Since(m.begin)+next > budget
}

// lacksFigures reports whether a pair is rejected by its quality and has no round yet that
// counts: its event tells the throughput. That is bounded by maxRepeats.
func (m *measuring) lacksFigures() bool {
	return slices.ContainsFunc(m.undecided(), func(p *pair) bool { return p.exceedsLimit() && len(p.counted) == 0 })
}

// round measures the original once and every undecided copy once. Two rounds after each
// other have opposite order, so that a drift of the host's speed falls on both stages
// alike; one that has to be repeated for all is repeated in its own order.
func (m *measuring) round(ctx context.Context) error {
	m.inRound = 0
	pairs := m.undecided()
	order := append([]*pair{nil}, pairs...) // nil stands for the original
	first := StageOriginal
	if verdict.QuantizedFirst(m.OrderSeed, m.turn) {
		slices.Reverse(order)
		first = StageQuantized
	}

	var original Sample
	copies := make(map[*pair]Sample, len(pairs))
	for _, p := range order {
		sample, err := m.sample(ctx, p)
		switch {
		case err == nil && p == nil:
			original = sample
		case err == nil:
			copies[p] = sample
		case p == nil: // no pair can be judged without its original
			return fmt.Errorf("measuring the original: %w", m.blameSource(err))
		default:
			err = fmt.Errorf("measuring %s: %w", p.target, err)
			if err := m.concernsAll(ctx, err); err != nil {
				return err
			}
			m.fail(p, err)
			if len(m.undecided()) == 0 {
				return nil
			}
		}
	}

	counted := false
	for p, copied := range copies {
		round := Round{Set: p.set, First: first, Original: original, Quantized: copied}
		round.Counted = p.repeats >= maxRepeats || !m.contaminated(original) && !m.contaminated(copied)
		p.repeats++
		if round.Counted {
			p.counted, p.repeats = append(p.counted, round.Throughputs(m.Benchmark.Phases)), 0
			counted = true
		}
		p.rounds = append(p.rounds, round)
	}
	m.rounds++
	if counted {
		m.turn++
	}
	return nil
}

func (m *measuring) contaminated(s Sample) bool {
	return s.Load != nil && s.Load.Share > m.Benchmark.MaxDisturbance
}

// sample runs the benchmark once, on the original where p is nil.
func (m *measuring) sample(ctx context.Context, p *pair) (Sample, error) {
	job := BenchmarkJob{
		Dir:              m.dir,
		Model:            m.original,
		Phases:           m.Benchmark.Phases,
		PromptTokens:     m.Benchmark.PromptTokens,
		GenerationTokens: m.Benchmark.GenerationTokens,
		Depth:            m.Benchmark.Depth,
	}
	progress := Progress{Model: m.Model.Name, Operation: OperationBenchmark, Stage: StageOriginal}
	if p != nil {
		job.Model, progress.Target, progress.Stage = p.file, p.target, StageQuantized
	}
	report := func(done float64) {
		progress.Done, progress.Detail, progress.Left = m.progress(done)
		m.Progress(progress)
	}
	report(0)

	observed := m.Host.Observe()
	started := time.Now()
	measurement, err := m.engine.Benchmark(ctx, job, report)
	load := observed(measurement.Run.CPUTime, m.info.Threads)
	if err != nil {
		return Sample{}, err
	}
	if err := plausible(measurement, job.Phases); err != nil {
		return Sample{}, err
	}
	m.runs++
	m.inRound++
	m.longest = max(m.longest, time.Since(started))
	return Sample{Started: started, Measurement: measurement, Load: load}, nil
}

// plausible keeps figures that no verdict can rest on away from it, whichever engine
// they come from.
func plausible(measurement Measurement, phases []verdict.Phase) error {
	for _, phase := range phases {
		if v := measurement.Throughput[phase]; !verdict.Usable(v) { // 0 where it is missing
			return Failf(ReasonBenchmark, "the engine gave no usable throughput for the phase %s (%v tokens/s)", phase, v)
		}
	}
	return nil
}

// progress is how far the rounds are on the way to the next look, given how much of
// the current run is done.
func (m *measuring) progress(run float64) (done float64, detail string, remaining time.Duration) {
	undecided, rounds := m.undecided(), math.MaxInt
	for _, p := range undecided {
		rounds = min(rounds, m.milestone(len(p.counted))-len(p.counted))
	}
	past := float64(m.runs) + run
	missing := max(float64(rounds*(len(undecided)+1)-m.inRound)-run, 0)
	if m.runs > 0 {
		remaining = time.Duration(missing / float64(m.runs) * float64(time.Since(m.begin)))
	}
	return past / max(past+missing, 1), fmt.Sprintf("round %d", m.rounds+1), remaining
}

// look decides the pairs whose rounds allow it.
func (m *measuring) look() {
	for _, p := range m.undecided() {
		v := verdict.Decide(m.decision, p.counted)
		switch {
		case p.exceedsLimit() && len(p.counted) >= m.decision.MinRounds:
			m.settle(p, verdict.Conclude(m.decision, p.counted))
		case v.Outcome != verdict.GoOn:
			m.settle(p, v)
		}
	}
}

// conclude ends the pairs for which no time is left.
func (m *measuring) conclude() {
	for _, p := range m.undecided() {
		m.settle(p, verdict.Conclude(m.decision, p.counted))
	}
}

// settle takes the verdict on a set of rounds. One that would change the standing
// decision asks for a second set; the second one's figures are then the pair's.
func (m *measuring) settle(p *pair, v verdict.Verdict) {
	p.verdicts = append(p.verdicts, v)
	switch {
	case p.exceedsLimit(): // that is no matter of chance: nothing to confirm
		m.decide(p, rejectedByQuality(v), false)
	case p.set == 2:
		confirmed := confirm(p.verdicts[0], v)
		m.decide(p, confirmed, confirmed.Outcome != p.verdicts[0].Outcome)
	case changes(p.previous, v.Outcome):
		m.Logger.Info("measuring again, to confirm a change", "model", m.Model.Name, "target", p.target, "standing", p.previous, "now", v.Outcome)
		p.set, p.counted, p.repeats = 2, nil, 0
	default:
		m.decide(p, v, false)
	}
}
