package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/store"
)

// How many events one answer may hold.
const (
	defaultEvents = 100
	mostEvents    = 1000
)

// apiPrefix begins the paths, below the route prefix, whose errors are JSON.
const apiPrefix = "/api/"

// answer is the form of every answer of the API, in the manner of Prometheus'.
type answer struct {
	Status    string    `json:"status"` // success, error
	Data      any       `json:"data,omitempty"`
	ErrorType errorType `json:"errorType,omitempty"`
	Error     string    `json:"error,omitempty"`
}

// errorType is a word that programs may rely on.
type errorType string

// The error types, each with one status.
const (
	errorBadData     errorType = "bad_data"           // 400: a parameter
	errorForbidden   errorType = "forbidden"          // 403: switched off, or from another site
	errorNotFound    errorType = "not_found"          // 404
	errorMethod      errorType = "method_not_allowed" // 405: the header Allow names those that are
	errorConflict    errorType = "conflict"           // 409: not in the state of things now
	errorInternal    errorType = "internal"           // 500
	errorUnavailable errorType = "unavailable"        // 503: try again later
)

func (e errorType) status() int {
	switch e {
	case errorBadData:
		return http.StatusBadRequest
	case errorForbidden:
		return http.StatusForbidden
	case errorNotFound:
		return http.StatusNotFound
	case errorMethod:
		return http.StatusMethodNotAllowed
	case errorConflict:
		return http.StatusConflict
	case errorUnavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// refusal is why there is no answer, by its kind.
type refusal struct {
	kind errorType
	text string
}

func (r *refusal) Error() string { return r.text }

// refused makes an error of a kind; all others are internal.
func refused(kind errorType, format string, args ...any) error {
	return &refusal{kind, fmt.Sprintf(format, args...)}
}

func kindOf(err error) errorType {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.kind
	}
	return errorInternal
}

// answering answers with what f returns as JSON, or says why it failed.
func answering(f func(*server, *http.Request) (any, error)) func(*server) http.Handler {
	return method(func(s *server, w http.ResponseWriter, r *http.Request) {
		data, err := f(s, r)
		if err != nil {
			refuse(w, r, kindOf(err), err.Error())
			return
		}
		writeJSON(w, http.StatusOK, answer{Status: "success", Data: data})
	})
}

func writeJSON(w http.ResponseWriter, status int, a answer) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // of what came out of the store as JSON; the client may be gone
}

// refuse answers with the reason for refusing: as JSON below apiPrefix, else as text.
func refuse(w http.ResponseWriter, r *http.Request, kind errorType, text string) {
	if strings.HasPrefix(r.URL.Path, apiPrefix) {
		writeJSON(w, kind.status(), answer{Status: "error", ErrorType: kind, Error: text})
		return
	}
	writeText(w, kind.status(), text)
}

// refusing answers for paths and methods that there are not: in JSON below apiPrefix, and
// with a page for a browser.
func (s *server) refusing(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refusal, pattern := mux.Handler(r)
		api := strings.HasPrefix(r.URL.Path, apiPrefix)
		if pattern != "" || !api && !fromBrowser(r) {
			mux.ServeHTTP(w, r)
			return
		}
		refusal.ServeHTTP(headerOnly{w}, r)
		allowed := w.Header().Get("Allow")
		switch {
		case allowed != "":
			refuse(w, r, errorMethod, fmt.Sprintf("%s does not take %s: use %s", r.URL.Path, r.Method, allowed))
		case api:
			refuse(w, r, errorNotFound, fmt.Sprintf("the API has no %s", r.URL.Path))
		default:
			s.explain(w, r, "No such page", refused(errorNotFound, "there is no page %q", r.URL.Path))
		}
	})
}

// headerOnly keeps the header of an answer and drops the rest.
type headerOnly struct{ http.ResponseWriter }

func (headerOnly) WriteHeader(int)             {}
func (headerOnly) Write(b []byte) (int, error) { return len(b), nil }

// eventsPage is a part of the events.
type eventsPage struct {
	Events []store.Event `json:"events"`
	// NextAfter is the parameter `after` of the next part; absent when there is none.
	NextAfter *uint64 `json:"next_after,omitempty"`
}

// events answers with the events that the parameters select: one more is read than asked
// for, to know whether there is a next part.
func (s *server) events(r *http.Request) (any, error) {
	q, err := parseEventQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	limit := q.Limit
	q.Limit++
	events, err := s.Store.Events(q)
	if err != nil {
		return nil, err
	}
	page := eventsPage{Events: orEmpty(events)}
	if len(events) > limit {
		page.Events = events[:limit]
		page.NextAfter = &events[limit-1].Seq
	}
	return page, nil
}

func parseEventQuery(values url.Values) (q store.EventQuery, err error) {
	if q.Limit, err = parseLimit(values, defaultEvents, mostEvents); err != nil {
		return q, err
	}
	if text := values.Get("after"); text != "" {
		if q.After, err = strconv.ParseUint(text, 10, 64); err != nil {
			return q, refused(errorBadData, "after is %q: give the seq of an event, a whole number; the events after it are listed", text)
		}
	}
	q.Delivery = store.Delivery(values.Get("delivery"))
	if q.Delivery != "" && !slices.Contains(store.Deliveries(), q.Delivery) {
		return q, refused(errorBadData, "delivery is %q: give %s, %s, %s or %s, or leave it out for all",
			q.Delivery, store.Held, store.Pending, store.Delivered, store.Superseded)
	}
	return q, nil
}

// parseLimit reads how many things an answer may hold.
func parseLimit(values url.Values, byDefault, most int) (int, error) {
	text := values.Get("limit")
	if text == "" {
		return byDefault, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > most {
		return 0, refused(errorBadData, "limit is %q: give a whole number from 1 to %d", text, most)
	}
	return limit, nil
}
