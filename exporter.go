package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quant-exporter/quant-exporter/collector"
	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/publish"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/runner"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// exporter is the serving program: the parts that stay, and the configuration that a
// reload exchanges.
type exporter struct {
	p          *program
	store      *store.Store
	dispatcher *dispatch.Dispatcher
	scheduler  *schedule.Scheduler
	collector  *collector.Collector
	bus        *a2a.Bus
	reloads    *collector.Reloads
	log        *cycle.Log // of cycles

	applying sync.Mutex
	inForce  atomic.Pointer[config.Config] // nil until it is ready
	refused  atomic.Pointer[refusal]       // the last reload; nil when it was none
}

// refusal is a configuration that was not taken.
type refusal struct {
	at  time.Time
	err error
}

// LastReload implements web.Exporter.
func (e *exporter) LastReload() (at time.Time, err error) {
	if r := e.refused.Load(); r != nil {
		return r.at, r.err
	}
	return time.Time{}, nil
}

func (p *program) newExporter(state *store.Store, registry prometheus.Registerer) *exporter {
	e := &exporter{p: p, store: state, bus: p.newBus(state), reloads: collector.NewReloads(registry), log: cycle.NewLog(p.logger.Handler())}
	e.dispatcher = dispatch.New(state, e.log)
	e.scheduler = schedule.New(schedule.Options{
		Clock:  schedule.SystemClock{},
		Memory: state,
		Host:   p.host.Name,
		Fire:   e.dispatcher.Due,
		Missed: e.dispatcher.Missed,
		Logger: p.logger,
	})
	e.collector = collector.New(collector.Sources{Store: state, Dispatcher: e.dispatcher, Scheduler: e.scheduler, Bus: e.bus}, a2a.Reasons())
	return e
}

// start takes the first configuration.
func (e *exporter) start(ctx context.Context, c *config.Config) error {
	begin := time.Now()
	if err := e.apply(ctx, c); err != nil {
		return err
	}
	e.reloads.Done(nil)
	e.p.logger.Info("ready", "entries", len(c.Schedule), "models", countModels(e.dispatcher.Plan()), "took", time.Since(begin).Round(time.Millisecond))
	if len(c.Schedule) == 0 {
		e.p.logger.Warn("nothing is scheduled: add entries to schedule: in the configuration file", "file", e.p.flags.configFile)
	}
	return nil
}

func countModels(p *model.Plan) int {
	names := map[string]bool{}
	for _, entry := range p.Entries {
		for _, model := range entry.Models {
			names[model.Name] = true
		}
	}
	return len(names)
}

// Ready implements web.Exporter: it returns nil once the models are discovered.
func (e *exporter) Ready() error {
	if e.inForce.Load() == nil {
		return errors.New("looking for models")
	}
	return nil
}

// Reload implements web.Exporter: it reads the configuration again. One that cannot be used
// changes nothing.
func (e *exporter) Reload(ctx context.Context) (err error) {
	defer func() {
		e.reloads.Done(err)
		e.refused.Store(nil)
		if err != nil {
			e.refused.Store(&refusal{time.Now(), err})
			e.p.logger.Error("the configuration is not reloaded: the one before stays", "err", err)
		} else {
			e.p.logger.Info("the configuration is reloaded", "file", e.p.flags.configFile)
		}
	}()
	c, err := e.p.flags.loadConfig()
	if err != nil {
		return err
	}
	if before := e.inForce.Load(); before != nil && before.Hash() != "" && c.Hash() == "" {
		return fmt.Errorf("the configuration file %s has gone", e.p.flags.configFile)
	}
	return e.apply(ctx, c)
}

