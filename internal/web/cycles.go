package web

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
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
	q, err := parseCycleQuery(r.URL.Query(), defaultCycles)
	if err != nil {
		return nil, err
	}
	q.results = q.outcome != ""
	rows, next, err := s.selectCycles(q)
	if err != nil {
		return nil, err
	}
	a := cyclesAnswer{Cycles: []store.Cycle{}, NextBefore: next}
	for _, row := range rows {
		a.Cycles = append(a.Cycles, row.Cycle)
	}
	return a, nil
}

// cycleQuery selects cycles.
type cycleQuery struct {
	before  uint64 // only cycles with a lower number; 0: any
	limit   int
	entry   string // only cycles of this entry, or byHand; "": any
	model   string // only cycles of models with this in their names, in any case; "": any
	outcome string // only cycles with this outcome of a target; "": any
	results bool   // whether it is asked how they ended
}

// byHand stands for the command line where an entry is named.
const byHand = "-"

// endings are the outcomes by which one can select.
func endings() []string {
	return []string{"kept", "rejected", "inconclusive", "failed", "canceled", "interrupted", "passed over", "running"}
}

func parseCycleQuery(values url.Values, byDefault int) (q cycleQuery, err error) {
	if q.limit, err = parseLimit(values, byDefault, mostCycles); err != nil {
		return q, err
	}
	if before := values.Get("before"); before != "" {
		if q.before, err = strconv.ParseUint(before, 10, 64); err != nil {
			return q, refused(errorBadData, "before is %q: give the number of a cycle; older ones are listed", before)
		}
	}
	q.entry, q.model, q.outcome = values.Get("entry"), values.Get("model"), values.Get("outcome")
	if q.outcome != "" && !slices.Contains(endings(), q.outcome) {
		return q, refused(errorBadData, "outcome is %q: give one of %s, or leave it out for all", q.outcome, strings.Join(endings(), ", "))
	}
	return q, nil
}

// selects reports whether the query asks for a cycle, whose outcomes are only known once its
// results are.
func (q *cycleQuery) selects(c *store.Cycle) bool {
	return (q.entry == "" || q.entry == c.Entry || q.entry == byHand && c.Entry == "") &&
		strings.Contains(strings.ToLower(c.Model), strings.ToLower(q.model))
}

func (q *cycleQuery) selectsOutcomes(results []outcomeView) bool {
	return q.outcome == "" || slices.ContainsFunc(results, func(o outcomeView) bool { return o.Word == q.outcome })
}

// selectCycles reads the cycles that the query asks for, the newest first, and the
// parameter before of the next part; 0 when there is none.
func (s *server) selectCycles(q cycleQuery) (rows []cycleRow, next uint64, err error) {
	read := outcomes{store: s.Store, of: map[store.PairID]map[uint64]string{}}
	if q == (cycleQuery{limit: q.limit, results: true}) { // there are no newer results of a pair to pass over
		read.limit = q.limit
	}
	for before := q.before; ; {
		batch, err := s.Store.Cycles(before, q.limit+1)
		if err != nil {
			return nil, 0, err
		}
		for _, c := range batch {
			if !q.selects(&c) {
				continue
			}
			row := cycleRow{Cycle: c}
			if q.results && len(rows) < q.limit || q.outcome != "" {
				if row.Results, err = read.cycle(&c); err != nil {
					return nil, 0, err
				}
			}
			if !q.selectsOutcomes(row.Results) {
				continue
			}
			if len(rows) == q.limit { // one more than asked for: there is a next part
				return rows, rows[q.limit-1].ID, nil
			}
			rows = append(rows, row)
		}
		if len(batch) <= q.limit {
			return rows, 0, nil
		}
		before = batch[len(batch)-1].ID
	}
}

// cyclesPage is what the template of the list of cycles shows.
type cyclesPage struct {
	frame
	Cycles   []cycleRow
	Entries  []optionView
	Model    string // that was asked for
	Outcomes []optionView
	Selected bool   // whether not all are asked for
	Newest   bool   // whether this is the first part
	Start    string // address of the first part
	Next     string // address of the next part; "" when there is none
}

