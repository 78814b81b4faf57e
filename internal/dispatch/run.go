package dispatch

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/runner"
)

// run runs the cycles of one fire: one a model, the one that was looked at longest ago
// first, so that a run which is cut off by its timeout goes on where it ended.
func (d *Dispatcher) run(ctx context.Context, job job, entry config.Entry) {
	over := sync.OnceFunc(d.over)
	defer over()
	ctx, cancel := cycle.WithTimeout(ctx, entry.Name, time.Duration(entry.Timeout))
	defer cancel()
	logger := d.logger.With("entry", job.Entry)
	logger.Info("a run begins", "due", job.Due, "reason", job.Reason)
	d.engine.again() // it is not to be seen missing while it works
	begin := time.Now()
	models, discovering := d.modelsOf(job, logger)
	d.update(func(r *Running) { r.Models = len(models) })
	for i, model := range models {
		next := cycle.NewJob(entry, model, job.runner, discovering)
		next.Due = job.Due
		if ctx.Err() == nil && job.Reason != ByHand {
			next.Targets = d.stale(ctx, next)
		}
		if ctx.Err() != nil { // also while a large file was read
			logger.Warn("the run ends early", "cause", context.Cause(ctx), "models_left", len(models)-i)
			return
		}
		if len(next.Targets) > 0 {
			d.cycle(ctx, next)
		}
		d.update(func(r *Running) { r.Done = i + 1 })
	}
	d.engine.again()
	over() // first: it is not to be seen running once it is said to be over
	logger.Info("run finished", "models", len(models), "took", time.Since(begin).Round(time.Millisecond))
}

// modelsOf looks for the models of a job, and says how long that took: those that were asked for,
// or all of its entry, the one that was looked at longest ago first.
func (d *Dispatcher) modelsOf(job job, logger *slog.Logger) (models []model.Planned, discovering time.Duration) {
	begin := time.Now()
	models = d.discover(job.Entry)
	if job.models != nil {
		models = slices.DeleteFunc(models, func(m model.Planned) bool { return !slices.Contains(job.models, m.Name) })
	}
	discovering = time.Since(begin)
	d.store.State().OldestFirst(models)
	if len(models) == 0 {
		logger.Warn("the entry names no model that is there")
	}
	return models, discovering
}

// discover makes a new plan and gives the models of the entry in it; of the old one when
// the models cannot be looked for, so that their cycles say what is wrong.
func (d *Dispatcher) discover(entry string) []model.Planned {
	d.mu.Lock()
	models, configs := d.config.Models, d.configs
	d.mu.Unlock()
	var fresh *model.Plan
	var err error
	if failure := cycle.Guard(d.logger, func() { fresh, err = models.Plan(d.store.State().ComparedFormats()) }); failure != nil {
		err = failure
	}
	if err != nil {
		d.logger.Error("looking for models failed: taking those that were there before", "err", err)
	}
	d.mu.Lock()
	switch {
	case err != nil:
		d.lost = err
		d.changed()
	case configs == d.configs: // not after a reload
		d.planned(fresh)
	}
	d.mu.Unlock()
	fresh = d.Plan()
	conflicts := uint64(0)
	for _, conflict := range fresh.Conflicts {
		switch {
		case conflict.Second != entry:
		case conflict.Target == "":
			d.logger.Warn("no format is chosen", "entry", entry, "err", conflict)
		default:
			conflicts++
			d.logger.Warn("a pair is skipped", "entry", entry, "err", conflict)
		}
	}
	if conflicts > 0 {
		d.writes.Skip(entry, store.SkipConflict, conflicts)
	}
	i := slices.IndexFunc(fresh.Entries, func(r model.Resolved) bool { return r.Name == entry })
	if i < 0 { // removed by a reload this very moment
		return nil
	}
	for _, problem := range fresh.Entries[i].Unresolved {
		d.logger.Warn("a pattern of the entry names no model", "err", problem)
	}
	return slices.Clone(fresh.Entries[i].Models)
}

// stale returns the targets of a job that are to be decided. The others are counted as skipped.
func (d *Dispatcher) stale(ctx context.Context, job cycle.Job) []string {
	stale, fresh, failing := d.cycles.Stale(ctx, job, shown{d, job}.Progress)
	d.update(func(r *Running) { r.Progress, r.Ratio = runner.Progress{}, 0 })
	if len(fresh) > 0 {
		d.logger.Info("targets are skipped: a decision on the same inputs is younger than fresh_for", "entry", job.Entry, "model", job.Model.Name, "targets", fresh, "fresh_for", job.FreshFor)
		d.writes.Skip(job.Entry, store.SkipUnchanged, uint64(len(fresh)))
	}
	if len(failing) > 0 {
		d.logger.Info("targets are skipped: they failed, and nothing has changed since", "entry", job.Entry, "model", job.Model.Name, "targets", failing, "retry_after", store.RetryFailed)
		d.writes.Skip(job.Entry, store.SkipUnchanged, uint64(len(failing)))
	}
	return stale
}

// cycle runs one cycle.
func (d *Dispatcher) cycle(ctx context.Context, job cycle.Job) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d.setCancel(cancel)
	defer d.setCancel(nil)
	if _, err := d.cycles.Run(ctx, job, shown{d, job}); err != nil {
		d.logger.Warn("a cycle does not begin", "entry", job.Entry, "model", job.Model.Name, "err", err)
	}
	d.update(func(r *Running) { r.Cycle, r.Model, r.Targets = 0, "", nil })
}

func (d *Dispatcher) setCancel(cancel context.CancelCauseFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cancel = cancel
}

// shown is the cycle.Watcher by which Status follows a cycle.
type shown struct {
	*Dispatcher
	job cycle.Job
}

// Began implements cycle.Watcher.
func (s shown) Began(id uint64) {
	s.update(func(r *Running) {
		r.Cycle, r.Model, r.Targets = id, s.job.Model.Name, s.job.Targets
		r.Progress, r.Ratio = runner.Progress{}, 0
	})
}

// Result implements cycle.Watcher.
func (s shown) Result(r runner.Result, _ store.Committed) {
	if r.Failure == nil && len(r.Evidence.Rounds) > 0 {
		s.engine.measured(r.Evidence.Rounds[0].Original.Measurement)
	}
}

// PassedOver implements cycle.Watcher.
func (s shown) PassedOver(string, string, []string) {}

// Progress implements cycle.Watcher.
func (s shown) Progress(p runner.Progress) {
	s.update(func(r *Running) {
		r.Progress, r.Ratio = p, ratio(p)
	})
}

// update changes the status of the run that callers get from now on.
func (d *Dispatcher) update(change func(*Running)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := *d.running
	change(&now)
	d.running = &now
	d.changed()
}

func (d *Dispatcher) over() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = nil
	d.changed()
}

// ratio returns how much of a cycle is done, if quantizing takes a fifth of it and measuring up
// to the next look the rest: a guess, which falls back when that look decides nothing.
func ratio(p runner.Progress) float64 {
	const quantizing = 0.2
	done := min(max(p.Done, 0), 1)
	switch p.Operation {
	case runner.OperationQuantize:
		return quantizing * done
	case runner.OperationEvaluate: // of copies that are made, and not measured yet
		return quantizing
	case runner.OperationBenchmark:
		return quantizing + (1-quantizing)*done
	case runner.OperationPublish: // all is decided
		return 1
	default:
		return 0
	}
}
