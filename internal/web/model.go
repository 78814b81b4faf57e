package web

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// pointsOnPage is how many results of a pair its model's page shows.
const pointsOnPage = 200

// modelView is what the template of a model's page shows.
type modelView struct {
	frame
	Model, Link          string
	Entries              []entryRef // that decide pairs of it
	LastRun, LastSuccess moment
	Choice               *choiceView // nil where none is made
	Durations            []factView
	Pairs                []historyView
}

// choiceView is which format is to be served.
type choiceView struct {
	Format, Why string // Format is "" for none
	Since       moment
}

func viewChoice(chosen *store.Choice, now time.Time) *choiceView {
	if chosen == nil {
		return nil
	}
	v := &choiceView{Format: text.Name(chosen.Format), Why: text.Name(chosen.Rule.Superlative()), Since: momentOf(chosen.Since, now)}
	if v.Format == "" {
		v.Why = "because none is kept"
	}
	return v
}

// entryRef is an entry, and its name as a form sends it.
type entryRef struct{ ID, Name string }

// historyView is a pair and what became of it over time.
type historyView struct {
	*pairView
	ID    string // unique on the page
	Plots []*plotView
	Rows  []historyRow // the newest first
}

type historyRow struct {
	Cycle            uint64
	When             moment
	Word             string // a decision, or how it came to none
	Reason           string
	Changed          bool
	Changes          []string // of inputs
	Phases           []phaseView
	Size, Thresholds string
}

// model shows the history of a model's pairs.
func (s *server) model(w http.ResponseWriter, r *http.Request) {
	name, now := r.URL.Query().Get("name"), time.Now()
	k := s.snapshot()
	v := modelView{frame: s.frame(text.Name(name), "status", now), Model: text.Name(name), Link: name}
	v.Token = s.token(k)
	if m := k.state.Models[name]; m != nil {
		v.LastRun, v.LastSuccess = momentOf(m.LastRun, now), momentOf(m.LastSuccess, now)
		v.Durations = durations(m.Durations)
	}
	v.Choice = viewChoice(k.choices()[name], now)
	for _, pair := range viewPairs(k, now) {
		if pair.id.Model != name {
			continue
		}
		points, err := s.Store.History(pair.id, pointsOnPage)
		if err != nil {
			s.Logger.Error("A model is not shown", "model", name, "err", err)
			s.explain(w, r, http.StatusInternalServerError, "The model cannot be shown", err.Error())
			return
		}
		v.Pairs = append(v.Pairs, viewHistory(fmt.Sprintf("p%d", len(v.Pairs)), pair, points, now))
		ref := entryRef{pair.entry, pair.Entry}
		if pair.Scheduled && !slices.Contains(v.Entries, ref) {
			v.Entries = append(v.Entries, ref)
		}
	}
	if len(v.Pairs) == 0 {
		s.explain(w, r, http.StatusNotFound, "No such model", fmt.Sprintf("The schedule names no model %q, and nothing is known of one.", name))
		return
	}
	s.render(w, r, http.StatusOK, "model.html", v)
}

func viewHistory(id string, pair *pairView, points []store.Point, now time.Time) historyView {
	v := historyView{pairView: pair, ID: id}
	var phases []verdict.Phase
	for _, p := range points {
		for _, measured := range p.Phases {
			if !slices.Contains(phases, measured.Phase) {
				phases = append(phases, measured.Phase)
			}
		}
	}
	for _, phase := range phases {
		v.Plots = append(v.Plots, newHistoryPlot(id+"-"+string(phase), points, phase))
	}
	for _, p := range slices.Backward(points) {
		row := historyRow{
			Cycle: p.Cycle, When: momentOf(p.Time, now), Word: string(p.Outcome), Changed: p.Changed,
			Size: fileSize(p.Bytes), Thresholds: text.Threshold(p.Threshold),
			Changes: changeTexts(p.Changes),
		}
		if p.Reason != "" {
			row.Word, row.Reason = failure(p.Reason)
		}
		for _, measured := range p.Phases {
			row.Phases = append(row.Phases, phaseView{
				Name: string(measured.Phase), Original: text.Throughput(measured.Original), Quantized: text.Throughput(measured.Quantized),
				Drop: text.Percent(measured.Drop), Interval: interval(measured.Lower, measured.Upper),
			})
		}
		v.Rows = append(v.Rows, row)
	}
	return v
}
