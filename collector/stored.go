package collector

import (
	"math"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Label values that are known in advance. A test holds them against their packages.
var (
	outcomes = []verdict.Outcome{verdict.Kept, verdict.Rejected, verdict.Inconclusive}
	gates    = []verdict.Phase{verdict.Generation, verdict.Prompt} // and verdict.GateQuality, where there is one
	reasons  = []runner.Reason{
		runner.ReasonEngineMissing, runner.ReasonBadModel, runner.ReasonSourceChanged,
		runner.ReasonNoSpace, runner.ReasonWorkDir, runner.ReasonHostLimit, runner.ReasonQuantize, runner.ReasonBenchmark, runner.ReasonEvaluate,
		runner.ReasonCrash, runner.ReasonOutOfMemory, runner.ReasonTimeout, runner.ReasonCanceled,
		runner.ReasonInterrupted, runner.ReasonInternal,
	}
	inputs = []runner.Input{
		runner.InputSource, runner.InputEngine, runner.InputHardware, runner.InputDriver, runner.InputArguments,
		runner.InputDecision, runner.InputCorpus,
	}
	skipReasons = []store.SkipReason{store.SkipOverlap, store.SkipDeadline, store.SkipUnchanged, store.SkipConflict, store.SkipPassedOver}
)

// stored adds what the state says of what is scheduled. Zeros come last, and count only
// where the state says nothing.
func (b *builder) stored(p *model.Plan, s *store.State, deliveryReasons []string) {
	scheduled := scheduledBy(p)
	b.counted(scheduled, s.Counters)
	b.hosts(scheduled, s)
	for i := range p.Entries {
		entry := &p.Entries[i]
		for j := range entry.Models {
			model := &entry.Models[j]
			b.of(model.Class, func() {
				b.model(model, s)
				for _, target := range model.Targets {
					b.pair(model, s.Pairs[store.ModelOf(model).Pair(target)], target, entry)
				}
			})
		}
	}
	b.events(&s.Outbox)
	b.zeros(p, deliveryReasons)
}

// scheduled is what the plan names.
type scheduled struct {
	entries map[string]bool
	models  map[store.ModelID]bool
	pairs   map[store.PairID]bool
}

func scheduledBy(p *model.Plan) scheduled {
	s := scheduled{map[string]bool{}, map[store.ModelID]bool{}, map[store.PairID]bool{}}
	for i := range p.Entries {
		s.entries[p.Entries[i].Name] = true
		for _, model := range p.Entries[i].Models {
			id := store.ModelOf(&model)
			s.models[id] = true
			for _, target := range model.Targets {
				s.pairs[id.Pair(target)] = true
			}
		}
	}
	return s
}

// countedAs are the families of the counters of the state.
var countedAs = map[store.CounterKind]family{
	store.CountDecision:        decisionTotal,
	store.CountFailure:         failuresTotal,
	store.CountRejection:       rejectionsTotal,
	store.CountSkipped:         skippedTotal,
	store.CountInputChange:     inputChangesTotal,
	store.CountDelivered:       eventsDelivered,
	store.CountDeliveryFailure: deliveryFailures,
	store.CountPublishFailure:  publishFailures,
}

// counted adds the counters of what is scheduled, and the ones of no entry and no model.
func (b *builder) counted(scheduled scheduled, counters store.Counters) {
	for counter, n := range counters.All() {
		if f, known := countedAs[counter.Kind]; known && scheduled.counts(counter) {
			b.of(counter.Class, func() { b.add(f, float64(n), counter.Labels()...) })
		}
	}
}

func (s scheduled) counts(c store.Counter) bool {
	switch {
	case c.Entry != "":
		return s.entries[c.Entry]
	case c.Target != "":
		return s.pairs[store.PairID{Model: c.Model, Target: c.Target, Class: c.Class}]
	case c.Model != "":
		return s.models[store.ModelID{Name: c.Model, Class: c.Class}]
	default:
		return true
	}
}

// hosts adds what the hosts of a fleet have found of what is scheduled.
func (b *builder) hosts(scheduled scheduled, s *store.State) {
	type worker struct{ class, host string }
	decided, failed := map[worker]time.Time{}, map[worker]time.Time{}
	for id := range scheduled.models {
		known := s.Models[id]
		if known == nil {
			continue
		}
		for host, found := range known.Hosts {
			w := worker{id.Class, host}
			decided[w], failed[w] = later(decided[w], found.Decided), later(failed[w], found.Failed)
			if ratio, known := known.Disagreement(host); known {
				b.add(workerDisagreement, ratio, id.Name, id.Class, host)
			}
		}
	}
	for w := range decided {
		b.time(workerDecided, decided[w], w.class, w.host)
		b.time(workerFailed, failed[w], w.class, w.host)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// zeros adds the counters that nothing was counted by yet.
func (b *builder) zeros(p *model.Plan, deliveryReasons []string) {
	for i := range p.Entries {
		entry := &p.Entries[i]
		for _, reason := range skipReasons {
			b.add(skippedTotal, 0, entry.Name, string(reason))
		}
		for j := range entry.Models {
			b.of(entry.Models[j].Class, func() { b.zerosOf(entry, &entry.Models[j]) })
		}
	}
	b.add(eventsDelivered, 0)
	for _, reason := range deliveryReasons {
		b.add(deliveryFailures, 0, reason)
	}
}

// zerosOf adds the counters of a model that nothing was counted by yet.
func (b *builder) zerosOf(entry *model.Resolved, model *model.Planned) {
	for _, reason := range reasons {
		b.add(failuresTotal, 0, model.Name, string(reason))
	}
	for _, input := range inputs {
		b.add(inputChangesTotal, 0, model.Name, string(input))
	}
	for _, target := range model.Targets {
		for _, gate := range gates {
			b.add(rejectionsTotal, 0, model.Name, target, string(gate))
		}
		for _, gate := range entry.Benchmark.Measured()[len(entry.Benchmark.Phases):] { // the further ones
			b.add(rejectionsTotal, 0, model.Name, target, string(gate))
		}
		if entry.Quality.Enabled() {
			b.add(rejectionsTotal, 0, model.Name, target, string(verdict.GateQuality))
		}
		if entry.MaxMemory.Any() {
			b.add(rejectionsTotal, 0, model.Name, target, string(verdict.GateMemory))
		}
		if entry.Publish.Enabled() {
			b.add(publishFailures, 0, model.Name, target)
		}
		source := model.SourceFormat()
		if source == "" { // it cannot be read now; nor could it be decided
			continue
		}
		for _, outcome := range outcomes {
			b.add(decisionTotal, 0, string(outcome), model.Name, source, target)
		}
	}
}

// model adds what is known of the model itself. Its own format comes before the formats of
// its pairs, because one of them may be the same: a model against itself.
func (b *builder) model(m *model.Planned, s *store.State) {
	var latest *store.Record
	known := s.Models[store.ModelOf(m)]
	if known != nil {
		if pair := s.Pairs[known.Latest]; pair != nil {
			latest = pair.Decided
		}
	}
	if m.Header != nil {
		b.add(modelSize, float64(m.Size), m.Name, m.Header.Format)
	}
	// Another entry may have decided the model last, with another baseline.
	for _, d := range []*store.Record{latest, newest(m, s, func(*store.Record) bool { return true })} {
		if d != nil {
			b.original(m, d)
		}
	}
	if q := newest(m, s, func(d *store.Record) bool { return d.Quality != nil }); q != nil {
		b.add(perplexity, q.Quality.OriginalPerplexity, m.Name, q.SourceFormat)
	}
	if known == nil {
		return
	}
	if m.Choose != choice.None && known.Choice != nil && known.Choice.Format != "" {
		b.add(chosenInfo, 1, m.Name, known.Choice.Format)
	}
	for operation, d := range known.Durations {
		b.add(duration, d.Seconds(), m.Name, string(operation))
	}
	b.time(lastRun, known.LastRun, m.Name)
	b.time(lastRunSeconds, known.LastRun, m.Name)
	b.time(lastSuccess, known.LastSuccess, m.Name)
}

// original adds what a decision says about its original. A model's own file has the size
// that it has now, if it can be read.
func (b *builder) original(m *model.Planned, d *store.Record) {
	if m.Header == nil || d.SourceFormat == m.Baseline {
		b.add(modelSize, float64(d.Original.Bytes), m.Name, d.SourceFormat)
	}
	if d.Memory != nil {
		b.memory(m.Name, d.SourceFormat, d.Memory.Original)
	}
	if phase, ok := d.Verdict.Primary(); ok {
		if median, ok := d.OriginalThroughput[phase.Phase]; ok {
			b.add(throughput, median, m.Name, d.SourceFormat, string(runner.StageOriginal))
		}
	}
}

// memory adds what a file took, of the host and of each accelerator.
func (b *builder) memory(model, format string, m runner.Memory) {
	for device, bytes := range m.All() {
		b.add(memory, float64(bytes), model, format, device)
	}
}

// memoryLimits adds the limits that the figures of a copy are held to.
func (b *builder) memoryLimits(model, target string, m *runner.MemoryFigures) {
	if m.Limits.Host > 0 {
		b.add(memoryLimit, float64(m.Limits.Host), model, target, runner.HostMemory)
	}
	if m.Limits.Device == 0 {
		return
	}
	for device := range m.Quantized.Devices {
		b.add(memoryLimit, float64(m.Limits.Device), model, target, device)
	}
}

// newest returns the newest decision of such a kind on a target of the model; nil when there is
// none.
func newest(m *model.Planned, s *store.State, kind func(*store.Record) bool) *store.Record {
	var newest *store.Record
	for _, target := range m.Targets {
		pair := s.Pairs[store.ModelOf(m).Pair(target)]
		if pair == nil || pair.Decided == nil || !kind(pair.Decided) {
			continue
		}
		if newest == nil || pair.Decided.Finished.After(newest.Finished) {
			newest = pair.Decided
		}
	}
	return newest
}

// pair adds the latest decision of a pair. Its figures keep the source format that they
// were measured with; p is nil when nothing is known of the pair.
func (b *builder) pair(m *model.Planned, p *store.Pair, target string, entry *model.Resolved) {
	if p == nil {
		p = &store.Pair{}
	}
	b.publication(m.Name, p, target, entry.Publish.Enabled())
	var configured quality.Limits
	if entry.Quality.Enabled() {
		configured = entry.Quality.Limits()
	}
	if p.Decided == nil {
		b.add(thresholdRatio, entry.Threshold, m.Name, target)
		b.limits(m.Name, target, configured)
		b.standing(p, m.Name, m.SourceFormat(), target)
		return
	}
	d := p.Decided
	b.add(thresholdRatio, d.Threshold, m.Name, target)
	b.standing(p, m.Name, d.SourceFormat, target)
	if phase, ok := d.Verdict.Primary(); ok {
		b.add(throughput, phase.Quantized, m.Name, target, string(runner.StageQuantized))
	}
	for _, phase := range measured(d) {
		labels := func(more ...string) []string {
			return append([]string{m.Name, d.SourceFormat, target, string(phase.Phase)}, more...)
		}
		b.add(phaseThroughput, phase.Original, labels(string(runner.StageOriginal))...)
		b.add(phaseThroughput, phase.Quantized, labels(string(runner.StageQuantized))...)
		b.add(dropRatio, phase.Drop, labels()...)
		b.add(dropLower, valueOr(phase.Lower, math.Inf(-1)), labels()...)
		b.add(dropUpper, valueOr(phase.Upper, math.Inf(+1)), labels()...)
	}
	b.add(modelSize, float64(d.Quantized.Bytes), m.Name, target)
	if d.Memory != nil {
		b.memory(m.Name, target, d.Memory.Quantized)
		b.memoryLimits(m.Name, target, d.Memory)
	}
	q := d.Quality
	if q == nil {
		b.limits(m.Name, target, configured)
		return
	}
	b.limits(m.Name, target, q.Limits)
	b.add(klDivergence, q.KLDivergence.Estimate, m.Name, target)
	b.add(klDivergenceUpper, q.KLDivergence.Upper, m.Name, target)
	b.add(top1Agreement, q.Top1Agreement.Estimate, m.Name, target)
	b.add(top1AgreementLower, q.Top1Agreement.Lower, m.Name, target)
	if p999 := q.Quantile(quality.P999); p999 != nil && !q.Early() { // which needs all chunks
		b.add(klDivergenceP999, *p999, m.Name, target)
	}
	b.add(rmsDeltaP, q.RMSDeltaP.Estimate, m.Name, target)
	b.add(rmsDeltaPUpper, q.RMSDeltaP.Upper, m.Name, target)
	b.add(perplexity, q.Perplexity, m.Name, target)
	b.add(perplexityIncreaseUpper, q.PerplexityIncrease.Upper, m.Name, target)
}

// limits adds the limits of quality that there are.
func (b *builder) limits(model, target string, limits quality.Limits) {
	for _, limit := range []struct {
		family
		value float64
	}{
		{klDivergenceLimit, limits.MaxKLDivergence},
		{top1AgreementLimit, limits.MinTop1Agreement},
		{perplexityIncreaseLimit, limits.MaxPerplexityIncrease},
		{klDivergenceP999Limit, limits.MaxKLDivergenceP999},
		{rmsDeltaPLimit, limits.MaxRMSDeltaP},
	} {
		if limit.value != 0 {
			b.add(limit.family, limit.value, model, target)
		}
	}
}

// publication adds what became of publishing a pair's copies, where they are or were.
func (b *builder) publication(model string, p *store.Pair, target string, publishes bool) {
	if p.Published != nil {
		b.time(published, p.Published.Time, model, target)
	}
	if publishes || p.Published != nil || p.Unpublished != nil {
		b.add(unpublished, boolean(publishes && p.Unpublished != nil), model, target)
	}
}

// standing adds the state set of a pair's decision, unless its source format is unknown.
func (b *builder) standing(p *store.Pair, model, source, target string) {
	if source == "" {
		return
	}
	standing := p.Standing
	if standing == "" && p.Decided != nil {
		standing = verdict.Inconclusive
	}
	for _, outcome := range outcomes {
		b.add(lastDecision, boolean(outcome == standing), string(outcome), model, source, target)
	}
}

func (b *builder) events(outbox *store.OutboxState) {
	b.add(eventsPending, float64(outbox.Pending))
	b.time(eventsOldest, outbox.OldestPending)
}

// time adds a timestamp in Unix seconds. What never happened has none: 0 would be 56 years
// ago.
func (b *builder) time(f family, t time.Time, labels ...string) {
	if !t.IsZero() {
		b.add(f, unixSeconds(t), labels...)
	}
}

// measured returns the phases of a decision with their figures: none when time was up before
// a round was over.
func measured(d *store.Record) []verdict.PhaseVerdict {
	if d.Verdict.Rounds == 0 {
		return nil
	}
	return d.Verdict.Phases
}

func valueOr(end *float64, open float64) float64 {
	if end == nil {
		return open
	}
	return *end
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// unixSeconds keeps microseconds: a float64 holds no more of today's Unix time.
func unixSeconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }
