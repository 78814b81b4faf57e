package web

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
)

// page shows all that is known, as of the request.
func (s *server) page(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, http.StatusOK, "status.html", s.statusPage(parseSelection(r.URL.Query())))
}

// statusPage is what the template of the status page shows.
type statusPage struct {
	frame
	scheduleView

	NotReady string        // what the exporter waits for; "" when it is ready
	Reload   reloadFailure // of the configuration
	Upcoming []*entryView  // the entries that are due next
	Latest   *latestView   // the model that ran last; nil before any
	// FirstRun is when the first decisions are to be made, where there is none yet.
	FirstRun moment

	Selection selection
	Known     int // pairs, whether they are shown or not
	Counts    []countView
	Columns   []columnView
	Groups    []groupView

	// PassedOver is what the models' directory holds besides, up to mostPassedOver of
	// AllPassedOver.
	PassedOver    []model.Skipped
	AllPassedOver int
}

// mostPassedOver is how many files that were passed over a page lists.
const mostPassedOver = 200

// latestView is the model whose cycle ended last.
type latestView struct {
	Model string
	Class string // of the hardware; "" for this host
	Cycle uint64 // 0 where it decided nothing
	At    moment
	// Results of the cycle, up to mostResults, and how many more there are.
	Results []resultWord
	More    int
}

// resultWord is how a target ended.
type resultWord struct{ Target, Outcome string }

// mostResults are named, which fit into two lines.
const mostResults = 4

func (k *snapshot) latest() *latestView {
	var latest *latestView
	for id, known := range k.state.Models {
		if known.LastRun.IsZero() || latest != nil && (known.LastRun.Before(latest.At.Time) || known.LastRun.Equal(latest.At.Time) && id.Name+id.Class > latest.Model+latest.Class) {
			continue
		}
		latest = &latestView{Model: id.Name, Class: id.Class, At: k.at(known.LastRun)}
		if pair := k.state.Pairs[known.Latest]; pair != nil && pair.Decided != nil {
			latest.Cycle = pair.Decided.Cycle
		}
	}
	if latest != nil && latest.Cycle > 0 {
		results := k.endings(store.ModelID{Name: latest.Model, Class: latest.Class}, latest.Cycle)
		latest.Results = results[:min(len(results), mostResults)]
		latest.More = len(results) - len(latest.Results)
	}
	return latest
}

// endings returns how the targets of a model ended in a cycle.
func (k *snapshot) endings(m store.ModelID, cycle uint64) []resultWord {
	var all []resultWord
	for id, pair := range k.state.Pairs {
		switch {
		case id.ModelID() != m:
		case pair.Failed != nil && pair.Failed.Cycle == cycle:
			all = append(all, resultWord{id.Target, ending("", pair.Failed.Reason)})
		case pair.Decided != nil && pair.Decided.Cycle == cycle:
			all = append(all, resultWord{id.Target, string(pair.Decided.Verdict.Outcome)})
		}
	}
	slices.SortFunc(all, func(a, b resultWord) int { return cmp.Compare(a.Target, b.Target) })
	return all
}

// countView is how many pairs are in a state, and the link to them alone.
type countView struct {
	State string // "" for all
	N     int
	Query string
	Shown bool // whether these are what is shown
}

// columnView is the head of a column, and the link that sorts by it.
type columnView struct {
	Name, Class string
	Query       string // "" when one cannot sort by it
	Sorted      string // value of aria-sort; "" when it is not sorted by this
}

// groupView is pairs that follow each other and have the same model.
type groupView struct{ Pairs []*pairView }

// Model of the pairs, and Source, the format of the original of the first.
func (g *groupView) Model() string  { return g.Pairs[0].Model() }
func (g *groupView) Source() string { return g.Pairs[0].Source }

// Rows of the table: a failure has one of its own.
func (g *groupView) Rows() int {
	n := len(g.Pairs)
	for _, p := range g.Pairs {
		if p.Pair.Failed != nil {
			n++
		}
	}
	return n
}

