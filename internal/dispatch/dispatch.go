package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/runner"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// Config is what a reload exchanges.
type Config struct {
	Entries []config.Entry // in the order of the schedule
	Models  Models
	// Runners run the cycles of the entries, each on its entry's engine, by their names.
	Runners map[string]cycle.Runner
	Engine  Engine
	Fleet   Fleet // runs the cycles of entries with classes; nil where no entry has any
}

// Models finds the models and resolves the entries: model.Finder.
type Models interface {
	Plan(last map[string]string) (*model.Plan, error)
}

// Engine reports whether cycles can run: llamacpp.Engines.
type Engine interface {
	Probe(ctx context.Context) (runner.EngineInfo, error)
}

// Store is what must survive: *store.Store.
type Store interface {
	cycle.Store
	Log(cycle uint64) (string, error)
	CountSkipped(entry string, reason store.SkipReason, n uint64) error
	SetAttempt(cycle uint64, n int, begun bool) error
	Withdraw(cycle uint64, targets []string, why store.SkipReason) error
	Hash(id model.FileID) (hash string, known bool)
}

// Dispatcher runs what is due. Its methods are safe for concurrent use.
type Dispatcher struct {
	store  Store
	log    *cycle.Log
	logger *slog.Logger // through log
	cycles *cycle.Cycles
	writes *cycle.Retry
	engine engineWatch
	wake   chan struct{}

	mu       sync.Mutex
	config   Config
	configs  int // how many there have been
	plan     *model.Plan
	lost     error // why there is no newer plan; nil when there is
	queue    []job // by Due
	current  job   // what runs, while running is not nil
	running  *Running
	cancel   context.CancelCauseFunc // of the current cycle; nil between two
	watchers map[chan struct{}]bool

	remote     map[uint64]*remote // cycles that are given to workers, by id
	remoteWake chan struct{}
	following  sync.WaitGroup
}

// job is a run that waits for its turn.
type job struct {
	schedule.Fire
	models []string     // names; nil: all of the entry
	runner cycle.Runner // from next
}

// New makes a Dispatcher, which does nothing before Configure and Run. log takes the logs of
// cycles: everything that works for one has to log through it.
func New(store Store, log *cycle.Log) *Dispatcher {
	logger := slog.New(log)
	writes := cycle.NewRetry(store.CountSkipped, logger)
	return &Dispatcher{
		store:  store,
		log:    log,
		logger: logger,
		cycles: &cycle.Cycles{Store: store, Writes: writes, Log: log},
		writes: writes,
		engine: engineWatch{logger: logger, look: make(chan struct{}, 1)},
		wake:   make(chan struct{}, 1),
		plan:   &model.Plan{},

		watchers: map[chan struct{}]bool{},

		remote:     map[uint64]*remote{},
		remoteWake: make(chan struct{}, 1),
	}
}

// Configure takes a new configuration and the plan made with it. The run that goes on
// keeps its own; what waits of entries that are gone, or suspended, does not run any more.
func (d *Dispatcher) Configure(c Config, p *model.Plan) {
	d.mu.Lock()
	d.config = c
	d.configs++
	d.queue = slices.DeleteFunc(d.queue, func(j job) bool {
		entry, found := c.entry(j.Entry)
		return !found || entry.Suspend && j.Reason != ByHand
	})
	d.planned(p)
	d.reloaded()
	d.mu.Unlock()
	d.engine.again()
}

// planned takes a new plan. d.mu is held.
func (d *Dispatcher) planned(p *model.Plan) {
	d.plan, d.lost = p, nil
	d.changed()
}

func (c Config) entry(name string) (config.Entry, bool) {
	i := slices.IndexFunc(c.Entries, func(e config.Entry) bool { return e.Name == name })
	if i < 0 {
		return config.Entry{}, false
	}
	return c.Entries[i], true
}

// Plan returns the latest one.
func (d *Dispatcher) Plan() *model.Plan {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plan
}

