package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/store"
)

// retryEvery is how often a write that failed is tried again: soon enough for a disk
// that somebody has made room on.
const retryEvery = 15 * time.Second

// journal writes to the store in order, and keeps what cannot be written until it can.
// That is never more than what one cycle gives, and one count a reason of each entry.
type journal struct {
	count  func(entry string, reason store.SkipReason, n uint64) error
	logger *slog.Logger

	mu      sync.Mutex
	waiting []write
	skipped map[store.SkippedKey]uint64
}

// write is something to be written.
type write struct {
	what string
	do   func() error
}

func newJournal(count func(string, store.SkipReason, uint64) error, logger *slog.Logger) *journal {
	return &journal{count: count, logger: logger, skipped: map[store.SkippedKey]uint64{}}
}

// write writes now if it can.
func (j *journal) write(what string, do func() error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting = append(j.waiting, write{what, do})
	j.flush()
}

// skip counts what did not run.
func (j *journal) skip(entry string, reason store.SkipReason, n uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.skipped[store.SkippedKey{Entry: entry, Reason: reason}] += n
	j.flush()
}

// clear says whether everything is written, after another attempt.
func (j *journal) clear() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.flush()
}

// flush writes what waits, as far as it can.
func (j *journal) flush() bool {
	for len(j.waiting) > 0 {
		if !j.done(j.waiting[0]) {
			return false
		}
		j.waiting = j.waiting[1:]
	}
	for key, n := range j.skipped {
		if !j.done(write{"the count of what was skipped", func() error { return j.count(key.Entry, key.Reason, n) }}) {
			return false
		}
		delete(j.skipped, key)
	}
	return true
}

// done says whether a write need not be tried again.
func (j *journal) done(w write) (over bool) {
	defer func() {
		if p := recover(); p != nil { // it would do so again
			j.logger.Error("something cannot be stored, and is lost: this is a defect of quant-exporter, please report it", "what", w.what, "panic", p, "stack", string(debug.Stack()))
			over = true
		}
	}()
	if err := w.do(); err != nil {
		j.logger.Error("the state cannot be stored; it is kept in memory and tried again", "what", w.what, "waiting", len(j.waiting)+len(j.skipped), "retry_in", retryEvery, "err", err)
		return false
	}
	return true
}

// wait returns nil as soon as begin does, with everything written before; it is tried
// again until the context ends.
func (j *journal) wait(ctx context.Context, begin func() error) error {
	ticker := time.NewTicker(retryEvery)
	defer ticker.Stop()
	for {
		if j.clear() {
			err := begin()
			if err == nil {
				return nil
			}
			j.logger.Error("a cycle cannot be recorded, and so does not begin; it is tried again", "retry_in", retryEvery, "err", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the state to be stored: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// run retries until the context ends.
func (j *journal) run(ctx context.Context) {
	ticker := time.NewTicker(retryEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			j.clear()
		}
	}
}
