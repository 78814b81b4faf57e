package a2a

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/store"
)

// Outbox is where the events wait, and stay for a while after they were delivered: the
// store. Its methods are called from one goroutine.
type Outbox interface {
	// NextPending returns the pending events with the smallest Seq, at most limit; the
	// batch stops where the producer changes.
	NextPending(limit int) ([]store.Event, error)
	// Producers returns the producers whose numbered events are kept, delivered ones
	// included, in the order of their events by Seq.
	Producers() ([]string, error)
	// Window returns the first and the last numbered event of the producer that is kept,
	// delivered ones included; ok is false when there is none.
	Window(producer string) (oldest, newest store.Event, ok bool, err error)
	// From returns the producer's kept events from the number on, in order, at most
	// limit, delivered ones included.
	From(producer string, number uint64, limit int) ([]store.Event, error)
	// MarkDelivered notes that the bus has the producer's events up to and including the
	// number. A lower number than before changes nothing.
	MarkDelivered(producer string, through uint64) error
	// NewProducer moves all pending events, and coming ones, to a new producer, numbered
	// from 1.
	NewProducer(why string) error
	// CountDeliveryFailure counts a failed attempt under one of the [Reasons].
	CountDeliveryFailure(reason string) error
	// Changed returns a channel that is closed, or sent to, when there may be new events.
	Changed() <-chan struct{}
	// State returns the latest state; its Outbox.Producer is the current producer.
	State() *store.State
}

// Status is what is known of the bus.
type Status struct {
	// Configured reports whether there is a bus at all; if not, all else is zero.
	Configured bool
	// Up says that the last attempt to reach the bus succeeded; false before the first.
	Up bool
	// Since is when that began to be so; zero before the first attempt.
	Since time.Time
	// Reason, one of the [Reasons], and Err say why it is not up; "" when it is, and
	// before the first attempt.
	Reason, Err string
}

const (
	// batchSize is how many events are read from, and noted in, the store at a time.
	batchSize = 100
	// The mark is looked at this often at least, so that events which the server lost
	// come back although nothing new happens.
	minCheckInterval = 30 * time.Second
	maxCheckInterval = 60 * time.Second
	// Pauses after failures double from the first to the longest; see backoff.
	firstPause   = 500 * time.Millisecond
	longestPause = 30 * time.Second
)

// server takes events: the client, but for tests of the relay's timing.
type server interface {
	offer(context.Context, offer) (answer, error)
	close() error
}

// Relay delivers the events of an outbox to the bus. See the package documentation for
// what it guarantees.
type Relay struct {
	config config.A2A
	server server
	outbox Outbox
	log    *slog.Logger
	stream string
	status atomic.Pointer[Status]
	// failing is the reason that was last logged, "" once everything was delivered.
	failing string
	// nextCheck is when the mark is to be looked at, if nothing is sent until then.
	nextCheck time.Time
}

// New makes a relay for a configuration that [Validate] accepts, with a URL. It does not
// connect, so that it works while the bus is down. It fails only for the configuration: a
// file of tls_config that cannot be read, for one.
func New(cfg config.A2A, secrets Secrets, outbox Outbox, log *slog.Logger) (*Relay, error) {
	client, err := newClient(cfg, secrets)
	if err != nil {
		return nil, err
	}
	r := newRelay(client, cfg.Stream, outbox, log)
	r.config = cfg
	return r, nil
}

func newRelay(s server, stream string, outbox Outbox, log *slog.Logger) *Relay {
	r := &Relay{server: s, outbox: outbox, log: log, stream: stream}
	r.status.Store(&Status{Configured: true})
	return r
}

// Status is safe for concurrent use and never waits for the bus.
func (r *Relay) Status() Status { return *r.status.Load() }

// Up reports whether the last attempt to reach the bus succeeded; false before the first.
// It is safe for concurrent use and never waits for the bus.
func (r *Relay) Up() bool { return r.Status().Up }

