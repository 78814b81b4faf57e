package web

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/plan"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/store"
)

// page shows all that is known, as of the request.
func (s *server) page(w http.ResponseWriter, _ *http.Request) {
	var html bytes.Buffer
	if err := s.assets.page.Execute(&html, s.view(time.Now())); err != nil {
		s.Logger.Error("The status page failed", "err", err)
		writeText(w, http.StatusInternalServerError, "making the page: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(html.Bytes())
}

// view is what the page's template shows. All text in it is for people: formatted, and
// without control characters.
type view struct {
	Links       string // path that every link begins with
	Style, Icon string // names of the assets
	Version     string
	Made        moment

	NotReady string // what the exporter waits for; "" when it is ready
	Engine   engineView
	Bus      busView
	Running  *runningView
	Queue    []waitingView
	Entries  []entryView
	Pairs    []pairView
	// FirstRun is when the first decisions are to be made, where there is none yet.
	FirstRun moment
}

type engineView struct {
	Checked  moment // zero before the first look
	Up       bool
	Name     string
	Hardware []string // what measurements ran on, as far as it is known
	Error    string
}

type busView struct {
	Configured, Up bool
	Error          string
	Pending        int
	Oldest         moment // zero when nothing is pending
	Held           int
	Published      uint64
}

type runningView struct {
	Entry   string // "" when asked for by hand
	Started moment
	Model   string // "" between two cycles
	Step    string
	Left    string // "" when unknown
	Percent int
	// Of the run.
	Number, Models int
}

type waitingView struct {
	Entry      string
	Due, Until moment // Until is zero when it is never dropped
}

type entryView struct {
	Name     string
	State    string // running, queued, suspended, scheduled
	Next     moment // zero when suspended
	Problems []string
}

func (s *server) view(now time.Time) view {
	state, scheduled, status := cmp.Or(s.State(), &store.State{}), cmp.Or(s.Plan(), &plan.Plan{}), cmp.Or(s.Status(), &dispatch.Status{})
	v := view{
		Links:   s.links,
		Style:   s.assets.names["style.css"],
		Icon:    s.assets.names["icon.svg"],
		Version: report.Name(s.Version),
		Made:    momentOf(now, now),
		Engine:  viewEngine(status.Engine, now),
		Bus:     viewBus(s.Bus(), state, now),
		Running: viewRunning(status.Running, now),
		Entries: viewEntries(status.Entries, scheduled.Conflicts, now),
		Pairs:   viewPairs(state, scheduled, now),
	}
	if err := s.Ready(); err != nil {
		v.NotReady = report.Text(err.Error())
	}
	if len(state.Pairs) == 0 {
		v.FirstRun = momentOf(nextRun(status.Entries), now)
	}
	for _, waiting := range status.Queue {
		v.Queue = append(v.Queue, waitingView{report.Name(waiting.Entry), momentOf(waiting.Due, now), momentOf(waiting.Until, now)})
	}
	return v
}

func viewEngine(e dispatch.EngineStatus, now time.Time) engineView {
	v := engineView{Checked: momentOf(e.Checked, now), Up: e.Up, Name: report.Name(e.Info.String()), Error: report.Text(e.Err)}
	for _, part := range []struct{ label, value string }{{"backends ", e.Backends}, {"", e.CPU}, {"", e.GPU}} {
		if part.value != "" {
			v.Hardware = append(v.Hardware, part.label+report.Name(part.value))
		}
	}
	return v
}

func viewBus(bus BusStatus, state *store.State, now time.Time) busView {
	return busView{
		Configured: bus.Configured,
		Up:         bus.Up,
		Error:      report.Text(bus.Error),
		Pending:    state.Outbox.Pending,
		Oldest:     momentOf(state.Outbox.OldestPending, now),
		Held:       state.Outbox.Held,
		Published:  state.Counters.Published,
	}
}

func viewRunning(r *dispatch.Running, now time.Time) *runningView {
	if r == nil {
		return nil
	}
	v := &runningView{
		Entry:   report.Name(r.Entry),
		Started: momentOf(r.Started, now),
		Model:   report.Name(r.Model),
		Step:    step(r),
		Percent: int(min(max(r.Ratio, 0), 1) * 100),
		Number:  min(r.Done+1, r.Models),
		Models:  r.Models,
	}
	if left := r.Progress.Left; left > 0 && r.Waiting == "" {
		v.Left = span(left)
	}
	return v
}

// step says what a run does at the moment.
func step(r *dispatch.Running) string {
	if r.Waiting != "" {
		return "waiting for " + report.Text(r.Waiting)
	}
	parts := []string{string(r.Progress.Operation), r.Progress.Target, string(r.Progress.Stage), r.Progress.Detail}
	parts = slices.DeleteFunc(parts, func(part string) bool { return part == "" })
	return report.Name(strings.Join(parts, ", "))
}

func viewEntries(entries []dispatch.EntryStatus, conflicts []plan.Conflict, now time.Time) []entryView {
	var all []entryView
	for _, e := range entries {
		v := entryView{Name: report.Name(e.Name), State: "scheduled", Next: momentOf(e.Next, now)}
		switch {
		case e.Running:
			v.State = "running"
		case e.Queued > 0:
			v.State = "queued"
		case e.Suspended:
			v.State = "suspended"
		}
		for _, problem := range e.Problems {
			v.Problems = append(v.Problems, report.Text(problem))
		}
		for _, conflict := range conflicts {
			if conflict.Second == e.Name {
				v.Problems = append(v.Problems, report.Text(conflict.Error()))
			}
		}
		all = append(all, v)
	}
	return all
}

// nextRun of all entries; zero when none is to come.
func nextRun(entries []dispatch.EntryStatus) time.Time {
	var next time.Time
	for _, e := range entries {
		if next.IsZero() || !e.Next.IsZero() && e.Next.Before(next) {
			next = e.Next
		}
	}
	return next
}

// viewPairs gives every pair that is scheduled or known, by model and target.
func viewPairs(state *store.State, scheduled *plan.Plan, now time.Time) []pairView {
	pairs := map[store.PairID]*pairView{}
	for _, entry := range scheduled.Entries {
		for i := range entry.Models {
			model := &entry.Models[i]
			for _, target := range model.Targets {
				v := newPairView(store.PairID{Model: model.Name, Target: target})
				v.Scheduled = true
				v.Source = report.Name(model.SourceFormat())
				v.Threshold = report.Threshold(entry.Threshold)
				pairs[v.id] = v
			}
		}
	}
	for id, pair := range state.Pairs {
		if pairs[id] == nil {
			pairs[id] = newPairView(id)
		}
		pairs[id].fill(pair, now)
	}
	all := make([]pairView, 0, len(pairs))
	for _, v := range pairs {
		all = append(all, *v)
	}
	slices.SortFunc(all, func(a, b pairView) int {
		return cmp.Or(cmp.Compare(a.id.Model, b.id.Model), cmp.Compare(a.id.Target, b.id.Target))
	})
	return all
}

// moment is a point in time; the zero one is shown as nothing.
type moment struct {
	Machine  string // for programs
	Text     string // in UTC: reader and host may live in different zones
	Relative string // "in 5 h"
}

func momentOf(t, now time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	t = t.UTC()
	m := moment{Machine: t.Format(time.RFC3339), Text: t.Format("2006-01-02 15:04:05 UTC")}
	switch d := t.Sub(now); {
	case d.Abs() < time.Second:
		m.Relative = "now"
	case d > 0:
		m.Relative = "in " + span(d)
	default:
		m.Relative = span(-d) + " ago"
	}
	return m
}

// span writes a duration in the largest unit that it has at least two of, so that it is
// never off by half.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", max(d/time.Second, 1))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	default:
		return fmt.Sprintf("%d days", d/day)
	}
}