// apply makes everything of the configuration that can fail, and only then exchanges it.
func (e *exporter) apply(ctx context.Context, c *config.Config) error {
	e.applying.Lock()
	defer e.applying.Unlock()
	before := e.inForce.Load()
	if before != nil && before.Storage.Path != c.Storage.Path {
		return fmt.Errorf("storage.path cannot change while the exporter runs (from %q to %q): restart it", before.Storage.Path, c.Storage.Path)
	}
	discover := func() (*model.Plan, error) { return e.p.plan(c, lastFormats(e.store.State())) }
	found, err := discover()
	if err != nil {
		return err
	}
	if err := e.p.preparePublishing(c); err != nil {
		return err
	}
	relay, err := e.bus.Prepare(c.A2A)
	if err != nil {
		return err
	}
	files, err := e.p.openCache(ctx, c)
	if err != nil {
		return err
	}
	if err := e.store.SetBus(c.A2A.URL != ""); err != nil {
		return err
	}
	e.store.SetRetention(c.Storage.Retention)
	e.bus.Set(relay)
	e.dispatcher.Configure(e.dispatched(c, discover, files), found)
	if err := e.scheduler.Replace(scheduled(c)); err != nil {
		return err // not after config.Load has validated it
	}
	e.inForce.Store(c)
	for _, err := range conflicts(e.p.flags.configFile, c, found) {
		e.p.logger.Warn("two entries decide the same, and the first does", "err", err)
	}
	return nil
}

// preparePublishing sees that the schedule's directories to publish in can be used, and
// removes from them what killed processes left.
func (p *program) preparePublishing(c *config.Config) error {
	opened := map[string]bool{"": true}
	for _, entry := range c.Schedule {
		if opened[entry.Publish.Dir] {
			continue
		}
		opened[entry.Publish.Dir] = true
		if _, err := publish.Open(entry.Publish.Dir, p.logger); err != nil {
			return fmt.Errorf("%s: publish.dir %q: %w", p.flags.configFile, entry.Publish.Dir, err)
		}
	}
	return nil
}

// conflicts are what two entries both decide or choose, at the line of the second, which
// leaves it to the first. A model file that is new can cause them, so they never refuse a
// start: `--config.check` does, and the page and the counters show them.
func conflicts(file string, c *config.Config, found *model.Plan) []error {
	var errs []error
	for _, conflict := range found.Conflicts {
		for _, entry := range c.Schedule {
			if entry.Name == conflict.Second {
				errs = append(errs, fmt.Errorf("%s:%d: schedule: %w", file, entry.Line, conflict))
			}
		}
	}
	return errs
}

// lastFormats are those of the files that entries compared with a model, when they last
// did, by the entries' names.
func lastFormats(state *store.State) map[string]string {
	last, formats := map[string]*store.Record{}, map[string]string{}
	for id, pair := range state.Pairs {
		d := pair.Decided
		if d == nil || d.Against == "" {
			continue
		}
		if before := last[d.Entry]; before == nil || d.Finished.After(before.Finished) {
			last[d.Entry], formats[d.Entry] = d, id.Target
		}
	}
	return formats
}

// plan finds models and the pairs of them that the schedule decides; last is as in
// model.NewPlan.
func (p *program) plan(c *config.Config, last map[string]string) (*model.Plan, error) {
	found, err := p.discover(c)
	if err != nil {
		return nil, err
	}
	plan := model.NewPlan(c.Schedule, found, last)
	if c.Models.Dir == "" && len(c.Schedule) > 0 && countModels(&plan) == 0 {
		return nil, errNoModels
	}
	return &plan, nil
}

// dispatched is what the dispatcher needs to know of a configuration.
func (e *exporter) dispatched(c *config.Config, discover func() (*model.Plan, error), files runner.Cache) dispatch.Config {
	logger := slog.New(e.log)
	engines := e.p.engines(c, logger)
	return dispatch.Config{
		Entries:  c.Schedule,
		Discover: discover,
		Runner: func(engine config.Engine) cycle.Runner {
			return e.p.runner(c, engines.Of(engine), false, memory{e.store, files}, logger)
		},
		Engine: engines.Probe,
	}
}

func scheduled(c *config.Config) []schedule.Entry {
	entries := make([]schedule.Entry, len(c.Schedule))
	for i, entry := range c.Schedule {
		entries[i] = entry.Entry
	}
	return entries
}

// Config implements web.Exporter: it returns the configuration in force, without its secrets.
func (e *exporter) Config() (string, error) {
	c := e.inForce.Load()
	if c == nil {
		return "", e.Ready()
	}
	text, err := c.Redacted()
	return string(text), err
}
