// Package web is the HTTP side of the exporter: metrics, health, the JSON API, profiles
// and pages for people.
//
// What it guarantees:
//   - It shows what was committed, and changes nothing by itself. What changes
//     something is off unless a flag turns it on, and is refused for requests that a
//     browser makes on behalf of another site.
//   - Names of models, messages of tools and errors of Redis are other people's text:
//     nothing of it becomes markup, and nothing of it is shown with its control
//     characters. Pages need no script, and load nothing from another host; their own
//     script brings live figures, which it makes text of.
//   - An export or a backup arrives whole or not at all, and a slow client keeps no
//     transaction of the store open.
//   - [Routes] is all there is: other paths are 404, other methods 405.
package web

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
)

// Options are what the handler serves. Its functions are called by many goroutines at
// once, one or more times for a request, and must not block.
type Options struct {
	// RoutePrefix is where the routes begin: "", or "/prefix" without a slash at its
	// end. See [Mount].
	RoutePrefix string
	// ExternalURL is where users find the exporter; its path begins every link. Nil:
	// links begin with RoutePrefix.
	ExternalURL *url.URL
	Version     string
	// Metrics serves /metrics.
	Metrics http.Handler
	// Ready gives nil once the exporter is ready, and before it what it waits for.
	Ready func() error
	// Config gives the effective configuration as YAML, secrets hidden.
	Config func() (string, error)
	// Reload reads the configuration again. An error says why the old one stays; whoever
	// asked gets its text. Nil: as without Lifecycle.
	Reload func(context.Context) error
	// ReloadError gives when the configuration was last to be read again and why the one
	// before stayed; nil once one was taken, and before any. Nil: nobody knows.
	ReloadError func() (at time.Time, err error)
	// Lifecycle and AdminAPI are the flags --web.enable-lifecycle and
	// --web.enable-admin-api.
	Lifecycle, AdminAPI bool
	// State, Plan and Status may give nil as long as there is none.
	State  func() *store.State
	Plan   func() *model.Plan
	Status func() *dispatch.Status
	Bus    func() a2a.Status
	Store  Store
	// CycleLog gives the log of a cycle, also of the one that runs, as lines of text; ""
	// when there is none. Nil: logs are not kept.
	CycleLog func(cycle uint64) (string, error)
	// Watch gives a channel that receives something when Status may have changed, until
	// stop is called. Nil: the live stream looks from time to time.
	Watch func() (changes <-chan struct{}, stop func())
	// Run asks for a run of an entry, of the models of these names or of all without
	// any; Cancel ends a cycle. Neither waits, and their errors say why not. Both are
	// needed with AdminAPI.
	Run    func(entry string, models []string) error
	Cancel func(cycle uint64) error
	// SpoolDir holds exports and backups until their clients have them, without a name
	// where the system allows that. Default: the system's folder for temporary files.
	SpoolDir string
	// Logger for what no response can say. Nil: nothing is logged.
	Logger *slog.Logger
}

// Store is what the API needs of the state; its methods are called concurrently.
type Store interface {
	// Events after the one of that number, oldest first, at most limit of them.
	Events(after uint64, limit int) ([]store.Event, error)
	// Cycle gives a cycle and its results; known is false when it is not there.
	Cycle(id uint64) (cycle store.Cycle, results []store.Record, known bool, err error)
	// Cycles before the one of that number, or all for 0, newest first, at most limit.
	Cycles(before uint64, limit int) ([]store.Cycle, error)
	// History gives the latest results of a pair, oldest first, at most limit; all for 0.
	History(id store.PairID, limit int) ([]store.Point, error)
	// Stats say how large the state's file is.
	Stats() store.Stats
	// Export writes everything as JSON lines. Its errors, like those of the others, say
	// what was being done.
	Export(io.Writer) error
	// Backup writes a copy of the state's file, and says how many bytes it has.
	Backup(io.Writer) (int64, error)
}

// server answers requests.
type server struct {
	Options
	links     string // path that every link begins with
	assets    assets
	downloads chan struct{} // holds one value for each export or backup under way
	listeners chan struct{} // and for each live stream
	began     int64         // tells this process from others
	versions  versions
	histories histories
}

// New makes the handler of everything that the exporter serves.
func New(options Options) http.Handler {
	s := &server{
		Options:   options,
		links:     options.RoutePrefix,
		assets:    loadAssets(),
		downloads: make(chan struct{}, maxDownloads),
		listeners: make(chan struct{}, maxListeners),
		began:     time.Now().UnixNano(),
	}
	if s.Watch == nil {
		s.Watch = func() (<-chan struct{}, func()) { return nil, func() {} }
	}
	if s.ReloadError == nil {
		s.ReloadError = func() (time.Time, error) { return time.Time{}, nil }
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if options.ExternalURL != nil {
		s.links = trimPrefix(options.ExternalURL.Path)
	}
	return secure(s.mount(s.sameSite(s.mux())))
}

// mux serves the routes, without the prefix.
func (s *server) mux() http.Handler {
	mux := http.NewServeMux()
	for _, route := range routes() {
		handler := route.handler(s)
		if !s.enabled(route.Flag) {
			handler = disabled(route.Flag)
		}
		mux.Handle(route.pattern(), handler)
	}
	return refusingAsJSON(mux)
}

// mount puts the routes below the prefix, and leads there from the root.
func (s *server) mount(routes http.Handler) http.Handler {
	if s.RoutePrefix == "" {
		return routes
	}
	mux := http.NewServeMux()
	mux.Handle(s.RoutePrefix+"/", http.StripPrefix(s.RoutePrefix, routes))
	mux.Handle("GET /{$}", http.RedirectHandler(s.links+"/", http.StatusFound))
	return mux
}

// enabled says whether a route that needs the flag may be used.
func (s *server) enabled(flag string) bool {
	switch flag {
	case flagLifecycle:
		return s.Lifecycle && s.Reload != nil
	case flagAdminAPI:
		return s.AdminAPI
	default:
		return true
	}
}

func disabled(flag string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse(w, r, errorForbidden, "this is switched off: start quant-exporter with "+flag)
	})
}

// sameSite refuses requests that change something and that a browser makes for a page of
// another site. Those of other programs pass.
func (s *server) sameSite(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	if u := s.ExternalURL; u != nil {
		// A proxy may hand us another Host than the browser sees. The only error is one
		// of an origin that is none, for which nothing is to be trusted.
		_ = protection.AddTrustedOrigin(u.Scheme + "://" + u.Host)
	}
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse(w, r, errorForbidden, "a page of another site asked for this: open the exporter's own page, or use a command-line client")
	}))
	return protection.Handler(next)
}

// secure sets the headers that keep a browser from doing more with an answer than to show
// it. Those that --web.config.file sets come before us, and stay.
func secure(next http.Handler) http.Handler {
	headers := map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
		"X-Content-Type-Options":  "nosniff",
		"X-Frame-Options":         "deny",
		"Referrer-Policy":         "no-referrer",
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range headers {
			if w.Header().Get(name) == "" {
				w.Header().Set(name, value)
			}
		}
		next.ServeHTTP(w, r)
	})
}
