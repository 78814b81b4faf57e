package web

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/store"
)

// modelsAnswer is all models, scheduled or known, by name.
type modelsAnswer struct {
	Models []*modelAnswer `json:"models"`
}

type modelAnswer struct {
	Name         string         `json:"model_name"`
	SourceFormat string         `json:"source_format"` // "" when it is not known
	LastRun      *time.Time     `json:"last_run"`
	LastSuccess  *time.Time     `json:"last_success"`
	Choice       *store.Choice  `json:"choice"` // null where no format is chosen
	Targets      []targetAnswer `json:"targets"`
}

// targetAnswer is a pair. What is known of it is nil before its first result.
type targetAnswer struct {
	Target    string      `json:"target_format"`
	Scheduled bool        `json:"scheduled"`
	Entry     string      `json:"entry"` // that decides it; "" when none does
	NextRun   *time.Time  `json:"next_run"`
	Known     *store.Pair `json:"known"`
}

func (s *server) models(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, answer{Status: "success", Data: answerModels(s.snapshot())})
}

func answerModels(k snapshot) modelsAnswer {
	next := map[string]time.Time{}
	for _, e := range k.status.Entries {
		next[e.Name] = e.Next
	}
	models := map[string]*modelAnswer{}
	targets := map[store.PairID]*targetAnswer{}
	add := func(id store.PairID) *targetAnswer {
		if models[id.Model] == nil {
			models[id.Model] = &modelAnswer{Name: id.Model}
		}
		if targets[id] == nil {
			targets[id] = &targetAnswer{Target: id.Target}
		}
		return targets[id]
	}
	for id, pair := range k.state.Pairs {
		add(id).Known = pair
		if pair.Decided != nil {
			models[id.Model].SourceFormat = pair.Decided.SourceFormat
		}
	}
	for _, entry := range k.scheduled.Entries {
		for i := range entry.Models {
			for _, target := range entry.Models[i].Targets {
				t := add(store.PairID{Model: entry.Models[i].Name, Target: target})
				t.Scheduled, t.Entry, t.NextRun = true, entry.Name, optional(next[entry.Name])
			}
			if format := entry.Models[i].SourceFormat(); format != "" && models[entry.Models[i].Name] != nil {
				models[entry.Models[i].Name].SourceFormat = format
			}
		}
	}
	for id, t := range targets {
		models[id.Model].Targets = append(models[id.Model].Targets, *t)
	}
	chosen := k.choices()
	a := modelsAnswer{Models: []*modelAnswer{}}
	for _, name := range slices.Sorted(maps.Keys(models)) {
		m := models[name]
		slices.SortFunc(m.Targets, func(x, y targetAnswer) int { return strings.Compare(x.Target, y.Target) })
		m.Choice = chosen[name]
		if known := k.state.Models[name]; known != nil {
			m.LastRun, m.LastSuccess = optional(known.LastRun), optional(known.LastSuccess)
		}
		a.Models = append(a.Models, m)
	}
	return a
}

// How many cycles one answer may hold.
const (
	defaultCycles = 50
	mostCycles    = 1000
)

// cyclesAnswer is a part of the cycles, the newest first.
type cyclesAnswer struct {
	Cycles []store.Cycle `json:"cycles"`
	// NextBefore is the parameter `before` of the next part; absent when there is none.
	NextBefore uint64 `json:"next_before,omitempty"`
}

func (s *server) cycles(w http.ResponseWriter, r *http.Request) {
	before, limit, err := parseCyclesQuery(r.URL.Query())
	if err != nil {
		refuse(w, r, errorBadData, err.Error())
		return
	}
	a, err := s.readCycles(before, limit)
	if err != nil {
		refuse(w, r, errorInternal, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, answer{Status: "success", Data: a})
}

func parseCyclesQuery(values url.Values) (before uint64, limit int, err error) {
	limit = defaultCycles
	if text := values.Get("before"); text != "" {
		if before, err = strconv.ParseUint(text, 10, 64); err != nil {
			return 0, 0, fmt.Errorf("before is %q: give the number of a cycle; older ones are listed", text)
		}
	}
	if text := values.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > mostCycles {
			return 0, 0, fmt.Errorf("limit is %q: give a whole number from 1 to %d", text, mostCycles)
		}
	}
	return before, limit, nil
}

// readCycles reads one cycle more than asked for, to know whether there is a next part.
func (s *server) readCycles(before uint64, limit int) (cyclesAnswer, error) {
	cycles, err := s.Store.Cycles(before, limit+1)
	if err != nil {
		return cyclesAnswer{}, err
	}
	a := cyclesAnswer{Cycles: orEmpty(cycles)}
	if len(cycles) > limit {
		a.Cycles = cycles[:limit]
		a.NextBefore = cycles[limit-1].ID
	}
	return a, nil
}

// cycleAnswer is everything of one cycle.
type cycleAnswer struct {
	Cycle   store.Cycle    `json:"cycle"`
	Results []store.Record `json:"results"`
}

func (s *server) cycle(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		refuse(w, r, errorBadData, fmt.Sprintf("%q is no number of a cycle", r.PathValue("id")))
		return
	}
	cycle, records, known, err := s.Store.Cycle(id)
	switch {
	case err != nil:
		refuse(w, r, errorInternal, err.Error())
	case !known:
		text, err := s.whyNoCycle(id)
		if err != nil {
			refuse(w, r, errorInternal, err.Error())
			return
		}
		refuse(w, r, errorNotFound, text)
	default:
		writeJSON(w, http.StatusOK, answer{Status: "success", Data: cycleAnswer{cycle, orEmpty(records)}})
	}
}

// whyNoCycle says why a cycle is not there.
func (s *server) whyNoCycle(id uint64) (string, error) {
	newest, err := s.Store.Cycles(0, 1)
	switch {
	case err != nil:
		return "", err
	case id == 0 || len(newest) == 0 || id > newest[0].ID:
		return fmt.Sprintf("there is no cycle %d", id), nil
	}
	return fmt.Sprintf("cycle %d was removed by storage.retention, which bounds how long results are kept; the decisions and counters that it led to stay", id), nil
}
