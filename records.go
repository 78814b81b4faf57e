package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// deliverWithin is how long `run` tries to send its events before it leaves them to who
// opens the state next.
const deliverWithin = 10 * time.Second

// records keep what `run` finds, as that of a scheduled cycle is kept.
type records struct {
	p     *program
	store *store.Store // nil: nothing is kept
	cycle store.Cycle  // its ID is 0 before it is recorded
	err   error        // of recording it
	// published is what became of the cycle's copies, in the time publishing.
	published  []store.Publication
	publishing time.Duration
	// changed counts the events that were raised.
	changed int
}

func (p *program) openRecords(none bool, entry string) (*records, error) {
	if none {
		return &records{p: p}, nil
	}
	s, err := p.openStore("--no-record runs without it, and keeps nothing; a serving exporter with --web.enable-admin-api takes POST /api/v1/run", nil)
	if err != nil {
		return nil, err
	}
	return &records{p: p, store: s, cycle: store.Cycle{Entry: entry}}, nil
}

// hashes are those that the state remembers; nil where nothing is kept.
func (r *records) hashes() runner.Hashes {
	if r.store == nil {
		return nil
	}
	return r.store
}

// next is the model of the next cycle.
func (r *records) next(model string, s settings) {
	r.published, r.publishing = nil, 0
	r.cycle = store.Cycle{Entry: s.entry, Model: model, Targets: s.targets, Choose: s.Choose}
	if s.Choose != choice.None {
		r.cycle.Candidates = s.candidates
	}
}

// begin records the cycle, once, when it has the host to itself: a cycle that could not
// get that with --no-wait never was.
func (r *records) begin() error {
	if r.store != nil && r.cycle.ID == 0 && r.err == nil {
		r.cycle.Started = time.Now()
		r.cycle.ID, r.err = r.store.BeginCycle(r.cycle)
	}
	return r.err
}

// standing gives the standing decision of a target of the cycle's model.
func (r *records) standing(target string) verdict.Outcome {
	if r.store == nil {
		return ""
	}
	return r.store.State().Standing(store.PairID{Model: r.cycle.Model, Target: target})
}

// add keeps a result, gives the id of the event that it raised, if it did, and tells the
// result which inputs have changed.
func (r *records) add(result *runner.Result) (eventID string, err error) {
	if r.store == nil {
		return "", nil
	}
	if err := r.begin(); err != nil {
		return "", err
	}
	committed, err := r.store.Commit(r.cycle.ID, result)
	result.Changes = committed.Changes
	if err != nil || !committed.Changed {
		return "", err
	}
	r.changed++
	return committed.Event.ID, nil
}

// publish gives what is to be done with the copies of the cycle; nil when that is nothing,
// as without a record of it.
func (r *records) publish(settings config.Publish) func(context.Context, runner.Finished) {
	if r.store == nil || !settings.Enabled() {
		return nil
	}
	return func(ctx context.Context, finished runner.Finished) {
		begin := time.Now()
		r.published = cycle.PublishCopies(ctx, r.store, r.cycle.ID, settings, finished, r.p.logger.With("cycle", r.cycle.ID, "model", r.cycle.Model))
		r.publishing = time.Since(begin)
	}
}

// publications are those of the cycle, and whether one failed.
func (r *records) publications() (all []event.Publication, failed bool) {
	for _, p := range r.published {
		all = append(all, event.NewPublication(r.cycle.Model, p.Target, p.Time, p.Dir, p.Stable, p.Error))
		failed = failed || p.Error != ""
	}
	return all, failed
}

// outrank keeps that targets were passed over.
func (r *records) outrank(by string, targets []string) error {
	if r.store == nil {
		return nil
	}
	if err := r.begin(); err != nil {
		return err
	}
	return r.store.Outrank(r.cycle.ID, by, targets)
}

// chosen is the format that stands as chosen before the cycle ends; "" when none does.
func (r *records) chosen() string {
	if r.store == nil {
		return ""
	}
	return r.store.State().Chosen(&r.cycle)
}

// end ends the cycle and gives the choice that it makes, nil for none. Where nothing is
// kept it is that of the results alone.
func (r *records) end(discovering time.Duration, results []runner.Result) (*event.Choice, error) {
	if r.store == nil {
		return r.choose(results), nil
	}
	if r.cycle.ID == 0 {
		return nil, r.err
	}
	durations := map[runner.Operation]time.Duration{runner.OperationDiscover: discovering}
	var err error
	if r.published != nil {
		durations[runner.OperationPublish] = r.publishing
		err = r.store.Published(r.cycle.ID, r.published)
	}
	err = errors.Join(err, r.store.EndCycle(r.cycle.ID, durations))
	if err != nil || r.cycle.Choose == choice.None {
		return nil, err
	}
	chosen := r.store.State().Models[r.cycle.Model].Choice
	if chosen.Event.EventID != nil {
		r.changed++
	}
	return &chosen.Event, nil
}

// choose chooses of results.
func (r *records) choose(results []runner.Result) *event.Choice {
	if r.cycle.Choose == choice.None || len(results) == 0 {
		return nil
	}
	var candidates []choice.Candidate
	for _, result := range results {
		if result.Outcome() == verdict.Kept {
			candidates = append(candidates, runner.Candidate(result.TargetFormat, result.Verdict, result.Quality, result.Quantized))
		}
	}
	format := r.cycle.Choose.Choose(candidates)
	last := results[len(results)-1]
	told := event.Choosing{
		Model: r.cycle.Model, Rule: r.cycle.Choose, SourceFormat: last.SourceFormat, Engine: last.Evidence.Engine.String(), At: last.Finished,
	}
	if i := slices.IndexFunc(results, func(result runner.Result) bool { return result.TargetFormat == format }); i >= 0 {
		told.Chosen = &event.Chosen{Format: format, Bytes: results[i].Quantized.Bytes, Verdict: results[i].Verdict, Quality: results[i].Quality}
	}
	return new(event.NewChoice(told, event.Origin{Host: r.p.hardware.Host, Entry: r.cycle.Entry}))
}

// close sends the events that were raised, or says where they are.
func (r *records) close(ctx context.Context, say bool) error {
	if r.store == nil {
		return nil
	}
	if r.changed > 0 {
		r.deliver(ctx, say)
	}
	return r.store.Close()
}

// deliver sends the events that were raised to the bus, and says what became of them.
func (r *records) deliver(ctx context.Context, say bool) {
	raised := fmt.Sprintf("%d %s raised", r.changed, text.Plural(r.changed, "event was", "events were"))
	if r.p.config.A2A.URL == "" {
		if say {
			fmt.Fprintf(r.p.stdout, "%s, and kept: no bus is configured (quant-exporter events lists them).\n", raised)
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deliverWithin)
	defer cancel()
	relay, err := r.p.newBus(r.store).Prepare(r.p.config.A2A)
	if err == nil {
		err = relay.Flush(ctx)
	}
	if err != nil {
		r.p.logger.Warn("not all events reached the bus: they are kept, and go out with the next run or by the exporter", "err", err)
		return
	}
	if say {
		fmt.Fprintf(r.p.stdout, "%s, and sent to the bus.\n", raised)
	}
}
