package cycle

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/process"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Job is a cycle to run: one model, and the targets of it to decide.
type Job struct {
	Entry   string    // of the schedule; "" for none
	Due     time.Time // zero from the command line
	Class   string    // of the hardware that decides, in a fleet; "" for this host
	Model   model.Model
	Targets []string
	// Candidates are the targets among which a format is chosen. Default: Targets.
	Candidates []string
	// Against is the file that is measured in place of a copy: see runner.Request.
	Against *model.Model
	// AllowRequantize is runner.Request.Requantize.
	AllowRequantize bool
	// DependsOn stands for the files and settings on which failures depend that come before the
	// inputs are known; "" where nobody knows them, and such a failure is always tried again.
	DependsOn string
	config.Settings
	Runner Runner
	// Discovering is how long it took to find the model.
	Discovering time.Duration
}

// NewJob makes the cycle of a model that an entry decides; discovering is how long it took to
// find it.
func NewJob(entry config.Entry, m model.Planned, runner Runner, discovering time.Duration) Job {
	job := Job{
		Entry: entry.Name, Model: m.Model, Targets: m.Targets, Candidates: m.Targets, Against: m.Against, Class: m.Class,
		AllowRequantize: entry.AllowRequantize, Settings: entry.Settings, Runner: runner, Discovering: discovering,
	}
	job.Choose = m.Choose // of which another entry may choose one
	if job.Class == "" {  // else the files are a worker's
		job.DependsOn = dependsOn(entry, m)
	}
	return job
}

// dependsOn names what a cycle depends on that is known without reading a file, but for the
// engine's build.
func dependsOn(entry config.Entry, m model.Planned) string {
	files := m.IDs
	if m.Against != nil {
		files = slices.Concat(files, m.Against.IDs)
	}
	text, err := json.Marshal([]any{files, entry.Settings, entry.Engine, entry.AllowRequantize})
	if err != nil {
		return ""
	}
	hash := sha256.Sum256(text)
	return hex.EncodeToString(hash[:])
}

func (j *Job) modelID() store.ModelID { return store.ModelID{Name: j.Model.Name, Class: j.Class} }

func (j *Job) pairID(target string) store.PairID { return j.modelID().Pair(target) }

// Runner does the work of a cycle: *runner.Runner.
type Runner interface {
	// Inputs finds what a cycle would depend on, without running one.
	Inputs(ctx context.Context, req runner.Request) (runner.Inputs, error)
	Run(ctx context.Context, req runner.Request, emit func(runner.Result))
}

// Store is where cycles are kept: *store.Store.
type Store interface {
	State() *store.State
	BeginCycle(store.Cycle) (uint64, error)
	Commit(cycle uint64, r *runner.Result) (store.Committed, error)
	Cycle(id uint64) (store.Cycle, []store.Record, bool, error)
	Published(cycle uint64, all []store.Publication) error
	PassOver(cycle uint64, by string, targets []string) error
	EndCycle(cycle uint64, extra map[runner.Operation]time.Duration) error
	PutLog(cycle uint64, text string) error
}

// Watcher shows a cycle to somebody. Its methods are called one at a time, and delay the
// cycle while they run.
type Watcher interface {
	// Began is called once, first, with the id under which the cycle is recorded.
	Began(cycle uint64)
	// Progress is called with each step of the cycle.
	Progress(runner.Progress)
	// Result is called with each result, after the attempt to store it. stored is zero if
	// the attempt failed.
	Result(r runner.Result, stored store.Committed)
	// PassedOver is called when the cycle passes targets of the model over because another
	// target is chosen before them, after the attempt to store that.
	PassedOver(model, by string, targets []string)
}

// Outcome is what a cycle has led to, beside its results.
type Outcome struct {
	// Published is what became of each copy that was to be published.
	Published []store.Publication
	// Choice is the format chosen at the end; nil where none is to be chosen, or where the
	// end is not stored.
	Choice *event.Choice
}

// Cycles runs cycles, and records them in a store. One cycle may run at a time.
type Cycles struct {
	Store  Store
	Writes Writes
	// Log takes what is logged while a cycle runs. Everything that works for the cycle has
	// to log through it.
	Log *Log
	// Quiet makes Log keep, but not pass on, what a Watcher also receives.
	Quiet bool
}

// Run runs a cycle to its end. What the package guarantees is stored when it returns, or,
// with Retry, waits for the disk. It returns an error only if storing fails: the beginning of
// the cycle, which then did not run, or its results.
func (c *Cycles) Run(ctx context.Context, job Job, watcher Watcher) (Outcome, error) {
	r := c.newRun(job, watcher)
	if err := r.begin(ctx); err != nil {
		return Outcome{}, err
	}
	_ = r.work(ctx, func(ctx context.Context, request runner.Request, emit func(runner.Result)) error { // returns nothing else
		r.Runner.Run(ctx, request, emit)
		return nil
	})
	r.end()
	return r.outcome, errors.Join(r.errs...)
}

