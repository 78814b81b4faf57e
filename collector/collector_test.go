package collector

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	workers "github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/golden"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// noon is when things happen in these tests.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 250_000_000, time.UTC)

// publishReasons stand for the relay's reasons.
var publishReasons = []string{"timeout", "refused"}

// planned is a scheduled model of that format; "" is one that cannot be read.
func planned(name, format string, targets ...string) model.Planned {
	m := model.Planned{Model: model.Model{Name: name}, Targets: targets}
	if format == "" {
		m.Err = errors.New("cut off")
		return m
	}
	m.Header = &gguf.Header{Format: format, Parameters: 1_000_000}
	m.Size = 2_000_000
	return m
}

// entry is one of the schedule, with the default threshold.
func entry(name string, models ...model.Planned) model.Resolved {
	return model.Resolved{Entry: config.Entry{Entry: schedule.Entry{Name: name}, Settings: config.Settings{Threshold: 0.12}}, Models: models}
}

func planOf(entries ...model.Resolved) *model.Plan { return &model.Plan{Entries: entries} }

// phase has figures that agree with each other: a drop from 100 tokens per second.
func phase(name verdict.Phase, drop, lower, upper float64) verdict.PhaseVerdict {
	return verdict.PhaseVerdict{
		Phase: name, Drop: drop, Lower: &lower, Upper: &upper, Original: 100, Quantized: 100 * (1 - drop),
	}
}

// decided is a decision of a model of that source format, with an original that is a
// little faster over the whole cycle than in the rounds that decided.
func decided(source, target string, outcome verdict.Outcome, phases ...verdict.PhaseVerdict) *store.Record {
	d := &store.Record{
		Result: runner.Result{
			SourceFormat: source,
			Finished:     noon,
			Threshold:    0.12,
			Verdict:      &verdict.Verdict{Outcome: outcome, Rounds: 4, Phases: phases},
			Original:     runner.FileFigures{Format: source, Bytes: 1_999_999, Parameters: 999_999},
			Quantized:    runner.FileFigures{Format: target, Bytes: 500_000, Parameters: 1_000_001},
			Memory: &runner.MemoryFigures{
				Original:  runner.Memory{Host: 2_500_000},
				Quantized: runner.Memory{Host: 900_000, Devices: map[string]int64{"CUDA0": 700_000}},
				Limits:    config.MaxMemory{Host: 1_000_000, Device: 750_000},
			},
		},
		OriginalThroughput: map[verdict.Phase]float64{},
	}
	for _, phase := range phases {
		d.OriginalThroughput[phase.Phase] = phase.Original + 1
	}
	return d
}

// stateOf holds the pairs, each the latest of its model as far as no later one is.
func stateOf(pairs ...*store.Pair) *store.State {
	s := &store.State{Pairs: map[store.PairID]*store.Pair{}, Models: map[store.ModelID]*store.Model{}}
	for _, pair := range pairs {
		s.Pairs[pair.PairID] = pair
		s.Models[pair.ModelID()] = &store.Model{ModelID: pair.ModelID(), LastRun: noon, Latest: pair.PairID}
	}
	return s
}

func pair(model, target string, standing verdict.Outcome, d *store.Record) *store.Pair {
	return &store.Pair{PairID: store.PairID{Model: model, Target: target}, Standing: standing, Decided: d}
}

// show gives the text format of what a collector, updated so, exports, of these families
// only if any are named. The registry is pedantic: it takes no inconsistent metric.
func show(t *testing.T, live Live, p *model.Plan, s *store.State, names ...string) string {
	t.Helper()
	c, _ := collectorOf(live, p, s)
	return textOf(t, c, names...)
}

// Live is what goes on in a test; what is nil knows of nothing.
type Live struct {
	Status func() *dispatch.Status
	Next   func() map[string]time.Time
	Bus    func() a2a.Status
}

// known is what a test gives a collector to show, and exchanges.
type known struct {
	live  Live
	plan  atomic.Pointer[model.Plan]
	state atomic.Pointer[store.State]
}

// collectorOf shows a plan and a state, which may be nil.
func collectorOf(live Live, p *model.Plan, s *store.State) (*Collector, *known) {
	k := &known{live: live}
	k.plan.Store(cmp.Or(p, &model.Plan{}))
	k.state.Store(cmp.Or(s, &store.State{}))
	return New(Sources{Store: k, Dispatcher: knownDispatcher{k}, Scheduler: k, Bus: knownBus{k}}, publishReasons), k
}

func (k *known) State() *store.State { return k.state.Load() }

func (k *known) Next() map[string]time.Time {
	if k.live.Next == nil {
		return nil
	}
	return k.live.Next()
}

type knownDispatcher struct{ k *known }

func (d knownDispatcher) Plan() *model.Plan { return d.k.plan.Load() }

func (d knownDispatcher) Status() *dispatch.Status {
	if d.k.live.Status == nil {
		return &dispatch.Status{}
	}
	return d.k.live.Status()
}

type knownBus struct{ k *known }

func (b knownBus) Status() a2a.Status {
	if b.k.live.Bus == nil {
		return a2a.Status{}
	}
	return b.k.live.Bus()
}

// textOf is show for what is a collector already.
func textOf(t *testing.T, c prometheus.Collector, names ...string) string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(c))
	return gathered(t, registry, names...)
}

func gathered(t *testing.T, gatherer prometheus.Gatherer, names ...string) string {
	t.Helper()
	families, err := gatherer.Gather()
	require.NoError(t, err)
	var text strings.Builder
	for _, family := range families {
		if len(names) == 0 || slices.Contains(names, family.GetName()) {
			_, err := expfmt.MetricFamilyToText(&text, family)
			require.NoError(t, err)
		}
	}
	return text.String()
}

