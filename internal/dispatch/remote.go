package dispatch

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Fleet gives cycles to workers: *fleet.Coordinator.
type Fleet interface {
	Give(ctx context.Context, order fleet.Order, request runner.Request, emit func(runner.Result)) error
	End(ctx context.Context, cycle *store.Cycle) error
	TakeBack(ctx context.Context, cycle *store.Cycle) (bool, error)
	Status() fleet.Status
}

// remote is a cycle that is given to a worker.
type remote struct {
	running *Running // exchanged, never changed
	cancel  context.CancelCauseFunc
	log     *cycle.Log
	entry   config.Entry // by which it was given
	again   func()       // has it given again, by the entry as it is then
}

// reloaded has the cycles given again that wait for a worker, and whose entry has changed or is
// gone. d.mu is held.
func (d *Dispatcher) reloaded() {
	for _, r := range d.remote {
		entry, known := d.config.entry(r.running.Entry)
		if r.running.Waiting && r.again != nil && (!known || entry.Suspend || !reflect.DeepEqual(entry, r.entry)) {
			r.again()
		}
	}
}

// remoteOf reports whether a cycle of the entry is given to a worker. d.mu is held.
func (d *Dispatcher) remoteOf(entry string) bool {
	for _, r := range d.remote {
		if r.running.Entry == entry {
			return true
		}
	}
	return false
}

// otherRemote returns another entry of which a worker has a cycle for the same hardware that is
// to decide a target of the model too; "" for none.
func (d *Dispatcher) otherRemote(entry string, m model.Planned) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.remotes() {
		same := func(target string) bool { return slices.Contains(m.Targets, target) }
		if r.Entry != entry && r.Model == m.Name && r.Class == m.Class && slices.ContainsFunc(r.Targets, same) {
			return r.Entry
		}
	}
	return ""
}

// remotes returns the cycles that are given to workers. d.mu is held.
func (d *Dispatcher) remotes() []*Running {
	var all []*Running
	for _, id := range slices.Sorted(maps.Keys(d.remote)) {
		all = append(all, d.remote[id].running)
	}
	return all
}

// runRemote gives what is due to workers until the context ends, beginning with what an
// earlier process had given. It leaves what goes on then to the next process.
func (d *Dispatcher) runRemote(ctx context.Context) {
	defer d.following.Wait()
	for _, c := range d.store.State().Running {
		if c.Class != "" {
			d.resume(ctx, *c)
		}
	}
	for ctx.Err() == nil {
		next, entry, skipped := d.nextRemote()
		d.skipLate(skipped)
		if next != nil {
			d.give(ctx, *next, entry)
			continue
		}
		select {
		case <-ctx.Done():
		case <-d.remoteWake:
		}
	}
}

// nextRemote is next for the entries whose cycles run elsewhere, each when no cycle of it goes
// on any more.
func (d *Dispatcher) nextRemote() (next *job, entry config.Entry, skipped []job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next, entry, skipped = d.takeJob(func(e config.Entry) bool { return len(e.On) > 0 && !d.remoteOf(e.Name) })
	if next != nil {
		d.changed()
	}
	return next, entry, skipped
}

// give gives the cycles of one fire to workers, a model and a class each, and does not wait for
// them.
func (d *Dispatcher) give(ctx context.Context, job job, entry config.Entry) {
	logger := d.logger.With("entry", job.Entry)
	logger.Info("a run is given to workers", "due", job.Due, "reason", job.Reason, "classes", entry.On)
	models, discovering := d.modelsOf(job, logger)
	cycles := &cycle.Cycles{Store: d.store, Writes: d.writes}
	for _, m := range models {
		if other := d.otherRemote(entry.Name, m); other != "" { // as after a reload that has renamed an entry
			logger.Warn("a model is skipped: a cycle of another entry, which workers have, decides it", "model", m.Name, "class", m.Class, "other", other)
			d.writes.Skip(entry.Name, store.SkipOverlap, 1)
			continue
		}
		given := cycle.NewJob(entry, m, nil, discovering)
		given.Due = job.Due
		c, err := cycles.Record(ctx, given, store.Cycle{Ticket: rand.Text(), ByHand: job.Reason == ByHand, Started: time.Now(), Until: job.Deadline})
		if err != nil {
			logger.Warn("the run ends early", "err", err)
			return
		}
		d.follow(ctx, c, given, entry)
	}
}