// optionView is a choice of a list.
type optionView struct {
	Value, Text string
	Selected    bool
}

type cycleRow struct {
	store.Cycle
	Results []outcomeView
}

// outcomeView is how a cycle ended for a target.
type outcomeView struct {
	Target, Word string
	Chosen       choice.Rule // by which the cycle chose it; "" when it did not
}

// cyclesOnPage is how many cycles the list has on a page.
const cyclesOnPage = 50

func (s *server) cyclesPage(w http.ResponseWriter, r *http.Request) {
	k := s.snapshot()
	v := &cyclesPage{frame: s.frame("Cycles", "cycles", k.now)}
	v.Token = s.token(k)
	q, err := parseCycleQuery(r.URL.Query(), cyclesOnPage)
	if err == nil {
		q.limit, q.results = cyclesOnPage, true
		var next uint64
		if v.Cycles, next, err = s.selectCycles(q); err == nil {
			v.show(q, k.status.Entries, next)
		}
	}
	if err != nil {
		s.explain(w, r, "The cycles cannot be shown", err)
		return
	}
	s.render(w, r, http.StatusOK, "cycles.html", v)
}

// show says what was asked for, and where the rest of it is.
func (v *cyclesPage) show(q cycleQuery, entries []dispatch.EntryStatus, next uint64) {
	v.Model, v.Newest = q.model, q.before == 0
	v.Selected = q.entry != "" || q.model != "" || q.outcome != ""
	option := func(value, text, asked string) optionView { return optionView{value, text, value == asked} }
	v.Entries = append(v.Entries, option("", "any", q.entry))
	for _, e := range entries {
		v.Entries = append(v.Entries, option(e.Name, text.Name(e.Name), q.entry))
	}
	v.Entries = append(v.Entries, option(byHand, "command line", q.entry))
	if !slices.ContainsFunc(v.Entries, func(o optionView) bool { return o.Selected }) { // it has left the schedule
		v.Entries = append(v.Entries, option(q.entry, text.Name(q.entry), q.entry))
	}
	v.Outcomes = append(v.Outcomes, option("", "any", q.outcome))
	for _, word := range endings() {
		v.Outcomes = append(v.Outcomes, option(word, word, q.outcome))
	}
	v.Start = v.Links + "/cycles" + q.parameters(0)
	if next > 0 {
		v.Next = v.Links + "/cycles" + q.parameters(next)
	}
}

// parameters ask for the same before another cycle.
func (q *cycleQuery) parameters(before uint64) string {
	values := url.Values{}
	for name, value := range map[string]string{"entry": q.entry, "model": q.model, "outcome": q.outcome} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if before > 0 {
		values.Set("before", strconv.FormatUint(before, 10))
	}
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}

// outcomes reads how cycles ended. That is what the histories of their targets say, each of
// which is read once: the results themselves are far larger.
type outcomes struct {
	store Store
	limit int // how many results of each pair are read; 0: all
	of    map[store.PairID]map[uint64]string
}

// cycle reads how one ended for each of its targets.
func (o *outcomes) cycle(c *store.Cycle) (results []outcomeView, err error) {
	for _, target := range c.Targets {
		words, err := o.pair(c.PairID(target))
		if err != nil {
			return nil, err
		}
		result := outcomeView{Target: target, Word: words[c.ID]}
		switch {
		case result.Word != "":
		case c.PassedOver[target] != "":
			result.Word = "passed over"
		case slices.Contains(c.Undecided, target) && c.Ended == nil:
			result.Word = "running"
		default:
			result.Word = "removed"
		}
		if c.Chosen == target {
			result.Chosen = c.Choose
		}
		results = append(results, result)
	}
	return results, nil
}

// pair reads how the cycles of a pair ended.
func (o *outcomes) pair(id store.PairID) (map[uint64]string, error) {
	if o.of[id] == nil {
		points, err := o.store.History(id, o.limit)
		if err != nil {
			return nil, err
		}
		o.of[id] = map[uint64]string{}
		for _, p := range points {
			o.of[id][p.Cycle] = ending(p.Outcome, p.Reason)
		}
	}
	return o.of[id], nil
}
