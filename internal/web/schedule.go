package web

import (
	"net/http"
	"slices"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/runner"
)

// scheduleView is the schedule and what it works with.
type scheduleView struct {
	Entries []entryView   `json:"entries"` // in the order of the configuration
	Running *runningView  `json:"running"` // nil when nothing runs
	Queue   []waitingView `json:"queue"`   // in the order in which they begin
	Engine  engineView    `json:"engine"`
	Bus     busView       `json:"bus"`
	Fleet   *fleetView    `json:"fleet,omitempty"` // nil without one
}

// fleetView is what workers on other hosts do.
type fleetView struct {
	Up      bool           `json:"up"`
	Error   string         `json:"error,omitempty"`
	Workers []workerView   `json:"workers"`
	Cycles  []*runningView `json:"cycles"` // that are given to workers, in the order in which they were
}

type workerView struct {
	fleet.Said
	Heard moment `json:"heard"`
	Up    bool   `json:"up"` // heard of within the last half minute
}

type entryView struct {
	Name      string      `json:"name"`
	State     string      `json:"state"`    // running, queued, suspended, scheduled
	NextRun   moment      `json:"next_run"` // zero when suspended
	Threshold float64     `json:"threshold_ratio"`
	Choose    choice.Rule `json:"choose"` // "" chooses no format
	Targets   []string    `json:"target_formats"`
	Against   string      `json:"against,omitempty"`  // file in place of copies
	Baseline  string      `json:"baseline,omitempty"` // format of the originals, where that is not the models' own
	Models    []string    `json:"model_names"`
	Problems  []string    `json:"problems"`
}

// runningView is the run that goes on.
type runningView struct {
	Entry     string           `json:"entry"`
	ByHand    bool             `json:"-"` // somebody asked for it
	Started   moment           `json:"started"`
	Cycle     uint64           `json:"cycle"`      // 0 between two cycles
	Model     string           `json:"model_name"` // of the cycle
	Class     string           `json:"hardware_class,omitempty"`
	Host      string           `json:"host,omitempty"`    // of the worker that has begun it
	Waiting   bool             `json:"waiting,omitempty"` // no worker has
	Targets   []string         `json:"target_formats"`
	Done      int              `json:"models_done"`
	Models    int              `json:"models"`
	Operation runner.Operation `json:"operation"`
	Ratio     float64          `json:"progress_ratio"` // of the cycle, if its next look decides
	// For people.
	Step    string `json:"step"`
	Left    string `json:"left"` // "" when it is not known
	Percent int    `json:"percent"`
}

type waitingView struct {
	Entry string `json:"entry"`
	Due   moment `json:"due"`
	Until moment `json:"until"` // when it is dropped if it has not begun; zero: never
}

type engineView struct {
	Checked  moment             `json:"checked"` // zero before the first look
	Up       bool               `json:"up"`
	Error    string             `json:"error,omitempty"`
	Info     *runner.EngineInfo `json:"info"` // nil when it is not up
	Backends string             `json:"-"`    // this and the next two as the last measurement reported them
	CPU      string             `json:"-"`
	GPU      string             `json:"-"`
}

type busView struct {
	Configured bool   `json:"configured"`
	Up         bool   `json:"up"`
	Error      string `json:"error,omitempty"`
	Pending    int    `json:"events_pending"`
	Oldest     moment `json:"-"` // zero when nothing is pending
	Held       int    `json:"events_held"`
	Delivered  uint64 `json:"events_published"`
}

// schedule answers with the schedule.
func (s *server) schedule(*http.Request) (any, error) {
	k := s.snapshot()
	return k.schedule(), nil
}

func (k *snapshot) schedule() scheduleView {
	engine := k.status.Engine
	v := scheduleView{
		Entries: []entryView{},
		Running: k.running(),
		Queue:   []waitingView{},
		Engine: engineView{
			Checked: k.at(engine.Checked), Up: engine.Up, Error: engine.Err,
			Backends: engine.Backends, CPU: engine.CPU, GPU: engine.GPU,
		},
		Bus: busView{
			Configured: k.bus.Configured, Up: k.bus.Up, Error: k.bus.Err,
			Pending: k.state.Outbox.Pending, Oldest: k.at(k.state.Outbox.OldestPending),
			Held: k.state.Outbox.Held, Delivered: k.state.Delivered(),
		},
	}
	if engine.Up {
		v.Engine.Info = &engine.Info
	}
	v.Fleet = k.fleet()
	for _, e := range k.status.Entries {
		v.Entries = append(v.Entries, k.entry(e))
	}
	for _, waiting := range k.status.Queue {
		v.Queue = append(v.Queue, waitingView{waiting.Entry, k.at(waiting.Due), k.at(waiting.Until)})
	}
	return v
}