// samples are the lines of a text format that are not comments.
func samples(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// nasty is a name that a file may have.
const nasty = "a \"quoted\" \\ name\nof {two} lines, größer=1"

// evaluated gives the latest decision on a pair a quality.
func evaluated(s *store.State, model, target string, perplexity float64) {
	s.Pairs[store.PairID{Model: model, Target: target}].Decided.Quality = &runner.Evaluated{
		Verdict: quality.Verdict{
			KLDivergence: quality.Interval{Estimate: 0.0115, Upper: 0.0125}, Top1Agreement: quality.Interval{Estimate: 0.925, Lower: 0.875},
			PerplexityIncrease: quality.Interval{Upper: 0.03125}, RMSDeltaP: quality.Interval{Estimate: 0.0625, Upper: 0.09375},
			Quantiles: []quality.Quantile{{Percent: 50, KLDivergence: 0.005}, {Percent: quality.P999, KLDivergence: 0.75}},
		},
		Limits:     quality.Limits{MaxKLDivergence: 0.05, MinTop1Agreement: 0.75, MaxPerplexityIncrease: 0.125, MaxKLDivergenceP999: 1.5, MaxRMSDeltaP: 0.25},
		Perplexity: perplexity, OriginalPerplexity: perplexity - 0.5,
	}
}

// everything is a plan and a state in which every family has a value, and most have
// several.
func everything() (*model.Plan, *store.State) {
	p := planOf(
		entry("nightly", planned("chat/small", "F16", "Q2_K", "Q4_K_M"), planned(nasty, "BF16", "Q2_K")),
		entry("weekly", planned("chat/small", "F16", "Q8_0"), planned("damaged", "", "Q2_K")),
		entry("fleet", planned("chat/small", "F16", "Q2_K")),
	)
	p.Entries[2].Models[0].Class = "l4"
	s := stateOf(
		pair("chat/small", "Q4_K_M", verdict.Kept, decided("F16", "Q4_K_M", verdict.Kept,
			phase(verdict.Generation, -0.25, -0.3, -0.2), phase(verdict.Prompt, 0.0625, 0.05, 0.07))),
		pair("chat/small", "Q2_K", verdict.Rejected, decided("F16", "Q2_K", verdict.Rejected,
			phase(verdict.Generation, 0.25, 0.2, 0.3), phase(verdict.Prompt, 0.5, 0.4, 0.6))),
		pair("gone", "Q2_K", verdict.Kept, decided("F16", "Q2_K", verdict.Kept, phase(verdict.Generation, 0, -0.1, 0.1))),
	)
	remote := store.ModelID{Name: "chat/small", Class: "l4"}
	s.Models[remote] = &store.Model{ModelID: remote, LastRun: noon, Hosts: map[string]*store.Found{
		"node1": {Decided: noon, Failed: noon.Add(-time.Hour), Basis: "b", Originals: tokens(99, 101)},
		"node2": {Decided: noon.Add(-time.Hour), Basis: "b", Originals: tokens(49.5, 50.5)},
		"node3": {Failed: noon},
	}}
	evaluated(s, "chat/small", "Q4_K_M", 25.25)
	p.Entries[0].Models[0].Choose = choice.Smallest
	s.Models[store.ModelID{Name: "chat/small"}].Choice = &store.Choice{Rule: choice.Smallest, Format: "Q4_K_M"}
	p.Entries[0].Publish.Dir = "/published"
	s.Pairs[store.PairID{Model: "chat/small", Target: "Q4_K_M"}].Published = &store.Publication{Target: "Q4_K_M", Time: noon.Add(-2 * time.Hour)}
	s.Models[store.ModelID{Name: "chat/small"}].LastSuccess = noon.Add(-time.Hour)
	s.Models[store.ModelID{Name: "chat/small"}].Durations = map[runner.Operation]time.Duration{
		runner.OperationIsolate: 250 * time.Millisecond, runner.OperationQuantize: 90 * time.Second,
		runner.OperationEvaluate: 30 * time.Second, runner.OperationBenchmark: time.Hour, runner.OperationTotal: time.Hour + 91*time.Second,
	}
	s.Counters = store.NewCounters(map[store.Counter]uint64{
		decision(verdict.Kept, "chat/small", "F16", "Q4_K_M"):   3,
		decision(verdict.Rejected, "chat/small", "F16", "Q2_K"): 2,
		decision(verdict.Kept, "gone", "F16", "Q2_K"):           9,

		{Kind: store.CountFailure, Model: "damaged", By: "bad_model"}: 4,
		{Kind: store.CountFailure, Model: "gone", By: "timeout"}:      9,

		{Kind: store.CountRejection, Model: "chat/small", Target: "Q2_K", By: "prompt"}:  2,
		{Kind: store.CountRejection, Model: "chat/small", Target: "Q2_K", By: "quality"}: 1,
		{Kind: store.CountRejection, Model: "gone", Target: "Q2_K", By: "prompt"}:        9,

		{Kind: store.CountSkipped, Entry: "nightly", By: "overlap"}: 5,
		{Kind: store.CountSkipped, Entry: "gone", By: "overlap"}:    9,

		{Kind: store.CountInputChange, Model: "chat/small", By: "engine"}: 3,
		{Kind: store.CountInputChange, Model: "gone", By: "engine"}:       9,

		{Kind: store.CountDelivered}:                                             6,
		{Kind: store.CountDeliveryFailure, By: "timeout"}:                        7,
		{Kind: store.CountPublishFailure, Model: "chat/small", Target: "Q4_K_M"}: 8,
		{Kind: store.CountPublishFailure, Model: "gone", Target: "Q2_K"}:         9,
	})
	s.Outbox = store.OutboxState{Pending: 2, Held: 9, OldestPending: noon.Add(-time.Minute)}
	return p, s
}

// tokens are the throughputs of an original.
func tokens(lower, upper float64) map[verdict.Phase]quality.Interval {
	return map[verdict.Phase]quality.Interval{verdict.Generation: {Estimate: (lower + upper) / 2, Lower: lower, Upper: upper}}
}

// decision is the counter of a pair's decisions.
func decision(outcome verdict.Outcome, model, source, target string) store.Counter {
	return store.Counter{Kind: store.CountDecision, Model: model, Source: source, Target: target, By: string(outcome)}
}

// busy is a status in which every live family has a value.
func busy() *dispatch.Status {
	return &dispatch.Status{
		Running: &dispatch.Running{Entry: "nightly", Cycle: 7, Model: "chat/small", Ratio: 0.375},
		Entries: []dispatch.EntryStatus{
			{Name: "nightly", Running: true, Queued: 1},
			{Name: "weekly", Suspended: true},
		},
		Engine: dispatch.EngineStatus{
			Checked: noon, Up: true, Info: runner.EngineInfo{Version: "0.7.0", Build: 11669},
			Backends: "CPU", CPU: "AMD EPYC",
		},
		Remote: []*dispatch.Running{{Entry: "fleet", Cycle: 8, Model: "chat/small", Class: "l4", Waiting: true, Started: noon.Add(-time.Minute)}},
		Fleet:  workers.Status{Configured: true, Up: true, Workers: []workers.WorkerStatus{{Said: workers.Said{Name: "w", Class: "l4"}, Up: true}}},
	}
}

func busyLive() Live {
	next := func() map[string]time.Time { return map[string]time.Time{"nightly": noon.Add(24 * time.Hour)} }
	return Live{Status: busy, Next: next, Bus: func() a2a.Status { return a2a.Status{Configured: true, Up: true} }}
}

func TestEverything(t *testing.T) {
	p, s := everything()
	golden.Check(t, "everything.txt", show(t, busyLive(), p, s))
}

func TestBeforeTheFirstCycle(t *testing.T) {
	p := planOf(entry("nightly", planned("chat/small", "F16", "Q2_K")))
	golden.Check(t, "before.txt", show(t, Live{}, p, &store.State{}))
}

// Each family of the table has a value in everything; one that no code fills would be
// documented and never seen.
func TestEveryFamilyIsExported(t *testing.T) {
	registry := everythingRegistry(t)
	for _, family := range Families() {
		n, err := testutil.GatherAndCount(registry, family.Name)
		require.NoError(t, err)
		assert.Positive(t, n, family.Name)
	}
}

func everythingRegistry(t *testing.T) *prometheus.Registry {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	p, s := everything()
	c, _ := collectorOf(busyLive(), p, s)
	require.NoError(t, registry.Register(c))
	NewReloads(registry).Done(nil)
	RegisterStorage(registry, func() store.Stats { return store.Stats{FileBytes: 65536, WriteFailures: 2} })
	RegisterExternalURL(registry, "https://example.org/quant")
	return registry
}

func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(everythingRegistry(t))
	require.NoError(t, err)
	assert.Empty(t, problems)
}

