package web

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
)

// snapshot is what is known at one moment.
type snapshot struct {
	now       time.Time
	state     *store.State
	scheduled *model.Plan
	status    *dispatch.Status
	next      map[string]time.Time // when entries are due
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
	state, scheduled := s.Store.State(), s.Dispatcher.Plan()
	k := snapshot{
		now:       time.Now(),
		state:     state,
		scheduled: scheduled,
		status:    s.Dispatcher.Status(),
		next:      s.Scheduler.Next(),
		bus:       s.Bus.Status(),
		version:   s.versions.of(state, scheduled),
	}
	if err := s.Exporter.Ready(); err != nil {
		k.notReady = err.Error()
	}
	if at, err := s.Exporter.LastReload(); err != nil {
		k.reload = reloadFailure{k.at(at), err.Error()}
	}
	return k
}

// at returns a moment as it is seen from this one.
func (k *snapshot) at(t time.Time) moment { return moment{t, k.now} }

// versions number the states and plans of this process, as far as somebody sees them.
type versions struct {
	mu    sync.Mutex
	state *store.State
	plan  *model.Plan
	n     uint64
}

func (v *versions) of(state *store.State, scheduled *model.Plan) uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.plan != scheduled || !looksLike(v.state, state) {
		v.n++
	}
	v.state, v.plan = state, scheduled
	return v.n
}

// looksLike reports whether pages and the API show the same of two states; a later state
// shares what it does not change. Most counters are for the metrics alone: while the
// bus is down, each attempt to deliver is a state of its own.
func looksLike(a, b *store.State) bool {
	if a == nil || b == nil || a == b {
		return a == b
	}
	return maps.Equal(a.Pairs, b.Pairs) && maps.Equal(a.Models, b.Models) && slices.Equal(a.Running, b.Running) &&
		a.Outbox == b.Outbox && a.Delivered() == b.Delivered()
}

// token stands for all that pages show, except progress and the passing of time. Tokens of
// another process differ.
func (s *server) token(k snapshot) string {
	sum := fnv.New64a()
	fmt.Fprint(sum, s.began, k.version, k.bus.Configured, k.bus.Up, k.bus.Err, k.notReady, k.reload.At.UnixNano(), k.reload.Error, k.status.Queue, k.status.Entries, k.next)
	fmt.Fprint(sum, k.status.Engine.Up, k.status.Engine.Err, k.status.Engine.Info.String())
	if r := k.status.Running; r != nil {
		fmt.Fprint(sum, r.Entry, r.Started, r.Cycle, r.Model, r.Done, r.Models)
	}
	fmt.Fprint(sum, k.status.Fleet.Up, k.status.Fleet.Err)
	for _, w := range k.status.Fleet.Workers {
		fmt.Fprint(sum, w.Said, w.Up)
	}
	for _, r := range k.status.Remote {
		fmt.Fprint(sum, r.Cycle, r.Host, r.Waiting)
	}
	return fmt.Sprintf("%016x", sum.Sum64())
}
