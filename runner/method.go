package runner

import (
	"context"
	"errors"
	"slices"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/estimate"
)

// pairsFurther fails where the engine measures no pairs, whatever the files, or none of this model,
// and further phases need them: before a copy is made.
func (c *cycle) pairsFurther() error {
	if !c.Benchmark.HasFurther() {
		return nil
	}
	if c.info.Unpaired != "" {
		return c.noPairs(Failf(ReasonEngineMissing, "%s", c.info.Unpaired))
	}
	if why := c.beyondContext(planTurns(c.Benchmark, 2, amounts{}, 0, 0)); why != nil {
		return c.noPairs(why)
	}
	return nil
}

// beyondContext says by how much turns exceed the context that the model was trained on; nil
// where they do not.
func (c *cycle) beyondContext(turns []Turn) *Failure {
	tokens := ContextOf(turns)
	if trained := c.trainedContext(); trained > 0 && int64(tokens) > trained {
		return Failf(ReasonBenchmark, "a round takes %d tokens of context and the model was trained on %d", tokens, trained)
	}
	return nil
}

// chooseMethod decides how the rounds of a group are measured: in pairs where that can be, unless
// another method is asked for. A cycle that has begun to measure by a process a file goes on so.
func (c *cycle) chooseMethod(ctx context.Context, group []*pair) error {
	if c.method == config.MethodProcess {
		return nil
	}
	c.method = config.MethodPaired
	if c.Benchmark.Method == config.MethodProcess {
		c.method = config.MethodProcess
		return nil
	}
	if c.info.Unpaired != "" {
		return c.noPairs(Failf(ReasonEngineMissing, "%s", c.info.Unpaired))
	}
	turns := planTurns(c.Benchmark, 2, amounts{}, 0, 0)
	if why := c.beyondContext(turns); why != nil {
		return c.noPairs(why)
	}
	fit, need, free, err := c.filesThatFit(ctx, group, CellsOf(turns))
	if err != nil {
		return err
	}
	if free > 0 && fit < 2 {
		return c.noPairs(Failf(ReasonOutOfMemory, "two files take about %s of memory and %s are free", bytesText(need), bytesText(free)))
	}
	if c.atOnce = fit; fit > len(undecided(group)) {
		c.atOnce = 0
	}
	if c.mostAtOnce > 0 && (c.atOnce == 0 || c.atOnce > c.mostAtOnce) {
		c.atOnce = c.mostAtOnce
	}
	return nil
}

// noPairs has the cycle measure by a process a file, or fails it where only pairs will do.
func (c *cycle) noPairs(why *Failure) error {
	switch {
	case c.Benchmark.HasFurther():
		return Failf(why.Reason, "benchmark.clients and benchmark.depth with more than one value need the paired method, and the files cannot be measured in pairs: %w; give one value, or use files and tools that can", why)
	case c.Benchmark.Method == config.MethodPaired:
		return Failf(why.Reason, "benchmark.method is paired, and the files cannot be measured in pairs: %w; use auto or process", why)
	}
	c.method, c.methodReason = config.MethodProcess, why.Error()
	c.Logger.Info("measuring by a process a file", "model", c.Model.Name, "reason", why)
	return nil
}

// filesThatFit returns the number of files of a group that fit into the free memory together,
// whichever they are, or 0 when that is not known; and, in bytes, what the original takes with
// the largest copy, and what is free. Memory means the accelerators' if they get all of a
// model, else the host's. The figures are estimates: in the end a load that fails
// decides.
func (c *cycle) filesThatFit(ctx context.Context, group []*pair, tokens int) (fit int, need, free int64, err error) {
	if free, err = c.engine.FreeDeviceMemory(ctx); err != nil {
		return 0, 0, 0, err
	}
	if free <= 0 {
		free = c.Host.FreeMemory()
	}
	if free <= 0 {
		return 0, 0, 0, nil
	}
	overhead := estimate.MemoryBesides(c.Model.Header, tokens, c.Benchmark.PromptTokens)
	sizes := []int64{}
	for _, p := range undecided(group) {
		sizes = append(sizes, p.quantized.Bytes)
	}
	slices.Sort(sizes)
	slices.Reverse(sizes) // those that are largest decide
	sum := c.originalFigures().Bytes + overhead
	fit = 1
	for _, size := range sizes {
		sum += size + overhead
		if fit == 1 {
			need = sum
		}
		if sum > free {
			return fit, need, free, nil
		}
		fit++
	}
	return fit, need, free, nil
}

// together splits pairs into those that are measured at a time.
func (m *measuring) together(pairs []*pair) [][]*pair {
	if m.atOnce < 2 || m.method == config.MethodProcess {
		return [][]*pair{pairs}
	}
	return slices.Collect(slices.Chunk(pairs, m.atOnce-1))
}

// unpaired makes an *Unpaired of an error by which files do not fit into memory together.
func (m *measuring) unpaired(err error) error {
	if failure, ok := errors.AsType[*Failure](err); ok && m.method == config.MethodPaired && failure.Reason == ReasonOutOfMemory {
		return &Unpaired{err}
	}
	return err
}

// sameDevice fails where a copy is on other devices than its original, or got less of one: what is
// compared then are the devices. The caches of both are equally large, so that they tell which
// layers lie where.
func (m *measuring) sameDevice(original, quantized FileRound) error {
	was, is := original.Measurement.Offload.places(), quantized.Measurement.Offload.places()
	if m.method != config.MethodPaired || was == is {
		return nil
	}
	return &Unpaired{Failf(ReasonOutOfMemory, "the original and the copy were not on the same devices: %s, and %s", was, is)}
}

// fallBack measures fewer files at a time, where they did not fit into memory, and else by a
// process a file. Figures of the two methods are not compared: pairs that are undecided
// begin anew then.
func (m *measuring) fallBack(no *Unpaired, files int) error {
	failure, failed := errors.AsType[*Failure](no.Err)
	if failed && failure.Reason == ReasonOutOfMemory && files > 2 {
		m.atOnce = max(files/2, 2)
		m.mostAtOnce = m.atOnce
		m.Logger.Info("measuring fewer files at a time", "model", m.Model.Name, "files", m.atOnce, "reason", no)
		return nil
	}
	why := Failf(ReasonBenchmark, "%w", no.Err)
	if failed {
		why.Reason = failure.Reason
	}
	if err := m.noPairs(why); err != nil {
		return err
	}
	m.rounds, m.longest = 0, 0 // the group gets at least one round of the new method
	for _, p := range m.undecided() {
		for i := range p.rounds {
			p.rounds[i].Counted = false
		}
		p.set, p.counted, p.repeats, p.verdicts = 1, nil, 0, nil
	}
	return nil
}
