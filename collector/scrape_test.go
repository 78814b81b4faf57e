package collector

import (
	"fmt"
	"io"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

var targets = []string{"Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q8_0"}

// fleet is a plan of so many models with five targets each.
func fleet(models int) *model.Plan {
	e := entry("nightly")
	for i := range models {
		e.Models = append(e.Models, planned(fmt.Sprintf("family-%02d/model-%04d", i%20, i), "F16", targets...))
	}
	return planOf(e)
}

// generation is the state of a fleet in which every figure that comes from a cycle is n.
func generation(p *model.Plan, n uint64) *store.State {
	x := float64(n)
	at := time.Unix(int64(n), 0)
	file := runner.FileFigures{Bytes: int64(n), Parameters: int64(n)}
	s := &store.State{
		Pairs: map[store.PairID]*store.Pair{}, Models: map[store.ModelID]*store.Model{},
		Outbox: store.OutboxState{Pending: int(n), OldestPending: at},
	}
	counters := map[store.Counter]uint64{{Kind: store.CountDelivered}: n}
	for _, reason := range publishReasons {
		counters[store.Counter{Kind: store.CountDeliveryFailure, By: reason}] = n
	}
	figures := func(phase verdict.Phase) verdict.PhaseVerdict {
		return verdict.PhaseVerdict{Phase: phase, Drop: x, Lower: &x, Upper: &x, Original: x, Quantized: x}
	}
	for _, m := range p.Entries[0].Models {
		for _, target := range m.Targets {
			id := store.PairID{Model: m.Name, Target: target}
			s.Pairs[id] = &store.Pair{PairID: id, Standing: verdict.Kept, Decided: &store.Record{
				Result: runner.Result{
					SourceFormat: "F16", Threshold: x, Quantized: file,
					Verdict: &verdict.Verdict{
						Outcome: verdict.Kept, Rounds: 4,
						Phases: []verdict.PhaseVerdict{figures(verdict.Generation), figures(verdict.Prompt)},
					},
				},
				OriginalThroughput: map[verdict.Phase]float64{verdict.Generation: x, verdict.Prompt: x},
			}}
			s.Models[store.ModelID{Name: m.Name}] = &store.Model{
				ModelID: store.ModelID{Name: m.Name}, Latest: id, LastRun: at, LastSuccess: at,
				Durations: map[runner.Operation]time.Duration{
					runner.OperationIsolate: time.Duration(n) * time.Second, runner.OperationQuantize: time.Duration(n) * time.Second,
					runner.OperationBenchmark: time.Duration(n) * time.Second, runner.OperationTotal: time.Duration(n) * time.Second,
				},
			}
			for _, outcome := range outcomes {
				counters[decision(outcome, m.Name, "F16", target)] = n
			}
		}
		for _, reason := range reasons {
			counters[store.Counter{Kind: store.CountFailure, Model: m.Name, By: string(reason)}] = n
		}
		for _, input := range inputs {
			counters[store.Counter{Kind: store.CountInputChange, Model: m.Name, By: string(input)}] = n
		}
	}
	s.Counters = store.NewCounters(counters)
	return s
}

// figuresOf gives the values that come from a cycle, and how often each comes.
func figuresOf(families []*dto.MetricFamily) map[float64]int {
	values := map[float64]int{}
	for _, family := range families {
		switch family.GetName() {
		case "quant_cycle_last_decision", "quant_cycle_rejections_total", "quant_cycle_skipped_total",
			"quant_cycle_model_size_bytes":
			continue // the same in each generation, at least for some
		}
		for _, metric := range family.GetMetric() {
			values[metric.GetCounter().GetValue()+metric.GetGauge().GetValue()]++
		}
	}
	return values
}

// A scrape sees all figures of one update, while updates follow each other as fast as
// they can. The updates go on until every scraper has seen so many of them; each scrape is
// encoded, too, because what it got is shared with the others.
func TestOneScrapeSeesOneUpdate(t *testing.T) {
	const (
		scrapers = 3
		wanted   = 50 // generations that each scraper has to see
	)
	p := fleet(2)
	c, now := collectorOf(Live{}, p, generation(p, 1))
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)

	stop, stopped := make(chan struct{}), make(chan uint64)
	go func() {
		n := uint64(1)
		for {
			select {
			case <-stop:
				stopped <- n
				return
			default:
				n++
				now.state.Store(generation(p, n))
			}
		}
	}()

	formats := []expfmt.Format{
		expfmt.NewFormat(expfmt.TypeTextPlain), expfmt.NewFormat(expfmt.TypeOpenMetrics), expfmt.NewFormat(expfmt.TypeProtoDelim),
	}
	var wg sync.WaitGroup
	for i := range scrapers {
		wg.Go(func() {
			seen, last := 0, 0.0
			for seen < wanted {
				families, err := registry.Gather()
				if !assert.NoError(t, err) {
					return
				}
				values := figuresOf(families)
				if !assert.Len(t, values, 1, "a mix of updates") {
					return
				}
				for value := range values {
					if !assert.GreaterOrEqual(t, value, last, "an older update") {
						return
					}
					if value > last {
						seen, last = seen+1, value
					}
				}
				if !assert.NoError(t, encode(io.Discard, families, formats[i])) {
					return
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	n := <-stopped

	families, err := registry.Gather()
	require.NoError(t, err)
	for value := range figuresOf(families) {
		assert.Equal(t, n, uint64(value), "the last update is shown")
	}
}

func encode(w io.Writer, families []*dto.MetricFamily, format expfmt.Format) error {
	encoder := expfmt.NewEncoder(w, format)
	for _, family := range families {
		if err := encoder.Encode(family); err != nil {
			return err
		}
	}
	if closer, ok := encoder.(expfmt.Closer); ok {
		return closer.Close()
	}
	return nil
}

// tenThousand are about so many series.
func tenThousand() *prometheus.Registry {
	p := fleet(71)
	c, _ := collectorOf(Live{}, p, generation(p, 12345))
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	return registry
}

// inVecs holds the same families and series in Vecs.
func inVecs(tb testing.TB, families []*dto.MetricFamily) *prometheus.Registry {
	tb.Helper()
	registry := prometheus.NewRegistry()
	for _, family := range families {
		var names []string
		for _, label := range family.GetMetric()[0].GetLabel() {
			names = append(names, label.GetName())
		}
		counters := prometheus.NewCounterVec(prometheus.CounterOpts{Name: family.GetName(), Help: family.GetHelp()}, names)
		gauges := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: family.GetName(), Help: family.GetHelp()}, names)
		for _, metric := range family.GetMetric() {
			var values []string
			for _, label := range metric.GetLabel() {
				values = append(values, label.GetValue())
			}
			counters.WithLabelValues(values...).Add(metric.GetCounter().GetValue())
			gauges.WithLabelValues(values...).Set(metric.GetGauge().GetValue())
		}
		if family.GetType() == dto.MetricType_COUNTER {
			registry.MustRegister(counters)
		} else {
			registry.MustRegister(gauges)
		}
	}
	return registry
}

func seriesIn(families []*dto.MetricFamily) (n int) {
	for _, family := range families {
		n += len(family.GetMetric())
	}
	return n
}

// scrapeOnce gathers and encodes what a registry holds, in the format of Prometheus.
func scrapeOnce(tb testing.TB, registry *prometheus.Registry) {
	tb.Helper()
	families, err := registry.Gather()
	require.NoError(tb, err)
	require.NoError(tb, encode(io.Discard, families, expfmt.NewFormat(expfmt.TypeOpenMetrics)))
}

// A series costs a scrape a dto.Metric and what the registry asks for its labels' order by:
// 2.0. A metric of client_golang costs two more, for its value. Encoding is left to the
// benchmark: it allocates nothing but under the race detector, where pools forget.
func TestAllocationsPerSeries(t *testing.T) {
	registry := tenThousand()
	families, err := registry.Gather()
	require.NoError(t, err)
	n := seriesIn(families)
	require.InDelta(t, 10_000, n, 500)
	allocations := testing.AllocsPerRun(10, func() { _, _ = registry.Gather() })
	assert.LessOrEqual(t, allocations/float64(n), 2.1)
}

// BenchmarkScrape gathers and encodes about 10,000 series, as snapshot and in Vecs.
func BenchmarkScrape(b *testing.B) {
	snapshot := tenThousand()
	families, err := snapshot.Gather()
	require.NoError(b, err)
	for name, registry := range map[string]*prometheus.Registry{"snapshot": snapshot, "vecs": inVecs(b, families)} {
		got, err := registry.Gather()
		require.NoError(b, err)
		n := seriesIn(got)
		require.Equal(b, seriesIn(families), n)
		b.Run(name+"/series="+strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				scrapeOnce(b, registry)
			}
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N)/float64(n), "allocs/series")
		})
	}
}

// BenchmarkScrapeAfterUpdate measures a scrape that has to make a new snapshot.
func BenchmarkScrapeAfterUpdate(b *testing.B) {
	p := fleet(71)
	s := generation(p, 12345)
	c, now := collectorOf(Live{}, p, s)
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	b.ReportAllocs()
	for b.Loop() {
		now.state.Store(new(*s))
		scrapeOnce(b, registry)
	}
}
