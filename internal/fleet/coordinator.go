package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/redisconn"
	"github.com/quant-exporter/quant-exporter/internal/store"
)

// Times are how long a fleet waits; the zero value is for use, others for tests.
type Times struct {
	Poll   time.Duration // between two looks at a cycle that a worker has; default 250 ms
	Task   time.Duration // between two looks at its task, before a worker has begun it; default 10 s
	Silent time.Duration // after which a worker is taken for dead; default 60 s
	Cancel time.Duration // for a worker to end a cycle that is canceled; default 20 s
	Beat   time.Duration // between two signs of life of a worker with a cycle; default 2 s
	Ask    time.Duration // between two times that a worker asks what is fresh, until it is answered; default 10 s
	Lead   time.Duration // after which another coordinator gives new cycles; whole seconds, default 30 s
}

func (t Times) withDefaults() Times {
	t.Poll = cmp.Or(t.Poll, 250*time.Millisecond)
	t.Task = cmp.Or(t.Task, 10*time.Second)
	t.Silent = cmp.Or(t.Silent, time.Minute)
	t.Beat = cmp.Or(t.Beat, 2*time.Second)
	t.Cancel = cmp.Or(t.Cancel, 20*time.Second)
	t.Ask = cmp.Or(t.Ask, 10*time.Second)
	t.Lead = cmp.Or(t.Lead, 30*time.Second)
	return t
}

// Coordinator gives cycles to workers by the configuration in force, which a reload exchanges:
// Prepare does all that can fail, Set none of it. Its methods are safe for concurrent use.
type Coordinator struct {
	name    string
	secrets redisconn.Secrets
	logger  *slog.Logger
	times   Times

	mu      sync.Mutex
	link    *link              // nil without a fleet
	endings map[string]*ending // that Redis does not know of yet, by the cycle's name

	status atomic.Pointer[Status]
	leads  atomic.Bool // it gives new cycles, and no other does
}

// Status is what is known of the fleet.
type Status struct {
	// Configured reports whether there is a fleet at all; if not, all else is zero.
	Configured bool
	// Up says that the last look at Redis succeeded, and Err why it did not.
	Up  bool
	Err string
	// Workers are those that were heard of within a day, by class and name.
	Workers []WorkerStatus
}

// WorkerStatus is what is known of a worker.
type WorkerStatus struct {
	Said
	Heard time.Time // when it was last heard of, by the coordinator's clock
	Up    bool      // it was heard of within the last half minute
}