// The names are a contract.
func TestFamilies(t *testing.T) {
	contract := []string{
		"quant_cycle_decision_total{result,model_name,source_format,target_format} counter",
		"quant_cycle_last_decision{result,model_name,source_format,target_format} gauge",
		"quant_cycle_throughput_tokens_per_second{model_name,format,stage} gauge",
		"quant_cycle_phase_throughput_tokens_per_second{model_name,source_format,target_format,phase,stage} gauge",
		"quant_cycle_throughput_drop_ratio{model_name,source_format,target_format,phase} gauge",
		"quant_cycle_throughput_drop_lower_ratio{model_name,source_format,target_format,phase} gauge",
		"quant_cycle_throughput_drop_upper_ratio{model_name,source_format,target_format,phase} gauge",
		"quant_cycle_threshold_ratio{model_name,target_format} gauge",
		"quant_cycle_duration_seconds{model_name,operation} gauge",
		"quant_cycle_last_run_timestamp{model_name} gauge",
		"quant_cycle_last_run_timestamp_seconds{model_name} gauge",
		"quant_cycle_last_success_timestamp_seconds{model_name} gauge",
		"quant_cycle_next_run_timestamp_seconds{entry} gauge",
		"quant_cycle_running{entry} gauge",
		"quant_cycle_queued{entry} gauge",
		"quant_cycle_progress_ratio{model_name} gauge",
		"quant_cycle_failures_total{model_name,reason} counter",
		"quant_cycle_rejections_total{model_name,target_format,gate} counter",
		"quant_cycle_skipped_total{entry,reason} counter",
		"quant_cycle_input_changes_total{model_name,input} counter",
		"quant_cycle_model_size_bytes{model_name,format} gauge",
		"quant_cycle_memory_bytes{model_name,format,device} gauge",
		"quant_cycle_memory_limit_bytes{model_name,format,device} gauge",
		"quant_cycle_kl_divergence{model_name,format} gauge",
		"quant_cycle_kl_divergence_upper{model_name,format} gauge",
		"quant_cycle_kl_divergence_limit{model_name,format} gauge",
		"quant_cycle_top1_agreement_ratio{model_name,format} gauge",
		"quant_cycle_top1_agreement_lower_ratio{model_name,format} gauge",
		"quant_cycle_top1_agreement_limit_ratio{model_name,format} gauge",
		"quant_cycle_kl_divergence_p999{model_name,format} gauge",
		"quant_cycle_kl_divergence_p999_limit{model_name,format} gauge",
		"quant_cycle_rms_delta_p_ratio{model_name,format} gauge",
		"quant_cycle_rms_delta_p_upper_ratio{model_name,format} gauge",
		"quant_cycle_rms_delta_p_limit_ratio{model_name,format} gauge",
		"quant_cycle_perplexity{model_name,format} gauge",
		"quant_cycle_perplexity_increase_upper_ratio{model_name,format} gauge",
		"quant_cycle_perplexity_increase_limit_ratio{model_name,format} gauge",
		"quant_cycle_chosen_info{model_name,format} gauge",
		"quant_cycle_published_timestamp_seconds{model_name,format} gauge",
		"quant_cycle_unpublished{model_name,format} gauge",
		"quant_cycle_copy_publish_failures_total{model_name,format} counter",
		"quant_cycle_events_published_total{} counter",
		"quant_cycle_events_pending{} gauge",
		"quant_cycle_events_oldest_pending_timestamp_seconds{} gauge",
		"quant_cycle_event_publish_failures_total{reason} counter",
		"quant_cycle_bus_up{} gauge",
		"quant_cycle_engine_up{} gauge",
		"quant_cycle_engine_info{version,build,backends,cpu,gpu} gauge",
		"quant_cycle_fleet_up{} gauge",
		"quant_cycle_workers{hardware_class} gauge",
		"quant_cycle_fleet_running{hardware_class} gauge",
		"quant_cycle_fleet_waiting{hardware_class} gauge",
		"quant_cycle_fleet_oldest_waiting_timestamp_seconds{hardware_class} gauge",
		"quant_cycle_worker_last_decision_timestamp_seconds{hardware_class,host} gauge",
		"quant_cycle_worker_last_failure_timestamp_seconds{hardware_class,host} gauge",
		"quant_cycle_worker_disagreement_ratio{model_name,hardware_class,host} gauge",
		"quant_exporter_config_last_reload_successful{} gauge",
		"quant_exporter_config_last_reload_success_timestamp_seconds{} gauge",
		"quant_exporter_storage_size_bytes{} gauge",
		"quant_exporter_storage_write_failures_total{} counter",
		"quant_exporter_external_url_info{url} gauge",
	}
	var got []string
	for _, family := range Families() {
		got = append(got, fmt.Sprintf("%s{%s} %s", family.Name, strings.Join(family.Labels, ","), family.Type))
		assert.Regexp(t, `^[A-Z1].*\.$`, family.Help, "a sentence")
	}
	assert.Equal(t, contract, got)
}

