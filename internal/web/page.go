package web

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
)

// page shows all that is known, as of the request.
func (s *server) page(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, http.StatusOK, "status.html", s.view(parseSelection(r.URL.Query())))
}

// view is what the template of the status page shows.
type view struct {
	frame

	scheduleView

	NotReady string        // what the exporter waits for; "" when it is ready
	Reload   reloadFailure // of the configuration
	Upcoming *entryView    // the entry that is due next; nil when none is
	// FirstRun is when the first decisions are to be made, where there is none yet.
	FirstRun moment

	Selection selection
	Known     int // pairs, whether they are shown or not
	Counts    []countView
	Columns   []columnView
	Shown     int
	Groups    []groupView
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

// groupView is rows that follow each other and are about the same model.
type groupView struct {
	Model string
	Link  string // the model, as it is in the address of its page
	Pairs []*pairView
	Rows  int // of the table: a failure has one of its own
}

// snapshot is what is known at one moment, never nil.
type snapshot struct {
	now       time.Time
	state     *store.State
	scheduled *model.Plan
	status    *dispatch.Status
	bus       a2a.Status
	notReady  string
	reload    reloadFailure
	version   uint64 // of state and plan
}

// reloadFailure is why the last reload of the configuration changed nothing; zero when it
// did not fail.
type reloadFailure struct {
	At    moment
	Error string
}

func (s *server) snapshot() snapshot {
	now, state, scheduled := time.Now(), s.State(), s.Plan()
	k := snapshot{
		now:       now,
		state:     cmp.Or(state, &store.State{}),
		scheduled: cmp.Or(scheduled, &model.Plan{}),
		status:    cmp.Or(s.Status(), &dispatch.Status{}),
		bus:       s.Bus(),
		version:   s.versions.of(state, scheduled),
	}
	if err := s.Ready(); err != nil {
		k.notReady = err.Error()
	}
	if at, err := s.ReloadError(); err != nil {
		k.reload = reloadFailure{k.at(at), err.Error()}
	}
	return k
}

// at is a moment as it is seen from this one.
func (k *snapshot) at(t time.Time) moment { return moment{t, k.now} }

// modelsOf are the names of the models that an entry decides.
func (k *snapshot) modelsOf(entry string) []string {
	var all []string
	for _, resolved := range k.scheduled.Entries {
		if resolved.Name == entry {
			for i := range resolved.Models {
				all = append(all, resolved.Models[i].Name)
			}
		}
	}
	return all
}

// choices are the formats that were chosen, by model: of those in the schedule only where
// it has a format chosen still.
func (k *snapshot) choices() map[string]*store.Choice {
	chosen := map[string]*store.Choice{}
	for name, model := range k.state.Models {
		if model.Choice != nil {
			chosen[name] = model.Choice
		}
	}
	chooses := map[string]bool{}
	for _, entry := range k.scheduled.Entries {
		for i := range entry.Models {
			model := &entry.Models[i]
			chooses[model.Name] = chooses[model.Name] || model.Choose != choice.None
		}
	}
	for name, still := range chooses {
		if !still {
			delete(chosen, name)
		}
	}
	return chosen
}

func (s *server) view(selected selection) *view {
	k := s.snapshot()
	v := &view{
		frame:        s.frame("", "status", k.now),
		scheduleView: k.schedule(),
		NotReady:     k.notReady,
		Reload:       k.reload,
		Selection:    selected,
		Columns:      selected.columns(),
	}
	v.Token = s.token(k)
	v.Upcoming = v.upcoming()
	if len(k.state.Pairs) == 0 && v.Upcoming != nil {
		v.FirstRun = v.Upcoming.NextRun
	}
	pairs := viewPairs(k, k.now)
	pairs = slices.DeleteFunc(pairs, (*pairView).forgotten)
	v.Known, v.Counts = len(pairs), selected.counts(pairs)
	pairs = selected.of(pairs)
	v.Shown = len(pairs)
	s.histories.fill(s.Store, pairs, k.state, s.Logger)
	for _, p := range pairs {
		if last := len(v.Groups) - 1; last < 0 || v.Groups[last].Link != p.id.Model {
			v.Groups = append(v.Groups, groupView{Model: p.Model, Link: p.id.Model})
		}
		group := &v.Groups[len(v.Groups)-1]
		group.Pairs = append(group.Pairs, p)
		if p.Source != group.Pairs[0].Source {
			p.Beside = p.Source
		}
		if group.Rows++; p.Failure != nil {
			group.Rows++
		}
	}
	return v
}

// viewPairs gives every pair that is scheduled or known, by model and target.
func viewPairs(k snapshot, now time.Time) []*pairView {
	next := map[string]time.Time{}
	for _, e := range k.status.Entries {
		next[e.Name] = e.Next
	}
	pairs := map[store.PairID]*pairView{}
	for _, entry := range k.scheduled.Entries {
		for i := range entry.Models {
			model := &entry.Models[i]
			for _, target := range model.Targets {
				v := newPairView(store.PairID{Model: model.Name, Target: target})
				v.Scheduled, v.Entry, v.entry = true, text.Name(entry.Name), entry.Name
				v.Source = text.Name(model.SourceFormat())
				v.Baseline = model.Header != nil && model.SourceFormat() != model.Header.Format
				if model.Against != nil {
					v.Against = text.Name(model.Against.Name)
				}
				v.Threshold = text.Threshold(entry.Threshold)
				v.Next = momentOf(next[entry.Name], now)
				pairs[v.id] = v
			}
		}
	}
	for id, pair := range k.state.Pairs {
		if pairs[id] == nil {
			pairs[id] = newPairView(id)
		}
		pairs[id].fill(pair, now)
	}
	for model, chosen := range k.choices() {
		if v := pairs[store.PairID{Model: model, Target: chosen.Format}]; v != nil {
			v.Chosen = text.Name(chosen.Rule.Superlative())
		}
	}
	if r := k.status.Running; r != nil {
		for _, target := range r.Targets {
			if v := pairs[store.PairID{Model: r.Model, Target: target}]; v != nil {
				v.Running = true
			}
		}
	}
	all := make([]*pairView, 0, len(pairs))
	for _, v := range pairs {
		all = append(all, v)
	}
	slices.SortFunc(all, byName)
	return all
}

func byName(a, b *pairView) int {
	return cmp.Or(strings.Compare(a.id.Model, b.id.Model), strings.Compare(a.id.Target, b.id.Target))
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
	{"model", "Model", "model", "ascending", byName},
	{"", "Target", "target", "", nil},
	{"decision", "Decision", "decision", "ascending", func(a, b *pairView) int { return cmp.Compare(a.concern(), b.concern()) }},
	{"", "Throughput, tokens/s", "throughput", "", nil},
	{"drop", "Drop", "drops", "descending", func(a, b *pairView) int { return -cmp.Compare(a.worst, b.worst) }},
	{"size", "Size", "size", "ascending", func(a, b *pairView) int { return cmp.Compare(a.bytes, b.bytes) }},
	{"", "History", "history", "", nil},
	{"time", "Last and next run", "ran", "descending", func(a, b *pairView) int { return b.last.Compare(a.last) }},
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

// of are the pairs that are selected, in order.
func (sel selection) of(pairs []*pairView) []*pairView {
	words := strings.Fields(strings.ToLower(sel.Text))
	selected := slices.DeleteFunc(pairs, func(p *pairView) bool {
		text := strings.ToLower(strings.Join([]string{p.Model, p.Source, p.Target, p.Entry}, " "))
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
