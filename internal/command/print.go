package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/runner"
)

// printer is the cycle.Watcher of the command `run`: it prints JSON lines as results come
// in, or a table at the end of each cycle, and keeps what the exit status depends on.
type printer struct {
	*Program
	runFlags
	entry  string
	choose choice.Rule
	state  *store.Store

	cycle       report.Cycle // the one that runs
	worst       outcomes
	unpublished bool // a copy that is kept
	raised      int  // events
	err         error
}

// Began implements cycle.Watcher.
func (o *printer) Began(uint64) {}

// Progress implements cycle.Watcher.
func (o *printer) Progress(now runner.Progress) { o.Stderr.Show(now) }

// Result implements cycle.Watcher.
func (o *printer) Result(r runner.Result, stored store.Committed) {
	o.worst.add(&r)
	o.cycle.Results = append(o.cycle.Results, r)
	eventID := ""
	if stored.Changed && !o.noRecord {
		o.raised++
		eventID = stored.Event.ID
	}
	if o.output == "json" {
		o.Stderr.Clear()
		chosen := o.state.State().Chosen(&store.Cycle{Model: r.Model, Choose: o.choose})
		o.wrote(report.JSONLine(o.stdout, &r, event.Origin{Host: o.Host.Name, Entry: o.entry, Chosen: chosen}, eventID, o.evidence))
	}
}

// PassedOver implements cycle.Watcher.
func (o *printer) PassedOver(model, by string, targets []string) {
	o.cycle.PassedOver = targets
	for _, target := range targets {
		o.line(event.NewPassedOver(model, target, by))
	}
}

// end prints what a cycle has led to, once it is over.
func (o *printer) end(job cycle.Job, out cycle.Outcome) {
	o.Stderr.Clear()
	if out.Choice != nil {
		chosen := *out.Choice
		switch {
		case o.noRecord:
			chosen.EventID = nil
		case chosen.EventID != nil:
			o.raised++
		}
		o.cycle.Choice = &chosen
		o.line(chosen)
	}
	var published []event.Publication
	for _, p := range out.Published {
		published = append(published, event.NewPublication(job.Model.Name, p.Target, p.Time, p.Dir, p.Stable, p.Error))
		o.unpublished = o.unpublished || p.Error != ""
		o.line(published[len(published)-1])
	}
	if o.output == "text" {
		o.cycle.Results = inOrder(o.cycle.Results, job.Targets)
		o.wrote(report.Table(o.stdout, o.cycle, o.colored()))
		o.wrote(report.Publications(o.stdout, published))
	}
	o.cycle = report.Cycle{}
}

// line prints an object, where the output is JSON.
func (o *printer) line(object any) {
	if o.output == "json" {
		o.Stderr.Clear()
		o.wrote(report.Line(o.stdout, object))
	}
}

// wrote keeps the error of printing.
func (o *printer) wrote(err error) {
	if err != nil {
		o.err = errors.Join(o.err, fmt.Errorf("writing the result: %w", err))
	}
}

// status returns the exit status of cycles that were run and printed.
func (o *printer) status() (int, error) {
	if o.unpublished {
		return ExitError, errors.New("not every copy that is kept could be published: see above")
	}
	return o.worst.status(), nil
}

// inOrder sorts results as their targets were named.
func inOrder(results []runner.Result, targets []string) []runner.Result {
	var sorted []runner.Result
	for _, target := range targets {
		for _, r := range results {
			if r.TargetFormat == target {
				sorted = append(sorted, r)
			}
		}
	}
	return sorted
}

// deliverWithin bounds how long `run` tries to deliver its events before it leaves them to
// whatever opens the state next.
const deliverWithin = 10 * time.Second

// deliver delivers the raised events to the bus, and prints what became of them.
func (o *printer) deliver(ctx context.Context) {
	if o.raised == 0 {
		return
	}
	raised := fmt.Sprintf("%d %s raised", o.raised, text.Plural(o.raised, "event was", "events were"))
	say := func(what string) {
		if o.output == "text" {
			fmt.Fprintf(o.stdout, "%s, and %s.\n", raised, what)
		}
	}
	if o.Config.A2A.URL == "" {
		say("kept: no event stream is configured (a2a.url); quant-exporter events lists them")
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deliverWithin)
	defer cancel()
	relay, err := o.NewBus(o.state).Prepare(o.Config.A2A)
	if err == nil {
		err = relay.Flush(ctx)
	}
	if err != nil {
		o.Logger.Warn("some events have not reached the event stream: they are stored, and the next run or the exporter delivers them", "err", err)
		return
	}
	say("sent to the event stream")
}