func TestTheGateOfQualityIsKnownWhereThereIsOne(t *testing.T) {
	with, without := entry("with", planned("m", "F16", "Q2_K")), entry("without", planned("m", "F16", "Q8_0"))
	with.Quality.Corpus = "text.txt"
	text := show(t, Live{}, planOf(with, without), &store.State{}, "quant_cycle_rejections_total")
	assert.Contains(t, text, `quant_cycle_rejections_total{gate="quality",model_name="m",target_format="Q2_K"} 0`)
	assert.NotContains(t, text, `quant_cycle_rejections_total{gate="quality",model_name="m",target_format="Q8_0"}`)
}

func TestPublicationsAreKnownWhereThereAreAny(t *testing.T) {
	publishes, not := entry("publishes", planned("m", "F16", "Q2_K", "Q4_K_M")), entry("not", planned("m", "F16", "Q8_0", "Q6_K"))
	publishes.Publish.Dir = "/published"
	s := stateOf(pair("m", "Q2_K", verdict.Kept, nil), pair("m", "Q6_K", verdict.Kept, nil), pair("m", "Q8_0", verdict.Kept, nil))
	s.Pairs[store.PairID{Model: "m", Target: "Q8_0"}].Unpublished = &store.Publication{Time: noon, Error: "disk full"} // when it did
	s.Pairs[store.PairID{Model: "m", Target: "Q2_K"}].Unpublished = &store.Publication{Time: noon, Error: "disk full"}
	s.Pairs[store.PairID{Model: "m", Target: "Q6_K"}].Published = &store.Publication{Time: noon} // when it did
	assert.Equal(t, []string{
		`quant_cycle_copy_publish_failures_total{format="Q2_K",model_name="m"} 0`,
		`quant_cycle_copy_publish_failures_total{format="Q4_K_M",model_name="m"} 0`,
		`quant_cycle_published_timestamp_seconds{format="Q6_K",model_name="m"} 1.79543520025e+09`,
		`quant_cycle_unpublished{format="Q2_K",model_name="m"} 1`,
		`quant_cycle_unpublished{format="Q4_K_M",model_name="m"} 0`,
		`quant_cycle_unpublished{format="Q6_K",model_name="m"} 0`,
		`quant_cycle_unpublished{format="Q8_0",model_name="m"} 0`,
	}, samples(show(t, Live{}, planOf(publishes, not), s, "quant_cycle_published_timestamp_seconds", "quant_cycle_unpublished", "quant_cycle_copy_publish_failures_total")))
}

