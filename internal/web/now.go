package web

import (
	"time"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
)

type engineView struct {
	Checked  moment // zero before the first look
	Up       bool
	Name     string
	Hardware []string // what measurements ran on, as far as it is known
	Error    string
}

// reloadView says that the configuration in force is not the one in the file.
type reloadView struct {
	At    moment
	Error string // "" when it is
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
	Entry   string
	ByHand  bool // somebody asked for it
	Started moment
	Cycle   uint64 // 0 between two cycles
	Model   string // "" between two cycles
	Link    string // query of the model's page
	Targets []string
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
	ID       string // the name, as a form sends it
	Name     string
	State    string // running, queued, suspended, scheduled
	Next     moment // zero when suspended
	Models   int
	Targets  []string
	Against  string // the file in place of copies; "" without one
	Baseline string // "" without one
	Problems []string
}

func viewEngine(e dispatch.EngineStatus, now time.Time) engineView {
	v := engineView{Checked: momentOf(e.Checked, now), Up: e.Up, Name: text.Name(e.Info.String()), Error: text.Text(e.Err)}
	for _, part := range []struct{ label, value string }{{"backends ", e.Backends}, {"", e.CPU}, {"", e.GPU}} {
		if part.value != "" {
			v.Hardware = append(v.Hardware, part.label+text.Name(part.value))
		}
	}
	return v
}

func viewBus(bus a2a.Status, state *store.State, now time.Time) busView {
	return busView{
		Configured: bus.Configured,
		Up:         bus.Up,
		Error:      text.Text(bus.Err),
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
	return &runningView{
		Entry:   text.Name(r.Entry),
		ByHand:  r.ByHand,
		Started: momentOf(r.Started, now),
		Cycle:   r.Cycle,
		Model:   text.Name(r.Model),
		Link:    r.Model,
		Targets: names(r.Targets),
		Step:    r.Progress.Text(),
		Left:    r.Progress.Remaining(),
		Percent: int(min(max(r.Ratio, 0), 1) * 100),
		Number:  min(r.Done+1, r.Models),
		Models:  r.Models,
	}
}

func names(all []string) []string {
	var readable []string
	for _, name := range all {
		readable = append(readable, text.Name(name))
	}
	return readable
}

func viewQueue(queue []dispatch.Waiting, now time.Time) []waitingView {
	var all []waitingView
	for _, waiting := range queue {
		all = append(all, waitingView{text.Name(waiting.Entry), momentOf(waiting.Due, now), momentOf(waiting.Until, now)})
	}
	return all
}

func viewEntries(entries []dispatch.EntryStatus, scheduled *model.Plan, now time.Time) []entryView {
	var all []entryView
	for _, e := range entries {
		v := entryView{ID: e.Name, Name: text.Name(e.Name), State: entryState(e), Next: momentOf(e.Next, now)}
		for _, problem := range e.Problems {
			v.Problems = append(v.Problems, text.Text(problem))
		}
		for _, resolved := range scheduled.Entries {
			if resolved.Name == e.Name {
				v.Models, v.Targets = len(resolved.Models), names(resolved.Targets)
				v.Against, v.Baseline = text.Name(resolved.Against), text.Name(resolved.Baseline)
			}
		}
		all = append(all, v)
	}
	return all
}

func entryState(e dispatch.EntryStatus) string {
	switch {
	case e.Running:
		return "running"
	case e.Queued > 0:
		return "queued"
	case e.Suspended:
		return "suspended"
	default:
		return "scheduled"
	}
}

// upcoming is the entry that is due next; nil when none is to come.
func upcoming(entries []entryView) *entryView {
	var first *entryView
	for i := range entries {
		next := entries[i].Next.Machine // whose order is that of time
		if next != "" && (first == nil || next < first.Next.Machine) {
			first = &entries[i]
		}
	}
	return first
}
