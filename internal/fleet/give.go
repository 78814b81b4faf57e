package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Order is a recorded cycle to give to a worker of its class.
type Order struct {
	Cycle  store.Cycle
	Engine config.Engine // of the entry
	SHA256 string        // of the model's file; "" where it is not known
	// Started says that a worker had begun the cycle before: it is not late any more.
	Started bool
	// Attempt records that the cycle is given for the n-th time.
	Attempt func(n int) error
	// Begun is called when a worker has begun the cycle, with its host, and with "" when that
	// worker has it no more and others may begin it.
	Begun func(host string)
	// Fresh returns the targets that need not be decided, given what the cycle depends on
	// there. If it is nil, the worker is not asked for that, and all are.
	Fresh func(Inputs) []string
	// Withdraw takes targets out of the cycle that need not be decided.
	Withdraw func(targets []string)
	// Log takes lines that the worker has logged.
	Log    func(lines string)
	Logger *slog.Logger
}

// The errors with which Give returns, but for others of storing.
var (
	// ErrLeft says that the context has ended, with this as its cause, and the cycle goes on.
	ErrLeft = errors.New("the exporter stops, and the cycle goes on")
	// ErrLate says that no worker has begun the cycle by its Until. None will.
	ErrLate = errors.New("no worker has begun the cycle in time")
	// ErrFresh says that no target of the cycle needs to be decided, and all are withdrawn.
	ErrFresh = errors.New("the decisions on all targets are fresh")
	// ErrForeign says that another coordinator has given a cycle of the same name, or gives the
	// fleet's cycles.
	ErrForeign = errors.New("another exporter gives the same cycles: two share a fleet, or the state is a copy; use another fleet.prefix for one of them")
)

// Give gives a cycle to a worker, or goes on following one that was given, and hands each of
// its results to emit. It returns nil when each target of the request has its result, or was
// passed over. If the context ends, the cycle is canceled, unless the cause is ErrLeft.
func (c *Coordinator) Give(ctx context.Context, o Order, req runner.Request, emit func(runner.Result)) error {
	f := &following{Coordinator: c, Order: o, req: req, emit: emit, name: cycleName(&o.Cycle), open: slices.Clone(req.Targets)}
	if f.Cycle.Attempt == 0 {
		if err := f.next(""); err != nil {
			return err
		}
	}
	for {
		over, err := f.step(ctx)
		switch {
		case over || f.final(err):
			return err
		case err != nil && ctx.Err() == nil:
			f.away(err)
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), ErrLeft) {
				return ErrLeft
			}
			return f.cancel(ctx)
		case <-time.After(f.pause()):
		}
	}
}

// pause returns how long to wait between two looks: longer before a worker has begun the cycle,
// because hundreds may wait for one.
func (f *following) pause() time.Duration {
	if f.run == "" {
		return 4 * f.times.Poll
	}
	return f.times.Poll
}

// Why a cycle is over in Redis.
const (
	endStored    = "stored"     // its end is, or that it is forgotten
	endLate      = "late"       // no worker has begun it in time
	endTakenBack = "taken back" // to be given again, or not at all
	endCanceled  = "canceled"
)

// End forgets a cycle whose end is stored. A worker that still has it gets to know that. If Redis
// does not answer, that is an error, and Run tells it later.
func (c *Coordinator) End(ctx context.Context, cycle *store.Cycle) error {
	l, err := c.current()
	if err != nil {
		return err
	}
	if _, err = l.endCycle(ctx, cycle, endStored, false); err != nil {
		c.later(cycle, endStored, err)
	}
	return err
}

// TakeBack ends a cycle that no worker has begun, so that none does. It reports whether it has:
// false says that a worker has begun it.
func (c *Coordinator) TakeBack(ctx context.Context, cycle *store.Cycle) (bool, error) {
	l, err := c.current()
	if err != nil {
		return false, err
	}
	return l.takeBack(ctx, cycle, endTakenBack, true)
}

// endCycle ends a cycle in Redis, with unbegun only if no worker has begun it. It reports whether
// the cycle is over.
func (l *link) endCycle(ctx context.Context, cycle *store.Cycle, why string, unbegun bool) (ended bool, err error) {
	only := ""
	if unbegun {
		only = "1"
	}
	n, err := l.callNumber(ctx, endLua, l.keysOf(cycleName(cycle)), cycle.Ticket, cycle.Attempt, why, only, seconds(keep))
	return n == 1, err
}

