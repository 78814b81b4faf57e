package dispatch

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// stale gives the targets of a model that are to be decided: all of them, unless a decision
// stays fresh while its inputs are the same. The others are counted as skipped. Who asks
// for a run by hand gets one.
func (d *Dispatcher) stale(ctx context.Context, job job, entry Entry, model model.Planned) []string {
	state := d.options.Store.State()
	pairOf := func(target string) *store.Pair { return state.Pairs[store.PairID{Model: model.Name, Target: target}] }
	chosen := state.Choose(model.Choose, model.Name, model.Targets)
	young := func(target string) *store.Decided {
		pair := pairOf(target)
		served := model.Choose == choice.None || target == chosen
		if served && unpublished(pair, entry.Publish) { // another cycle is another attempt
			return nil
		}
		return youngDecision(pair, time.Duration(entry.FreshFor), time.Now())
	}
	if job.Reason == ByHand || entry.FreshFor == 0 || !slices.ContainsFunc(model.Targets, func(target string) bool { return young(target) != nil }) {
		return model.Targets
	}
	logger := d.logger.With("entry", entry.Name, "model", model.Name)
	var now runner.Inputs
	var err error
	d.protected(func() {
		now, err = entry.Runner.Inputs(ctx, runner.Request{Model: model.Model, Against: model.Against, Settings: entry.Settings, Progress: d.progress})
	}, func(failure *runner.Failure) { err = failure })
	d.update(func(r *Running) { r.Progress, r.Ratio = runner.Progress{}, 0 })
	if err != nil {
		logger.Debug("whether the inputs have changed is not known", "err", err)
		return model.Targets
	}
	isFresh := func(target string) bool {
		decided := young(target)
		return decided != nil && now.Same(*decided.Inputs)
	}
	// What was passed over for a choice that would be made again need not be looked at.
	outranked := func(target string) bool {
		pair := pairOf(target)
		return pair != nil && pair.Outranked != nil && pair.Outranked.Choose == model.Choose && slices.Contains(model.Targets, pair.Outranked.By) &&
			isFresh(pair.Outranked.By) && pairOf(pair.Outranked.By).Standing == verdict.Kept
	}
	var stale, fresh []string
	for _, target := range model.Targets {
		if isFresh(target) || outranked(target) {
			fresh = append(fresh, target)
		} else {
			stale = append(stale, target)
		}
	}
	if len(stale) == 0 && choosesAnew(state.Models[model.Name], model.Choose, chosen) {
		target := cmp.Or(chosen, fresh[0])
		stale, fresh = []string{target}, slices.DeleteFunc(fresh, func(other string) bool { return other == target })
	}
	if len(fresh) > 0 {
		logger.Info("pairs are skipped: their inputs are those of a decision that is younger than fresh_for", "targets", fresh, "fresh_for", entry.FreshFor)
		d.journal.skip(entry.Name, store.SkipUnchanged, uint64(len(fresh)))
	}
	return stale
}

// choosesAnew says whether another format than the one that stands as chosen would be, or by
// another rule, such as after a change of the configuration. A choice is made at the end of
// a cycle, so that there has to be one, of whichever target.
func choosesAnew(model *store.Model, rule choice.Rule, chosen string) bool {
	if rule == choice.None {
		return false
	}
	return model == nil || model.Choice == nil || model.Choice.Rule != rule || model.Choice.Format != chosen
}

// unpublished says whether a pair that is kept has yet to be published where that is to be:
// the attempt failed, or there was none, such as before the configuration asked for it.
func unpublished(pair *store.Pair, settings runner.Publish) bool {
	if !settings.Enabled() || pair == nil || pair.Standing != verdict.Kept {
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

// youngDecision is the latest decision of a pair if it is a kept or rejected that is
// younger than so much, and nothing has failed since; else nil.
func youngDecision(pair *store.Pair, than time.Duration, now time.Time) *store.Decided {
	if pair == nil || pair.Failed != nil || pair.Decided == nil || pair.Decided.Inputs == nil {
		return nil
	}
	decided := pair.Decided
	if decided.Verdict.Outcome == verdict.Inconclusive || now.Sub(decided.Finished) >= than {
		return nil
	}
	return decided
}
