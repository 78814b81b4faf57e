package cycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/store"
)

// Writes decides what becomes of a write to the store that fails: [Retry] or [Strict].
type Writes interface {
	// Begin does the write that has to succeed before a cycle may run, after all writes
	// before it. Its error says why the cycle must not run.
	Begin(ctx context.Context, do func() error) error
	// Write does any other write; what names it for people. stored reports whether it has
	// succeeded by now, and the error says why it never will.
	Write(what string, do func() error) (stored bool, err error)
}

// Strict does each write once, and returns its error to the caller.
type Strict struct {
	Logger *slog.Logger
}

// Begin implements Writes.
func (s Strict) Begin(_ context.Context, do func() error) error { return do() }

// Write implements Writes. A write that panics has failed; its stack is logged.
func (s Strict) Write(what string, do func() error) (stored bool, err error) {
	err = attempt(s.Logger, write{what, do})
	return err == nil, err
}

// retryEvery is how often a write that failed is tried again: soon enough for a disk
// that somebody has made room on.
const retryEvery = 15 * time.Second

// Retry writes in order, and keeps what cannot be written until it can. That is never
// more than what one cycle gives, and one count for each entry and reason. Its methods
// are safe for concurrent use.
type Retry struct {
	count  func(entry string, reason store.SkipReason, n uint64) error
	logger *slog.Logger

	mu      sync.Mutex
	waiting []write
	skipped map[skip]uint64
}

// skip is what skipped runs and pairs are counted by.
type skip struct {
	entry  string
	reason store.SkipReason
}

// write is something to be written.
type write struct {
	what string
	do   func() error
}

// NewRetry makes a Retry that stores by count what is skipped.
func NewRetry(count func(entry string, reason store.SkipReason, n uint64) error, logger *slog.Logger) *Retry {
	return &Retry{count: count, logger: logger, skipped: map[skip]uint64{}}
}

// Write implements Writes. A write that panics is lost, as it would panic again; this is
// logged, and counts as stored.
func (r *Retry) Write(what string, do func() error) (stored bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, write{what, do})
	r.flush()
	return len(r.waiting) == 0, nil
}

// Skip counts what did not run.
func (r *Retry) Skip(entry string, reason store.SkipReason, n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.skipped[skip{entry, reason}] += n
	r.flush()
}

// Begin implements Writes: it tries again until the context ends.
func (r *Retry) Begin(ctx context.Context, do func() error) error {
	ticker := time.NewTicker(retryEvery)
	defer ticker.Stop()
	for {
		if r.clear() {
			err := do()
			if err == nil {
				return nil
			}
			r.logger.Error("a cycle cannot be recorded, and so does not begin; it is tried again", "retry_in", retryEvery, "err", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the state to be stored: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// Run tries again what could not be written, until the context ends.
func (r *Retry) Run(ctx context.Context) {
	ticker := time.NewTicker(retryEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.clear()
		}
	}
}

// clear reports whether everything is written, after another attempt.
func (r *Retry) clear() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flush()
}

// flush writes what waits, as far as it can, and reports whether that is all.
func (r *Retry) flush() bool {
	for len(r.waiting) > 0 {
		if !r.done(r.waiting[0]) {
			return false
		}
		r.waiting = r.waiting[1:]
	}
	for key, n := range r.skipped {
		if !r.done(write{"the count of what was skipped", func() error { return r.count(key.entry, key.reason, n) }}) {
			return false
		}
		delete(r.skipped, key)
	}
	return true
}

// done reports whether a write need not be tried again.
func (r *Retry) done(w write) (over bool) {
	err := attempt(r.logger, w)
	if err == nil || errors.Is(err, errPanic) {
		return true
	}
	r.logger.Error("the state cannot be stored; it is kept in memory and tried again", "what", w.what, "waiting", len(r.waiting)+len(r.skipped), "retry_in", retryEvery, "err", err)
	return false
}

// errPanic is the error of a write that panicked, and would do so again.
var errPanic = errors.New("this is a defect of quant-exporter, please report it with the log")

// attempt does a write. A panic of it is an errPanic, and is logged with its stack.
func attempt(logger *slog.Logger, w write) (err error) {
	defer func() {
		if p := recover(); p != nil {
			logger.Error("something cannot be stored, and is lost: this is a defect of quant-exporter, please report it", "what", w.what, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%s cannot be stored: %w: %v", w.what, errPanic, p)
		}
	}()
	return w.do()
}
