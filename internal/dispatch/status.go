package dispatch

import (
	"maps"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Status is what goes on at a moment; nobody changes it, or anything it points to.
type Status struct {
	Running *Running // on this host; nil when nothing runs
	// Remote are the cycles that are given to workers, in the order in which they were.
	Remote  []*Running
	Fleet   fleet.Status
	Queue   []Waiting
	Entries []EntryStatus // in the order of the schedule
	Engine  EngineStatus
}

// Running is the run that goes on.
type Running struct {
	Entry   string
	ByHand  bool // somebody asked for it
	Due     time.Time
	Started time.Time
	Cycle   uint64 // the current one; 0 between two cycles
	Model   string // of the current cycle
	Targets []string
	// Class and Host say where it runs, in a fleet: "" for this host, and before a worker
	// has begun. Waiting says that none has.
	Class, Host string
	Waiting     bool
	// Done and Models count the models of the run.
	Done, Models int
	// Progress of the current cycle.
	Progress runner.Progress
	// Ratio, 0 to 1, of the current cycle that is done, if its next look decides: an
	// estimate, which falls back when it does not.
	Ratio float64
}

// All returns the cycles that go on or are given to workers.
func (s *Status) All() []*Running {
	if s.Running == nil {
		return s.Remote
	}
	return append([]*Running{s.Running}, s.Remote...)
}

// ClassStatus is what goes on with a class of hardware.
type ClassStatus struct {
	Name    string
	Workers int // that are there
	Running int // cycles
	Waiting int
	// Oldest is when the cycle was given that has waited for longest; zero while none waits.
	Oldest time.Time
}

// Classes returns the classes that entries name, or workers have, by name.
func (s *Status) Classes() []ClassStatus {
	classes := map[string]*ClassStatus{}
	of := func(name string) *ClassStatus {
		if classes[name] == nil {
			classes[name] = &ClassStatus{Name: name}
		}
		return classes[name]
	}
	for _, e := range s.Entries {
		for _, class := range e.Classes {
			of(class)
		}
	}
	for _, w := range s.Fleet.Workers {
		if c := of(w.Class); w.Up {
			c.Workers++
		}
	}
	for _, r := range s.Remote {
		c := of(r.Class)
		if !r.Waiting {
			c.Running++
			continue
		}
		c.Waiting++
		if c.Oldest.IsZero() || r.Started.Before(c.Oldest) {
			c.Oldest = r.Started
		}
	}
	var all []ClassStatus
	for _, name := range slices.Sorted(maps.Keys(classes)) {
		all = append(all, *classes[name])
	}
	return all
}

// Waiting is a run that was due and waits for its turn.
type Waiting struct {
	Entry string
	Due   time.Time
	// Until is when it is dropped if it has not begun; zero: never.
	Until time.Time
}

// EntryStatus is the state of one entry of the schedule.
type EntryStatus struct {
	Name      string
	Classes   []string // on whose workers it runs; none for this host
	Suspended bool
	Running   bool
	Queued    int
	// Problems are the patterns of the entry that name nothing, and why, the pairs that it
	// has to leave to an earlier entry, and why models could not be looked for.
	Problems []string
}

// EngineStatus reports whether cycles can run at all.
type EngineStatus struct {
	Checked time.Time // zero before the first look
	Up      bool
	Info    runner.EngineInfo
	// Backends, CPU and GPU as the last measurement reported them; "" before.
	Backends, CPU, GPU string
	Err                string // why it is not up
}

// Status returns what goes on now.
func (d *Dispatcher) Status() *Status {
	engine := d.engine.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &Status{Running: d.running, Engine: engine, Remote: d.remotes()}
	if d.config.Fleet != nil {
		s.Fleet = d.config.Fleet.Status()
	}
	queued, runs := map[string]int{}, map[string]bool{}
	for _, r := range s.Remote {
		if r.Waiting {
			queued[r.Entry]++
		} else {
			runs[r.Entry] = true
		}
	}
	for _, f := range d.queue {
		s.Queue = append(s.Queue, Waiting{Entry: f.Entry, Due: f.Due, Until: f.Deadline})
		queued[f.Entry]++
	}
	problems := map[string][]string{}
	for _, resolved := range d.plan.Entries {
		for _, err := range resolved.Unresolved {
			problems[resolved.Name] = append(problems[resolved.Name], err.Error())
		}
	}
	for _, conflict := range d.plan.Conflicts {
		problems[conflict.Second] = append(problems[conflict.Second], conflict.Error())
	}
	for _, entry := range d.config.Entries {
		if d.lost != nil {
			problems[entry.Name] = append(problems[entry.Name], "looking for models failed, so these are those that were there before: "+d.lost.Error())
		}
		s.Entries = append(s.Entries, EntryStatus{
			Name:      entry.Name,
			Classes:   entry.On,
			Suspended: entry.Suspend,
			Running:   d.running != nil && d.running.Entry == entry.Name || runs[entry.Name],
			Queued:    queued[entry.Name],
			Problems:  problems[entry.Name],
		})
	}
	return s
}