// Due takes a fire of the schedule. It does not wait for the run.
func (d *Dispatcher) Due(f schedule.Fire) {
	skipped, _ := d.enqueue(job{Fire: f})
	for _, skip := range skipped {
		d.writes.Skip(f.Entry, skip, 1)
	}
}

// ByHand is the reason of a run that somebody asked for.
const ByHand schedule.Reason = "by hand"

// RunNow asks for a run of an entry, of the models of these names or, without any, of
// all. It does not wait for the run. The error says why there will be none.
func (d *Dispatcher) RunNow(entry string, models []string) error {
	for _, name := range models {
		if !d.decides(entry, name) {
			return fmt.Errorf("the entry %q does not decide the model %q", entry, name)
		}
	}
	skipped, found := d.enqueue(job{Fire: schedule.Fire{Entry: entry, Due: time.Now(), Reason: ByHand}, models: models})
	switch {
	case !found:
		return fmt.Errorf("there is no entry %q in the schedule", entry)
	case len(skipped) > 0:
		return fmt.Errorf("the entry %q is running already, or waits for its turn", entry)
	}
	return nil
}

// decides reports whether the plan gives a model to an entry.
func (d *Dispatcher) decides(entry, name string) bool {
	for _, resolved := range d.Plan().Entries {
		if resolved.Name == entry {
			return slices.ContainsFunc(resolved.Models, func(m model.Planned) bool { return m.Name == name })
		}
	}
	return false
}

// Cancel ends the cycle if it is the one that runs. The run goes on with its next model.
func (d *Dispatcher) Cancel(id uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.remote[id]; r != nil {
		r.cancel(cycle.ErrCanceled)
		return nil
	}
	if d.cancel == nil || d.running == nil || d.running.Cycle != id {
		return fmt.Errorf("the cycle %d is not running", id)
	}
	d.cancel(cycle.ErrCanceled)
	return nil
}

// CycleLog returns what was logged during a cycle, also of the one that runs; "" when nothing
// is known of it.
func (d *Dispatcher) CycleLog(id uint64) (string, error) {
	if running := d.Status().Running; running != nil && running.Cycle == id {
		return d.log.String(), nil
	}
	d.mu.Lock()
	r := d.remote[id]
	d.mu.Unlock()
	if r != nil {
		return r.log.String(), nil
	}
	return d.store.Log(id)
}

// Watch returns a channel that receives something when Status may have changed, until stop
// is called.
func (d *Dispatcher) Watch() (changes <-chan struct{}, stop func()) {
	watcher := make(chan struct{}, 1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watchers[watcher] = true
	return watcher, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.watchers, watcher)
	}
}

// Notify notifies the watchers of a change that Status gets from elsewhere.
func (d *Dispatcher) Notify() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed()
}

// changed notifies the watchers. d.mu is held.
func (d *Dispatcher) changed() {
	for watcher := range d.watchers {
		select {
		case watcher <- struct{}{}:
		default: // it has yet to look
		}
	}
}

// enqueue says why this fire, or one that has waited for too long, is skipped; found is
// false when the entry is not there any more.
func (d *Dispatcher) enqueue(j job) (skipped []store.SkipReason, found bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	entry, found := d.config.entry(j.Entry)
	if !found { // removed by a reload this very moment
		return nil, false
	}
	queued := slices.IndexFunc(d.queue, func(q job) bool { return q.Entry == j.Entry })
	if queued >= 0 && late(d.queue[queued]) { // it would be dropped, and must not cost the newer one
		d.tooLate(d.queue[queued])
		d.queue = slices.Delete(d.queue, queued, queued+1)
		skipped, queued = append(skipped, store.SkipDeadline), -1
	}
	local := d.running != nil && d.current.Entry == j.Entry
	running := local || d.remoteOf(j.Entry)
	switch {
	case queued >= 0 && j.models == nil && d.queue[queued].models != nil:
		// Some models were asked for by hand, and now all of them are due.
		d.queue = slices.Delete(d.queue, queued, queued+1)
	case queued >= 0, running && entry.Overlap != config.Queue && !(local && d.current.models != nil && j.models == nil):
		if j.Reason != ByHand {
			d.logger.Warn("a run is skipped: an earlier one of the entry is not over", "entry", j.Entry, "due", j.Due)
		}
		return append(skipped, store.SkipOverlap), true
	}
	at := slices.IndexFunc(d.queue, func(q job) bool { return q.Due.After(j.Due) })
	if at < 0 {
		at = len(d.queue)
	}
	d.queue = slices.Insert(d.queue, at, j)
	d.changed()
	d.awake()
	return skipped, true
}