// The original's perplexity comes from the newest decision that has one.
func TestQuality(t *testing.T) {
	p := planOf(entry("nightly", planned("m", "F16", "Q2_K", "Q4_K_M", "Q8_0")))
	s := stateOf(
		pair("m", "Q2_K", verdict.Kept, decided("F16", "Q2_K", verdict.Kept)),
		pair("m", "Q4_K_M", verdict.Kept, decided("F16", "Q4_K_M", verdict.Kept)),
		pair("m", "Q8_0", verdict.Kept, decided("F16", "Q8_0", verdict.Kept)),
	)
	evaluated(s, "m", "Q2_K", 28)
	evaluated(s, "m", "Q4_K_M", 25)
	s.Pairs[store.PairID{Model: "m", Target: "Q2_K"}].Decided.Finished = noon.Add(time.Hour)
	assert.Equal(t, []string{
		`quant_cycle_kl_divergence{format="Q2_K",model_name="m"} 0.0115`,
		`quant_cycle_kl_divergence{format="Q4_K_M",model_name="m"} 0.0115`,
		`quant_cycle_perplexity{format="F16",model_name="m"} 27.5`,
		`quant_cycle_perplexity{format="Q2_K",model_name="m"} 28`,
		`quant_cycle_perplexity{format="Q4_K_M",model_name="m"} 25`,
		`quant_cycle_top1_agreement_ratio{format="Q2_K",model_name="m"} 0.925`,
		`quant_cycle_top1_agreement_ratio{format="Q4_K_M",model_name="m"} 0.925`,
	}, samples(show(t, Live{}, p, s, "quant_cycle_kl_divergence", "quant_cycle_top1_agreement_ratio", "quant_cycle_perplexity")))
}

// An evaluation that ended early has means with their intervals, of the chunks so far, and no tail:
// of a few thousand tokens, the largest few say nothing of one in 1000.
func TestEvaluationThatEndedEarlyHasNoTail(t *testing.T) {
	p := planOf(entry("nightly", planned("m", "F16", "Q2_K", "Q8_0")))
	s := stateOf(
		pair("m", "Q2_K", verdict.Kept, decided("F16", "Q2_K", verdict.Kept)), pair("m", "Q8_0", verdict.Kept, decided("F16", "Q8_0", verdict.Kept)),
	)
	for target, chunks := range map[string]int{"Q2_K": 8, "Q8_0": 32} {
		evaluated(s, "m", target, 28)
		q := s.Pairs[store.PairID{Model: "m", Target: target}].Decided.Quality
		q.Chunks, q.Planned = chunks, 32
	}
	assert.Equal(t, []string{
		`quant_cycle_kl_divergence_p999{format="Q8_0",model_name="m"} 0.75`,
		`quant_cycle_kl_divergence_upper{format="Q2_K",model_name="m"} 0.0125`,
		`quant_cycle_kl_divergence_upper{format="Q8_0",model_name="m"} 0.0125`,
	}, samples(show(t, Live{}, p, s, "quant_cycle_kl_divergence_p999", "quant_cycle_kl_divergence_upper")))
}

// The limits come from the decision; before one, and while quality was not evaluated yet,
// from the configuration.
func TestLimitsOfQuality(t *testing.T) {
	with, without := entry("with", planned("m", "F16", "Q2_K", "Q4_K_M", "Q8_0")), entry("without", planned("n", "F16", "Q8_0"))
	with.Quality.Corpus, with.Quality.MaxKLDivergence = "text.txt", 0.25
	with.Quality.MaxKLDivergenceP999 = 2
	without.Quality.MaxKLDivergence = 0.5 // and no text
	s := stateOf(pair("m", "Q2_K", verdict.Kept, decided("F16", "Q2_K", verdict.Kept)), pair("m", "Q4_K_M", verdict.Kept, decided("F16", "Q4_K_M", verdict.Kept)))
	evaluated(s, "m", "Q2_K", 28)
	assert.Equal(t, []string{
		`quant_cycle_kl_divergence_limit{format="Q2_K",model_name="m"} 0.05`,
		`quant_cycle_kl_divergence_limit{format="Q4_K_M",model_name="m"} 0.25`,
		`quant_cycle_kl_divergence_limit{format="Q8_0",model_name="m"} 0.25`,
		`quant_cycle_kl_divergence_p999_limit{format="Q2_K",model_name="m"} 1.5`,
		`quant_cycle_kl_divergence_p999_limit{format="Q4_K_M",model_name="m"} 2`,
		`quant_cycle_kl_divergence_p999_limit{format="Q8_0",model_name="m"} 2`,
		`quant_cycle_kl_divergence_upper{format="Q2_K",model_name="m"} 0.0125`,
		`quant_cycle_perplexity_increase_limit_ratio{format="Q2_K",model_name="m"} 0.125`,
		`quant_cycle_perplexity_increase_upper_ratio{format="Q2_K",model_name="m"} 0.03125`,
		`quant_cycle_rms_delta_p_limit_ratio{format="Q2_K",model_name="m"} 0.25`,
		`quant_cycle_rms_delta_p_upper_ratio{format="Q2_K",model_name="m"} 0.09375`,
		`quant_cycle_top1_agreement_limit_ratio{format="Q2_K",model_name="m"} 0.75`,
		`quant_cycle_top1_agreement_lower_ratio{format="Q2_K",model_name="m"} 0.875`,
	}, samples(show(t, Live{}, planOf(with, without), s, "quant_cycle_kl_divergence_limit", "quant_cycle_kl_divergence_upper", "quant_cycle_kl_divergence_p999_limit",
		"quant_cycle_rms_delta_p_limit_ratio", "quant_cycle_rms_delta_p_upper_ratio",
		"quant_cycle_perplexity_increase_limit_ratio", "quant_cycle_perplexity_increase_upper_ratio", "quant_cycle_top1_agreement_limit_ratio", "quant_cycle_top1_agreement_lower_ratio")))
}

