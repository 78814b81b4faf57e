package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/quant-exporter/quant-exporter/internal/store"
)

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

// cyclesPageView is what the template of the list of cycles shows.
type cyclesPageView struct {
	frame
	Cycles []cycleRow
	Newest bool   // whether this is the first part
	Next   uint64 // the parameter before of the next part; 0 when there is none
}

type cycleRow struct {
	store.Cycle
	Results []outcomeView
}

// outcomeView is how a cycle ended for a target.
type outcomeView struct{ Target, Word string }

// cyclesOnPage is how many cycles the list has on a page.
const cyclesOnPage = 50

func (s *server) cyclesPage(w http.ResponseWriter, r *http.Request) {
	before, _, err := parseCyclesQuery(url.Values{"before": {r.URL.Query().Get("before")}})
	if err != nil {
		s.explain(w, r, http.StatusBadRequest, "No such page", err.Error())
		return
	}
	k := s.snapshot()
	v := &cyclesPageView{frame: s.frame("Cycles", "cycles", k.now), Newest: before == 0}
	v.Token = s.token(k)
	list, err := s.readCycles(before, cyclesOnPage)
	if err == nil {
		v.Next = list.NextBefore
		results := 0
		if v.Newest { // there are no newer results of a pair to pass over
			results = cyclesOnPage
		}
		v.Cycles, err = s.cycleRows(list.Cycles, results)
	}
	if err != nil {
		s.Logger.Error("the cycles cannot be shown", "err", err)
		s.explain(w, r, http.StatusInternalServerError, "The cycles cannot be shown", err.Error())
		return
	}
	s.render(w, r, http.StatusOK, "cycles.html", v)
}

// cycleRows are the cycles with how they ended. That is what the histories of their targets
// say, of which so many results are read, or all for 0: the results themselves are far
// larger.
func (s *server) cycleRows(cycles []store.Cycle, results int) ([]cycleRow, error) {
	words := map[store.PairID]map[uint64]string{}
	var rows []cycleRow
	for _, c := range cycles {
		row := cycleRow{Cycle: c}
		for _, target := range c.Targets {
			id := store.PairID{Model: c.Model, Target: target}
			if words[id] == nil {
				points, err := s.Store.History(id, results)
				if err != nil {
					return nil, err
				}
				words[id] = map[uint64]string{}
				for _, p := range points {
					words[id][p.Cycle] = ending(p.Outcome, p.Reason)
				}
			}
			word := words[id][c.ID]
			switch {
			case word != "":
			case c.Outranked[target] != "":
				word = "passed over"
			case slices.Contains(c.Undecided, target) && c.Ended == nil:
				word = "running"
			default:
				word = "removed"
			}
			row.Results = append(row.Results, outcomeView{target, word})
		}
		rows = append(rows, row)
	}
	return rows, nil
}
