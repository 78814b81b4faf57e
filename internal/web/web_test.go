package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/web"
)

// fakeStore is a state of which tests say what it holds and how it fails.
type fakeStore struct {
	events []store.Event
	reads  int // calls of Events
	export func(io.Writer) error
	backup func(io.Writer) error
	err    error // of everything that is read

	cycles    []store.Cycle // the oldest first
	results   map[uint64][]store.Record
	points    map[store.PairID][]store.Point
	histories int // calls of History
	bytes     int64
}

func (s *fakeStore) Cycle(id uint64) (store.Cycle, []store.Record, bool, error) {
	for _, cycle := range s.cycles {
		if cycle.ID == id {
			return cycle, s.results[id], true, s.err
		}
	}
	return store.Cycle{}, nil, false, s.err
}

func (s *fakeStore) Cycles(before uint64, limit int) ([]store.Cycle, error) {
	var all []store.Cycle
	for _, cycle := range slices.Backward(s.cycles) {
		if (before == 0 || cycle.ID < before) && len(all) < limit {
			all = append(all, cycle)
		}
	}
	return all, s.err
}

func (s *fakeStore) History(id store.PairID, limit int) ([]store.Point, error) {
	s.histories++
	points := s.points[id]
	if limit > 0 && len(points) > limit {
		points = points[len(points)-limit:]
	}
	return points, s.err
}

func (s *fakeStore) Events(q store.EventQuery) ([]store.Event, error) {
	s.reads++
	var all []store.Event
	for _, event := range s.events {
		if event.Seq > q.After && len(all) < q.Limit && (q.Delivery == "" || event.Delivery == q.Delivery) {
			all = append(all, event)
		}
	}
	return all, s.err
}

// State is given by parts.
func (s *fakeStore) State() *store.State { panic("not asked") }

func (s *fakeStore) Stats() store.Stats { return store.Stats{FileBytes: s.bytes} }

func (s *fakeStore) Export(w io.Writer) error { return s.export(w) }

func (s *fakeStore) Backup(w io.Writer) (int64, error) { return 0, s.backup(w) }

func writes(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

// parts are what the handler of a test shows and does; State comes before the Store's.
type parts struct {
	Store       web.Store
	State       func() *store.State
	Plan        func() *model.Plan
	Status      func() *dispatch.Status
	Next        func() map[string]time.Time
	Bus         func() a2a.Status
	Watch       func() (<-chan struct{}, func())
	CycleLog    func(uint64) (string, error)
	Run         func(string, []string) error
	Cancel      func(uint64) error
	Ready       func() error
	Config      func() (string, error)
	Reload      func(context.Context) error
	Same        bool // what Reload reports
	ReloadError func() (time.Time, error)
	Metrics     http.Handler
	Mount       web.Mount
	Flags       web.Flags
	Version     string
	SpoolDir    string
}

func handlerOf(p parts) http.Handler {
	return web.New(web.Options{
		Store: stateful{p.Store, p}, Dispatcher: dispatcher{p}, Scheduler: scheduler{p}, Bus: bus{p}, Exporter: exporter{p},
		Metrics: p.Metrics, Mount: p.Mount, Flags: p.Flags, Version: p.Version, SpoolDir: p.SpoolDir, Logger: slog.New(slog.DiscardHandler),
	})
}

type (
	stateful struct {
		web.Store
		p parts
	}
	dispatcher struct{ p parts }
	scheduler  struct{ p parts }
	bus        struct{ p parts }
	exporter   struct{ p parts }
)

func (s stateful) State() *store.State                       { return s.p.State() }
func (d dispatcher) Plan() *model.Plan                       { return d.p.Plan() }
func (d dispatcher) Status() *dispatch.Status                { return d.p.Status() }
func (d dispatcher) Watch() (<-chan struct{}, func())        { return d.p.Watch() }
func (d dispatcher) CycleLog(cycle uint64) (string, error)   { return d.p.CycleLog(cycle) }
func (d dispatcher) RunNow(entry string, m []string) error   { return d.p.Run(entry, m) }
func (d dispatcher) Cancel(cycle uint64) error               { return d.p.Cancel(cycle) }
func (s scheduler) Next() map[string]time.Time               { return s.p.Next() }
func (b bus) Status() a2a.Status                             { return b.p.Bus() }
func (e exporter) Ready() error                              { return e.p.Ready() }
func (e exporter) Config() (string, error)                   { return e.p.Config() }
func (e exporter) ChangedConfig() (string, error)            { return "models:\n  dir: /srv/models\n", nil }
func (e exporter) Reload(ctx context.Context) (bool, error)  { return e.p.Same, e.p.Reload(ctx) }
func (e exporter) LastReload() (at time.Time, failure error) { return e.p.ReloadError() }

// options of an exporter that has everything turned on and knows nothing yet.
func options(t testing.TB) parts {
	state, plan := &store.State{}, &model.Plan{}
	return parts{
		Store: &fakeStore{
			export: writes("{}\n"),
			backup: writes("bolt"),
			cycles: []store.Cycle{{ID: 1, Model: "m", Targets: []string{"Q2_K"}}},
		},
		State:       func() *store.State { return state },
		Plan:        func() *model.Plan { return plan },
		Status:      func() *dispatch.Status { return &dispatch.Status{} },
		Next:        func() map[string]time.Time { return nil },
		Bus:         func() a2a.Status { return a2a.Status{} },
		Watch:       func() (<-chan struct{}, func()) { return nil, func() {} },
		CycleLog:    func(uint64) (string, error) { return "", nil },
		Run:         func(string, []string) error { return nil },
		Cancel:      func(uint64) error { return nil },
		Ready:       func() error { return nil },
		Config:      func() (string, error) { return "threshold: 0.12\n", nil },
		Reload:      func(context.Context) error { return nil },
		ReloadError: func() (time.Time, error) { return time.Time{}, nil },
		Metrics:     http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "quant 1\n") }),
		Flags:       web.Flags{Lifecycle: true, AdminAPI: true},
		Version:     "1.2.3",
		SpoolDir:    t.TempDir(),
	}
}