// Two entries decide a model, one of them beside a baseline: each original keeps its
// figures, whichever entry was last.
func TestBaseline(t *testing.T) {
	beside := planned("m", "F16", "Q4_K_M")
	beside.Baseline = "Q8_0"
	p := planOf(entry("plain", planned("m", "F16", "Q2_K")), entry("beside", beside))
	assert.Contains(t, show(t, Live{}, p, &store.State{}), `quant_cycle_decision_total{model_name="m",result="kept",source_format="Q8_0",target_format="Q4_K_M"} 0`)

	slow, fast := pair("m", "Q2_K", verdict.Kept, decided("F16", "Q2_K", verdict.Kept, phase(verdict.Generation, -0.25, -0.3, -0.2))),
		pair("m", "Q4_K_M", verdict.Kept, decided("Q8_0", "Q4_K_M", verdict.Kept, phase(verdict.Generation, -0.5, -0.6, -0.4)))
	for _, s := range []*store.State{stateOf(slow, fast), stateOf(fast, slow)} {
		assert.Equal(t, []string{
			`quant_cycle_last_decision{model_name="m",result="inconclusive",source_format="F16",target_format="Q2_K"} 0`,
			`quant_cycle_last_decision{model_name="m",result="inconclusive",source_format="Q8_0",target_format="Q4_K_M"} 0`,
			`quant_cycle_last_decision{model_name="m",result="kept",source_format="F16",target_format="Q2_K"} 1`,
			`quant_cycle_last_decision{model_name="m",result="kept",source_format="Q8_0",target_format="Q4_K_M"} 1`,
			`quant_cycle_last_decision{model_name="m",result="rejected",source_format="F16",target_format="Q2_K"} 0`,
			`quant_cycle_last_decision{model_name="m",result="rejected",source_format="Q8_0",target_format="Q4_K_M"} 0`,
			`quant_cycle_model_size_bytes{format="F16",model_name="m"} 2e+06`,
			`quant_cycle_model_size_bytes{format="Q2_K",model_name="m"} 500000`,
			`quant_cycle_model_size_bytes{format="Q4_K_M",model_name="m"} 500000`,
			`quant_cycle_model_size_bytes{format="Q8_0",model_name="m"} 1.999999e+06`,
			`quant_cycle_throughput_tokens_per_second{format="F16",model_name="m",stage="original"} 101`,
			`quant_cycle_throughput_tokens_per_second{format="Q2_K",model_name="m",stage="quantized"} 125`,
			`quant_cycle_throughput_tokens_per_second{format="Q4_K_M",model_name="m",stage="quantized"} 150`,
			`quant_cycle_throughput_tokens_per_second{format="Q8_0",model_name="m",stage="original"} 101`,
		}, samples(show(t, Live{}, p, s, "quant_cycle_last_decision", "quant_cycle_model_size_bytes", "quant_cycle_throughput_tokens_per_second")))
	}
}

func TestChosenFormat(t *testing.T) {
	const family = "quant_cycle_chosen_info"
	chooses := func(name string) model.Planned {
		m := planned(name, "F16", "Q2_K", "Q8_0")
		m.Choose = choice.Smallest
		return m
	}
	state := stateOf(pair("a", "Q2_K", verdict.Kept, nil), pair("none", "Q2_K", verdict.Rejected, nil), pair("before", "Q2_K", "", nil), pair("not any more", "Q2_K", verdict.Kept, nil))
	state.Models[store.ModelID{Name: "a"}].Choice = &store.Choice{Rule: choice.Smallest, Format: "Q2_K"}
	state.Models[store.ModelID{Name: "none"}].Choice = &store.Choice{Rule: choice.Smallest}
	state.Models[store.ModelID{Name: "not any more"}].Choice = &store.Choice{Rule: choice.Smallest, Format: "Q2_K"}
	p := planOf(entry("e", chooses("a"), chooses("none"), chooses("before"), planned("not any more", "F16", "Q2_K")))
	assert.Equal(t, []string{family + `{format="Q2_K",model_name="a"} 1`}, samples(show(t, Live{}, p, state, family)))
}

func TestFamiliesAreTheCallers(t *testing.T) {
	list := Families()
	list[0].Name, list[0].Labels[0] = "changed", "changed"
	assert.NotContains(t, fmt.Sprint(Families()), "changed")
}

func TestLastDecision(t *testing.T) {
	for _, test := range []struct {
		name string
		pair *store.Pair
		want string // the result whose series is 1
	}{
		{"none yet", pair("m", "Q2_K", "", nil), ""},
		{"first kept", pair("m", "Q2_K", verdict.Kept, decided("F16", "Q2_K", verdict.Kept)), "kept"},
		{"first rejected", pair("m", "Q2_K", verdict.Rejected, decided("F16", "Q2_K", verdict.Rejected)), "rejected"},
		{"first inconclusive", pair("m", "Q2_K", "", decided("F16", "Q2_K", verdict.Inconclusive)), "inconclusive"},
		{"inconclusive after kept", pair("m", "Q2_K", verdict.Kept, decided("F16", "Q2_K", verdict.Inconclusive)), "kept"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var want []string
			for _, result := range []string{"inconclusive", "kept", "rejected"} {
				want = append(want, fmt.Sprintf(
					`quant_cycle_last_decision{model_name="m",result=%q,source_format="F16",target_format="Q2_K"} %v`,
					result, boolean(result == test.want)))
			}
			text := show(t, Live{}, planOf(entry("e", planned("m", "F16", "Q2_K"))), stateOf(test.pair), "quant_cycle_last_decision")
			assert.Equal(t, want, samples(text))
		})
	}
}

