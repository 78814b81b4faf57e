package web

import (
	"net/http"

	"github.com/quant-exporter/quant-exporter/internal/text"
)

func (s *server) healthy(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "quant-exporter is healthy.")
}

func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	if err := s.Ready(); err != nil {
		writeText(w, http.StatusServiceUnavailable, "quant-exporter is not ready: "+err.Error())
		return
	}
	writeText(w, http.StatusOK, "quant-exporter is ready.")
}

func (s *server) reload(w http.ResponseWriter, r *http.Request) {
	if err := s.Reload(r.Context()); err != nil {
		writeText(w, http.StatusInternalServerError, "the configuration was not reloaded, the old one stays:\n"+err.Error())
		return
	}
	writeText(w, http.StatusOK, "The configuration is reloaded.")
}

func (s *server) config(w http.ResponseWriter, _ *http.Request) {
	text, err := s.Config()
	if err != nil {
		writeText(w, http.StatusInternalServerError, "writing the configuration: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/yaml; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(text))
}

// writeText answers in plain words, on lines of their own.
func writeText(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text.Text(message) + "\n"))
}