// takeBack does the same, and takes the task out of the queue as far as it is there.
func (l *link) takeBack(ctx context.Context, cycle *store.Cycle, why string, unbegun bool) (ended bool, err error) {
	ended, err = l.endCycle(ctx, cycle, why, unbegun)
	if ended {
		_ = l.tasks.DeleteTask(l.queueOf(cycle.Class), taskID(cycleName(cycle), cycle.Attempt)) // else the worker that takes it finds that it is over
	}
	return ended, err
}

// following is a cycle that is given.
type following struct {
	*Coordinator
	Order
	req  runner.Request
	emit func(runner.Result)

	name string
	open []string // targets without a result

	given  bool   // this attempt is in the queue, or was
	run    string // of the worker that has begun it; "" before
	host   string
	last   string    // what was read of the results; "" for nothing
	heard  time.Time // when something new was heard of the worker, or Redis was away
	since  int64     // how long before the worker had beaten, at the last look
	looked time.Time // when the task was last looked at
	failed string    // why the last step failed; "" when it did not
	behind time.Time // since when another coordinator has the right to give new cycles

	dropped   int // how often a worker has dropped the task
	withdrawn int // how many targets were taken out of the cycle, as it was when Give began
}

// final reports whether nothing is to be gained by another step.
func (f *following) final(err error) bool {
	return errors.Is(err, ErrLate) || errors.Is(err, ErrForeign) || errors.Is(err, ErrFresh) || errors.As(err, new(*storeError))
}

// storeError is an error of the coordinator's own state.
type storeError struct{ error }

func (e *storeError) Unwrap() error { return e.error }

// away notes that Redis does not answer: silence of the worker says nothing then.
func (f *following) away(err error) {
	f.heard = time.Now()
	if reason := err.Error(); reason != f.failed {
		f.failed = reason
		f.Logger.Warn("the cycle cannot be followed; it is tried again", "err", err)
	}
}

// next begins the next attempt.
func (f *following) next(why string) error {
	if err := f.Attempt(f.Cycle.Attempt + 1); err != nil {
		return &storeError{err}
	}
	f.Cycle.Attempt++
	if why != "" {
		f.Logger.Warn("the cycle is given to the workers of its class again", "why", why, "attempt", f.Cycle.Attempt, "host", f.host)
	}
	if f.run != "" {
		f.Begun("")
	}
	f.given, f.run, f.host, f.last, f.heard, f.looked = false, "", "", "", time.Now(), time.Time{}
	return nil
}

// step looks at the cycle once, and does what is to be done. over says that it has ended.
func (f *following) step(ctx context.Context) (over bool, err error) {
	l, err := f.current()
	if err != nil {
		return false, err
	}
	keys := l.keysOf(f.name)
	state, err := l.call(ctx, openLua, keys[:1], f.Cycle.Ticket, f.Cycle.Attempt, seconds(keep), f.until())
	if err != nil {
		return false, err
	}
	switch state.text(0) {
	case replyOK:
	case replyForeign, replyNewer:
		return false, ErrForeign
	case replyEnded:
		return f.ended(state.text(1))
	default:
		return false, errReply
	}
	if state.text(1) == "" && len(f.open) == 0 { // no worker has anything to do
		f.done()
		return true, nil
	}
	if state.text(1) == "" {
		if err := f.giveOnce(ctx, l); err != nil {
			return false, err
		}
	}
	f.failed = ""
	f.host = state.text(2)
	if run := state.text(1); run != f.run {
		f.run = run
		f.Begun(f.host)
		if run != "" { // else Redis has lost that, and its worker says it again
			f.heard, f.Started = time.Now(), true
			f.Logger.Info("a worker has begun the cycle", "host", f.host, "attempt", f.Cycle.Attempt)
		}
	}
	if f.run == "" {
		return false, f.wait(ctx, l)
	}
	if over, err := f.read(ctx, l, keys[1]); over || err != nil {
		return over, err
	}
	return false, f.alive(state)
}

// lead sees to it that no other coordinator gives cycles. One that has died loses the right after
// a while, for which the cycle waits.
func (f *following) lead(ctx context.Context, l *link) error {
	other, err := l.lead(ctx, f.Coordinator.name, f.times.Lead)
	switch {
	case err != nil:
		return err
	case other == "":
		f.leads.Store(true)
		return nil
	case f.behind.IsZero():
		f.behind = time.Now()
	case time.Since(f.behind) > 2*f.times.Lead:
		return fmt.Errorf("%w (it is the one on %s)", ErrForeign, other)
	}
	f.progress(runner.Progress{Model: f.Cycle.Model, Operation: runner.OperationWait, Detail: "another exporter to stop, which gives cycles to the same fleet: the one on " + other})
	return fmt.Errorf("another exporter gives cycles to the same fleet: the one on %s", other)
}

