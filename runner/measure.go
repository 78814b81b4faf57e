package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// measure runs paired rounds until every pair of a group is decided, or the budget, which all
// groups share, is used up. Each group gets at least one round.
func (c *cycle) measure(ctx context.Context, group []*pair) error {
	if len(undecided(group)) == 0 {
		return nil
	}
	if err := c.readAfresh(group); err != nil {
		return err
	}
	if err := c.filesUnchanged(ctx, group); err != nil { // by a tool that evaluated them
		return err
	}
	m, err := c.beginMeasuring(ctx, group, c.Benchmark.Decision(c.Threshold).NextLook)
	if err != nil {
		return err
	}
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
		if err := c.filesUnchanged(ctx, group); err != nil {
			return err
		}
		m.look()
	}
	return nil
}

// readAfresh has original and copies read from the disk when they are next loaded, all in the same way. The
// kernel keeps a file that was just written, or read long ago, in pages of other sizes, and small ones make a file
// slower by a tenth: see "Pages" in BENCHMARKS.md. A copy that cannot be put on the disk has failed.
func (c *cycle) readAfresh(group []*pair) error {
	c.Progress(Progress{Model: c.Model.Name, Operation: OperationBenchmark, Detail: "writing the copies to the disk"})
	if !c.afresh { // an earlier group's rounds have read it in that way
		if err := c.readOriginalAfresh(); err != nil {
			return err
		}
		c.afresh = true
	}
	for _, p := range undecided(group) {
		if p.id.Path == "" { // it exists, and came in with the original
			continue
		}
		if err := c.DropCache(p.id.Path); err != nil {
			c.fail(p, spaceFailure(err))
		}
	}
	return nil
}

