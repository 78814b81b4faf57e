package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quant-exporter/quant-exporter/collector"
	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/command"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/publish"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// reloads exchanges the configuration of the serving program.
type reloads struct {
	p          *command.Program
	store      *store.Store
	bus        *a2a.Bus
	workers    *fleet.Coordinator
	dispatcher *dispatch.Dispatcher
	scheduler  *schedule.Scheduler
	cycleLog   *cycle.Log
	metrics    *collector.Reloads

	one     sync.Mutex                    // held by the one that goes on
	inForce atomic.Pointer[config.Config] // nil before the first
	refused atomic.Pointer[refusal]       // the last reload; nil when it was taken
}

// refusal is a configuration that was not taken.
type refusal struct {
	at  time.Time
	err error
}

// start takes the first configuration.
func (r *reloads) start(ctx context.Context, c *config.Config) error {
	begin := time.Now()
	if err := r.take(ctx, c); err != nil {
		return err
	}
	r.metrics.Done(nil)
	r.p.Logger.Info("ready", "entries", len(c.Schedule), "models", r.dispatcher.Plan().CountModels(), "took", time.Since(begin).Round(time.Millisecond))
	if len(c.Schedule) == 0 {
		r.p.Logger.Warn("nothing is scheduled: add entries to schedule: in the configuration file", "file", r.p.ConfigFile())
	}
	return nil
}

// on reloads at each signal, until the context ends.
func (r *reloads) on(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			_, _ = r.Reload(ctx) // it has logged what is wrong
		}
	}
}

// Reload implements web.Exporter: it reads the configuration again, and reports whether the
// file is the very same as before. If it cannot be used, nothing changes.
func (r *reloads) Reload(ctx context.Context) (same bool, err error) {
	before := r.inForce.Load()
	err = r.read(ctx)
	r.metrics.Done(err)
	if err != nil {
		r.refused.Store(&refusal{time.Now(), err})
		r.p.Logger.Error("the configuration could not be reloaded: the previous one stays in force", "err", err)
		return false, err
	}
	r.refused.Store(nil)
	same = before != nil && before.Hash() == r.inForce.Load().Hash()
	r.p.Logger.Info("the configuration is reloaded", "file", r.p.ConfigFile(), "same_as_before", same)
	return same, nil
}

// LastReload implements web.Exporter.
func (r *reloads) LastReload() (at time.Time, err error) {
	if refused := r.refused.Load(); refused != nil {
		return refused.at, refused.err
	}
	return time.Time{}, nil
}

// Ready implements web.Exporter: it returns nil once the models are discovered.
func (r *reloads) Ready() error {
	if r.inForce.Load() == nil {
		return errors.New("looking for models")
	}
	return nil
}

// Config implements web.Exporter.
func (r *reloads) Config() (string, error) {
	c := r.inForce.Load()
	if c == nil {
		return "", r.Ready()
	}
	text, err := c.Redacted()
	return string(text), err
}

// ChangedConfig implements web.Exporter.
func (r *reloads) ChangedConfig() (string, error) {
	c := r.inForce.Load()
	if c == nil {
		return "", r.Ready()
	}
	text, err := c.Changed()
	return string(text), err
}

// read reads the file and takes what it says.
func (r *reloads) read(ctx context.Context) error {
	c, err := r.p.LoadConfig()
	if err != nil {
		return err
	}
	if before := r.inForce.Load(); before != nil && before.Hash() != "" && c.Hash() == "" {
		return fmt.Errorf("the configuration file %s has gone", r.p.ConfigFile())
	}
	return r.take(ctx, c)
}

// take does everything that can fail for a configuration, and only then puts it in force.
func (r *reloads) take(ctx context.Context, c *config.Config) error {
	r.one.Lock()
	defer r.one.Unlock()
	next, err := r.prepare(ctx, c)
	if err != nil {
		return err
	}
	return r.exchange(next)
}

// prepared is what a configuration is made into.
type prepared struct {
	config   *config.Config
	relay    *a2a.Relay // nil without a bus
	fleet    fleet.Prepared
	dispatch dispatch.Config
	plan     *model.Plan
}

// prepare does everything that can fail for a configuration, and exchanges nothing.
func (r *reloads) prepare(ctx context.Context, c *config.Config) (next prepared, err error) {
	if before := r.inForce.Load(); before != nil && before.Storage.Path != c.Storage.Path {
		return next, fmt.Errorf("storage.path cannot change while the exporter runs (from %q to %q): restart it", before.Storage.Path, c.Storage.Path)
	}
	next.config = c
	models := model.NewFinder(c, r.p.Logger)
	if next.plan, err = models.Plan(r.store.State().ComparedFormats()); err != nil {
		return next, err
	}
	if err := preparePublishing(c, r.p.ConfigFile(), r.p.Logger); err != nil {
		return next, err
	}
	if next.relay, err = r.bus.Prepare(c.A2A); err != nil {
		return next, err
	}
	if next.fleet, err = r.workers.Prepare(c.Fleet); err != nil {
		return next, err
	}
	files, err := r.p.OpenCache(ctx, c)
	if err != nil {
		return next, err
	}
	logger := slog.New(r.cycleLog)
	engines := r.p.Engines(c, logger)
	next.dispatch = dispatch.Config{Entries: c.Schedule, Models: models, Runners: map[string]cycle.Runner{}, Engine: engines, Fleet: r.workers}
	for _, entry := range c.Schedule {
		next.dispatch.Runners[entry.Name] = r.p.Runner(c, engines.Of(entry.Engine), false, command.Memory{Hashes: r.store, Cache: files}, logger)
	}
	return next, nil
}

// exchange puts a configuration in force. It fails before anything is exchanged if the state
// cannot be written.
func (r *reloads) exchange(next prepared) error {
	c := next.config
	if err := r.store.SetBus(c.A2A.URL != ""); err != nil {
		return err
	}
	r.store.SetRetention(c.Storage.Retention)
	r.bus.Set(next.relay)
	r.workers.Set(next.fleet)
	r.dispatcher.Configure(next.dispatch, next.plan)
	if err := r.scheduler.Replace(c.Times()); err != nil {
		return err // not after config.Load has validated it
	}
	r.inForce.Store(c)
	for _, err := range command.Conflicts(r.p.ConfigFile(), c, next.plan) {
		r.p.Logger.Warn("two entries decide the same pair: the first one does", "err", err)
	}
	return nil
}

// preparePublishing checks that the schedule's directories to publish in can be used, and
// removes what killed processes left in them.
func preparePublishing(c *config.Config, file string, logger *slog.Logger) error {
	opened := map[string]bool{"": true}
	for _, entry := range c.Schedule {
		if opened[entry.Publish.Dir] {
			continue
		}
		opened[entry.Publish.Dir] = true
		if _, err := publish.Open(entry.Publish.Dir, logger); err != nil {
			return fmt.Errorf("%s: publish.dir %q: %w", file, entry.Publish.Dir, err)
		}
	}
	return nil
}