// until is when no worker may begin the attempt any more, for open.lua: also while no coordinator
// is there to take it back.
func (f *following) until() string {
	if f.Started || f.Cycle.Until.IsZero() {
		return ""
	}
	return strconv.FormatInt(f.Cycle.Until.UnixMilli(), 10)
}

// ended goes on with an attempt that is over in Redis already: this coordinator has ended it, and
// was stopped before it had stored what it was to do then.
func (f *following) ended(why string) (over bool, err error) {
	switch why {
	case endLate:
		return false, ErrLate
	case endTakenBack: // to be given again
		return false, f.next("")
	case endCanceled:
		f.fail(runner.Failf(runner.ReasonCanceled, "it was canceled, and the exporter stopped before that was stored: %w", context.Canceled))
		return true, nil
	default: // its end is stored, and not here: this state is older than that, or a copy
		return false, ErrForeign
	}
}

// giveOnce puts an attempt that no worker has begun into the queue, once.
func (f *following) giveOnce(ctx context.Context, l *link) error {
	if f.given {
		return nil
	}
	if err := l.check(ctx); err != nil {
		return err
	}
	if err := f.lead(ctx, l); err != nil {
		return err
	}
	req := f.req
	req.Targets = f.open
	payload, err := json.Marshal(newTask(&f.Order, req, f.Cycle.Attempt))
	if err != nil {
		return &storeError{fmt.Errorf("writing the task: %w", err)}
	}
	_, err = l.queue.EnqueueContext(ctx, asynq.NewTask(taskType, payload),
		asynq.Queue(l.queueOf(f.Cycle.Class)), asynq.TaskID(taskID(f.name, f.Cycle.Attempt)),
		asynq.MaxRetry(0), asynq.Timeout(keep), asynq.Retention(keep))
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) { // else it is there already
		return fmt.Errorf("giving the cycle: %w", err)
	}
	f.given, f.looked = true, time.Now()
	return nil
}

// wait looks after a cycle that no worker has begun.
func (f *following) wait(ctx context.Context, l *link) error {
	status := f.Status()
	detail := "a worker of the class " + f.Cycle.Class
	if status.Count(f.Cycle.Class) == 0 {
		detail += ", of which none is there"
	}
	f.progress(runner.Progress{Model: f.Cycle.Model, Operation: runner.OperationWait, Detail: detail})
	if until := f.Cycle.Until; !until.IsZero() && time.Now().After(until) && !f.Started {
		ended, err := l.takeBack(ctx, &f.Cycle, endLate, true)
		if err != nil || !ended {
			return err
		}
		return ErrLate
	}
	if time.Since(f.looked) < f.lookAfter() {
		return nil
	}
	f.looked = time.Now()
	lost, err := f.lost(ctx, l)
	if err != nil || lost == "" {
		return err
	}
	switch run, err := l.redis.HGet(ctx, l.keysOf(f.name)[0], "run").Result(); {
	case err != nil && !errors.Is(err, redis.Nil):
		return err
	case run != "": // a worker has begun it since, and may be through: the next look takes that in
		return nil
	}
	return f.next(lost)
}

// maxDoublings bounds how much longer it takes until a task is given again that workers drop.
const maxDoublings = 6

// lookAfter is how long to wait before the task is looked at: longer each time a worker has dropped
// it, as one of another version does at once.
func (f *following) lookAfter() time.Duration {
	return f.times.Task << min(f.dropped, maxDoublings)
}

// lost says why no worker will begin the task; "" where one may.
func (f *following) lost(ctx context.Context, l *link) (string, error) {
	queue, id := l.queueOf(f.Cycle.Class), taskID(f.name, f.Cycle.Attempt)
	info, err := l.tasks.GetTaskInfo(queue, id)
	switch {
	case errors.Is(err, asynq.ErrTaskNotFound), errors.Is(err, asynq.ErrQueueNotFound):
		return "Redis has lost the task", nil
	case err != nil:
		return "", err
	}
	switch info.State {
	case asynq.TaskStateArchived, asynq.TaskStateCompleted:
		f.dropped++
		return "a worker has dropped the task: " + info.LastErr, nil
	case asynq.TaskStateActive:
		return f.orphaned(ctx, l, queue, id)
	default:
		return "", nil
	}
}