// Run delivers what is pending and what comes, and tries again for as long as that
// fails, until ctx ends; it returns nil then, at the latest when the configured timeout
// has passed, however the server behaves. It closes the relay: it, or Flush, is called
// once.
func (r *Relay) Run(ctx context.Context) error {
	defer r.closeWith(ctx)()
	failures := 0
	for ctx.Err() == nil {
		changed := r.outbox.Changed() // before looking: what comes meanwhile is not missed
		check := !time.Now().Before(r.nextCheck)
		err := r.attempt(ctx, check)
		pause := time.Until(r.nextCheck)
		if err != nil {
			failures++
			pause, changed = backoff(failures), nil
			r.nextCheck = time.Time{} // the server may come back with less than it had
		} else {
			failures = 0
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// Flush delivers what is pending and returns when that is done, when an attempt fails,
// or when ctx ends; the events that were not delivered stay in the outbox, and the error
// says how many. It closes the relay: it, or Run, is called once.
func (r *Relay) Flush(ctx context.Context) error {
	defer r.closeWith(ctx)()
	err := r.attempt(ctx, false)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%d events wait in the store for the event stream: %w", r.outbox.State().Outbox.Pending, err)
}

// closeWith closes the bus when ctx ends, which ends a call that waits for the server,
// or when the function that it returns is called.
func (r *Relay) closeWith(ctx context.Context) func() {
	stop := context.AfterFunc(ctx, func() { _ = r.server.close() })
	return func() {
		if stop() {
			_ = r.server.close()
		}
	}
}

// backoff returns the pause after so many failures in a row: twice the one before, up to the
// longest, less up to half of it by chance, so that several exporters do not come back
// at once.
func backoff(failures int) time.Duration {
	pause := longestPause
	if doublings := failures - 1; doublings < 10 {
		pause = min(pause, firstPause<<doublings)
	}
	return pause - rand.N(pause/2)
}

// attempt delivers everything that is pending, or else looks at the mark if check says
// so. How it ended is counted and logged.
func (r *Relay) attempt(ctx context.Context, check bool) error {
	wasUp := r.Up()
	err := r.deliver(ctx, check)
	if ctx.Err() != nil {
		return nil // we stop: no failure
	}
	if err == nil {
		if r.Up() && (!wasUp || r.failing != "") {
			r.failing = ""
			r.log.Info("connected to the event stream", "stream", r.stream)
		}
		return nil
	}
	reason := reasonOf(err)
	if reason != r.failing {
		r.failing = reason
		r.log.Warn("events cannot be delivered; they wait in the store and are tried again",
			"stream", r.stream, "reason", reason, "err", err, "advice", advice[reason], "pending", r.outbox.State().Outbox.Pending)
	}
	if reason != ReasonStore { // which says nothing of the bus
		since := time.Now()
		if !wasUp && !r.Status().Since.IsZero() {
			since = r.Status().Since
		}
		r.status.Store(&Status{Configured: true, Since: since, Reason: reason, Err: err.Error()})
	}
	if err := r.outbox.CountDeliveryFailure(reason); err != nil {
		r.log.Error("a failed delivery could not be counted", "reason", reason, "err", err)
	}
	return err
}

// succeeded notes that the server has answered.
func (r *Relay) succeeded() {
	r.nextCheck = time.Now().Add(minCheckInterval + rand.N(maxCheckInterval-minCheckInterval))
	if !r.Up() {
		r.status.Store(&Status{Configured: true, Up: true, Since: time.Now()})
	}
}

// foreign says that the event at a producer's mark is not one that we sent.
type foreign struct{ why string }

func (f *foreign) Error() string { return f.why }

// errBehind says that the server came back older after we had looked at what it has.
var errBehind = errors.New("the event stream has lost events of earlier producers since the last look at them")

// deliver is attempt without what is said about it.
func (r *Relay) deliver(ctx context.Context, check bool) error {
	renamed, again := false, false
	for {
		_, number, err := r.next()
		if err != nil {
			return err
		}
		if number == 0 && !check {
			return nil
		}
		check = false // what follows looks at the marks
		err = r.sendAll(ctx)
		stranger, ok := errors.AsType[*foreign](err)
		switch {
		case errors.Is(err, errBehind) && !again:
			again = true
			check = true // from the first producer on
		case !ok && err != nil:
			return err
		case ok && renamed: // even the new name is taken: somebody plays with the marks
			return err
		case ok:
			renamed = true
			r.log.Warn("another exporter delivers events under the same producer: was the state copied, or restored from a backup? This exporter goes on under a new producer",
				"stream", r.stream, "why", stranger.why)
			if err := r.outbox.NewProducer(stranger.why); err != nil {
				return &storeError{fmt.Errorf("taking a new producer: %w", err)}
			}
		}
	}
}

// next returns the event that has been pending for longest; number is 0 when there is none.
func (r *Relay) next() (producer string, number uint64, err error) {
	pending, err := r.outbox.NextPending(1)
	if err != nil {
		return "", 0, &storeError{fmt.Errorf("reading the events to deliver: %w", err)}
	}
	if len(pending) == 0 {
		return "", 0, nil
	}
	return pending[0].Producer, pending[0].Number, nil
}

// sendAll goes through the producers in the order of their events, the current one last,
// so that what the server lost of an earlier one is there again before what comes later.
// Without any event it only tries the way there.
func (r *Relay) sendAll(ctx context.Context) error {
	producers, err := r.outbox.Producers()
	if err != nil {
		return &storeError{fmt.Errorf("reading the delivered events: %w", err)}
	}
	var before last
	for _, producer := range producers {
		if before, err = r.sendOf(ctx, producer, before); err != nil {
			return err
		}
	}
	if len(producers) > 0 {
		return nil
	}
	if _, err := r.server.offer(ctx, offer{Event: store.Event{Producer: r.outbox.State().Outbox.Producer}}); err != nil {
		return err
	}
	r.succeeded()
	return nil
}

// sendOf offers what is pending of a producer or else its last event again, which shows
// whether the server still has it. before is the last event that has to be there before any
// of the producer; returned is the one before any of the next.
func (r *Relay) sendOf(ctx context.Context, producer string, before last) (last, error) {
	of, number, err := r.next()
	if err != nil {
		return before, err
	}
	pending := of == producer
	_, newest, ok, err := r.outbox.Window(producer)
	switch {
	case err != nil:
		return before, &storeError{fmt.Errorf("reading the last delivered event: %w", err)}
	case !ok:
		return before, nil
	case !pending:
		number = newest.Number
	}
	err = r.send(ctx, producer, number, before)
	if _, ok := errors.AsType[*foreign](err); ok && !pending && producer != r.outbox.State().Outbox.Producer {
		return before, nil // its name is another's now, and all we sent under it has been on the bus
	}
	return last{producer, newest.Number}, err
}

// send offers the producer's events from the number on until the bus has the last one,
// going back to what the server lacks.
func (r *Relay) send(ctx context.Context, producer string, number uint64, before last) error {
	for {
		b, err := r.batch(producer, number)
		if err != nil {
			return &storeError{fmt.Errorf("reading the events to deliver: %w", err)}
		}
		b.before = before
		if len(b.events) == 0 {
			return nil
		}
		next, err := r.sendBatch(ctx, b)
		if err != nil {
			return err
		}
		number = next
	}
}

// batch is a run of a producer's events, with what the script has to know beside it.
type batch struct {
	producer string
	events   []store.Event
	previous string // ID of the event before them; "" when it is not known
	base     uint64
	before   last
}

func (r *Relay) batch(producer string, number uint64) (batch, error) {
	b := batch{producer: producer}
	oldest, _, ok, err := r.outbox.Window(producer)
	if err != nil || !ok {
		return b, err
	}
	b.base = oldest.Number - 1
	b.events, err = r.outbox.From(producer, max(number, 1)-1, batchSize+1)
	if len(b.events) > 0 && b.events[0].Number < number {
		b.previous = b.events[0].ID
		b.events = b.events[1:]
	}
	return b, err
}

// sendBatch offers the events until one is not simply the next, notes what the bus has,
// and gives the number to go on with.
func (r *Relay) sendBatch(ctx context.Context, b batch) (next uint64, err error) {
	var fresh bool // something is on the bus that the store does not know to be there
	for _, event := range b.events {
		a, failed := r.server.offer(ctx, offer{event, b.previous, b.base, b.before})
		if failed != nil {
			err = failed
			break
		}
		r.succeeded()
		if a.outcome != added {
			next, err = r.resume(b.producer, event, a)
			fresh = fresh || a.outcome == duplicate && event.Delivery != store.Delivered
			break
		}
		next, b.previous = event.Number+1, event.ID
		fresh = fresh || event.Delivery != store.Delivered
	}
	if next > 1 && fresh {
		if failed := r.outbox.MarkDelivered(b.producer, next-1); failed != nil {
			err = errors.Join(err, &storeError{fmt.Errorf("noting that events were delivered: %w", failed)})
		}
	}
	return next, err
}

// resume returns the number to go on with after an event that was not added: the one after
// the mark, if the mark is ours.
func (r *Relay) resume(producer string, event store.Event, a answer) (next uint64, err error) {
	if a.outcome == behind {
		return 0, errBehind
	}
	ours, err := r.knows(producer, a)
	if err != nil {
		return 0, &storeError{fmt.Errorf("looking up a delivered event: %w", err)}
	}
	if !ours {
		return 0, &foreign{fmt.Sprintf("the last event of producer %s on the event stream, number %d with the ID %s, is not known here", producer, a.mark, a.id)}
	}
	if a.outcome == gap {
		r.log.Warn("the event stream lacks events: it lost them, or is another server; the events that are kept are delivered again",
			"stream", r.stream, "producer", producer, "from", a.mark+1, "through", event.Number-1)
	}
	return a.mark + 1, nil
}

// knows reports whether the event at the mark is ours, or so old that it is no longer kept.
//
// A mark of an earlier producer above all that we have of it is taken for ours: the state
// that this one is a copy of may have gone on under that name, and have delivered what
// was pending when the copy was made, and more.
func (r *Relay) knows(producer string, a answer) (bool, error) {
	switch {
	case a.outcome == conflict:
		return false, nil
	case a.id == "":
		return true, nil
	}
	oldest, newest, ok, err := r.outbox.Window(producer)
	switch {
	case err != nil || !ok:
		return false, err
	case a.mark < oldest.Number:
		return true, nil
	case a.mark > newest.Number:
		return producer != r.outbox.State().Outbox.Producer, nil
	}
	events, err := r.outbox.From(producer, a.mark, 1)
	return len(events) > 0 && events[0].Number == a.mark && events[0].ID == a.id, err
}
