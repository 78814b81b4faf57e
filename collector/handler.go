package collector

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves the registry, as OpenMetrics to clients that ask for it. It serves at most
// maxInFlight scrapes at once; further ones get a 503 and are counted; 0 means no bound. A
// metric that cannot be collected is left out, logged and counted; the others are served. The
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