// orphaned looks for a task that asynq has left active without a lease
// (https://github.com/hibiken/asynq/issues/1051 and 1144). TaskInfo.IsOrphaned knows of leases that
// have expired; a task that has none at all stays active for ever.
func (f *following) orphaned(ctx context.Context, l *link, queue, id string) (string, error) {
	until, err := l.redis.ZScore(ctx, "asynq:{"+queue+"}:lease", id).Result()
	switch {
	case errors.Is(err, redis.Nil), err == nil && time.Unix(int64(until), 0).Before(time.Now()):
		return "the task was left active without a worker", nil
	default:
		return "", err
	}
}

// alive begins the next attempt when nothing was heard of the worker for too long.
func (f *following) alive(state reply) error {
	since := state.number(3)
	if since < f.since || f.heard.IsZero() { // it has beaten
		f.heard = time.Now()
	}
	f.since = since
	if since >= 0 && since < f.times.Silent.Milliseconds() || time.Since(f.heard) < f.times.Silent {
		var p runner.Progress
		if json.Unmarshal([]byte(state.text(4)), &p) == nil {
			f.progress(p)
		}
		return nil
	}
	return f.next(fmt.Sprintf("nothing was heard of the worker for %v", f.times.Silent))
}

func (f *following) progress(p runner.Progress) {
	if f.req.Progress != nil {
		f.req.Progress(p)
	}
}

// The kinds of entries among the results.
const (
	kindResult     = "result"      // data: runner.Result
	kindPassedOver = "passed_over" // data: passedOver
	kindLog        = "log"         // data: lines
	kindInputs     = "inputs"      // data: Inputs; the worker waits for an answer
	kindBack       = "back"        // data: why; the worker gives the cycle back
	kindDone       = "done"        // it has done all
)

// Inputs are what a cycle depends on, on the host of a worker.
type Inputs struct {
	runner.Inputs
	// Cannot is why a cycle cannot be done there, such as that there is no such model; "" where it
	// can. The rest is then zero.
	Cannot string `json:"cannot,omitempty"`
}

// passedOver are targets that a cycle passes over, for another.
type passedOver struct {
	By      string   `json:"by"`
	Targets []string `json:"targets"`
}

// batch is how many results are read at once: each may have as much as one reply can (maxResult).
const batch = 1

// read takes in what the worker has found since.
func (f *following) read(ctx context.Context, l *link, results string) (over bool, err error) {
	for {
		from := "-"
		if f.last != "" {
			from = "(" + f.last
		}
		entries, err := l.redis.XRangeN(ctx, results, from, "+", batch).Result()
		if err != nil {
			return false, fmt.Errorf("reading results: %w", err)
		}
		for _, entry := range entries {
			before := f.last
			f.last, f.heard = entry.ID, time.Now()
			value := func(name string) string { text, _ := entry.Values[name].(string); return text }
			if value("run") != f.run || value("attempt") != strconv.Itoa(f.Cycle.Attempt) {
				continue
			}
			back, err := f.take(value("kind"), value("data"))
			if err == nil && value("kind") == kindInputs {
				if err := f.answer(ctx, l, value("data")); err != nil {
					f.last = before // it is asked again
					return false, err
				}
				if f.withdrawn > 0 && f.withdrawn == len(f.Cycle.Targets) { // not only those that an earlier process had left
					return true, ErrFresh // at once: the cycle is forgotten, whatever its worker does
				}
			}
			switch {
			case err != nil:
				f.Logger.Error("what a worker has sent cannot be read, and is left out", "err", err, "host", f.host)
			case back != "":
				return false, f.next(back)
			case value("kind") == kindDone:
				f.done()
				return true, nil
			}
		}
		if len(entries) < batch {
			return false, nil
		}
	}
}

// take takes in an entry; back says why the worker gives the cycle back.
func (f *following) take(kind, data string) (back string, err error) {
	switch kind {
	case kindResult:
		var r runner.Result
		if err := json.Unmarshal([]byte(data), &r); err != nil {
			return "", err
		}
		return "", f.result(r)
	case kindPassedOver:
		var p passedOver
		if err := json.Unmarshal([]byte(data), &p); err != nil {
			return "", err
		}
		targets := slices.DeleteFunc(p.Targets, func(target string) bool { return !slices.Contains(f.open, target) })
		f.close(targets...)
		if len(targets) > 0 && f.req.PassedOver != nil {
			f.req.PassedOver(p.By, targets)
		}
	case kindLog:
		f.Log(strings.ToValidUTF8(data, "?"))
	case kindBack:
		return "its worker was asked to end: " + data, nil
	}
	return "", nil
}