// ask gives the answer to one request; edits change it before it is sent.
func ask(handler http.Handler, method, target string, edits ...func(*http.Request)) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, target, nil)
	for _, edit := range edits {
		edit(request)
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

// goneAway makes a request whose client has gone: a stream ends after its first event.
func goneAway(r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	cancel()
	*r = *r.WithContext(ctx)
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// example is a path that the route serves.
func example(t *testing.T, handler http.Handler, route web.Route) string {
	t.Helper()
	path := strings.NewReplacer("{profile...}", "goroutine", "{id}", "1").Replace(route.Path)
	if strings.Contains(path, "{file}") {
		return links(t, handler, "/")["stylesheet"]
	}
	switch path {
	case "/model":
		path += "?name=m"
	case "/api/v1/run":
		path += "?entry=nightly"
	case "/api/v1/cancel":
		path += "?cycle=1"
	case "/debug/pprof/trace":
		path += "?seconds=0.001"
	case "/debug/pprof/profile":
		path += "?seconds=1" // the shortest there is
	}
	return path
}

// links of the page by their texts, or what they are the link of.
func links(t *testing.T, handler http.Handler, path string) map[string]string {
	t.Helper()
	response := ask(handler, "GET", path)
	require.Equal(t, http.StatusOK, response.Code)
	document, err := html.Parse(response.Body)
	require.NoError(t, err)
	all := map[string]string{}
	for node := range document.Descendants() {
		attributes := map[string]string{}
		for _, a := range node.Attr {
			attributes[a.Key] = a.Val
		}
		switch node.Data {
		case "a":
			if text := node.FirstChild.Data; !strings.HasPrefix(attributes["href"], "#") {
				all[text+attributes["href"]] = attributes["href"]
			}
		case "script":
			all["script"] = attributes["src"]
		case "link":
			all[attributes["rel"]] = attributes["href"]
		}
	}
	return all
}

func TestRoutes(t *testing.T) {
	o := options(t)
	o.Plan = func() *model.Plan { return nightly(planned("m", "F16", "Q2_K")) }
	o.Status = func() *dispatch.Status { return &dispatch.Status{Entries: scheduled("nightly")} }
	handler := handlerOf(o)
	methods := map[string][]string{}
	for _, route := range web.Routes() {
		methods[route.Path] = append(methods[route.Path], route.Method)
	}
	for _, route := range web.Routes() {
		t.Run(route.Method+" "+route.Path, func(t *testing.T) {
			path := example(t, handler, route)
			assert.NotEmpty(t, route.Help)
			response := ask(handler, route.Method, path, goneAway)
			want := http.StatusOK
			if path == "/api/v1/run?entry=nightly" || path == "/api/v1/cancel?cycle=1" {
				want = http.StatusAccepted
			}
			assert.Equal(t, want, response.Code, response.Body)
			assert.NotEmpty(t, response.Header().Get("Content-Type"))
			assert.NotEmpty(t, response.Body.String())

			assert.Equal(t, "nosniff", response.Header().Get("X-Content-Type-Options"))
			assert.Equal(t, "no-referrer", response.Header().Get("Referrer-Policy"))
			assert.Equal(t, "deny", response.Header().Get("X-Frame-Options"))
			policy := response.Header().Get("Content-Security-Policy")
			assert.Contains(t, policy, "default-src 'none'")
			assert.Contains(t, policy, "frame-ancestors 'none'")
			assert.NotContains(t, policy, "unsafe")

			response = ask(handler, "DELETE", path)
			assert.Equal(t, http.StatusMethodNotAllowed, response.Code)
			for _, method := range methods[route.Path] {
				assert.Contains(t, response.Header().Get("Allow"), method)
			}
		})
	}
}

func TestUnknownPaths(t *testing.T) {
	handler := handlerOf(options(t))
	for _, path := range []string{
		"/nope", "/index.html", "/metrics/", "/-/", "/-/nope", "/api", "/api/v1/", "/api/v1/nope",
		"/api/v1/events/1", "/cycles/", "/model/m", "/api/v1/cycles/", "/api/v1/admin", "/static/", "/static/style.css", "/static/a/b",
		"/debug/", "/debug/pprof/nope", "/favicon.png",
	} {
		assert.Equal(t, http.StatusNotFound, ask(handler, "GET", path).Code, path)
	}
}

// asBrowser asks as a browser does for what somebody has typed.
func asBrowser(r *http.Request) { r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8") }

func TestBrowsersGetAPageWhereThereIsNone(t *testing.T) {
	o := options(t)
	o.Mount.Prefix = "/quant"
	handler := handlerOf(o)
	for _, path := range []string{"/nope", "/<script>", "/cycles/"} {
		response := ask(handler, "GET", "/quant"+path, asBrowser)
		assert.Equal(t, http.StatusNotFound, response.Code)
		assert.Contains(t, response.Body.String(), "<h1>No such page</h1>")
		assert.Contains(t, response.Body.String(), `href="/quant/"`, "the way back")
		assert.NotContains(t, response.Body.String(), "/<script>")
	}
	response := ask(handler, "GET", "/quant/api/v1/nope", asBrowser)
	assert.Equal(t, "not_found", errorOf(t, response)["errorType"])
	assert.Equal(t, http.StatusMethodNotAllowed, ask(handler, "DELETE", "/quant/cycles", asBrowser).Code)
}

func TestFavicon(t *testing.T) {
	response := ask(handlerOf(options(t)), "GET", "/favicon.ico")
	assert.Equal(t, "image/svg+xml", response.Header().Get("Content-Type"))
	assert.Contains(t, response.Body.String(), "<svg")
}

func TestConfigurationAsPageAndAsYAML(t *testing.T) {
	o := options(t)
	handler := handlerOf(o)
	want, err := exporter{o}.Config()
	require.NoError(t, err)
	response := ask(handler, "GET", "/config")
	assert.Equal(t, want, response.Body.String())
	assert.Equal(t, "text/yaml; charset=utf-8", response.Header().Get("Content-Type"))
	assert.Equal(t, "Accept", response.Header().Get("Vary"))
	page := ask(handler, "GET", "/config", asBrowser)
	assert.Equal(t, "text/html; charset=utf-8", page.Header().Get("Content-Type"))
	assert.Contains(t, page.Body.String(), html.EscapeString(want))
	assert.Contains(t, page.Body.String(), `href="/config" aria-current="page"`)
	changed, all, found := strings.Cut(page.Body.String(), "Every key")
	require.True(t, found)
	assert.Contains(t, changed, `<pre class="config" tabindex="0">models:
  dir: /srv/models`, "what differs comes first")
	assert.NotContains(t, changed, html.EscapeString(want))
	assert.Contains(t, all, html.EscapeString(want))
}

// The API has no answers of another form, wherever it is mounted.
func TestUnknownPathsOfTheAPI(t *testing.T) {
	for _, prefix := range []string{"", "/quant"} {
		o := options(t)
		o.Mount.Prefix = prefix
		handler := handlerOf(o)
		for _, path := range []string{"/api/v1/", "/api/v1/nope", "/api/v1/events/1"} {
			response := ask(handler, "GET", prefix+path)
			assert.Equal(t, http.StatusNotFound, response.Code, path)
			assert.Equal(t, "not_found", errorOf(t, response)["errorType"], path)
			assert.Equal(t, "application/json; charset=utf-8", response.Header().Get("Content-Type"))
		}
		response := ask(handler, "DELETE", prefix+"/api/v1/models")
		assert.Equal(t, http.StatusMethodNotAllowed, response.Code)
		assert.Equal(t, "GET, HEAD", response.Header().Get("Allow"))
		assert.Equal(t, "method_not_allowed", errorOf(t, response)["errorType"])
	}
	assert.Equal(t, "text/plain; charset=utf-8", ask(handlerOf(options(t)), "GET", "/nope").Header().Get("Content-Type"))
}

func TestMethods(t *testing.T) {
	handler := handlerOf(options(t))
	assert.Equal(t, http.StatusMethodNotAllowed, ask(handler, "GET", "/-/reload").Code, "a link must not reload")
	assert.Equal(t, http.StatusMethodNotAllowed, ask(handler, "GET", "/api/v1/admin/backup").Code)
	assert.Equal(t, http.StatusMethodNotAllowed, ask(handler, "POST", "/metrics").Code)
	assert.Equal(t, http.StatusOK, ask(handler, "HEAD", "/-/ready").Code)
}

func TestHealth(t *testing.T) {
	o := options(t)
	o.Ready = func() error { return errors.New("looking for models in \x1b[31m/srv") }
	handler := handlerOf(o)

	response := ask(handler, "GET", "/-/healthy")
	assert.Equal(t, http.StatusOK, response.Code)

	response = ask(handler, "GET", "/-/ready")
	assert.Equal(t, http.StatusServiceUnavailable, response.Code)
	assert.Equal(t, "quant-exporter is not ready: looking for models in \\x1b[31m/srv\n", response.Body.String())
}

func TestConfig(t *testing.T) {
	o := options(t)
	response := ask(handlerOf(o), "GET", "/config")
	assert.Equal(t, "text/yaml; charset=utf-8", response.Header().Get("Content-Type"))
	assert.Equal(t, "threshold: 0.12\n", response.Body.String())

	o.Config = func() (string, error) { return "", errors.New("no YAML") }
	response = ask(handlerOf(o), "GET", "/config")
	assert.Equal(t, http.StatusInternalServerError, response.Code)
	assert.Contains(t, response.Body.String(), "no YAML")
}

func TestReload(t *testing.T) {
	o := options(t)
	var failure error
	reloads := 0
	o.Reload = func(context.Context) error { reloads++; return failure }
	handler := handlerOf(o)
	assert.Equal(t, http.StatusOK, ask(handler, "POST", "/-/reload").Code)
	assert.Equal(t, http.StatusOK, ask(handler, "PUT", "/-/reload").Code)
	assert.Equal(t, 2, reloads)

	failure = errors.New("quant.yml:3: schedule: two problems\nquant.yml:4: another")
	response := ask(handler, "POST", "/-/reload")
	assert.Equal(t, http.StatusInternalServerError, response.Code)
	assert.Contains(t, response.Body.String(), failure.Error())
}

func TestSwitchedOff(t *testing.T) {
	o := options(t)
	o.Flags = web.Flags{}
	never := func() { assert.Fail(t, "it was done all the same") }
	o.Reload = func(context.Context) error { never(); return nil }
	o.Run = func(string, []string) error { never(); return nil }
	o.Cancel = func(uint64) error { never(); return nil }
	o.Store = &fakeStore{backup: func(io.Writer) error { never(); return nil }}
	handler := handlerOf(o)
	seen := map[string]bool{}
	for _, route := range web.Routes() {
		if route.Flag == "" {
			continue
		}
		seen[route.Path] = true
		response := ask(handler, route.Method, route.Path)
		assert.Equal(t, http.StatusForbidden, response.Code, route.Path)
		assert.Contains(t, response.Body.String(), route.Flag)
	}
	assert.Equal(t, map[string]bool{"/-/reload": true, "/api/v1/admin/backup": true, "/api/v1/run": true, "/api/v1/cancel": true}, seen)
}

func TestOtherSites(t *testing.T) {
	o := options(t)
	o.Mount.External = &url.URL{Scheme: "https", Host: "quant.example.org"}
	o.Status = func() *dispatch.Status { return &dispatch.Status{Entries: scheduled("nightly")} }
	handler := handlerOf(o)
	for _, path := range []string{"/-/reload", "/api/v1/admin/backup", "/api/v1/run?entry=nightly", "/api/v1/cancel?cycle=1"} {
		for name, edit := range map[string]func(*http.Request){
			"cross-site":   header("Sec-Fetch-Site", "cross-site"),
			"same-site":    header("Sec-Fetch-Site", "same-site"),
			"other origin": header("Origin", "https://evil.example"),
		} {
			response := ask(handler, "POST", path, edit)
			assert.Equal(t, http.StatusForbidden, response.Code, "%s, %s", path, name)
			assert.Contains(t, response.Body.String(), "another site")
		}
		for name, edit := range map[string]func(*http.Request){
			"curl":             func(*http.Request) {},
			"our own page":     header("Sec-Fetch-Site", "same-origin"),
			"behind the proxy": header("Origin", "https://quant.example.org"),
		} {
			assert.Contains(t, []int{http.StatusOK, http.StatusAccepted}, ask(handler, "POST", path, edit).Code, "%s, %s", path, name)
		}
	}
	assert.Equal(t, http.StatusOK, ask(handler, "GET", "/", header("Sec-Fetch-Site", "cross-site")).Code, "links from elsewhere work")
}

// A site whose name leads to the exporter's address is of the same origin as its own page.
func TestSitesThatRebindTheirName(t *testing.T) {
	o := options(t)
	o.Status = func() *dispatch.Status { return &dispatch.Status{Entries: scheduled("nightly")} }
	handler := handlerOf(o)
	named := func(host, origin string) func(*http.Request) {
		return func(r *http.Request) {
			r.Host = host
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			if origin != "" {
				r.Header.Set("Origin", origin)
			}
		}
	}
	for _, path := range []string{"/-/reload", "/api/v1/admin/backup", "/api/v1/run?entry=nightly", "/api/v1/cancel?cycle=1"} {
		response := ask(handler, "POST", path, named("evil.example:10180", "http://evil.example:10180"))
		assert.Equal(t, http.StatusForbidden, response.Code, path)
		assert.Contains(t, response.Body.String(), "--web.external-url")
		for _, host := range []string{"127.0.0.1:10180", "[::1]:10180", "localhost:10180", "gpu-host:10180", "gpu-host.local", "10.0.0.7"} {
			response := ask(handler, "POST", path, named(host, "http://"+host))
			assert.Contains(t, []int{http.StatusOK, http.StatusAccepted}, response.Code, "%s, %s", path, host)
		}
		response = ask(handler, "POST", path, func(r *http.Request) { r.Host = "quant.example.org" })
		assert.Contains(t, []int{http.StatusOK, http.StatusAccepted}, response.Code, "a program, which says no origin")
	}
}

func TestProfilesAreBounded(t *testing.T) {
	handler := handlerOf(options(t))
	for _, path := range []string{"/debug/pprof/profile", "/debug/pprof/trace", "/debug/pprof/heap"} {
		for _, seconds := range []string{"61", "1e9", "NaN", "+Inf"} {
			response := ask(handler, "GET", path+"?seconds="+url.QueryEscape(seconds))
			assert.Equal(t, http.StatusBadRequest, response.Code, "%s for %s s", path, seconds)
		}
	}
}

// Errors of the API are JSON, wherever it is mounted, and errors of other paths are text.
func TestRefusalsSpeakThePathsLanguage(t *testing.T) {
	for _, prefix := range []string{"", "/quant", "/api"} {
		o := options(t)
		o.Mount.Prefix = prefix
		o.Flags = web.Flags{}
		handler := handlerOf(o)

		response := ask(handler, "POST", prefix+"/api/v1/admin/backup")
		var got map[string]string
		require.NoError(t, json.Unmarshal(response.Body.Bytes(), &got), response.Body)
		assert.Equal(t, "error", got["status"])
		assert.Equal(t, "forbidden", got["errorType"])
		assert.Equal(t, "application/json; charset=utf-8", response.Header().Get("Content-Type"))

		response = ask(handler, "POST", prefix+"/-/reload")
		assert.Equal(t, "text/plain; charset=utf-8", response.Header().Get("Content-Type"), prefix)
	}
}

// What an operator sets in --web.config.file comes before us, and wins.
func TestHeadersOfTheOperatorStay(t *testing.T) {
	recorder := httptest.NewRecorder()
	recorder.Header().Set("X-Frame-Options", "sameorigin")
	handlerOf(options(t)).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
	assert.Equal(t, []string{"sameorigin"}, recorder.Header().Values("X-Frame-Options"))
}

func TestAssetsAreKeptForever(t *testing.T) {
	handler := handlerOf(options(t))
	all := links(t, handler, "/")
	for link, contentType := range map[string]string{"stylesheet": "text/css; charset=utf-8", "icon": "image/svg+xml", "script": "text/javascript; charset=utf-8"} {
		response := ask(handler, "GET", all[link])
		assert.Equal(t, http.StatusOK, response.Code)
		assert.Equal(t, contentType, response.Header().Get("Content-Type"))
		assert.Contains(t, response.Header().Get("Cache-Control"), "immutable")
	}
	assert.Equal(t, "no-store", ask(handler, "GET", "/").Header().Get("Cache-Control"))
}