func (c *cycle) readOriginalAfresh() error {
	if c.baseline != nil {
		return spaceFailure(c.DropCache(c.baseline.id.Path))
	}
	for _, name := range slices.Sorted(maps.Keys(c.brought)) {
		if filepath.Ext(name) != ".gguf" { // a text, or what the original predicts
			continue
		}
		if err := c.DropCache(filepath.Join(c.dir, name)); err != nil {
			return fmt.Errorf("having %s read from the disk: %w", name, spaceFailure(err))
		}
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

// maxRepeats is how often one round of the process method is repeated; contaminated after
// that, it counts all the same.
const maxRepeats = 3

// measuring is the state of the rounds of a group. In a ladder one measurement of
// the original per round serves all targets that are still undecided, as far as they are
// measured together.
type measuring struct {
	*cycle
	group    []*pair
	decision verdict.Config
	// milestone is the number of rounds, after n rounds, that progress counts up to.
	milestone func(n int) int
	// everyPhase has rounds measure all phases, also those that are settled.
	everyPhase bool

	begin   time.Time
	rounds  int           // so far, repeated ones included
	turn    int           // of the order: rounds so far that counted for any pair, of all groups
	longest time.Duration // that a file has taken in a round so far
}

// beginMeasuring waits for the host to be idle, and chooses the method of the cycle where that
// is not done yet.
func (c *cycle) beginMeasuring(ctx context.Context, group []*pair, milestone func(int) int) (*measuring, error) {
	if err := c.waitForIdle(ctx); err != nil {
		return nil, err
	}
	if err := c.chooseMethod(ctx, group); err != nil {
		return nil, err
	}
	m := &measuring{cycle: c, group: group, decision: c.Benchmark.Decision(c.Threshold), milestone: milestone, begin: time.Now()}
	m.turn = c.turn + c.turn%2 // two rounds belong together
	c.benchmarkBegan = m.begin
	return m, nil
}

// end leaves to the next group what it goes on with.
func (m *measuring) end() {
	m.cycle.turn = m.turn
	m.benchmarked += time.Since(m.begin)
	m.benchmarkBegan = time.Time{}
}

// undecided returns the pairs of the group that are still measured.
func (m *measuring) undecided() []*pair { return undecided(m.group) }

// overBudget reports whether another round would end beyond the budget.
func (m *measuring) overBudget() bool {
	budget := time.Duration(m.Benchmark.Budget)
	next := m.longest * time.Duration(len(m.undecided())+1)
	return budget > 0 && m.rounds > 0 && m.benchmarked+time.Since(m.begin)+next > budget
}

// lacksFigures reports whether a pair is rejected by its quality and has no round yet that
// counts: its event has the throughput. That is bounded by maxRepeats.
func (m *measuring) lacksFigures() bool {
	return slices.ContainsFunc(m.undecided(), func(p *pair) bool { return p.exceedsLimit() && len(p.counted) == 0 })
}

// round measures the original and every undecided copy: all at a time, or as many as fit.
// Two rounds after each other have opposite order, so that a drift of the host's speed falls
// on both stages alike; one that has to be repeated for all is repeated in its own order.
func (m *measuring) round(ctx context.Context) error {
	counted := false
	for _, pairs := range m.together(m.undecided()) {
		measured, err := m.compare(ctx, pairs)
		if no, ok := errors.AsType[*Unpaired](err); ok { // nothing of this round is lost but time
			m.turn += 2 - m.turn%2 // some pairs may have had it: they are not measured in its order again
			return m.fallBack(no, len(pairs)+1)
		}
		if err != nil {
			return err
		}
		counted = measured || counted
	}
	m.rounds++
	if counted {
		m.turn++
	}
	return nil
}

// compare measures pairs together, and reports whether any of them has a round more that
// counts.
func (m *measuring) compare(ctx context.Context, pairs []*pair) (counted bool, err error) {
	job, first := m.roundJob(pairs)
	began := time.Now()
	m.report(pairs, -1, 0)
	files, err := m.engine.Round(ctx, job, func(file int, done float64) { m.report(pairs, file, done) })
	if err != nil {
		return false, fmt.Errorf("measuring %s: %w", m.Model.Name, m.blameSource(ctx, err))
	}
	if err := m.checked(files[0], job.Phases); err != nil { // no pair can be judged without its original
		return false, fmt.Errorf("measuring the original: %w", m.blameSource(ctx, m.unpaired(err)))
	}
	for i, p := range pairs {
		err := m.checked(files[i+1], job.Phases)
		if err == nil {
			err = m.sameDevice(files[0], files[i+1])
		}
		if err == nil {
			err = m.memoryKnown(files[i+1].Measurement)
		}
		if err = m.unpaired(err); err == nil {
			continue
		}
		if _, ok := errors.AsType[*Unpaired](err); ok {
			return false, err
		}
		err = fmt.Errorf("measuring %s: %w", p.target, err)
		if err := m.concernsAll(ctx, err); err != nil {
			return false, err
		}
		m.fail(p, err)
	}
	m.longest = max(m.longest, time.Since(began)/time.Duration(len(files)))
	for i, p := range pairs {
		if !p.done && m.add(p, Round{Set: p.set, Method: m.method, First: first, Original: files[0].Sample, Quantized: files[i+1].Sample}) {
			counted = true
		}
	}
	return counted, nil
}

// roundJob returns the next round of pairs, and which stage comes first in it.
func (m *measuring) roundJob(pairs []*pair) (job RoundJob, first Stage) {
	job = RoundJob{
		Dir:              m.dir,
		Files:            []string{m.original},
		Method:           m.method,
		CPUs:             m.Host.Pin(m.info.Threads, m.turn/2), // two rounds of opposite order have the same
		Observe:          m.Host.Observe,
		Phases:           m.phases(pairs),
		PromptTokens:     m.Benchmark.PromptTokens,
		GenerationTokens: m.Benchmark.GenerationTokens,
		Depth:            m.Benchmark.Depth.First(),
		Vocabulary:       m.Model.Header.Vocabulary,
		Seed:             m.OrderSeed,
		Number:           m.turn,
		MaxDisturbance:   m.Benchmark.MaxDisturbance,
	}
	job.Order, job.Parameters = append(job.Order, 0), append(job.Parameters, parameters(m.Model.Header))
	for i, p := range pairs {
		job.Files, job.Order = append(job.Files, p.file), append(job.Order, i+1)
		header := m.Model.Header // whose tensors a copy has
		if m.Against != nil {
			header = m.Against.Header
		}
		job.Parameters = append(job.Parameters, parameters(header))
	}
	first = StageOriginal
	if verdict.QuantizedFirst(m.OrderSeed, m.turn) {
		slices.Reverse(job.Order)
		first = StageQuantized
	}
	if m.method == config.MethodPaired {
		job.Turns = m.turnsOf(pairs, job.Phases)
	}
	return job, first
}

// phases returns the phases that the next round of these pairs measures: all that are still open for
// any of them.
func (m *measuring) phases(pairs []*pair) []verdict.Phase {
	open := map[verdict.Phase]bool{}
	for _, p := range pairs {
		for _, phase := range verdict.Decide(m.decision, p.counted).Open() {
			open[phase] = true
		}
	}
	return slices.DeleteFunc(m.Benchmark.Measured(), func(phase verdict.Phase) bool { return !m.everyPhase && !open[phase] })
}

// turnsOf returns the turns of the next round of pairs, without an order where a phase is not
// measured. Orders are drawn for all files of the cycle, so that those which are measured keep the
// opposite order of the round before when others are decided in between.
func (m *measuring) turnsOf(pairs []*pair, phases []verdict.Phase) []Turn {
	numbers := map[int]int{0: 0} // of the round's files, by the numbers of the cycle's
	for i, p := range pairs {
		numbers[slices.Index(m.pairs, p)+1] = i + 1
	}
	turns := planTurns(m.Benchmark, len(m.pairs)+1, m.amounts(pairs), m.OrderSeed, m.turn)
	for i := range turns {
		order := []int{}
		for _, file := range turns[i].Order {
			if number, measured := numbers[file]; measured && slices.Contains(phases, turns[i].Phase) {
				order = append(order, number)
			}
		}
		turns[i].Order = order
	}
	return turns
}

func parameters(h *gguf.Header) Parameters {
	found := Parameters{All: h.Parameters}
	if embedding := h.Tensor("token_embd.weight"); embedding != nil && h.Tensor("output.weight") == nil {
		found.Tied = embedding.Elements
	}
	return found
}

// add takes a round in, and reports whether it counts.
func (m *measuring) add(p *pair, round Round) bool {
	round.Counted = m.method == config.MethodPaired || // whose disturbed turns were repeated
		p.repeats >= maxRepeats || !m.contaminated(round.Original) && !m.contaminated(round.Quantized)
	p.repeats++
	p.rounds = append(p.rounds, round)
	if round.Counted {
		p.counted, p.repeats = Compare(p.rounds, p.set, m.Benchmark.Measured()), 0
	}
	return round.Counted
}

func (m *measuring) contaminated(s Sample) bool {
	return s.Load != nil && s.Load.Share > m.Benchmark.MaxDisturbance
}

// checked returns what is wrong with the figures of a file; nil when nothing is.
func (m *measuring) checked(file FileRound, phases []verdict.Phase) error {
	if file.Err != nil {
		return file.Err
	}
	return plausible(file.Measurement, phases)
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

// report says how far a round is: which file of it is being measured, or −1 where they take
// turns.
func (m *measuring) report(pairs []*pair, file int, done float64) {
	progress := Progress{Model: m.Model.Name, Operation: OperationBenchmark, Round: m.rounds + 1}
	switch {
	case file == 0:
		progress.Stage = StageOriginal
	case file > 0:
		progress.Stage, progress.Target = StageQuantized, pairs[file-1].target
	}
	progress.Done, progress.Detail, progress.Left = m.progress(done)
	m.Progress(progress)
}

// progress returns how far the rounds are on the way to the next look, given how much of
// the current one is done.
func (m *measuring) progress(round float64) (done float64, detail string, remaining time.Duration) {
	rounds := math.MaxInt
	for _, p := range m.undecided() {
		rounds = min(rounds, m.milestone(len(p.counted))-len(p.counted))
	}
	past := float64(m.rounds) + round
	missing := max(float64(rounds)-round, 0)
	if m.rounds > 0 {
		remaining = time.Duration(missing / past * float64(time.Since(m.begin)))
	}
	return past / max(past+missing, 1), fmt.Sprintf("round %d", m.rounds+1), remaining
}

// look decides the pairs whose rounds allow it.
func (m *measuring) look() {
	for _, p := range m.undecided() {
		v := verdict.Decide(m.decision, p.counted)
		switch {
		case p.exceedsLimit() && len(p.counted) >= m.decision.MinRounds,
			p.set == 1 && len(p.counted) > 0 && m.exceedsMemory(p):
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
	case p.exceedsLimit(): // not a matter of chance: nothing to confirm
		m.dropRejected(p)
		m.decide(p, rejectedByQuality(v), false)
	case m.exceedsMemory(p): // likewise
		m.decide(p, rejectedByMemory(v), false)
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
