package fleet

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/redisconn"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Do does the cycle of a task on this host, and reports to out. It returns when the cycle is
// over, and soon after its context has ended.
type Do func(ctx context.Context, task Task, out *Report)

// WorkerOptions are what a Worker needs.
type WorkerOptions struct {
	Config  config.Fleet
	Secrets redisconn.Secrets
	Class   string
	Host    string
	Times   Times
	Version string // of this program
	// Engine names the engine, or says why it cannot be used.
	Engine func(ctx context.Context) (name string, err error)
	Do     Do
	Logger *slog.Logger
}

// Worker takes cycles of its class, one at a time.
type Worker struct {
	WorkerOptions
	link *link

	working sync.Mutex // held while a cycle goes on, whatever asynq knows of it

	mu   sync.Mutex
	said Said
}

// NewWorker makes a Worker. It does not connect; it fails as redisconn.New does.
func NewWorker(o WorkerOptions) (*Worker, error) {
	l, err := newLink(o.Config, o.Secrets)
	if err != nil {
		return nil, err
	}
	o.Times = o.Times.withDefaults()
	w := &Worker{WorkerOptions: o, link: l}
	w.said = Said{Name: o.Host + "-" + rand.Text()[:8], Class: o.Class, Host: o.Host, Version: o.Version, Started: time.Now().UTC().Truncate(time.Second)}
	return w, nil
}

// errStop is the cause with which the context of a cycle ends that is given back.
var errStop = errors.New("this worker was asked to end")

// errTold is the cause when the coordinator does not count on this worker any more.
var errTold = errors.New("another worker has the cycle, or it is over")

// errStored is the cause when the coordinator has all that it wants, such as that every target is
// fresh.
var errStored = errors.New("the coordinator has ended the cycle")

// errCanceled is the cause when the coordinator has canceled the cycle.
var errCanceled = errors.New("the cycle was canceled")

