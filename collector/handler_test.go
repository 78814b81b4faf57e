package collector

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/program"
)

// openMetrics is what Prometheus asks for.
const openMetrics = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"

func scrape(t *testing.T, handler http.Handler, accept string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

// decoded are the families of a response, by name; its format is the one it names. Each
// family may come once.
func decoded(t *testing.T, response *httptest.ResponseRecorder) map[string]*dto.MetricFamily {
	t.Helper()
	require.Equal(t, http.StatusOK, response.Code)
	decoder := expfmt.NewDecoder(response.Body, expfmt.Format(response.Header().Get("Content-Type")))
	families := map[string]*dto.MetricFamily{}
	for {
		family := &dto.MetricFamily{}
		err := decoder.Decode(family)
		if errors.Is(err, io.EOF) {
			return families
		}
		require.NoError(t, err)
		require.NotContains(t, families, family.GetName())
		families[family.GetName()] = family
	}
}

// What is served in either format is, read back by a parser, what was collected.
func TestFormats(t *testing.T) {
	program.NotShort(t)
	for _, test := range []struct{ name, accept, contentType string }{
		{"text", "", "text/plain; version=0.0.4"},
		{"OpenMetrics", openMetrics, "application/openmetrics-text; version=1.0.0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			p, s := everything()
			c, _ := collectorOf(busyLive(), p, s)
			registry.MustRegister(c)
			want, err := registry.Gather()
			require.NoError(t, err)

			response := scrape(t, Handler(registry, 0, slog.New(slog.DiscardHandler)), test.accept)
			assert.True(t, strings.HasPrefix(response.Header().Get("Content-Type"), test.contentType), response.Header())
			got := decoded(t, response)
			for _, family := range want {
				name := family.GetName()
				require.Contains(t, got, name)
				assert.Equal(t, family.GetHelp(), got[name].GetHelp())
				assert.Equal(t, family.GetType(), got[name].GetType(), name)
				assert.Equal(t, points(family), points(got[name]), name)
			}
		})
	}
}

// point is a sample, comparable.
type point struct {
	labels string
	value  float64
}

func points(family *dto.MetricFamily) []point {
	var list []point
	for _, metric := range family.GetMetric() {
		var labels strings.Builder
		for _, label := range metric.GetLabel() {
			labels.WriteString(label.GetName() + "=" + label.GetValue() + ";")
		}
		list = append(list, point{labels.String(), metric.GetCounter().GetValue() + metric.GetGauge().GetValue()})
	}
	return list
}

// All of it is valid OpenMetrics, which client_golang's go_memstats_ are not.
func TestRegistryTellsOfItself(t *testing.T) {
	program.NotShort(t)
	families := decoded(t, scrape(t, Handler(NewRegistry(), 0, slog.New(slog.DiscardHandler)), openMetrics))
	for _, name := range []string{
		"quant_exporter_build_info", "go_goroutines", "go_memory_classes_heap_objects_bytes", "process_start_time_seconds",
		"promhttp_metric_handler_requests_total", "promhttp_metric_handler_requests_in_flight", "promhttp_metric_handler_errors_total",
	} {
		assert.Contains(t, families, name)
	}
}

// blocking is a collector that says when it is asked, and answers when it is let go.
type blocking struct {
	prometheus.Gauge
	asked, let chan struct{}
}

func (b blocking) Collect(ch chan<- prometheus.Metric) {
	b.asked <- struct{}{}
	<-b.let
	b.Gauge.Collect(ch)
}

func TestScrapesInFlightAreBounded(t *testing.T) {
	const bound = 2
	slow := blocking{
		prometheus.NewGauge(prometheus.GaugeOpts{Name: "slow", Help: "Slow."}), make(chan struct{}), make(chan struct{}),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(slow)
	handler := Handler(registry, bound, slog.New(slog.DiscardHandler))

	served := make(chan int)
	for range bound {
		go func() { served <- scrape(t, handler, "").Code }()
		<-slow.asked
	}
	refused := scrape(t, handler, "")
	assert.Equal(t, http.StatusServiceUnavailable, refused.Code)
	assert.Contains(t, refused.Body.String(), "try again later")
	close(slow.let)
	for range bound {
		assert.Equal(t, http.StatusOK, <-served)
	}

	go func() { <-slow.asked }()
	counted := decoded(t, scrape(t, handler, ""))["promhttp_metric_handler_requests_total"]
	assert.Contains(t, points(counted), point{"code=503;", 1})
}

// broken is a collector whose only metric cannot be collected.
type broken struct{ prometheus.Gauge }

func (b broken) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(b.Desc(), errors.New("the disk is gone"))
}

func TestErrorsAreLoggedAndTheRestIsServed(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		broken{prometheus.NewGauge(prometheus.GaugeOpts{Name: "broken", Help: "Broken."})},
		prometheus.NewGauge(prometheus.GaugeOpts{Name: "whole", Help: "Whole."}),
	)
	var log bytes.Buffer
	handler := Handler(registry, 0, slog.New(slog.NewTextHandler(&log, nil)))

	assert.Contains(t, decoded(t, scrape(t, handler, "")), "whole")
	assert.Contains(t, log.String(), "level=ERROR")
	assert.Contains(t, log.String(), "the disk is gone")
	counted := decoded(t, scrape(t, handler, ""))["promhttp_metric_handler_errors_total"]
	assert.Contains(t, points(counted), point{"cause=gathering;", 1})
}