// entryOf returns the entry of a cycle as it is now, or, where it is gone, one by which the cycle's
// results still count. d.mu is held.
func (d *Dispatcher) entryOf(name string) (entry config.Entry, known bool) {
	entry, known = d.config.entry(name)
	if !known {
		entry = config.Entry{Settings: config.DefaultSettings(), Engine: config.DefaultEngine()}
		entry.Name = name
	}
	return entry, known
}

// resume goes on with a cycle that an earlier process has given.
func (d *Dispatcher) resume(ctx context.Context, c store.Cycle) {
	d.mu.Lock()
	entry, _ := d.entryOf(c.Entry)
	d.mu.Unlock()
	planned := model.Planned{Model: model.Model{Name: c.Model}}
	for _, resolved := range d.Plan().Entries {
		for _, m := range resolved.Models {
			if resolved.Name == c.Entry && m.Name == c.Model && m.Class == c.Class {
				planned = m
			}
		}
	}
	planned.Targets, planned.Class, planned.Choose = c.Undecided, c.Class, c.Choose
	d.logger.Info("a cycle that was given to a worker is followed again", "cycle", c.ID, "entry", c.Entry, "model", c.Model, "class", c.Class, "attempt", c.Attempt)
	job := cycle.NewJob(entry, planned, nil, 0)
	job.Candidates = c.Candidates
	d.follow(ctx, c, job, entry)
}

// follow follows a recorded cycle to its end, beside others.
func (d *Dispatcher) follow(ctx context.Context, c store.Cycle, job cycle.Job, entry config.Entry) {
	job.Due = c.Due
	followed, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(fleet.ErrLeft) })
	r := &remote{
		cancel: cancel, log: d.log.Another(),
		running: &Running{
			Entry: c.Entry, ByHand: c.ByHand, Due: c.Due, Started: c.Started, Cycle: c.ID,
			Model: c.Model, Targets: job.Targets, Class: c.Class, Waiting: true, Models: 1,
		},
	}
	d.mu.Lock()
	d.remote[c.ID] = r
	d.changed()
	d.mu.Unlock()
	d.following.Go(func() {
		defer stop()
		defer cancel(nil)
		d.followed(ctx, followed, r, c, job, entry)
		d.mu.Lock()
		delete(d.remote, c.ID)
		d.changed()
		d.mu.Unlock()
		d.awake()
	})
}

// storeAgain is how long a cycle waits whose progress could not be stored.
const storeAgain = 15 * time.Second

