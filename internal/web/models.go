package web

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/runner"
)

// modelsAnswer is all models, scheduled or known, by name.
type modelsAnswer struct {
	Models []*modelView `json:"models"`
}

type modelView struct {
	store.ModelID
	SourceFormat string        `json:"source_format"` // "" when it is not known
	LastRun      moment        `json:"last_run"`
	LastSuccess  moment        `json:"last_success"`
	Choice       *store.Choice `json:"choice"` // nil where no format is chosen
	Targets      []*pairView   `json:"targets"`

	File      *model.Model                       `json:"-"` // nil for a model that is not in the schedule
	Durations map[runner.Operation]time.Duration `json:"-"` // of its last cycle
}

// pairView is a model and one of its targets.
type pairView struct {
	id        store.PairID
	planned   string       // format of the original in the schedule; "" when it is not known
	file      *model.Model // the original in the schedule; nil when it is not there
	Target    string       `json:"target_format"`
	Scheduled bool         `json:"scheduled"`
	Entry     string       `json:"entry"` // that decides it; "" when none does
	NextRun   moment       `json:"next_run"`
	Known     *store.Pair  `json:"known"` // nil before its first result

	// What only pages show.
	Pair      *store.Pair `json:"-"` // Known, but never nil
	Source    string      `json:"-"` // format of the original; "" when it is not known
	Baseline  bool        `json:"-"` // whether Source is what the original is made in, and not the model's own format
	Against   string      `json:"-"` // the file that is the copy; "" where one is made
	Recipe    string      `json:"-"` // how the copy is made; "" where the target says it
	Threshold float64     `json:"-"`
	Running   bool        `json:"-"` // its cycle goes on
	Suspended bool        `json:"-"` // its entry is
	Chosen    choice.Rule `json:"-"` // by which it is the format to serve; "" when it is not
	History   *sparkView  `json:"-"`
}

// models answers with all models.
func (s *server) models(*http.Request) (any, error) {
	k := s.snapshot()
	return modelsAnswer{orEmpty(k.models())}, nil
}

// models returns all that are scheduled or known, by name, with their pairs by target.
func (k *snapshot) models() []*modelView {
	pairs := k.pairs()
	chosen := k.choices()
	var all []*modelView
	for _, id := range slices.SortedFunc(maps.Keys(pairs), byID) {
		if len(all) == 0 || all[len(all)-1].ModelID != id.ModelID() {
			all = append(all, k.model(id.ModelID(), chosen[id.ModelID()]))
		}
		m, p := all[len(all)-1], pairs[id]
		m.Targets = append(m.Targets, p)
		m.File = cmp.Or(m.File, p.file)
		m.SourceFormat = cmp.Or(p.planned, m.SourceFormat, p.Source)
		if m.Choice != nil && m.Choice.Format == p.Target {
			p.Chosen = m.Choice.Rule
		}
	}
	return all
}

// model has no pairs yet.
func (k *snapshot) model(id store.ModelID, chosen *store.Choice) *modelView {
	m := &modelView{ModelID: id, Choice: chosen}
	if known := k.state.Models[id]; known != nil {
		m.LastRun, m.LastSuccess, m.Durations = k.at(known.LastRun), k.at(known.LastSuccess), known.Durations
	}
	return m
}

// pairs returns all that are scheduled or known.
func (k *snapshot) pairs() map[store.PairID]*pairView {
	pairs := map[store.PairID]*pairView{}
	suspended := map[string]bool{}
	for _, entry := range k.status.Entries {
		suspended[entry.Name] = entry.Suspended
	}
	for _, entry := range k.scheduled.Entries {
		for i := range entry.Models {
			planned := &entry.Models[i]
			for _, target := range planned.Targets {
				p := &pairView{
					planned: planned.SourceFormat(), Source: planned.SourceFormat(), file: &planned.Model,
					id: store.ModelOf(planned).Pair(target), Target: target,
					Scheduled: true, Entry: entry.Name, NextRun: k.at(k.next[entry.Name]),
					Pair: &store.Pair{}, Threshold: entry.Threshold, Suspended: suspended[entry.Name], Recipe: entry.Recipes.How(target),
				}
				p.Baseline = planned.Header != nil && p.Source != planned.Header.Format
				if planned.Against != nil {
					p.Against = planned.Against.Name
				}
				pairs[p.id] = p
			}
		}
	}
	for id, known := range k.state.Pairs {
		if pairs[id] == nil {
			pairs[id] = &pairView{id: id, Target: id.Target}
		}
		p := pairs[id]
		p.Known, p.Pair = known, known
		if decided := known.Decided; decided != nil {
			p.Source, p.Against, p.Recipe, p.Threshold = decided.SourceFormat, decided.Against, decided.Recipe, decided.Threshold
		}
	}
	for _, r := range k.status.All() {
		if r.Waiting { // for a worker
			continue
		}
		for _, target := range r.Targets {
			if p := pairs[store.PairID{Model: r.Model, Target: target, Class: r.Class}]; p != nil {
				p.Running = true
			}
		}
	}
	return pairs
}

// choices returns the formats that were chosen, by model: of a model in the schedule only where
// one is still to be chosen.
func (k *snapshot) choices() map[store.ModelID]*store.Choice {
	chosen, stopped := map[store.ModelID]*store.Choice{}, map[store.ModelID]bool{}
	for _, entry := range k.scheduled.Entries {
		for i := range entry.Models {
			planned := &entry.Models[i]
			id := store.ModelOf(planned)
			before, known := stopped[id]
			stopped[id] = planned.Choose == choice.None && (before || !known)
		}
	}
	for id, known := range k.state.Models {
		if known.Choice != nil && !stopped[id] {
			chosen[id] = known.Choice
		}
	}
	return chosen
}

// modelsOf returns the names of the models that an entry decides.
func (k *snapshot) modelsOf(entry string) []string {
	var all []string
	for _, resolved := range k.scheduled.Entries {
		if resolved.Name == entry {
			for i := range resolved.Models {
				if name := resolved.Models[i].Name; len(all) == 0 || all[len(all)-1] != name { // once for all classes
					all = append(all, name)
				}
			}
		}
	}
	return all
}

func byID(a, b store.PairID) int {
	return cmp.Or(strings.Compare(a.Model, b.Model), strings.Compare(a.Class, b.Class), strings.Compare(a.Target, b.Target))
}