func (k *snapshot) entry(e dispatch.EntryStatus) entryView {
	v := entryView{Name: e.Name, State: "scheduled", NextRun: k.at(k.next[e.Name]), Targets: []string{}, Models: orEmpty(k.modelsOf(e.Name)), Problems: orEmpty(e.Problems)}
	switch {
	case e.Running:
		v.State = "running"
	case e.Queued > 0:
		v.State = "queued"
	case e.Suspended:
		v.State = "suspended"
	}
	for _, resolved := range k.scheduled.Entries {
		if resolved.Name == e.Name {
			v.Threshold, v.Targets, v.Choose = resolved.Threshold, orEmpty(resolved.Targets), resolved.Choose
			v.Against, v.Baseline = resolved.Against, resolved.Baseline
		}
	}
	return v
}

// Idle reports whether the entry is due and has no model to take, which is not known before
// the exporter is ready.
func (v *entryView) Idle(notReady string) bool {
	return v.State == "scheduled" && len(v.Models) == 0 && notReady == ""
}

// running is nil when nothing runs.
func (k *snapshot) running() *runningView {
	if k.status.Running == nil {
		return nil
	}
	return k.viewRunning(k.status.Running)
}

// runningCycle returns a cycle that goes on, here or on a worker; nil for another.
func (k *snapshot) runningCycle(id uint64) *runningView {
	for _, r := range k.status.All() {
		if r.Cycle == id {
			return k.viewRunning(r)
		}
	}
	return nil
}

func (k *snapshot) viewRunning(r *dispatch.Running) *runningView {
	return &runningView{
		Class: r.Class, Host: r.Host, Waiting: r.Waiting,
		Entry: r.Entry, ByHand: r.ByHand, Started: k.at(r.Started), Cycle: r.Cycle, Model: r.Model, Targets: orEmpty(r.Targets),
		Done: r.Done, Models: r.Models, Operation: r.Progress.Operation, Ratio: r.Ratio,
		Step: r.Progress.Text(), Left: r.Progress.Remaining(), Percent: int(min(max(r.Ratio, 0), 1) * 100),
	}
}

// fleet is nil without a fleet.
func (k *snapshot) fleet() *fleetView {
	status := &k.status.Fleet
	if !status.Configured {
		return nil
	}
	v := &fleetView{Up: status.Up, Error: status.Err, Workers: []workerView{}, Cycles: []*runningView{}}
	for _, w := range status.Workers {
		v.Workers = append(v.Workers, workerView{w.Said, k.at(w.Heard), w.Up})
	}
	for _, r := range k.status.Remote {
		v.Cycles = append(v.Cycles, k.viewRunning(r))
	}
	return v
}

// Number is which model of the run it is, counted from 1.
func (v *runningView) Number() int { return min(v.Done+1, v.Models) }

// Hardware returns what measurements ran on, as far as it is known.
func (v *engineView) Hardware() []string {
	var all []string
	for _, part := range []struct{ label, value string }{{"backends ", v.Backends}, {"", v.CPU}, {"", v.GPU}} {
		if part.value != "" {
			all = append(all, part.label+text.Name(part.value))
		}
	}
	return all
}

// maxUpcoming entries are named.
const maxUpcoming = 3

// upcoming returns the entries that are due next, the first one first.
func (v *scheduleView) upcoming() []*entryView {
	var due []*entryView
	for i := range v.Entries {
		if !v.Entries[i].NextRun.IsZero() {
			due = append(due, &v.Entries[i])
		}
	}
	slices.SortStableFunc(due, func(a, b *entryView) int { return a.NextRun.Compare(b.NextRun.Time) })
	return due[:min(len(due), maxUpcoming)]
}

// orEmpty gives JSON an empty list for none.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
