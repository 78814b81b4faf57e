package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/promote"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// errTimeout is why a run is over that reached its entry's timeout.
var errTimeout = errors.New("the run reached its timeout")

// run runs the cycles of one fire: one a model, the one that was looked at longest ago
// first, so that a run which is cut off by its timeout goes on where it ended.
func (d *Dispatcher) run(ctx context.Context, job job, entry Entry) {
	over := sync.OnceFunc(d.over)
	defer over()
	if entry.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, entry.Timeout, errTimeout)
		defer cancel()
	}
	logger := d.logger.With("entry", job.Entry)
	logger.Info("a run begins", "due", job.Due, "reason", job.Reason)
	d.engine.again() // it is not to be seen missing while it works
	begin := time.Now()
	models := d.discover(job.Entry)
	if job.models != nil {
		models = slices.DeleteFunc(models, func(m model.Planned) bool { return !slices.Contains(job.models, m.Name) })
	}
	discovering := time.Since(begin)
	oldestFirst(models, d.options.Store.State())
	if len(models) == 0 {
		logger.Warn("the entry names no model that is there")
	}
	d.update(func(r *Running) { r.Models = len(models) })
	for i, model := range models {
		var targets []string
		if ctx.Err() == nil {
			targets = d.stale(ctx, job, entry, model)
		}
		if ctx.Err() != nil { // also while a large file was read
			logger.Warn("the run ends early", "cause", context.Cause(ctx), "models_left", len(models)-i)
			return
		}
		if len(targets) > 0 {
			d.cycle(ctx, job, entry, model, targets, discovering)
		}
		d.update(func(r *Running) { r.Done = i + 1 })
	}
	d.engine.again()
	over() // first: it is not to be seen running once it is said to be over
	logger.Info("the run is over", "models", len(models), "took", time.Since(begin).Round(time.Millisecond))
}

// discover makes a new plan and gives the models of the entry in it; of the old one when
// the models cannot be looked for, so that their cycles say what is wrong.
func (d *Dispatcher) discover(entry string) []model.Planned {
	d.mu.Lock()
	find, configs := d.config.Discover, d.configs
	d.mu.Unlock()
	var fresh *model.Plan
	var err error
	d.protected(func() { fresh, err = find() }, func(failure *runner.Failure) { err = failure })
	if err != nil {
		d.logger.Error("looking for models failed: taking those that were there before", "err", err)
		d.mu.Lock()
		d.lost = err
		d.changed()
		d.mu.Unlock()
	} else {
		d.exchange(fresh, func() bool { return configs == d.configs }) // not after a reload
	}
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
		d.journal.skip(entry, store.SkipConflict, conflicts)
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

// oldestFirst sorts models by the pair of theirs that was decided longest ago, never
// first. A failure counts, so that a model that always fails does not hold up the others,
// and so does having been outranked.
func oldestFirst(models []model.Planned, state *store.State) {
	oldest := func(m model.Planned) time.Time {
		times := make([]time.Time, 0, len(m.Targets))
		for _, target := range m.Targets {
			times = append(times, lastTried(state.Pairs[store.PairID{Model: m.Name, Target: target}]))
		}
		return slices.MinFunc(times, time.Time.Compare)
	}
	slices.SortStableFunc(models, func(a, b model.Planned) int { return oldest(a).Compare(oldest(b)) })
}

func lastTried(p *store.Pair) time.Time {
	switch {
	case p == nil:
		return time.Time{}
	case p.Outranked != nil:
		return p.Outranked.Finished
	case p.Failed != nil:
		return p.Failed.Finished
	case p.Decided != nil:
		return p.Decided.Finished
	}
	return time.Time{}
}

// cycle runs one cycle, of these targets of a model, and stores its results.
func (d *Dispatcher) cycle(ctx context.Context, job job, entry Entry, model model.Planned, targets []string, discovering time.Duration) {
	logger := d.logger.With("entry", entry.Name, "model", model.Name)
	var id uint64
	err := d.journal.wait(ctx, func() (err error) {
		id, err = d.options.Store.BeginCycle(store.Cycle{
			Entry: entry.Name, Model: model.Name, Targets: targets, Choose: model.Choose, Candidates: model.Targets, Due: job.Due, Started: time.Now(),
		})
		return err
	})
	if err != nil {
		logger.Warn("a cycle does not begin", "err", err)
		return
	}
	d.options.Log.page.begin()
	logger.Info("a cycle begins", "cycle", id, "targets", targets)
	d.update(func(r *Running) {
		r.Cycle, r.Model, r.Targets = id, model.Name, targets
		r.Progress, r.Ratio = runner.Progress{}, 0
	})
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d.setCancel(cancel)
	defer d.setCancel(nil)
	undecided := slices.Clone(targets)
	durations := map[runner.Operation]time.Duration{runner.OperationDiscover: discovering}
	entry.Choose = model.Choose
	d.protected(func() {
		entry.Runner.Run(ctx, runner.Request{
			Model:     model.Model,
			Targets:   targets,
			Against:   model.Against,
			Settings:  entry.Settings,
			OrderSeed: rand.Uint64(),
			Outranked: func(by string, others []string) {
				undecided = slices.DeleteFunc(undecided, func(target string) bool { return slices.Contains(others, target) })
				d.outrank(id, model.Name, by, others)
			},
			Previous: func(target string) verdict.Outcome {
				return d.options.Store.State().Standing(store.PairID{Model: model.Name, Target: target})
			},
			Progress: d.progress,
			Finish:   d.publishing(id, entry, durations),
		}, func(r runner.Result) {
			r.Failure = because(ctx, entry, r.Failure)
			undecided = slices.DeleteFunc(undecided, func(target string) bool { return target == r.TargetFormat })
			d.record(id, r)
		})
	}, func(failure *runner.Failure) {
		for _, target := range undecided {
			now := time.Now()
			d.record(id, runner.Result{Model: model.Name, SourceFormat: model.SourceFormat(), TargetFormat: target, Threshold: entry.Threshold, Started: now, Finished: now, Failure: failure})
		}
	})
	d.journal.write("ending the cycle", func() error {
		return unlessCommitted(d.options.Store.EndCycle(id, durations))
	})
	log := d.options.Log.page.end()
	d.journal.write("the cycle's log", func() error { return d.options.Store.PutLog(id, log) })
	d.update(func(r *Running) { r.Cycle, r.Model, r.Targets = 0, "", nil })
}

// publishing gives what is to be done with the copies of a cycle; nil when that is nothing.
func (d *Dispatcher) publishing(cycle uint64, entry Entry, durations map[runner.Operation]time.Duration) func(context.Context, runner.Finished) {
	if !entry.Publish.Enabled() {
		return nil
	}
	return func(ctx context.Context, finished runner.Finished) {
		begin := time.Now()
		all := promote.Cycle(ctx, d.options.Store, cycle, entry.Publish, finished, d.logger)
		if all == nil {
			return
		}
		durations[runner.OperationPublish] = time.Since(begin)
		d.journal.write("what was published", func() error { return unlessCommitted(d.options.Store.Published(cycle, all)) })
	}
}

// unlessCommitted takes it that the attempt before did not fail after all.
func unlessCommitted(err error) error {
	if errors.Is(err, store.ErrCommitted) {
		return nil
	}
	return err
}

// protected turns a panic of work into a failure.
func (d *Dispatcher) protected(work func(), panicked func(*runner.Failure)) {
	defer func() {
		if p := recover(); p != nil {
			d.logger.Error("a panic ends this cycle", "panic", p, "stack", string(debug.Stack()))
			panicked(runner.Failf(runner.ReasonInternal, "this is a defect of quant-exporter, please report it with the log: %v", p))
		}
	}()
	work()
}

func (d *Dispatcher) setCancel(cancel context.CancelCauseFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cancel = cancel
}

// because gives a failure its true reason when it was not the process' end that
// cancelled the cycle.
func because(ctx context.Context, entry Entry, f *runner.Failure) *runner.Failure {
	if f == nil || f.Reason != runner.ReasonCanceled {
		return f
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimeout):
		return runner.Failf(runner.ReasonTimeout, "the run of the entry %q took longer than its timeout of %v: %w", entry.Name, entry.Timeout, f)
	case errors.Is(cause, ErrCanceled):
		return runner.Failf(runner.ReasonCanceled, "%w: %w", cause, f)
	}
	return f
}