// Run takes cycles until the context ends; with once, one cycle. A cycle that goes on then is
// given back. It returns an error if Redis cannot hold a fleet.
func (w *Worker) Run(ctx context.Context, once bool) error {
	defer w.link.close()
	if err := w.link.check(ctx); errors.As(err, new(*UnfitError)) {
		return err
	}
	saying, quiet := context.WithCancel(context.WithoutCancel(ctx)) // it is there until its cycle is over
	var background sync.WaitGroup
	background.Go(func() { w.saying(saying) })
	defer background.Wait()
	defer quiet()
	for ctx.Err() == nil {
		took, err := w.serve(ctx, once)
		if err != nil {
			w.Logger.Error("cycles cannot be taken; it is tried again", "err", err)
		}
		if once && took {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

// serve takes cycles until the context ends, one is over with once, or asynq has lost the lease
// of one that then is over: it would have given this worker another one meanwhile.
func (w *Worker) serve(ctx context.Context, once bool) (took bool, err error) {
	server := asynq.NewServerFromRedisClient(w.link.redis, asynq.Config{
		Concurrency:       1,
		Queues:            map[string]int{w.link.queueOf(w.Class): 1},
		TaskCheckInterval: 200 * time.Millisecond,
		ShutdownTimeout:   time.Minute,
		Logger:            queueLog{w.Logger},
	})
	over := make(chan struct{}, 1)
	var taken atomic.Bool
	stop := func() {
		server.Stop()
		select {
		case over <- struct{}{}:
		default:
		}
	}
	handler := asynq.HandlerFunc(func(leased context.Context, task *asynq.Task) error {
		if !w.working.TryLock() {
			return fmt.Errorf("%s has a cycle already: %w", w.Host, asynq.SkipRetry)
		}
		done := make(chan error, 1)
		go func() {
			err := w.task(ctx, task.Payload())
			debug.FreeOSMemory() // the next cycle may be due tomorrow
			w.working.Unlock()   // before asynq hears of it, which may have the next one
			done <- err
		}()
		end := func(err error) error {
			if errors.Is(err, errNotTaken) {
				return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
			}
			if once {
				taken.Store(true)
				stop()
			}
			return nil
		}
		select {
		case err := <-done:
			return end(err)
		case <-leased.Done(): // Redis was away, or this process: the cycle goes on
			w.Logger.Warn("the queue has given up on the cycle, which goes on: nothing was heard of Redis for too long")
			server.Stop()
			_ = end(<-done)
			stop()
			return leased.Err()
		}
	})
	if err := server.Start(handler); err != nil {
		return false, err
	}
	select {
	case <-ctx.Done():
	case <-over:
	}
	server.Shutdown()
	w.working.Lock() // until the cycle that asynq does not know of is over
	defer w.working.Unlock()
	return taken.Load(), nil
}

// errNotTaken says that a task was not begun.
var errNotTaken = errors.New("the task is not taken")

// task does the cycle of a task.
func (w *Worker) task(ctx context.Context, payload []byte) error {
	t, err := parseTask(payload)
	if errors.Is(err, errVersion) || t.Cycle == "" || t.Class != w.Class {
		w.Logger.Error("a task cannot be taken", "err", err, "class", t.Class)
		return fmt.Errorf("%w: %w", errNotTaken, cmp.Or(err, errors.New("it is of another class")))
	}
	cycle, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { cancel(errStop) })
	defer stop()
	r := newReport(cycle, w, t, cancel)
	if err := r.begin(cycle); err != nil {
		w.Logger.Warn("a cycle is not begun", "entry", t.Entry, "model", t.Model, "err", err)
		return fmt.Errorf("%w: %w", errNotTaken, err)
	}
	w.now(t.Entry, t.Model)
	defer w.now("", "")
	w.Logger.Info("a cycle begins", "entry", t.Entry, "model", t.Model, "targets", t.Targets, "attempt", t.Attempt)
	begin := time.Now()
	if err != nil { // what the task says cannot be used
		r.refuse(err)
	} else {
		w.Do(cycle, t, r)
	}
	switch cause := context.Cause(cycle); {
	case errors.Is(cause, errStop):
		r.finish(ctx, kindBack, w.Host)
	case errors.Is(cause, errTold), errors.Is(cause, errStored):
		r.finish(ctx, "", "")
	default:
		r.finish(ctx, kindDone, "")
	}
	switch cause := context.Cause(cycle); { // it may only have learned of that now
	case errors.Is(cause, errStop):
		w.Logger.Info("the cycle is given back", "model", t.Model)
	case errors.Is(cause, errStored):
		w.Logger.Info("the coordinator has ended the cycle", "model", t.Model)
	case errors.Is(cause, errTold):
		w.Logger.Warn("what this worker found does not count: another worker has the cycle, or it is over", "model", t.Model)
	default:
		w.Logger.Info("the cycle is over", "model", t.Model, "took", time.Since(begin).Round(time.Millisecond))
	}
	return nil
}

// now notes what the worker does.
func (w *Worker) now(entry, model string) {
	w.mu.Lock()
	w.said.Entry, w.said.Model = entry, model
	w.mu.Unlock()
	w.say(context.Background())
}

// probeEvery is how often a worker looks at its engine.
const probeEvery = time.Minute

// saying says that the worker is there until the context ends, and then that it is gone.
func (w *Worker) saying(ctx context.Context) {
	ticker := time.NewTicker(sayEvery)
	defer ticker.Stop()
	var probed time.Time
	for ctx.Err() == nil {
		if time.Since(probed) >= probeEvery && w.Engine != nil {
			name, err := w.Engine(ctx)
			w.mu.Lock()
			w.said.Engine, w.said.Error = name, ""
			if err != nil {
				w.said.Error = err.Error()
			}
			w.mu.Unlock()
			probed = time.Now()
		}
		w.say(ctx)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	for _, key := range w.link.workersKeys() {
		_ = w.link.redis.HDel(ctx, key, w.said.Name).Err() // else it is forgotten later
	}
}

func (w *Worker) say(ctx context.Context) {
	w.mu.Lock()
	text, err := json.Marshal(w.said)
	w.mu.Unlock()
	if err == nil {
		_, err = w.link.callNumber(ctx, presentLua, w.link.workersKeys(), w.said.Name, text)
	}
	if err != nil && ctx.Err() == nil {
		w.Logger.Debug("the worker cannot say that it is there", "err", err)
	}
}

// Report takes what a cycle finds, and sends it to the coordinator in order. What cannot be
// sent is kept and tried again. Its methods are safe for concurrent use.
type Report struct {
	cycle  context.Context //nolint:containedctx // whose cause says what becomes of results
	link   *link
	task   Task
	run    string
	host   string
	cancel context.CancelCauseFunc
	logger *slog.Logger

	beatEvery, askEvery time.Duration

	ended chan struct{} // closed by finish
	over  sync.WaitGroup
	wake  chan struct{}

	mu       sync.Mutex
	progress runner.Progress
	entries  []entry // what is to be sent
	sent     int
	lines    []byte // of the log, not among the entries yet
	logged   int    // bytes
	last     bool   // the last entry is there
	fresh    chan []string
	asked    bool // what is fresh
	answered bool // fresh has got its value
}

// entry is one of the results.
type entry struct{ kind, data string }

// maxResult bounds a result in JSON: redisconn reads no larger replies than of 4 MiB.
const maxResult = 3 << 20

// maxLog bounds what is sent of a cycle's log.
const maxLog = 256 << 10

func newReport(cycle context.Context, w *Worker, t Task, cancel context.CancelCauseFunc) *Report {
	return &Report{
		cycle: cycle, link: w.link, task: t, run: rand.Text(), host: w.Host, cancel: cancel, logger: w.Logger, beatEvery: w.Times.Beat, askEvery: w.Times.Ask,
		ended: make(chan struct{}), wake: make(chan struct{}, 1), fresh: make(chan []string, 1),
	}
}

// beginFor is how long a worker tries to begin a task of which Redis knows nothing: the
// coordinator says it again when it sees that.
const beginFor = 15 * time.Second

// begin says that the cycle begins, and goes on to say so. The error says why it must not.
func (r *Report) begin(ctx context.Context) error {
	deadline := time.Now().Add(beginFor)
	for {
		answer, err := r.beat(ctx)
		switch {
		case err == nil && answer.text(0) == replyOK:
			r.over.Go(func() { r.sending(ctx) })
			return nil
		case err == nil && answer.text(0) == replyTaken:
			return fmt.Errorf("it was begun by the worker on %s", answer.text(1))
		case err == nil && answer.text(0) == replyLate:
			return errors.New("it is too late: no worker had begun it within its starting_deadline")
		case err == nil && answer.text(0) != replyUnknown:
			return errTold
		case time.Now().After(deadline):
			return cmp.Or(err, errors.New("the cycle is not known to Redis"))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

func (r *Report) keys() []string { return r.link.keysOf(r.task.Cycle) }

func (r *Report) beat(ctx context.Context) (reply, error) {
	r.mu.Lock()
	progress, err := json.Marshal(r.progress)
	r.mu.Unlock()
	if err != nil { // of a number that is none
		progress = []byte("{}")
	}
	return r.link.call(ctx, guardLua+beatLua, r.keys()[:1], r.task.Token, r.task.Attempt, r.run, r.host, progress)
}

// Progress takes what the cycle does.
func (r *Report) Progress(p runner.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = p
}

// Result takes a result. What a cycle that is given back has not decided is decided elsewhere.
func (r *Report) Result(result runner.Result) {
	cause := context.Cause(r.cycle)
	if result.Failure != nil && result.Failure.Reason == runner.ReasonCanceled && (errors.Is(cause, errStop) || errors.Is(cause, errTold) || errors.Is(cause, errStored)) {
		return
	}
	text, err := json.Marshal(result)
	if len(text) > maxResult {
		r.logger.Warn("a result is too large to be sent: the rounds that it rests on are left out", "target", result.TargetFormat, "bytes", len(text), "rounds", len(result.Evidence.Rounds))
		result.Evidence.Rounds = nil
		text, err = json.Marshal(result)
	}
	if err == nil && len(text) > maxResult {
		err = fmt.Errorf("it has more than %d bytes, which is too much for Redis", maxResult)
	}
	if err != nil {
		text, err = json.Marshal(runner.Result{
			Model: result.Model, SourceFormat: result.SourceFormat, TargetFormat: result.TargetFormat, Threshold: result.Threshold,
			Started: result.Started, Finished: result.Finished,
			Failure: runner.Failf(runner.ReasonInternal, "the result cannot be sent: %w", err),
		})
	}
	if err != nil {
		r.logger.Error("a result cannot be sent", "err", err)
		return
	}
	r.add(kindResult, string(text))
}

// Fresh says what the cycle depends on here, and returns the targets that need not be decided,
// when the coordinator has answered.
func (r *Report) Fresh(ctx context.Context, inputs Inputs) ([]string, error) {
	text, err := json.Marshal(inputs)
	if err != nil {
		return nil, fmt.Errorf("writing the inputs: %w", err)
	}
	r.mu.Lock()
	r.asked = true
	r.mu.Unlock()
	ticker := time.NewTicker(r.askEvery)
	defer ticker.Stop()
	for ask := true; ; ask = r.sentAll() { // Redis may have lost the question, or the answer
		if ask {
			r.add(kindInputs, string(text))
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case fresh := <-r.fresh:
			return fresh, nil
		case <-ticker.C:
		}
	}
}

func (r *Report) sentAll() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent >= len(r.entries)
}

// PassedOver takes the targets that the cycle passes over.
func (r *Report) PassedOver(by string, targets []string) {
	text, err := json.Marshal(passedOver{by, targets})
	if err == nil {
		r.add(kindPassedOver, string(text))
	}
}

// Write takes lines of the log; those beyond a bound are dropped.
func (r *Report) Write(lines []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.logged < maxLog {
		r.logged += len(lines)
		r.lines = append(r.lines, lines...)
	}
	return len(lines), nil
}

// refuse fails every target.
func (r *Report) refuse(err error) {
	request := runner.Request{Model: model.Model{Name: r.task.Model}, Settings: r.task.Settings}
	for _, target := range r.task.Targets {
		r.Result(runner.Undecided(request, target, runner.Failf(runner.ReasonInternal, "the worker on %s refuses the cycle: %w", r.host, err)))
	}
}

func (r *Report) add(kind, data string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flushLines()
	r.entries = append(r.entries, entry{kind, data})
	r.awake()
}

// flushLines makes an entry of what was logged. r.mu is held.
func (r *Report) flushLines() {
	if len(r.lines) > 0 {
		r.entries = append(r.entries, entry{kindLog, string(r.lines)})
		r.lines = nil
	}
}

func (r *Report) awake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// finishFor is how long a worker tries to send the rest of a cycle that is over, while Redis
// is away. What could not be sent then is measured again.
const finishFor = 24 * time.Hour

// backFor is the same for a worker that was asked to end, from the later of both.
const backFor = 10 * time.Second

// finish sends the rest, with a last entry of this kind, or, without one, drops it. It returns
// when that is done, or given up: soon after the context of the worker has ended.
func (r *Report) finish(worker context.Context, kind, data string) {
	r.mu.Lock()
	r.last = true
	if kind == "" {
		r.entries = r.entries[:r.sent]
	} else {
		r.flushLines()
		r.entries = append(r.entries, entry{kind, data})
	}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(worker), finishFor)
	defer cancel()
	defer context.AfterFunc(worker, func() { time.AfterFunc(backFor, cancel) })()
	defer context.AfterFunc(ctx, func() { close(r.ended) })()
	r.awake()
	r.over.Wait()
}

// sending beats, and sends what is to be sent, until all is.
func (r *Report) sending(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	pause := r.pause()
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		all := r.send(ctx)
		if all {
			return
		}
		if now := r.pause(); now != pause {
			pause = now
			ticker.Reset(pause)
		}
		select {
		case <-r.ended:
			return
		case <-r.wake:
		case <-ticker.C:
			r.mu.Lock()
			r.flushLines()
			r.mu.Unlock()
			answer, err := r.beat(ctx)
			if err == nil {
				r.heed(answer)
			}
		}
	}
}

// pause returns how long to wait between two beats: not long while the cycle waits for what the next
// one brings, which targets are fresh.
func (r *Report) pause() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked && !r.answered {
		return min(r.beatEvery, 250*time.Millisecond)
	}
	return r.beatEvery
}

// heed does what an answer says, and reports whether nothing more is to be sent.
func (r *Report) heed(answer reply) (over bool) {
	switch answer.text(0) {
	case replySuperseded, replyTaken:
		cause := errTold
		if answer.text(0) == replySuperseded && answer.text(1) == endStored {
			cause = errStored
		}
		r.cancel(cause)
		return true
	case replyOK:
		if answer.text(1) == "1" {
			r.cancel(errCanceled)
		}
		r.tell(answer.text(2))
	}
	return false
}

// tell hands on which targets need not be decided, once.
func (r *Report) tell(text string) {
	var fresh []string
	if text == "" || json.Unmarshal([]byte(text), &fresh) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.answered {
		r.answered = true
		r.fresh <- fresh
	}
}

// send sends what it can, and reports whether that was the last.
func (r *Report) send(ctx context.Context) (all bool) {
	for {
		r.mu.Lock()
		if r.sent >= len(r.entries) {
			all = r.last
			r.mu.Unlock()
			return all
		}
		next, number := r.entries[r.sent], r.sent+1
		r.mu.Unlock()
		answer, err := r.link.call(ctx, guardLua+appendLua, r.keys(), r.task.Token, r.task.Attempt, r.run, number, next.kind, next.data, seconds(keep), r.host)
		if err != nil {
			return false // it is tried again with the next beat
		}
		if answer.text(0) != replyOK {
			return r.heed(answer) && r.finished()
		}
		r.mu.Lock()
		// Redis may have lost what it had taken, or have taken more than it could say.
		r.sent = min(max(int(answer.number(1)), 0), len(r.entries))
		r.mu.Unlock()
	}
}

func (r *Report) finished() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}