// followed is follow, to the end, or until the exporter stops.
func (d *Dispatcher) followed(exporter, ctx context.Context, r *remote, c store.Cycle, job cycle.Job, entry config.Entry) {
	if timeout := time.Duration(entry.Timeout); timeout > 0 {
		left := max(time.Until(c.Started.Add(timeout)), time.Nanosecond)
		var cancel context.CancelFunc
		ctx, cancel = cycle.WithTimeout(ctx, entry.Name, left)
		defer cancel()
	}
	logger := slog.New(r.log).With("cycle", c.ID, "entry", c.Entry, "model", c.Model, "class", c.Class)
	order := fleet.Order{
		Cycle: c, Engine: entry.Engine, SHA256: d.hash(job.Model), Logger: logger, Log: r.log.Append,
		Started: c.Begun || len(c.Undecided) < len(c.Targets), // of this attempt Redis knows
	}
	order.Attempt = func(n int) error {
		err := d.store.SetAttempt(c.ID, n, order.Started)
		if err == nil {
			c.Attempt = n
		}
		return err
	}
	order.Begun = func(host string) {
		order.Started = order.Started || host != ""
		d.updateRemote(r, func(now *Running) { now.Host, now.Waiting = host, host == "" })
	}
	decided := func(targets ...string) { // they are not asked for again
		job.Targets = slices.DeleteFunc(slices.Clone(job.Targets), func(target string) bool { return slices.Contains(targets, target) })
	}
	cycles := &cycle.Cycles{Store: d.store, Writes: d.writes, Log: r.log}
	// withdraw withdraws what is left. A cycle that has results ends with these.
	withdraw := func(why store.SkipReason) {
		d.withdraw(&c, job.Targets, why)
		if len(job.Targets) == len(c.Targets) {
			return // all: it is forgotten
		}
		job.Targets = nil
		_, _ = cycles.Follow(ctx, c.ID, job, func(context.Context, runner.Request, func(runner.Result)) error { return nil }, shownRemote{d, r})
	}
	fresh := func(on fleet.Inputs) []string {
		asked := job
		asked.Runner, asked.Model.Err = knownInputs(on.Inputs), nil // as it is on the worker
		if on.Cannot != "" {
			asked.Model.Err = errors.New(on.Cannot)
		}
		_, fresh, failing := cycles.Stale(ctx, asked, nil)
		return append(fresh, failing...)
	}
	order.Withdraw = func(targets []string) {
		logger.Info("targets are skipped: nothing that they depend on has changed since they were decided, or failed", "targets", targets, "fresh_for", job.FreshFor, "retry_after", store.RetryFailed)
		d.withdraw(&c, targets, store.SkipUnchanged)
		decided(targets...)
		c.Targets = slices.DeleteFunc(slices.Clone(c.Targets), func(target string) bool { return slices.Contains(targets, target) })
	}
	for {
		order.Cycle, order.Fresh = c, nil
		if !c.ByHand && cycles.MayRest(job) {
			order.Fresh = fresh
		}
		following, leave := context.WithCancelCause(ctx)
		d.mu.Lock()
		r.entry, r.again = entry, func() { leave(fleet.ErrLeft) }
		if now, _ := d.entryOf(c.Entry); !reflect.DeepEqual(now, entry) { // a reload has come before that
			r.again()
		}
		d.mu.Unlock()
		_, err := cycles.Follow(following, c.ID, job, func(ctx context.Context, request runner.Request, emit func(runner.Result)) error {
			d.mu.Lock()
			given := d.config.Fleet
			d.mu.Unlock()
			if given == nil {
				return errors.New("there is no fleet")
			}
			passedOver := request.PassedOver
			request.PassedOver = func(by string, targets []string) {
				passedOver(by, targets)
				decided(targets...)
			}
			return given.Give(ctx, order, request, func(result runner.Result) {
				emit(result)
				decided(result.TargetFormat)
			})
		}, shownRemote{d, r})
		leave(nil)
		switch {
		case errors.Is(err, fleet.ErrLeft) && ctx.Err() == nil: // for a reload
			if !d.regive(exporter, ctx, &c, &job, &entry, &order, withdraw, logger) {
				return
			}
			continue
		case err == nil:
			d.endRemote(exporter, &c, logger)
			logger.Info("a worker has done a cycle", "attempt", c.Attempt, "took", time.Since(c.Started).Round(time.Millisecond))
			return
		case errors.Is(err, fleet.ErrLeft):
			return
		case errors.Is(err, fleet.ErrFresh):
			d.endRemote(exporter, &c, logger)
			return
		case errors.Is(err, fleet.ErrLate):
			logger.Warn("a cycle is withdrawn: no worker of its class has begun it within its starting_deadline", "due", c.Due)
			withdraw(store.SkipDeadline)
			return
		case errors.Is(err, fleet.ErrForeign):
			logger.Error("a cycle is withdrawn", "err", err)
			withdraw(store.SkipConflict)
			return
		}
		logger.Error("a cycle cannot be followed; it is tried again", "retry_in", storeAgain, "err", err)
		canceled := ctx.Done()
		if ctx.Err() != nil { // it has failed in spite of that
			canceled = nil
		}
		select {
		case <-exporter.Done():
			return
		case <-canceled:
		case <-time.After(storeAgain):
		}
	}
}