// record stores one result, and says so.
func (d *Dispatcher) record(cycle uint64, r runner.Result) {
	logger := d.logger.With("cycle", cycle, "model", r.Model, "target", r.TargetFormat)
	switch {
	case r.Failure != nil && r.Failure.Reason == runner.ReasonCanceled:
		logger.Warn("a pair is not decided: its cycle was canceled", "err", r.Failure)
	case r.Failure != nil:
		logger.Error("a pair could not be decided", "reason", r.Failure.Reason, "err", r.Failure)
	default:
		if rounds := r.Evidence.Rounds; len(rounds) > 0 {
			d.engine.measured(rounds[0].Original.Measurement)
		}
		worst := r.Verdict.Worst()
		if r.Outcome() == verdict.Rejected {
			logger = logger.With("gate", r.Verdict.Gate)
		}
		figures := []any{"decision", r.Verdict.Outcome}
		if r.Verdict.Rounds > 0 { // else there is no drop: the budget was spent before
			figures = append(figures, "drop", percent(worst.Drop), "phase", worst.Phase)
		}
		logger.Info("a pair is decided", append(figures, "threshold", percent(r.Threshold), "rounds", r.Verdict.Rounds)...)
	}
	d.journal.write("a result", func() error {
		committed, err := d.options.Store.Commit(cycle, &r)
		for _, change := range committed.Changes {
			logger.Info("an input has changed since the decision before", "input", change.Input, "change", change.Text)
		}
		switch {
		case errors.Is(err, store.ErrCommitted): // the attempt before did not fail after all
			return nil
		case err == nil && committed.Changed:
			logger.Info("the decision has changed", "event_id", committed.Event.ID, "now", r.Verdict.Outcome, "before", cmp.Or(string(r.Previous), "none"))
		}
		return err
	})
}

// outrank stores that targets are passed over, and says so.
func (d *Dispatcher) outrank(cycle uint64, model, by string, targets []string) {
	d.logger.Info("pairs are skipped: another one is chosen before them", "cycle", cycle, "model", model, "targets", targets, "chosen", by)
	d.journal.write("what is skipped", func() error {
		err := d.options.Store.Outrank(cycle, by, targets)
		if errors.Is(err, store.ErrCommitted) { // the attempt before did not fail after all
			return nil
		}
		return err
	})
}

func percent(ratio float64) string { return fmt.Sprintf("%.1f%%", ratio*100) }

// progress keeps what the cycle does for the status.
func (d *Dispatcher) progress(p runner.Progress) {
	d.update(func(r *Running) {
		r.Progress, r.Ratio = p, ratio(p)
	})
}

// update changes what is known of the run, for everybody who asks from now on.
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

// ratio is how much of a cycle is done, if quantizing takes a fifth of it and measuring up
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
