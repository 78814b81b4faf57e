package cycle

import (
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Stale divides the targets of a job into those that a cycle has to decide, those whose
// decision is fresh, which is younger than the job's FreshFor, and those that would fail again
// in the same way: see [store.Failed]. Both are made of the same inputs. It may have to read the
// model for that, and tells progress so.
func (c *Cycles) Stale(ctx context.Context, job Job, progress func(runner.Progress)) (stale, fresh, failing []string) {
	f := c.freshness(job)
	if !f.mayRest() {
		return job.Targets, nil, nil
	}
	if job.Model.Err != nil {
		stale, failing = f.unreadable()
		return stale, nil, failing
	}
	if !slices.ContainsFunc(job.Targets, func(target string) bool {
		return f.young(target) != nil || f.lasting(target) != nil && !f.damaged(target)
	}) {
		stale, failing = f.divided(f.damaged)
		return stale, nil, failing
	}
	var err error
	logger := slog.New(c.Log).With("entry", job.Entry, "model", job.Model.Name)
	failure := Guard(logger, func() {
		f.inputs, err = job.Runner.Inputs(ctx, runner.Request{Model: job.Model, Against: job.Against, Settings: job.Settings, Progress: progress})
	})
	if failure != nil {
		err = failure
	}
	if err != nil {
		logger.Debug("cannot find out whether the inputs have changed", "err", err)
		reason := runner.AsFailure(err).Reason
		stale, failing = f.divided(func(target string) bool {
			return f.damaged(target) || f.failsEarly(target) && f.pair(target).Failed.Reason == reason
		})
		return stale, nil, failing
	}
	for _, target := range job.Targets {
		switch {
		case f.fresh(target) || f.passedOver(target):
			fresh = append(fresh, target)
		case f.fails(target):
			failing = append(failing, target)
		default:
			stale = append(stale, target)
		}
	}
	if len(stale) == 0 && len(fresh) > 0 && f.choosesAnew() {
		target := cmp.Or(f.chosen, fresh[0])
		stale, fresh = []string{target}, slices.DeleteFunc(fresh, func(other string) bool { return other == target })
	}
	return stale, fresh, failing
}

// MayRest reports whether Stale may find that a target need not be decided. If it is false, what
// the job depends on makes no difference.
func (c *Cycles) MayRest(job Job) bool {
	f := c.freshness(job)
	return f.mayRest()
}

func (c *Cycles) freshness(job Job) freshness {
	state := c.Store.State()
	return freshness{job: job, state: state, chosen: state.Choose(job.Choose, job.modelID(), job.Targets)}
}

// mayRest reports whether a target has a decision that is young, or a failure that may repeat
// itself.
func (f *freshness) mayRest() bool {
	return slices.ContainsFunc(f.job.Targets, func(target string) bool { return f.young(target) != nil || f.lasting(target) != nil })
}

// unreadable divides the targets of a model whose header cannot be read, for which there are no
// inputs: what is wrong with it tells whether it is still the same.
func (f *freshness) unreadable() (stale, failing []string) {
	return f.divided(func(target string) bool {
		failed := f.lasting(target)
		return failed != nil && failed.Inputs == nil && failed.Error == f.job.Model.Err.Error()
	})
}

// divided divides the targets into those that would fail again and the others.
func (f *freshness) divided(fails func(target string) bool) (stale, failing []string) {
	for _, target := range f.job.Targets {
		if fails(target) {
			failing = append(failing, target)
		} else {
			stale = append(stale, target)
		}
	}
	return stale, failing
}

// freshness is the question which targets of a job are fresh.
type freshness struct {
	job    Job
	state  *store.State
	chosen string // the format that would be chosen now; "" for none
	inputs runner.Inputs
}

func (f *freshness) pair(target string) *store.Pair {
	return f.state.Pairs[f.job.pairID(target)]
}

// fresh reports whether a target's decision is young, and its inputs have not changed.
func (f *freshness) fresh(target string) bool {
	decided := f.young(target)
	return decided != nil && f.inputs.Of(target).Same(*decided.Inputs)
}

// lasting returns the failure of a target that would most likely repeat itself; else nil.
func (f *freshness) lasting(target string) *store.Failed {
	pair := f.pair(target)
	if pair == nil || pair.Failed == nil {
		return nil
	}
	failed := pair.Failed
	if now := time.Now(); now.Before(failed.Finished) || !now.Before(failed.Again()) { // of the future: the clock was ahead
		return nil
	}
	return failed
}

// fails reports whether a target would fail as it did, because its inputs have not changed, or,
// where it failed before they were known, what was known then.
func (f *freshness) fails(target string) bool {
	failed := f.lasting(target)
	switch {
	case failed == nil:
		return false
	case failed.Inputs != nil:
		return f.inputs.Of(target).SameAttempt(*failed.Inputs)
	}
	_, imatrix := f.inputs.Arguments["engine.imatrix"]
	return f.damaged(target) || f.failsEarly(target) && failed.Engine == f.inputs.Engine && failed.Imatrix == imatrix
}

// failsEarly reports whether a target failed before its inputs were known, with the same files
// and settings.
func (f *freshness) failsEarly(target string) bool {
	failed := f.lasting(target)
	return failed != nil && failed.Inputs == nil && failed.DependsOn != "" && failed.DependsOn == f.job.DependsOn
}

// damaged reports whether a target failed early because of the files themselves, which need not
// be read again as long as they are the same.
func (f *freshness) damaged(target string) bool {
	return f.failsEarly(target) && f.pair(target).Failed.Reason == runner.ReasonBadModel
}

// passedOver reports whether a target was passed over for a choice that is fresh, and would
// be made again.
func (f *freshness) passedOver(target string) bool {
	pair := f.pair(target)
	if pair == nil || pair.PassedOver == nil || pair.PassedOver.Choose != f.job.Choose {
		return false
	}
	by := pair.PassedOver.For
	return slices.Contains(f.job.Targets, by) && f.fresh(by) && f.pair(by).Standing == verdict.Kept
}

// young returns the latest decision of a target, as far as it need not be made again: it is
// kept or rejected, young, nothing has failed since, and its copy does not have to be
// published yet. Else nil.
func (f *freshness) young(target string) *store.Record {
	pair := f.pair(target)
	if pair == nil || pair.Failed != nil || pair.Decided == nil || pair.Decided.Inputs == nil {
		return nil
	}
	decided := pair.Decided
	// One of the future was made while the clock was ahead: how old it is nobody knows.
	age := time.Since(decided.Finished)
	if decided.Verdict.Outcome == verdict.Inconclusive || age < 0 || age >= time.Duration(f.job.FreshFor) {
		return nil
	}
	served := f.job.Choose == choice.None || target == f.chosen
	if served && unpublished(pair, f.job.Publish) { // another cycle is another attempt
		return nil
	}
	return decided
}

// choosesAnew reports whether another format than the one that stands as chosen would be
// chosen now, or by another rule, such as after a change of the configuration. A choice is
// made at the end of a cycle, so that there has to be one, of whichever target.
func (f *freshness) choosesAnew() bool {
	if f.job.Choose == choice.None {
		return false
	}
	model := f.state.Models[f.job.modelID()]
	return model == nil || model.Choice == nil || model.Choice.Rule != f.job.Choose || model.Choice.Format != f.chosen
}

// unpublished reports whether a pair that stands as kept has yet to be published where the
// settings want it: the attempt failed, or there was none, such as before the configuration
// asked for it.
func unpublished(pair *store.Pair, settings config.Publish) bool {
	if !settings.Enabled() || pair.Standing != verdict.Kept {
		return false
	}
	if pair.Unpublished != nil || pair.Published == nil {
		return true
	}
	dir, err := filepath.Abs(settings.Dir)
	if err != nil {
		return true
	}
	inside, err := filepath.Rel(dir, pair.Published.Dir)
	return err != nil || !filepath.IsLocal(inside)
}
