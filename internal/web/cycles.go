package web

import (
	"net/http"
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

func (s *server) cycles(r *http.Request) (any, error) {
	values := r.URL.Query()
	limit, err := parseLimit(values, defaultCycles, mostCycles)
	if err != nil {
		return nil, err
	}
	return s.readCycles(values.Get("before"), limit)
}

// readCycles reads the cycles before the one of a number, or the newest for "": one more
// than asked for, to know whether there is a next part.
func (s *server) readCycles(before string, limit int) (cyclesAnswer, error) {
	number, err := uint64(0), error(nil)
	if before != "" {
		if number, err = strconv.ParseUint(before, 10, 64); err != nil {
			return cyclesAnswer{}, refused(errorBadData, "before is %q: give the number of a cycle; older ones are listed", before)
		}
	}
	cycles, err := s.Store.Cycles(number, limit+1)
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

// cyclesPage is what the template of the list of cycles shows.
type cyclesPage struct {
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
	k, before := s.snapshot(), r.URL.Query().Get("before")
	v := &cyclesPage{frame: s.frame("Cycles", "cycles", k.now), Newest: before == "" || before == "0"}
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
		s.explain(w, r, "The cycles cannot be shown", err)
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
			case c.PassedOver[target] != "":
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
