// Package web is the HTTP side of the exporter: metrics, health, the JSON API, profiles
// and pages for people.
//
// What it guarantees:
//   - It shows what was committed, and changes nothing by itself. What changes
//     something is off unless a flag turns it on, and is refused for requests that a
//     browser makes on behalf of another site, also of one that has its name lead here.
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
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
)

// Options are what the handler serves. All of them are needed; those with methods are asked
// by many goroutines at once, one or more times for a request, and must not block.
type Options struct {
	Store      Store
	Dispatcher Dispatcher
	Scheduler  Scheduler
	Bus        Bus
	Exporter   Exporter
	Metrics    http.Handler // of /metrics, once the exporter is ready
	Mount      Mount
	Flags      Flags
	Version    string
	// SpoolDir holds exports and backups until their clients have them, without a name
	// where the system allows that.
	SpoolDir string
	Logger   *slog.Logger // for what no response can say
}

// Flags of the command line turn on what changes something.
type Flags struct {
	Lifecycle bool // --web.enable-lifecycle
	AdminAPI  bool // --web.enable-admin-api
}

// Exporter is the program around the handler.
type Exporter interface {
	// Ready returns nil once the exporter is ready, and before it what it waits for.
	Ready() error
	// Config returns the configuration in force as YAML, secrets hidden.
	Config() (string, error)
	// ChangedConfig returns of that what differs from the defaults.
	ChangedConfig() (string, error)
	// Reload reads the configuration again, and reports whether the file is the very same
	// as before. An error says why the one before stays; the client gets its text.
	Reload(context.Context) (same bool, err error)
	// LastReload returns when the last reload failed and why; a nil error when it did not,
	// and before any.
	LastReload() (at time.Time, err error)
}

// Dispatcher runs what is due: *dispatch.Dispatcher.
type Dispatcher interface {
	Plan() *model.Plan
	Status() *dispatch.Status
	// Watch returns a channel that receives something when Status may have changed, until
	// stop is called.
	Watch() (changes <-chan struct{}, stop func())
	// RunNow asks for a run of an entry, of the models of these names or of all without
	// any; Cancel ends a cycle. Neither waits, and their errors say why not.
	RunNow(entry string, models []string) error
	Cancel(cycle uint64) error
	// CycleLog returns the log of a cycle, also of the one that runs, as lines of text; ""
	// when there is none.
	CycleLog(cycle uint64) (string, error)
}

// Scheduler knows what comes: *schedule.Scheduler.
type Scheduler interface {
	// Next returns when each entry that is not suspended is due next.
	Next() map[string]time.Time
}

// Bus takes the events: *a2a.Bus.
type Bus interface {
	Status() a2a.Status
}

// Store is the state: *store.Store.
type Store interface {
	// State returns what was last committed; nobody may change what it points to.
	State() *store.State
	// Events returns what the query selects, oldest first.
	Events(store.EventQuery) ([]store.Event, error)
	// Cycle returns a cycle and its results; known is false when it is not there.
	Cycle(id uint64) (cycle store.Cycle, results []store.Record, known bool, err error)
	// Cycles before the one of that number, or all for 0, newest first, at most limit.
	Cycles(before uint64, limit int) ([]store.Cycle, error)
	// History returns the latest results of a pair, oldest first, at most limit; all for 0.
	History(id store.PairID, limit int) ([]store.Point, error)
	// Stats returns how large the state's file is.
	Stats() store.Stats
	// Export writes everything as JSON lines. Errors of all methods say what was being
	// done.
	Export(io.Writer) error
	// Backup writes a copy of the state's file, and returns how many bytes it has.
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
		links:     options.Mount.Prefix,
		assets:    loadAssets(),
		downloads: make(chan struct{}, maxDownloads),
		listeners: make(chan struct{}, maxListeners),
		began:     time.Now().UnixNano(),
	}
	if external := options.Mount.External; external != nil {
		s.links = trimPrefix(external.Path)
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
	return s.refusing(mux)
}

// mount puts the routes below the prefix, and leads there from the root.
func (s *server) mount(routes http.Handler) http.Handler {
	if s.Mount.Prefix == "" {
		return routes
	}
	mux := http.NewServeMux()
	mux.Handle(s.Mount.Prefix+"/", http.StripPrefix(s.Mount.Prefix, routes))
	mux.Handle("GET /{$}", http.RedirectHandler(s.links+"/", http.StatusFound))
	return mux
}

// enabled reports whether a route that needs the flag may be used.
func (s *server) enabled(flag string) bool {
	switch flag {
	case flagLifecycle:
		return s.Flags.Lifecycle
	case flagAdminAPI:
		return s.Flags.AdminAPI
	default:
		return true
	}
}

func disabled(flag string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse(w, r, errorForbidden, "this is switched off: start quant-exporter with "+flag)
	})
}

// sameSite refuses requests that change something if a browser makes them for a page of
// another site. Requests of other programs pass.
func (s *server) sameSite(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	if u := s.Mount.External; u != nil {
		// A proxy may hand us another Host than the browser sees. The only possible error is a
		// malformed origin, which is not to be trusted.
		_ = protection.AddTrustedOrigin(u.Scheme + "://" + u.Host)
	}
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse(w, r, errorForbidden, "a page of another site asked for this: open the exporter's own page, or use a command-line client")
	}))
	return protection.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origin := r.Header.Get("Origin"); changes(r) && origin != "" && !s.external(origin) && !s.knownHost(r.Host) {
			refuse(w, r, errorForbidden, "a page asked for this by the name "+strconv.Quote(r.Host)+", which may be another site's that leads here: start quant-exporter with --web.external-url, or open the page by its IP address")
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// changes reports whether a request is of a method that may change something.
func changes(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions
}

// external reports whether an origin is the external URL's: a proxy may hand us another
// Host than the browser sees.
func (s *server) external(origin string) bool {
	u := s.Mount.External
	return u != nil && strings.EqualFold(u.Scheme+"://"+u.Host, origin)
}

// reserved are the ends of names that nobody can register, so that no other site has one.
var reserved = []string{".localhost", ".local", ".internal", ".home.arpa", ".lan"}

// knownHost reports whether a browser that uses this name for us has it from nobody else. A
// site may have its own name lead to our address (DNS rebinding): its pages are then of the
// same origin as ours.
func (s *server) knownHost(host string) bool {
	if u := s.Mount.External; u != nil && strings.EqualFold(u.Host, host) {
		return true
	}
	name := strings.ToLower(host)
	if bare, _, err := net.SplitHostPort(name); err == nil {
		name = bare
	}
	name = strings.TrimSuffix(strings.Trim(name, "[]"), ".")
	if net.ParseIP(name) != nil || !strings.Contains(name, ".") {
		return true
	}
	own, err := os.Hostname()
	return err == nil && strings.EqualFold(own, name) ||
		slices.ContainsFunc(reserved, func(end string) bool { return strings.HasSuffix(name, end) })
}

// secure sets the headers that keep a browser from doing more with an answer than showing it.
// Headers that --web.config.file has set stay.
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
