package collector

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/collectors/version"
)

// NewRegistry makes a registry with what every exporter tells of itself:
// quant_exporter_build_info, and the figures of the Go runtime and of the process. The
// memory of the runtime goes by its own names, go_memory_classes_…, because the usual ones
// have a gauge go_memstats_alloc_bytes and a counter go_memstats_alloc_bytes_total: one
// family in OpenMetrics, with two types, which no strict parser takes.
func NewRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		version.NewCollector("quant_exporter"),
		collectors.NewGoCollector(
			collectors.WithGoCollectorMemStatsMetricsDisabled(),
			collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsMemory),
		),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry
}

// Reloads tell of attempts to load the configuration. Done may be called by several
// goroutines at once.
type Reloads struct {
	successful prometheus.Gauge
	seconds    prometheus.Gauge
}

// NewReloads registers the metrics, and panics when they are registered already.
func NewReloads(registerer prometheus.Registerer) *Reloads {
	r := &Reloads{
		successful: prometheus.NewGauge(prometheus.GaugeOpts(reloadSuccessful.opts())),
		seconds:    prometheus.NewGauge(prometheus.GaugeOpts(reloadSeconds.opts())),
	}
	registerer.MustRegister(r.successful, r.seconds)
	return r
}

// Done says that an attempt is over now, with that error; nil is success.
func (r *Reloads) Done(err error) {
	r.successful.Set(boolean(err == nil))
	if err == nil {
		r.seconds.SetToCurrentTime()
	}
}

// Storage tells of the file of the state. Its methods may be called by several goroutines
// at once.
type Storage struct {
	writeFailures prometheus.Counter
}

// NewStorage registers the metrics, and panics when they are registered already. stats is
// asked at each scrape, by several goroutines at once, for the size of the file in bytes
// and for how many of them are free for new entries.
func NewStorage(registerer prometheus.Registerer, stats func() (size, free int64)) *Storage {
	s := &Storage{writeFailures: prometheus.NewCounter(prometheus.CounterOpts(storageWriteFailures.opts()))}
	registerer.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(storageSize.opts()), func() float64 {
			size, _ := stats()
			return float64(size)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(storageFree.opts()), func() float64 {
			_, free := stats()
			return float64(free)
		}),
		s.writeFailures,
	)
	return s
}

// WriteFailed counts a write to the state that failed.
func (s *Storage) WriteFailed() { s.writeFailures.Inc() }