// What becomes of a few series where the state or the plan is unlike the usual one.
func TestSeries(t *testing.T) {
	usual := planOf(entry("e", planned("m", "F16", "Q2_K")))
	both := []verdict.PhaseVerdict{phase(verdict.Prompt, 0.5, 0.4, 0.6), phase(verdict.Generation, 0.25, 0.2, 0.3)}
	open := verdict.PhaseVerdict{Phase: verdict.Prompt, Drop: 0.25, Original: 100, Quantized: 75}
	unmeasured := decided("F16", "Q2_K", verdict.Inconclusive, verdict.PhaseVerdict{Phase: verdict.Prompt})
	unmeasured.Verdict.Rounds = 0
	stricter := decided("F16", "Q2_K", verdict.Kept)
	stricter.Threshold = 0.05
	moved := stateOf(pair("m", "Q2_K", verdict.Kept, decided("F32", "Q2_K", verdict.Kept, both...)))
	moved.Counters = store.NewCounters(map[store.Counter]uint64{decision(verdict.Kept, "m", "F32", "Q2_K"): 2})
	failed := stateOf(pair("m", "Q2_K", "", nil))
	failed.Counters = store.NewCounters(map[store.Counter]uint64{{Kind: store.CountFailure, Model: "m", By: "of_a_later_version"}: 1})

	for _, test := range []struct {
		name   string
		plan   *model.Plan
		state  *store.State
		family string
		want   []string
	}{
		{
			"the primary phase is generation, wherever it stands", usual,
			stateOf(pair("m", "Q2_K", verdict.Rejected, decided("F16", "Q2_K", verdict.Rejected, both...))),
			"quant_cycle_throughput_tokens_per_second",
			[]string{
				`{format="F16",model_name="m",stage="original"} 101`,
				`{format="Q2_K",model_name="m",stage="quantized"} 75`,
			},
		},
		{
			"the other phase is primary where generation is not measured", usual,
			stateOf(pair("m", "Q2_K", verdict.Rejected, decided("F16", "Q2_K", verdict.Rejected, both[:1]...))),
			"quant_cycle_throughput_tokens_per_second",
			[]string{
				`{format="F16",model_name="m",stage="original"} 101`,
				`{format="Q2_K",model_name="m",stage="quantized"} 50`,
			},
		},
		{
			"a model against itself has two stages of one format",
			planOf(entry("e", planned("m", "F16", "F16"))),
			stateOf(pair("m", "F16", verdict.Kept, decided("F16", "F16", verdict.Kept, both[1]))),
			"quant_cycle_throughput_tokens_per_second",
			[]string{
				`{format="F16",model_name="m",stage="original"} 101`,
				`{format="F16",model_name="m",stage="quantized"} 75`,
			},
		},
		{
			"a model against itself has the size of the original",
			planOf(entry("e", planned("m", "F16", "F16", "Q2_K"))),
			stateOf(
				pair("m", "F16", verdict.Kept, decided("F16", "F16", verdict.Kept, both...)),
				pair("m", "Q2_K", verdict.Kept, decided("F16", "Q2_K", verdict.Kept, both...)),
			),
			"quant_cycle_model_size_bytes",
			[]string{`{format="F16",model_name="m"} 2e+06`, `{format="Q2_K",model_name="m"} 500000`},
		},
		{
			"a model that cannot be read any more has the size it was last measured with",
			planOf(entry("e", planned("m", "", "Q2_K"))),
			stateOf(pair("m", "Q2_K", verdict.Kept, decided("F16", "Q2_K", verdict.Kept, both...))),
			"quant_cycle_model_size_bytes",
			[]string{`{format="F16",model_name="m"} 1.999999e+06`, `{format="Q2_K",model_name="m"} 500000`},
		},
		{
			"open ends are infinite: the lower one", usual,
			stateOf(pair("m", "Q2_K", "", decided("F16", "Q2_K", verdict.Inconclusive, open))),
			"quant_cycle_throughput_drop_lower_ratio",
			[]string{`{model_name="m",phase="prompt",source_format="F16",target_format="Q2_K"} -Inf`},
		},
		{
			"open ends are infinite: the upper one", usual,
			stateOf(pair("m", "Q2_K", "", decided("F16", "Q2_K", verdict.Inconclusive, open))),
			"quant_cycle_throughput_drop_upper_ratio",
			[]string{`{model_name="m",phase="prompt",source_format="F16",target_format="Q2_K"} +Inf`},
		},
		{
			"without a round there is no throughput", usual,
			stateOf(pair("m", "Q2_K", "", unmeasured)),
			"quant_cycle_throughput_tokens_per_second", nil,
		},
		{
			"without a round there is no drop", usual,
			stateOf(pair("m", "Q2_K", "", unmeasured)),
			"quant_cycle_throughput_drop_ratio", nil,
		},
		{
			"the threshold comes from the decision", usual,
			stateOf(pair("m", "Q2_K", verdict.Kept, stricter)),
			"quant_cycle_threshold_ratio",
			[]string{`{model_name="m",target_format="Q2_K"} 0.05`},
		},
		{
			"a new source format counts from 0, beside the old one", usual, moved,
			"quant_cycle_decision_total",
			[]string{
				`{model_name="m",result="inconclusive",source_format="F16",target_format="Q2_K"} 0`,
				`{model_name="m",result="kept",source_format="F16",target_format="Q2_K"} 0`,
				`{model_name="m",result="kept",source_format="F32",target_format="Q2_K"} 2`,
				`{model_name="m",result="rejected",source_format="F16",target_format="Q2_K"} 0`,
			},
		},
		{
			"figures keep the source format they were measured with", usual, moved,
			"quant_cycle_throughput_drop_ratio",
			[]string{
				`{model_name="m",phase="generation",source_format="F32",target_format="Q2_K"} 0.25`,
				`{model_name="m",phase="prompt",source_format="F32",target_format="Q2_K"} 0.5`,
			},
		},
		{
			"the format of a model that cannot be read is not made up",
			planOf(entry("e", planned("m", "", "Q2_K"))), &store.State{},
			"quant_cycle_decision_total", nil,
		},
		{
			"a model without a run has no time of one", usual, &store.State{},
			"quant_cycle_last_run_timestamp_seconds", nil,
		},
		{
			"a model without a success has no time of one", usual, stateOf(pair("m", "Q2_K", "", nil)),
			"quant_cycle_last_success_timestamp_seconds", nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var want []string
			for _, series := range test.want {
				want = append(want, test.family+series)
			}
			assert.Equal(t, want, samples(show(t, Live{}, test.plan, test.state, test.family)))
		})
	}

	t.Run("a reason that this version does not know is shown", func(t *testing.T) {
		lines := samples(show(t, Live{}, usual, failed, "quant_cycle_failures_total"))
		assert.Len(t, lines, len(reasons)+1)
		assert.Contains(t, lines, `quant_cycle_failures_total{model_name="m",reason="of_a_later_version"} 1`)
	})
}