// awake has both loops look at the queue.
func (d *Dispatcher) awake() {
	for _, wake := range []chan struct{}{d.wake, d.remoteWake} {
		select {
		case wake <- struct{}{}:
		default: // it is awake
		}
	}
}

func (d *Dispatcher) tooLate(j job) {
	d.logger.Warn("a run waited longer for its turn than its starting_deadline and is skipped", "entry", j.Entry, "due", j.Due)
}

func late(j job) bool { return !j.Deadline.IsZero() && time.Now().After(j.Deadline) }

// Missed counts a fire that came too late to run at all. The schedule calls it.
func (d *Dispatcher) Missed(entry string, _ time.Time) {
	d.writes.Skip(entry, store.SkipDeadline, 1)
}

// Run runs what is due until the context ends; then the current cycle is cancelled and
// its results are stored before Run returns.
func (d *Dispatcher) Run(ctx context.Context) {
	var background sync.WaitGroup
	background.Go(func() { d.engine.run(ctx, d.probe) })
	background.Go(func() { d.writes.Run(ctx) })
	background.Go(func() { d.runRemote(ctx) })
	defer background.Wait()
	for ctx.Err() == nil {
		next, entry, skipped := d.next()
		d.skipLate(skipped)
		if next != nil {
			d.run(ctx, *next, entry)
			continue
		}
		select {
		case <-ctx.Done():
		case <-d.wake:
		}
	}
}

func (d *Dispatcher) skipLate(skipped []job) {
	for _, j := range skipped {
		d.tooLate(j)
		d.writes.Skip(j.Entry, store.SkipDeadline, 1)
	}
}

// next takes the job of this host whose turn it is, nil when there is none, and those before it
// that have waited for too long and are skipped.
func (d *Dispatcher) next() (next *job, entry config.Entry, skipped []job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next, entry, skipped = d.takeJob(func(e config.Entry) bool { return len(e.On) == 0 })
	if next != nil {
		next.runner = d.config.Runners[next.Entry]
		d.current = *next
		d.running = &Running{Entry: next.Entry, ByHand: next.Reason == ByHand, Due: next.Due, Started: time.Now()}
		d.changed()
	}
	return next, entry, skipped
}

// takeJob takes the first job of an entry that is ready, nil when there is none, and those that
// have waited for too long. d.mu is held.
func (d *Dispatcher) takeJob(ready func(config.Entry) bool) (next *job, entry config.Entry, skipped []job) {
	for i := 0; i < len(d.queue); {
		j := d.queue[i]
		entry, _ := d.config.entry(j.Entry) // Configure sees that it is there
		switch {
		case late(j):
			skipped = append(skipped, j)
		case !ready(entry):
			i++
			continue
		default:
			d.queue = slices.Delete(d.queue, i, i+1)
			return &j, entry, skipped
		}
		d.queue = slices.Delete(d.queue, i, i+1)
	}
	return nil, config.Entry{}, skipped
}

func (d *Dispatcher) probe(ctx context.Context) (runner.EngineInfo, error) {
	d.mu.Lock()
	engine := d.config.Engine
	d.mu.Unlock()
	if engine == nil {
		return runner.EngineInfo{}, runner.Failf(runner.ReasonEngineMissing, "there is no configuration yet")
	}
	return engine.Probe(ctx)
}
