package web

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"html/template"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/text"
)

// frame is what every page shows around its content. All text in it, and in the views
// that embed it, is for people: formatted, and without control characters.
type frame struct {
	Links               string // path that every link begins with
	Style, Script, Icon string // names of the assets
	Version             string
	Title               string
	Section             string // of the navigation: status, cycles, config, or ""
	Made                moment
	// Token stands for what the page shows: the live stream names another one once
	// there is something new. "" for a page that does not change.
	Token string
	Admin bool // whether there are buttons
}

// At is a moment as it is seen from when the page was made.
func (f frame) At(t time.Time) moment { return moment{t, f.Made.Time} }

func (s *server) frame(title, section string, now time.Time) frame {
	return frame{
		Links:   s.links,
		Style:   s.assets.names["style.css"],
		Script:  s.assets.names["live.js"],
		Icon:    s.assets.names["icon.svg"],
		Version: text.Name(s.Version),
		Title:   title,
		Section: section,
		Made:    moment{now, now},
		Admin:   s.Flags.AdminAPI,
	}
}

// render answers with a page.
func (s *server) render(w http.ResponseWriter, r *http.Request, status int, name string, view any) {
	var html bytes.Buffer
	if err := s.assets.pages[name].Execute(&html, view); err != nil {
		s.Logger.Error("a page failed", "path", r.URL.Path, "err", err)
		writeText(w, http.StatusInternalServerError, "making the page: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Add("Vary", "Accept-Encoding")
	body := html.Bytes()
	if acceptsGzip(r) {
		w.Header().Set("Content-Encoding", "gzip")
		body = compressed(body)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}

// fromBrowser reports whether the client asks for a page to show.
func fromBrowser(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

// acceptsGzip reads the header as browsers send it. Clients that write it in another way
// get the page uncompressed.
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if strings.TrimSpace(coding) == "gzip" {
			return true
		}
	}
	return false
}

// compressed makes a long table ten times smaller. Pages hold no secrets that their length
// could give away.
func compressed(body []byte) []byte {
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed) // a level that there is
	_, _ = z.Write(body)                              // to memory
	_ = z.Close()
	return out.Bytes()
}

// messageView is a page that explains why another one cannot be shown.
type messageView struct {
	frame
	Message string
}

// explain answers with a page that says why it is not another one.
func (s *server) explain(w http.ResponseWriter, r *http.Request, title string, err error) {
	kind := kindOf(err)
	if kind == errorInternal {
		s.Logger.Error("a page cannot be shown", "path", r.URL.Path, "query", r.URL.RawQuery, "err", err)
	}
	s.render(w, r, kind.status(), "message.html", messageView{s.frame(title, "", time.Now()), err.Error()})
}

// moment is a point in time, seen from the time at which a page or an answer is made. The
// zero moment is nothing on a page, and null in JSON.
type moment struct {
	time.Time
	made time.Time
}

// MarshalJSON writes the time as programs read it.
func (m moment) MarshalJSON() ([]byte, error) {
	if m.IsZero() {
		return []byte("null"), nil
	}
	return m.Time.MarshalJSON()
}

// Machine returns the time for programs that read the page; "" for none.
func (m moment) Machine() string {
	if m.IsZero() {
		return ""
	}
	return m.UTC().Format(time.RFC3339)
}

// Clock returns the time of day in UTC.
func (m moment) Clock() string { return m.UTC().Format("15:04:05 UTC") }

// Text returns the time in UTC: reader and host may live in different zones.
func (m moment) Text() string { return m.UTC().Format("2006-01-02 15:04:05 UTC") }

// Relative is "now", "in 5 h", or "5 h ago".
func (m moment) Relative() string {
	switch d := m.Sub(m.made); {
	case d.Abs() < time.Second:
		return "now"
	case d > 0:
		return "in " + text.Span(d)
	default:
		return text.Span(-d) + " ago"
	}
}

// day writes a date.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// when writes a moment to the minute.
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// functions returns the functions of the templates, which write values as people read them.
// Names that others gave go through name, and texts that others wrote go through text.
func functions() template.FuncMap {
	return template.FuncMap{
		"name":       func(v any) string { return text.Name(fmt.Sprint(v)) },
		"text":       text.Text,
		"base":       filepath.Base,
		"fold":       fold,
		"percent":    text.Percent,
		"speed":      text.Speed,
		"limit":      text.SpeedLimit,
		"throughput": text.Throughput,
		"interval":   text.SpeedInterval,
		"divergence": text.Divergence,
		"confidence": func(ratio float64) string { return trim(ratio*100) + " %" },
		"size":       text.Size,
		"share":      share,
		"count":      text.Count,
		"more": func(files []string) string {
			return text.Plural(len(files)-1, "one more file", strconv.Itoa(len(files)-1)+" more files")
		},
		"took":      func(from, to time.Time) string { return precise(to.Sub(from)) },
		"ending":    ending,
		"reason":    reason,
		"measured":  measured,
		"bar":       newBar,
		"durations": durations,
		"commands":  commands,
		"quality":   qualityFigures,
		"memory":    memoryRows,
		"first":     firstToken,
	}
}

// precise writes how long something took.
func precise(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

// thousands writes a count with its digits in groups of three.
func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + " " + digits[i:]
	}
	return digits
}
