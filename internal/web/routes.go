package web

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"strconv"
)

// Flags that turn routes on.
const (
	flagLifecycle = "--web.enable-lifecycle"
	flagAdminAPI  = "--web.enable-admin-api"
)

// Route is one thing that can be asked for. GET includes HEAD.
type Route struct {
	Method string
	// Path below the route prefix; {name} stands for a segment and {name...} for the
	// rest.
	Path string
	Help string
	// Flag that must be given for anything but status 403; "" for none.
	Flag string
}

// Routes returns all that the exporter serves.
func Routes() []Route {
	var all []Route
	for _, r := range routes() {
		all = append(all, r.Route)
	}
	return all
}

// route is a Route and what answers it.
type route struct {
	Route
	handler func(*server) http.Handler
}

func routes() []route {
	return []route{
		{Route{"GET", "/", "the status page", ""}, method((*server).page)},
		{Route{"GET", "/model", "the page of a model: the history of its targets; parameter: name", ""}, method((*server).model)},
		{Route{"GET", "/cycles", "the page of all cycles, newest first; parameters: entry (- is the command line), model (a part of its name), outcome, before", ""}, method((*server).cyclesPage)},
		{Route{"GET", "/cycles/{id}", "the page of one cycle: log, rounds, decision, arguments of the tools", ""}, method((*server).cyclePage)},
		{Route{"GET", "/static/{file}", "style sheet, script and icon of the pages", ""}, method((*server).static)},
		{Route{"GET", "/favicon.ico", "the icon, for answers that are not pages", ""}, method((*server).favicon)},
		{Route{"GET", "/metrics", "metrics for Prometheus", ""}, func(s *server) http.Handler { return http.HandlerFunc(s.metrics) }},
		{Route{"GET", "/config", "the effective configuration, without secrets: a page for a browser, YAML for anything else", ""}, method((*server).config)},
		{Route{"GET", "/-/healthy", "answers 200 as long as the process answers at all", ""}, method((*server).healthy)},
		{Route{"GET", "/-/ready", "answers 200 once the state is loaded and the models are found; before that, 503 with the reason", ""}, method((*server).ready)},
		{Route{"POST", "/-/reload", "reloads the configuration; answers 500 with the reason if the old one stays in use", flagLifecycle}, method((*server).reload)},
		{Route{"PUT", "/-/reload", "the same", flagLifecycle}, method((*server).reload)},
		{Route{"GET", "/api/v1/models", "models and their targets, with the latest decision and failure of each", ""}, answering((*server).models)},
		{Route{"GET", "/api/v1/cycles", "cycles, newest first; parameters: limit, before, and the page's parameters", ""}, answering((*server).cycles)},
		{Route{"GET", "/api/v1/cycles/{id}", "one cycle with its results and all their evidence", ""}, answering((*server).cycle)},
		{Route{"GET", "/api/v1/schedule", "entries and their next runs, what runs, what waits, the engine, the event stream", ""}, answering((*server).schedule)},
		{Route{"GET", "/api/v1/live", "what runs, as server-sent events", ""}, method((*server).live)},
		{Route{"POST", "/api/v1/run", "starts a run; parameters: entry, model (repeatable; default: all models of the entry). Answers 202; 404 if there is no such entry or model; 409 if the entry runs already", flagAdminAPI}, accepting((*server).run)},
		{Route{"POST", "/api/v1/cancel", "ends the running cycle; parameter: cycle. Answers 202; 404 if there is no such cycle; 409 if it does not run", flagAdminAPI}, accepting((*server).cancel)},
		{Route{"GET", "/api/v1/events", "events and whether they were delivered, oldest first; parameters: limit, after, delivery", ""}, answering((*server).events)},
		{Route{"GET", "/api/v1/export", "the whole state, as JSON lines", ""}, method((*server).export)},
		{Route{"POST", "/api/v1/admin/backup", "answers with a copy of the state's file", flagAdminAPI}, method((*server).backup)},
		{Route{"GET", "/debug/pprof/{profile...}", "profiles of the process, for go tool pprof", ""}, profiling(pprof.Index)},
		{Route{"GET", "/debug/pprof/cmdline", "command line of the process", ""}, function(pprof.Cmdline)},
		{Route{"GET", "/debug/pprof/profile", "CPU profile; parameter: seconds, at most 60", ""}, profiling(pprof.Profile)},
		{Route{"GET", "/debug/pprof/symbol", "names of program counters", ""}, function(pprof.Symbol)},
		{Route{"POST", "/debug/pprof/symbol", "the same", ""}, function(pprof.Symbol)},
		{Route{"GET", "/debug/pprof/trace", "execution trace; parameter: seconds, at most 60", ""}, profiling(pprof.Trace)},
	}
}

func method(f func(*server, http.ResponseWriter, *http.Request)) func(*server) http.Handler {
	return func(s *server) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f(s, w, r) })
	}
}

// maxProfile bounds, in seconds, what one client may keep a profile running for.
const maxProfile = 60

// profiling serves a profile, unless it is to take too long.
func profiling(f http.HandlerFunc) func(*server) http.Handler {
	return function(func(w http.ResponseWriter, r *http.Request) {
		if seconds, err := strconv.ParseFloat(r.FormValue("seconds"), 64); err == nil && !(seconds <= maxProfile) {
			refuse(w, r, errorBadData, fmt.Sprintf("seconds is %v: give at most %d", seconds, maxProfile))
			return
		}
		f(w, r)
	})
}

func function(f http.HandlerFunc) func(*server) http.Handler {
	return func(*server) http.Handler { return f }
}

// pattern of net/http.ServeMux, in which a plain "/" would stand for every path.
func (r *route) pattern() string {
	path := r.Path
	if path == "/" {
		path = "/{$}"
	}
	return r.Method + " " + path
}
