package collector

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves the registry, as OpenMetrics to those who ask for it. At most maxInFlight
// scrapes are served at once, any further is told 503 and counted; 0 is no bound. A metric
// that cannot be collected is left out, logged and counted: the others are served. The
// handler's own metrics, promhttp_…, are registered with the registry.
func Handler(registry *prometheus.Registry, maxInFlight int, logger *slog.Logger) http.Handler {
	return promhttp.InstrumentMetricHandler(registry, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(logger.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError,
		Registry:            registry,
		MaxRequestsInFlight: maxInFlight,
		EnableOpenMetrics:   true,
	}))
}
