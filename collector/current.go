package collector

import (
	"strconv"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/dispatch"
)

// current adds what goes on at the moment.
func (b *builder) current(l Live) {
	if l.Status != nil {
		if status := l.Status(); status != nil {
			b.status(status)
			if l.Next != nil {
				b.due(status.Entries, l.Next())
			}
		}
	}
	if l.Bus != nil {
		if bus := l.Bus(); bus.Configured {
			b.add(busUp, boolean(bus.Up))
		}
	}
}

func (b *builder) status(s *dispatch.Status) {
	for i := range s.Entries {
		entry := &s.Entries[i]
		b.add(running, boolean(entry.Running), entry.Name)
		b.add(queued, float64(entry.Queued), entry.Name)
	}
	if s.Running != nil && s.Running.Cycle != 0 {
		b.add(progress, s.Running.Ratio, s.Running.Model)
	}
	b.engine(&s.Engine)
}

func (b *builder) due(entries []dispatch.EntryStatus, next map[string]time.Time) {
	for i := range entries {
		b.time(nextRun, next[entries[i].Name], entries[i].Name)
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
