package web

import (
	"net/http"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/text"
)

func (s *server) healthy(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "quant-exporter is healthy.")
}

func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	if err := s.Exporter.Ready(); err != nil {
		writeText(w, http.StatusServiceUnavailable, "quant-exporter is not ready: "+err.Error())
		return
	}
	writeText(w, http.StatusOK, "quant-exporter is ready.")
}

func (s *server) reload(w http.ResponseWriter, r *http.Request) {
	switch same, err := s.Exporter.Reload(r.Context()); {
	case err != nil:
		writeText(w, http.StatusInternalServerError, "the configuration was not reloaded, the old one stays:\n"+err.Error())
	case same:
		writeText(w, http.StatusOK, "The configuration is reloaded, and the file is the very same as before.\n"+
			"If you have changed it, quant-exporter reads another one: a container into which the one file is mounted keeps the file that an editor replaced. Mount its folder instead.")
	default:
		writeText(w, http.StatusOK, "The configuration is reloaded.")
	}
}

// configPage is what the template of the configuration shows.
type configPage struct {
	frame
	Changed, YAML string
}

func (s *server) config(w http.ResponseWriter, r *http.Request) {
	text, err := s.Exporter.Config()
	if err != nil {
		writeText(w, http.StatusInternalServerError, "writing the configuration: "+err.Error())
		return
	}
	w.Header().Add("Vary", "Accept")
	if fromBrowser(r) {
		changed, err := s.Exporter.ChangedConfig()
		if err != nil {
			s.explain(w, r, "The configuration cannot be shown", err)
			return
		}
		s.render(w, r, http.StatusOK, "config.html", configPage{s.frame("Configuration", "config", time.Now()), changed, text})
		return
	}
	w.Header().Set("Content-Type", "text/yaml; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(text))
}

// scrapeTimeout is longer than Prometheus servers usually wait.
const scrapeTimeout = 15 * time.Second

// metrics lets scrapes fail until the models are found: without their series it would look as
// if they had left the schedule.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) {
	if err := s.Exporter.Ready(); err != nil {
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	// A client that reads slowly must not keep others from scraping.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(scrapeTimeout))
	s.Metrics.ServeHTTP(w, r)
}

// writeText answers in plain words, on lines of their own.
func writeText(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text.Text(message) + "\n"))
}