// regive prepares a cycle that waits for a worker to be given again, by its entry as it is after
// a reload. It reports whether there is anything to follow: the cycle of an entry that is gone
// or suspended is taken back, unless a worker has begun it.
func (d *Dispatcher) regive(exporter, ctx context.Context, c *store.Cycle, job *cycle.Job, entry *config.Entry, order *fleet.Order, withdraw func(store.SkipReason), logger *slog.Logger) bool {
	var now config.Entry
	var known, taken bool
	for { // while Redis is away, nobody knows whether a worker has it
		d.mu.Lock()
		now, known = d.entryOf(c.Entry)
		given := d.config.Fleet
		d.mu.Unlock()
		if given == nil {
			return true
		}
		var err error
		if taken, err = given.TakeBack(ctx, c); err == nil {
			break
		}
		logger.Warn("a cycle that waits for a worker cannot be taken back after a reload; it is tried again", "retry_in", storeAgain, "err", err)
		select {
		case <-ctx.Done():
			return true
		case <-time.After(storeAgain):
		}
	}
	switch {
	case !taken: // it is followed as it was given
		d.mu.Lock()
		*entry = now
		d.mu.Unlock()
		return true
	case !known || now.Suspend && !c.ByHand || !slices.Contains(now.On, c.Class):
		logger.Info("a cycle that no worker has begun is taken back: its entry is gone or suspended")
		withdraw("")
		return false
	}
	logger.Info("a cycle that no worker has begun is given again, by its entry as it is now")
	job.Settings, job.AllowRequantize, order.Engine, *entry = now.Settings, now.AllowRequantize, now.Engine, now
	// The attempt before is over in Redis: there is none to go on with.
	return d.writes.Begin(exporter, func() error { return order.Attempt(c.Attempt + 1) }) == nil
}

// knownInputs is a cycle.Runner that knows what a cycle depends on.
type knownInputs runner.Inputs

// Inputs implements cycle.Runner.
func (i knownInputs) Inputs(context.Context, runner.Request) (runner.Inputs, error) {
	return runner.Inputs(i), nil
}

// Run implements cycle.Runner. Nobody calls it.
func (knownInputs) Run(context.Context, runner.Request, func(runner.Result)) {}

// withdraw takes what is left of a cycle out of the store.
func (d *Dispatcher) withdraw(c *store.Cycle, targets []string, why store.SkipReason) {
	_, _ = d.writes.Write("the withdrawal of a cycle", func() error {
		err := d.store.Withdraw(c.ID, targets, why)
		if errors.Is(err, store.ErrCommitted) { // it has ended: there is nothing to withdraw
			return nil
		}
		return err
	})
}

// endRemoteFor bounds how long it is waited for Redis to learn that a cycle has ended.
const endRemoteFor = 10 * time.Second

// endRemote tells Redis that the end of a cycle is stored, once it is: until then Redis has the
// only copy of its results. If the exporter stops before, the next process follows the cycle.
func (d *Dispatcher) endRemote(exporter context.Context, c *store.Cycle, logger *slog.Logger) {
	stored := make(chan struct{})
	_, _ = d.writes.Write("what came before the end of a cycle", func() error { close(stored); return nil })
	select {
	case <-stored:
	default:
		select {
		case <-stored:
		case <-exporter.Done():
			return
		}
	}
	d.mu.Lock()
	given := d.config.Fleet
	d.mu.Unlock()
	if given == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), endRemoteFor)
	defer cancel()
	if err := given.End(ctx, c); err != nil {
		logger.Debug("Redis learns later that a cycle is over", "err", err)
	}
}

// hash returns what is remembered of the content of a model of one file; "" for others.
func (d *Dispatcher) hash(m model.Model) string {
	if len(m.IDs) != 1 {
		return ""
	}
	hash, _ := d.store.Hash(m.IDs[0])
	return hash
}

// updateRemote changes the status that callers get from now on.
func (d *Dispatcher) updateRemote(r *remote, change func(*Running)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := *r.running
	change(&now)
	r.running = &now
	d.changed()
}

// shownRemote is the cycle.Watcher by which Status follows a cycle elsewhere.
type shownRemote struct {
	*Dispatcher
	remote *remote
}

// Began implements cycle.Watcher.
func (s shownRemote) Began(uint64) {}

// Result implements cycle.Watcher.
func (s shownRemote) Result(runner.Result, store.Committed) {}

// PassedOver implements cycle.Watcher.
func (s shownRemote) PassedOver(string, string, []string) {}

// Progress implements cycle.Watcher.
func (s shownRemote) Progress(p runner.Progress) {
	s.updateRemote(s.remote, func(r *Running) {
		if cmp.Or(p.Model, r.Model) == r.Model {
			r.Progress, r.Ratio = p, ratio(p)
		}
	})
}