func TestCurrent(t *testing.T) {
	engine := func(e dispatch.EngineStatus) Live {
		return Live{Status: func() *dispatch.Status { return &dispatch.Status{Engine: e} }}
	}
	for _, test := range []struct {
		name string
		live Live
		want []string
	}{
		{"nothing goes on", Live{}, nil},
		{"no bus configured", Live{Bus: func() a2a.Status { return a2a.Status{} }}, nil},
		{"bus down", Live{Bus: func() a2a.Status { return a2a.Status{Configured: true} }}, []string{"quant_cycle_bus_up 0"}},
		{"engine not looked for", engine(dispatch.EngineStatus{}), nil},
		{"engine missing", engine(dispatch.EngineStatus{Checked: noon, Err: "not found"}), []string{"quant_cycle_engine_up 0"}},
		{
			"engine that does not tell its build", engine(dispatch.EngineStatus{Checked: noon, Up: true}),
			[]string{`quant_cycle_engine_info{backends="",build="",cpu="",gpu="",version=""} 1`, "quant_cycle_engine_up 1"},
		},
		{
			"engine that prints no UTF-8",
			engine(dispatch.EngineStatus{Checked: noon, Up: true, CPU: "Core\xae"}),
			[]string{`quant_cycle_engine_info{backends="",build="",cpu="Core` + "\uFFFD" + `",gpu="",version=""} 1`, "quant_cycle_engine_up 1"},
		},
		{
			"between two cycles", Live{Status: func() *dispatch.Status {
				return &dispatch.Status{Running: &dispatch.Running{Entry: "e", Model: "m", Ratio: 1}}
			}}, nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			live := []string{
				"quant_cycle_next_run_timestamp_seconds", "quant_cycle_running", "quant_cycle_queued", "quant_cycle_progress_ratio",
				"quant_cycle_bus_up", "quant_cycle_engine_up", "quant_cycle_engine_info",
			}
			assert.Equal(t, test.want, samples(show(t, test.live, nil, nil, live...)))
		})
	}
}

// A reload takes a model away; what it brings back goes on counting.
func TestReload(t *testing.T) {
	few, all := planOf(entry("e", planned("kept", "F16", "Q2_K"))), planOf(entry("e", planned("kept", "F16", "Q2_K"), planned("gone", "F16", "Q2_K")))
	state := stateOf(pair("gone", "Q2_K", verdict.Kept, decided("F16", "Q2_K", verdict.Kept, phase(verdict.Generation, 0, -0.1, 0.1))))
	state.Counters = store.NewCounters(map[store.Counter]uint64{decision(verdict.Kept, "gone", "F16", "Q2_K"): 5})
	c, now := collectorOf(Live{}, nil, state)
	text := func() string { return textOf(t, c) }
	const counted = `quant_cycle_decision_total{model_name="gone",result="kept",source_format="F16",target_format="Q2_K"} 5`

	assert.NotContains(t, text(), `"gone"`, "nothing is scheduled yet")
	now.plan.Store(all)
	assert.Contains(t, text(), counted)
	now.plan.Store(few)
	assert.NotContains(t, text(), `"gone"`)
	assert.Contains(t, text(), `"kept"`)
	now.plan.Store(all)
	assert.Contains(t, text(), counted)
}

func TestReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where it is the year 2000
		registry := prometheus.NewPedanticRegistry()
		reloads := NewReloads(registry)
		reloads.Done(nil)
		succeeded := samples(gathered(t, registry))
		assert.Equal(t, []string{
			"quant_exporter_config_last_reload_success_timestamp_seconds 9.466848e+08",
			"quant_exporter_config_last_reload_successful 1",
		}, succeeded)
		time.Sleep(time.Hour) // in no time
		reloads.Done(errors.New("no such key"))
		assert.Equal(t, []string{succeeded[0], "quant_exporter_config_last_reload_successful 0"}, samples(gathered(t, registry)))
	})
}

func TestStorage(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	RegisterStorage(registry, func() store.Stats { return store.Stats{FileBytes: 65536, WriteFailures: 2} })
	assert.Equal(t, []string{
		"quant_exporter_storage_size_bytes 65536",
		"quant_exporter_storage_write_failures_total 2",
	}, samples(gathered(t, registry)))
}
