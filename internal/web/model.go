package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// pointsOnPage is how many results of a pair its model's page shows.
const pointsOnPage = 200

// modelPage is what the template of a model's page shows.
type modelPage struct {
	frame
	*modelView
	Entries   []string    // that decide pairs of it
	Serving   []*plotView // pictures of all copies
	Histories []historyView
}

// historyView is a pair and what became of it over time.
type historyView struct {
	*pairView
	ID     string // unique on the page
	Plots  []*plotView
	Points []store.Point // the newest first
}

// model shows the history of a model's pairs.
func (s *server) model(w http.ResponseWriter, r *http.Request) {
	name, class, k := r.URL.Query().Get("name"), r.URL.Query().Get("class"), s.snapshot()
	models := k.models()
	at := slices.IndexFunc(models, func(m *modelView) bool { return m.Name == name && m.Class == class })
	if at < 0 && class == "" { // a link from where classes are not known, such as a dashboard
		if at = slices.IndexFunc(models, func(m *modelView) bool { return m.Name == name }); at >= 0 {
			query := url.Values{"name": {name}, "class": {models[at].Class}}
			http.Redirect(w, r, s.links+"/model?"+query.Encode(), http.StatusFound)
			return
		}
	}
	if at < 0 {
		s.explain(w, r, "No such model", refused(errorNotFound, "the schedule has no model %q, and no results of one are stored", name))
		return
	}
	v := &modelPage{frame: s.frame(text.Name(name), "status", k.now), modelView: models[at]}
	v.Token = s.token(k)
	for i, pair := range v.Targets {
		points, err := s.Store.History(pair.id, pointsOnPage)
		if err != nil {
			s.explain(w, r, "The model cannot be shown", err)
			return
		}
		v.Histories = append(v.Histories, viewHistory(fmt.Sprintf("p%d", i), pair, points))
		if pair.Scheduled && !slices.Contains(v.Entries, pair.Entry) {
			v.Entries = append(v.Entries, pair.Entry)
		}
	}
	v.Serving = servingPlots(v.Targets)
	s.render(w, r, http.StatusOK, "model.html", v)
}

func viewHistory(id string, pair *pairView, points []store.Point) historyView {
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
	if plot := newQualityPlot(id+"-quality", points); plot != nil {
		v.Plots = append(v.Plots, plot)
	}
	for _, p := range slices.Backward(points) {
		v.Points = append(v.Points, p)
	}
	return v
}
