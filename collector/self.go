package collector

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/collectors/version"

	"github.com/quant-exporter/quant-exporter/internal/store"
)

// NewRegistry makes a registry with what every exporter reports about itself:
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

// Reloads report attempts to load the configuration. Done may be called by several
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

// RegisterStorage registers what the file of the state takes, and how often writing to it
// failed; it panics when they are registered already. stats is asked at each scrape, by
// several goroutines at once.
func RegisterStorage(registerer prometheus.Registerer, stats func() store.Stats) {
	registerer.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(storageSize.opts()), func() float64 { return float64(stats().FileBytes) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts(storageWriteFailures.opts()), func() float64 { return float64(stats().WriteFailures) }),
	)
}

// RegisterExternalURL registers where people reach the pages, for alerts to lead there; it
// panics when that is registered already.
func RegisterExternalURL(registerer prometheus.Registerer, url string) {
	opts := prometheus.GaugeOpts(externalURL.opts())
	opts.ConstLabels = prometheus.Labels{"url": url}
	info := prometheus.NewGauge(opts)
	info.Set(1)
	registerer.MustRegister(info)
}