// Record records that a cycle begins, for Follow; Run does so by itself. It returns the cycle as it
// is recorded: what the job says of it, and what only cycles of a fleet have, as given.
func (c *Cycles) Record(ctx context.Context, job Job, recorded store.Cycle) (store.Cycle, error) {
	recorded.Entry, recorded.Model, recorded.Class, recorded.Due = job.Entry, job.Model.Name, job.Class, job.Due
	recorded.Targets, recorded.Undecided, recorded.DependsOn = job.Targets, job.Targets, job.DependsOn
	recorded.Choose, recorded.Candidates = job.Choose, job.Candidates
	if len(job.Candidates) == 0 {
		recorded.Candidates = job.Targets
	}
	err := c.Writes.Begin(ctx, func() (err error) {
		recorded.ID, err = c.Store.BeginCycle(recorded)
		return err
	})
	return recorded, err
}

// Work does a recorded cycle elsewhere. It hands each result to emit, and returns nil when
// every target has one, or else why the cycle has not ended.
type Work func(ctx context.Context, request runner.Request, emit func(runner.Result)) error

// Follow is Run for a cycle that Record has recorded, and that is done elsewhere. Job names its
// targets that have no result yet; its Runner is not used. When work returns an error, the
// cycle goes on as recorded: the error is returned, and nothing is ended.
func (c *Cycles) Follow(ctx context.Context, id uint64, job Job, work Work, watcher Watcher) (Outcome, error) {
	r := c.newRun(job, watcher)
	r.id = id
	r.opened("a cycle is given to a worker")
	if err := r.work(ctx, work); err != nil {
		r.Log.buffer.end()
		return Outcome{}, err
	}
	r.end()
	return r.outcome, errors.Join(r.errs...)
}

// run is one cycle.
type run struct {
	*Cycles
	Job
	watcher   Watcher
	logger    *slog.Logger
	watched   *slog.Logger // for what the watcher also receives
	id        uint64
	undecided []string // targets that have no result yet
	durations map[runner.Operation]time.Duration
	outcome   Outcome
	errs      []error // of storing
}

func (c *Cycles) newRun(job Job, watcher Watcher) *run {
	return &run{
		Cycles: c, Job: job, watcher: watcher,
		undecided: slices.Clone(job.Targets),
		durations: map[runner.Operation]time.Duration{runner.OperationDiscover: job.Discovering},
	}
}

// begin records the cycle.
func (r *run) begin(ctx context.Context) error {
	recorded, err := r.Record(ctx, r.Job, store.Cycle{})
	if err != nil {
		return err
	}
	r.id = recorded.ID
	r.opened("a cycle begins")
	return nil
}

// opened begins the log of the recorded cycle.
func (r *run) opened(message string) {
	r.Log.buffer.begin()
	r.logger = slog.New(r.Log).With("cycle", r.id, "model", r.Model.Name)
	r.watched = r.logger
	if r.Quiet {
		r.watched = slog.New(r.Log.kept).With("cycle", r.id, "model", r.Model.Name)
	}
	r.watched.Info(message, "entry", r.Entry, "targets", r.Targets)
	r.watcher.Began(r.id)
}

// work has somebody do the cycle. What a panic leaves undecided fails.
func (r *run) work(ctx context.Context, do Work) (err error) {
	request := runner.Request{
		Model:      r.Model,
		Targets:    r.Targets,
		Against:    r.Against,
		Requantize: r.AllowRequantize,
		Settings:   r.Settings,
		OrderSeed:  rand.Uint64(),
		PassedOver: r.passOver,
		Chosen:     r.Store.State().StandingChoice(r.Choose, r.modelID()),
		Previous: func(target string) verdict.Outcome {
			return r.Store.State().Standing(r.pairID(target))
		},
		Progress: r.watcher.Progress,
	}
	if r.Publish.Enabled() {
		request.Finish = r.publish
	}
	failure := Guard(r.logger, func() {
		err = do(ctx, request, func(result runner.Result) {
			result.Failure = because(ctx, result.Failure)
			r.result(result)
		})
	})
	if failure == nil {
		return err
	}
	for _, target := range slices.Clone(r.undecided) {
		r.result(runner.Undecided(request, target, failure))
	}
	return nil
}

// end stores the end of the cycle, and its log.
func (r *run) end() {
	ended := r.write("the end of a cycle", func() error { return r.Store.EndCycle(r.id, r.durations) })
	log := r.Log.buffer.end()
	r.write("the log of a cycle", func() error { return r.Store.PutLog(r.id, log) })
	model := r.Store.State().Models[r.modelID()]
	if ended && r.Choose != choice.None && model != nil && model.Choice != nil {
		r.outcome.Choice = &model.Choice.Event
	}
}