// Said is what a worker says of itself.
type Said struct {
	Name    string    `json:"name"` // unique
	Class   string    `json:"hardware_class"`
	Host    string    `json:"host"`
	Engine  string    `json:"engine"` // "" where it cannot be used
	Error   string    `json:"error,omitempty"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// Entry and Model are of the cycle that it runs; "" when it waits for one.
	Entry string `json:"entry,omitempty"`
	Model string `json:"model_name,omitempty"`
}

// NewCoordinator makes a Coordinator without a fleet, before Set. Its name says to people where it is;
// of coordinators with different names only one gives new cycles.
func NewCoordinator(name string, secrets redisconn.Secrets, times Times, logger *slog.Logger) *Coordinator {
	c := &Coordinator{name: name, secrets: secrets, logger: logger, times: times.withDefaults(), endings: map[string]*ending{}}
	c.status.Store(&Status{})
	return c
}

// Prepared is a way to a fleet that has yet to be put in force.
type Prepared struct{ link *link }

// Prepare makes a way to the fleet of a configuration that redisconn.ValidateFleet accepts, or
// the one in force if nothing has changed. It does not connect; it fails as redisconn.New does.
func (c *Coordinator) Prepare(cfg config.Fleet) (Prepared, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !cfg.Enabled():
		return Prepared{}, nil
	case c.link != nil && reflect.DeepEqual(c.link.config, cfg) && cfg.TLS.CAFile == "":
		return Prepared{c.link}, nil
	}
	l, err := newLink(cfg, c.secrets)
	return Prepared{l}, err
}

// Set puts in force what Prepare returned. Cycles that are followed go on by it.
func (c *Coordinator) Set(p Prepared) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == p.link {
		return
	}
	if c.link != nil {
		c.link.close()
	}
	c.link = p.link
	c.status.Store(&Status{Configured: c.link != nil})
}

// errNoFleet is the error of cycles whose fleet was taken out of the configuration.
var errNoFleet = errors.New("there is no fleet in the configuration any more")

func (c *Coordinator) current() (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil {
		return nil, errNoFleet
	}
	return c.link, nil
}

// Status returns what was known at the last look. It never waits.
func (c *Coordinator) Status() Status { return *c.status.Load() }

// lookEvery is how often the workers are looked at.
const lookEvery = 5 * time.Second

// Run looks at the workers until the context ends; changed is called when there is something
// new. It also tells Redis of the cycles that have ended while it was away, and keeps other
// coordinators from giving cycles once this one has.
func (c *Coordinator) Run(ctx context.Context, changed func()) {
	ticker := time.NewTicker(min(lookEvery, c.times.Lead/3))
	defer ticker.Stop()
	defer c.leave(ctx)
	for ctx.Err() == nil {
		c.look(ctx, changed)
		c.tell(ctx)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// leave lets another coordinator give cycles at once.
func (c *Coordinator) leave(ctx context.Context) {
	l, err := c.current()
	if err != nil || !c.leads.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = l.lead(ctx, c.name, 0) // else it has to wait
}

// ending is the end of a cycle.
type ending struct {
	cycle store.Cycle
	why   string
}

// later has Run tell Redis that a cycle is over.
func (c *Coordinator) later(cycle *store.Cycle, why string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := cycleName(cycle)
	if c.endings[name] == nil {
		c.logger.Warn("Redis does not answer, so that a cycle which is over goes on there; it is ended when Redis answers again", "cycle", cycle.ID, "entry", cycle.Entry, "model", cycle.Model, "class", cycle.Class, "err", err)
	}
	c.endings[name] = &ending{*cycle, why}
}

// tell tells Redis what later has noted, as far as it answers.
func (c *Coordinator) tell(ctx context.Context) {
	c.mu.Lock()
	l, endings := c.link, maps.Clone(c.endings)
	c.mu.Unlock()
	if l == nil {
		return
	}
	for name, e := range endings {
		if _, err := l.takeBack(ctx, &e.cycle, e.why, false); err != nil {
			return
		}
		c.mu.Lock()
		if c.endings[name] == e { // else there is more to tell
			delete(c.endings, name)
		}
		c.mu.Unlock()
	}
}

func (c *Coordinator) look(ctx context.Context, changed func()) {
	l, err := c.current()
	if err != nil {
		return
	}
	before := c.Status()
	next := Status{Configured: true, Up: true}
	if err = l.check(ctx); err == nil {
		next.Workers, err = l.workers(ctx)
	}
	if err == nil && c.leads.Load() {
		var other string
		other, err = l.lead(ctx, c.name, c.times.Lead)
		c.leads.Store(err != nil || other == "") // Redis was away for longer than that
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		next = Status{Configured: true, Err: err.Error(), Workers: down(before.Workers)}
	}
	switch {
	case err != nil && next.Err != before.Err:
		c.logger.Error("the fleet's Redis cannot be used: no cycle is given to workers until it can; those that run go on", "err", err)
	case err == nil && !before.Up:
		c.logger.Info("the fleet's Redis can be used", "workers", len(next.Workers))
	}
	c.status.Store(&next)
	changed()
}

// down returns the workers as they are while nothing is heard of any.
func down(workers []WorkerStatus) []WorkerStatus {
	workers = slices.Clone(workers)
	for i := range workers {
		workers[i].Up = time.Since(workers[i].Heard) < upFor
	}
	return workers
}

const (
	// sayEvery is how often a worker says that it is there.
	sayEvery = 5 * time.Second
	// upFor is how long a worker counts as there after it was heard of.
	upFor = 30 * time.Second
	// forgetAfter is when a worker that is not there any more is forgotten.
	forgetAfter = 24 * time.Hour
)

// workers reads what workers said, and forgets those that are long gone.
func (l *link) workers(ctx context.Context) ([]WorkerStatus, error) {
	keys := l.workersKeys()
	said, err := l.redis.HGetAll(ctx, keys[0]).Result()
	if err != nil {
		return nil, fmt.Errorf("reading the workers: %w", err)
	}
	heard, err := l.redis.HGetAll(ctx, keys[1]).Result()
	if err != nil {
		return nil, fmt.Errorf("reading the workers: %w", err)
	}
	now, err := l.redis.Time(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("reading the workers: %w", err)
	}
	var all []WorkerStatus
	for _, name := range slices.Sorted(maps.Keys(said)) {
		milliseconds, _ := strconv.ParseInt(heard[name], 10, 64)
		age := now.Sub(time.UnixMilli(milliseconds))
		if age > forgetAfter {
			_ = l.redis.HDel(ctx, keys[0], name).Err() // the next look tries again
			_ = l.redis.HDel(ctx, keys[1], name).Err()
			continue
		}
		w := WorkerStatus{Heard: time.Now().Add(-age), Up: age < upFor}
		if json.Unmarshal([]byte(said[name]), &w.Said) != nil || config.CheckClass(w.Class) != nil {
			continue // of another version, or somebody else's
		}
		all = append(all, w)
	}
	slices.SortStableFunc(all, func(a, b WorkerStatus) int { return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.Name, b.Name)) })
	return all, nil
}

// Count returns how many workers of a class are there.
func (s *Status) Count(class string) (n int) {
	for _, w := range s.Workers {
		if w.Up && w.Class == class {
			n++
		}
	}
	return n
}