// answer says which targets need not be decided. The first answer stands.
func (f *following) answer(ctx context.Context, l *link, data string) error {
	var inputs Inputs
	fresh := []string{}
	if err := json.Unmarshal([]byte(data), &inputs); err == nil && f.Fresh != nil {
		fresh = append(fresh, f.Fresh(inputs)...)
	}
	text, err := json.Marshal(fresh)
	if err != nil {
		return err
	}
	key := l.keysOf(f.name)[0]
	if err := l.redis.HSetNX(ctx, key, "fresh", text).Err(); err != nil {
		return err
	}
	stands, err := l.redis.HGet(ctx, key, "fresh").Result()
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(stands), &fresh); err != nil {
		return err
	}
	fresh = slices.DeleteFunc(fresh, func(target string) bool { return !slices.Contains(f.open, target) })
	if len(fresh) == 0 || f.Withdraw == nil {
		return nil
	}
	f.close(fresh...)
	f.Withdraw(fresh)
	f.withdrawn += len(fresh)
	return nil
}

func (f *following) close(targets ...string) {
	f.open = slices.DeleteFunc(f.open, func(target string) bool { return slices.Contains(targets, target) })
}

// result hands on a result of a target that has none yet. One that the store refuses is an error
// here: there it would be tried for ever, and all that is to be stored after it would wait.
func (f *following) result(r runner.Result) error {
	if r.Model != f.req.Model.Name || !slices.Contains(f.open, r.TargetFormat) {
		return nil // it was taken in before, by an earlier process; or nobody asked for it
	}
	if err := store.CheckContent(&r); err != nil {
		return fmt.Errorf("the result of %s: %w", r.TargetFormat, err)
	}
	f.close(r.TargetFormat)
	r.Host = f.host
	f.emit(r)
	return nil
}

// done ends a cycle whose worker says that it has done all.
func (f *following) done() {
	f.fail(runner.Failf(runner.ReasonInternal, "the worker on %s ended the cycle without a result for this target; its log says why", f.host))
}

// fail ends the targets that have no result.
func (f *following) fail(failure *runner.Failure) {
	for _, target := range slices.Clone(f.open) {
		f.close(target)
		r := runner.Undecided(f.req, target, failure)
		r.Host = f.host
		f.emit(r)
	}
}

// cancel ends the cycle on its worker, whose results up to then still count.
func (f *following) cancel(ctx context.Context) error {
	cause := context.Cause(ctx)
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), f.times.Cancel)
	defer stop()
	ticker := time.NewTicker(f.times.Poll)
	defer ticker.Stop()
	for ctx.Err() == nil {
		over, err := f.canceling(ctx)
		if over {
			return err
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	if l, err := f.current(); err == nil { // the worker does not answer: it learns of that when it comes back
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer stop()
		if _, err := l.takeBack(ctx, &f.Cycle, endCanceled, false); err != nil {
			f.later(&f.Cycle, endCanceled, err)
		}
	}
	f.fail(runner.Failf(runner.ReasonCanceled, "%w; the worker on %q has not answered", cause, f.host))
	return nil
}

// canceling is one look at a cycle that is canceled.
func (f *following) canceling(ctx context.Context) (over bool, err error) {
	l, err := f.current()
	if err != nil {
		return false, err
	}
	ended, err := l.takeBack(ctx, &f.Cycle, endCanceled, true)
	if err != nil {
		return false, err
	}
	if ended {
		f.fail(runner.Failf(runner.ReasonCanceled, "it was canceled before a worker had begun it: %w", context.Canceled))
		return true, nil
	}
	keys := l.keysOf(f.name)
	state, err := l.call(ctx, cancelLua, keys[:1], f.Cycle.Ticket, f.Cycle.Attempt)
	switch {
	case err != nil:
		return false, err
	case state.text(0) == replyForeign:
		return true, ErrForeign
	case state.text(0) != replyOK:
		return false, errReply
	}
	if f.run == "" {
		f.run, f.host = state.text(1), state.text(2)
	}
	attempt := f.Cycle.Attempt
	over, err = f.read(ctx, l, keys[1])
	if f.Cycle.Attempt != attempt { // its worker has given it back meanwhile
		ended, err := l.takeBack(ctx, &f.Cycle, endCanceled, false)
		if ended {
			f.fail(runner.Failf(runner.ReasonCanceled, "it was canceled: %w", context.Canceled))
		}
		return ended, err
	}
	return over, err
}
