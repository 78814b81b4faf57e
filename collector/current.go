package collector

import (
	"strconv"

	"github.com/quant-exporter/quant-exporter/internal/dispatch"
)

// current adds what goes on at the moment.
func (b *builder) current(from Sources) {
	status, next := from.Dispatcher.Status(), from.Scheduler.Next()
	for i := range status.Entries {
		entry := &status.Entries[i]
		b.add(running, boolean(entry.Running), entry.Name)
		b.add(queued, float64(entry.Queued), entry.Name)
		b.time(nextRun, next[entry.Name], entry.Name)
	}
	for _, r := range status.All() {
		if r.Cycle != 0 && !r.Waiting {
			b.of(r.Class, func() { b.add(progress, r.Ratio, r.Model) })
		}
	}
	b.fleet(status)
	b.engine(&status.Engine)
	if bus := from.Bus.Status(); bus.Configured {
		b.add(busUp, boolean(bus.Up))
	}
}

// fleet adds what workers do, by the classes of entries and of workers.
func (b *builder) fleet(status *dispatch.Status) {
	if !status.Fleet.Configured {
		return
	}
	b.add(fleetUp, boolean(status.Fleet.Up))
	for _, class := range status.Classes() {
		b.add(fleetWorkers, float64(class.Workers), class.Name)
		b.add(fleetRunning, float64(class.Running), class.Name)
		b.add(fleetWaiting, float64(class.Waiting), class.Name)
		b.time(fleetOldest, class.Oldest, class.Name)
	}
}

func (b *builder) engine(e *dispatch.EngineStatus) {
	if e.Checked.IsZero() {
		return
	}
	b.add(engineUp, boolean(e.Up))
	if !e.Up {
		return
	}
	build := "" // the tool does not say
	if e.Info.Build != 0 {
		build = strconv.Itoa(e.Info.Build)
	}
	b.add(engineInfo, 1, e.Info.Version, build, e.Backends, e.CPU, e.GPU)
}