func (s *server) statusPage(selected selection) *statusPage {
	k := s.snapshot()
	v := &statusPage{
		frame:        s.frame("", "status", k.now),
		scheduleView: k.schedule(),
		NotReady:     k.notReady,
		Reload:       k.reload,
		Selection:    selected,
		Columns:      selected.columns(),
	}
	v.AllPassedOver = len(k.scheduled.PassedOver)
	v.PassedOver = k.scheduled.PassedOver[:min(v.AllPassedOver, mostPassedOver)]
	v.Token = s.token(k)
	v.Upcoming, v.Latest = v.upcoming(), k.latest()
	if len(k.state.Pairs) == 0 && len(v.Upcoming) > 0 {
		v.FirstRun = v.Upcoming[0].NextRun
	}
	var pairs []*pairView
	for _, m := range k.models() {
		pairs = append(pairs, slices.DeleteFunc(m.Targets, (*pairView).forgotten)...)
	}
	v.Known, v.Counts = len(pairs), selected.counts(pairs)
	pairs = selected.of(pairs)
	s.histories.fill(s.Store, pairs, v.Known, s.Logger)
	for _, p := range pairs {
		if last := len(v.Groups) - 1; last < 0 || v.Groups[last].Model() != p.Model() {
			v.Groups = append(v.Groups, groupView{})
		}
		group := &v.Groups[len(v.Groups)-1]
		group.Pairs = append(group.Pairs, p)
	}
	return v
}

// selection is which pairs are shown, and in which order.
type selection struct {
	Text  string // words that name, formats or entry hold
	State string // a decision, or failed; "" for all
	Sort  string // a key of orders
}

// states of a pair, by which one can select, in the order of the page.
var pairStates = []string{"kept", "rejected", "inconclusive", "undecided", "failed"}

// sortable are the columns: their keys, names, and how pairs are sorted by them.
var sortable = []struct {
	key, name, class string
	direction        string
	order            func(a, b *pairView) int // nil: one cannot sort by it
}{
	{"model", "Model", "model", "ascending", func(a, b *pairView) int { return byID(a.id, b.id) }},
	{"", "Target", "target", "", nil},
	{"decision", "Decision", "decision", "ascending", func(a, b *pairView) int { return cmp.Compare(a.concern(), b.concern()) }},
	{"", "Throughput, tokens/s", "throughput", "", nil},
	{"speed", "Speed", "speeds", "ascending", func(a, b *pairView) int { return -cmp.Compare(a.worst(), b.worst()) }},
	{"size", "Size", "size", "ascending", func(a, b *pairView) int { return cmp.Compare(a.bytes(), b.bytes()) }},
	{"", "History", "history", "", nil},
	{"time", "Last and next run", "ran", "descending", func(a, b *pairView) int { return b.Pair.LastTried().Compare(a.Pair.LastTried()) }},
}

// parseSelection takes what it knows, and leaves out the rest: an address that somebody
// has changed by hand still shows a page.
func parseSelection(values url.Values) selection {
	sel := selection{Text: values.Get("q"), Sort: "model"}
	if state := values.Get("decision"); slices.Contains(pairStates, state) {
		sel.State = state
	}
	for _, column := range sortable {
		if key := values.Get("sort"); key != "" && key == column.key {
			sel.Sort = key
		}
	}
	return sel
}

// query of the page that shows the selection.
func (sel selection) query() string {
	values := url.Values{}
	for name, value := range map[string]string{"q": sel.Text, "decision": sel.State, "sort": sel.Sort} {
		if value != "" && value != "model" {
			values.Set(name, value)
		}
	}
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}

func (sel selection) columns() []columnView {
	var all []columnView
	for _, column := range sortable {
		v := columnView{Name: column.name, Class: column.class}
		if column.order != nil {
			to := sel
			to.Sort = column.key
			v.Query = cmp.Or(to.query(), "?")
		}
		if column.key == sel.Sort && column.order != nil {
			v.Sorted = column.direction
		}
		all = append(all, v)
	}
	return all
}

func (sel selection) counts(pairs []*pairView) []countView {
	all := []countView{{N: len(pairs)}}
	for _, state := range pairStates {
		c := countView{State: state}
		for _, p := range pairs {
			if p.is(state) {
				c.N++
			}
		}
		all = append(all, c)
	}
	for i := range all {
		to := sel
		to.State = all[i].State
		all[i].Query, all[i].Shown = cmp.Or(to.query(), "?"), sel.State == all[i].State
	}
	return all
}

// of returns the pairs that are selected, in order.
func (sel selection) of(pairs []*pairView) []*pairView {
	words := strings.Fields(strings.ToLower(sel.Text))
	selected := slices.DeleteFunc(pairs, func(p *pairView) bool {
		text := strings.ToLower(strings.Join([]string{p.Model(), p.Source, p.Target, p.Entry}, " "))
		for _, word := range words {
			if !strings.Contains(text, word) {
				return true
			}
		}
		return sel.State != "" && !p.is(sel.State)
	})
	for _, column := range sortable {
		if column.key == sel.Sort && column.order != nil {
			slices.SortStableFunc(selected, column.order)
		}
	}
	return selected
}