// result stores a result, and logs it.
func (r *run) result(result runner.Result) {
	r.undecided = slices.DeleteFunc(r.undecided, func(target string) bool { return target == result.TargetFormat })
	logger := r.watched.With("target", result.TargetFormat)
	logResult(logger, &result)
	var committed store.Committed
	stored := r.write("a result", func() error {
		c, err := r.Store.Commit(r.id, &result)
		if err != nil {
			return err
		}
		committed = c
		for _, change := range c.Changes {
			logger.Info("an input has changed since the decision before", "input", change.Input, "change", change.Text)
		}
		if c.Changed {
			logger.Info("the decision has changed", "event_id", c.Event.ID, "now", result.Verdict.Outcome, "before", cmp.Or(string(result.Previous), "none"))
		}
		return nil
	})
	shown := result // which a write that is tried again still reads
	if !stored {    // and committed is that write's
		r.watcher.Result(shown, store.Committed{})
		return
	}
	shown.Changes = committed.Changes
	r.watcher.Result(shown, committed)
}

func logResult(logger *slog.Logger, r *runner.Result) {
	switch {
	case r.Failure != nil && r.Failure.Reason == runner.ReasonCanceled:
		logger.Warn("no decision: the cycle was canceled", "err", r.Failure)
		return
	case r.Failure != nil:
		logger.Error("no decision", "reason", r.Failure.Reason, "err", r.Failure)
		return
	}
	figures := []any{"decision", r.Verdict.Outcome}
	switch worst := r.Verdict.Worst(); {
	case r.Outcome() == verdict.Rejected:
		figures = append(figures, "gate", r.Verdict.Gate, "why", report.Gate(r))
	case r.Verdict.Rounds > 0: // else there is no speed: the budget was spent before
		figures = append(figures, "speed", text.SpeedWithin(worst.Drop, worst.Lower, worst.Upper), "phase", worst.Phase, "limit", text.SpeedLimit(r.Threshold))
	}
	logger.Info("decision", append(figures, "rounds", r.Verdict.Rounds, "method", r.Evidence.Method)...)
}

// passOver stores that targets are passed over.
func (r *run) passOver(by string, targets []string) {
	r.undecided = slices.DeleteFunc(r.undecided, func(target string) bool { return slices.Contains(targets, target) })
	r.watched.Info("targets are skipped: another one is chosen before them", "targets", targets, "chosen", by)
	r.write("what is skipped", func() error { return r.Store.PassOver(r.id, by, targets) })
	r.watcher.PassedOver(r.Model.Name, by, targets)
}

// publish publishes copies, and stores what became of that.
func (r *run) publish(ctx context.Context, finished runner.Finished) {
	begin := time.Now()
	all := publishCopies(ctx, r.Store, r.id, r.Publish, finished, r.logger)
	if all == nil {
		return
	}
	r.durations[runner.OperationPublish] = time.Since(begin)
	r.write("what was published", func() error { return r.Store.Published(r.id, all) })
	r.outcome.Published = all
}

// write reports whether something is stored by now.
func (r *run) write(what string, do func() error) (stored bool) {
	stored, err := r.Writes.Write(what, func() error {
		err := do()
		if errors.Is(err, store.ErrCommitted) { // the attempt before has stored it after all
			return nil
		}
		return err
	})
	if err != nil {
		r.errs = append(r.errs, err)
	}
	return stored
}

// ErrCanceled is the cause with which a cycle's context ends when somebody cancels the cycle.
var ErrCanceled = errors.New("somebody asked for the cycle to be canceled")

// timeoutError is the cause with which a context of WithTimeout ends.
type timeoutError struct {
	entry   string
	timeout time.Duration
}

// Error names the entry and its timeout.
func (e *timeoutError) Error() string {
	return fmt.Sprintf("the run of the entry %q took longer than its timeout of %v", e.entry, e.timeout)
}

// WithTimeout bounds a run of an entry, of one cycle or more; 0 means no bound. A cycle that it
// ends fails for the reason timeout. The time in which this process was stopped does not count.
func WithTimeout(ctx context.Context, entry string, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout == 0 {
		return context.WithCancel(ctx)
	}
	return process.WithTimeout(ctx, timeout, &timeoutError{entry, timeout})
}

// because gives a failure its true reason when something else than the end of the process
// canceled the cycle.
func because(ctx context.Context, f *runner.Failure) *runner.Failure {
	if f == nil || f.Reason != runner.ReasonCanceled {
		return f
	}
	switch cause := context.Cause(ctx); {
	case errors.As(cause, new(*timeoutError)):
		return runner.Failf(runner.ReasonTimeout, "%w: %w", cause, f)
	case errors.Is(cause, ErrCanceled):
		return runner.Failf(runner.ReasonCanceled, "%w: %w", cause, f)
	}
	return f
}

// Guard makes a failure of a panic of work, which it logs with the stack; nil without one.
func Guard(logger *slog.Logger, work func()) (failure *runner.Failure) {
	defer func() {
		if p := recover(); p != nil {
			logger.Error("a panic ends this cycle", "panic", p, "stack", string(debug.Stack()))
			failure = runner.Failf(runner.ReasonInternal, "this is a defect of quant-exporter, please report it with the log: %v", p)
		}
	}()
	work()
	return nil
}
