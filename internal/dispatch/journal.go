package dispatch

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// retryEvery is how often a write that failed is tried again: soon enough for a disk
// that somebody has made room on.
const retryEvery = 15 * time.Second

// journal writes to the store in order, and keeps what cannot be written until it can.
// That is never more than what one cycle gives: see clear.
type journal struct {
	failed func() // told of each failed attempt
	logger *slog.Logger

	mu      sync.Mutex
	waiting []entry
}

type entry struct {
	what  string
	write func() error
}

// write writes now if it can.
func (j *journal) write(what string, write func() error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting = append(j.waiting, entry{what, write})
	j.flush()
}

// clear says whether everything is written, after another attempt.
func (j *journal) clear() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.flush()
	return len(j.waiting) == 0
}

func (j *journal) flush() {
	for len(j.waiting) > 0 {
		if err := j.waiting[0].write(); err != nil {
			j.failed()
			j.logger.Error("the state cannot be stored; it is kept in memory and tried again", "doing", j.waiting[0].what, "waiting", len(j.waiting), "retry_in", retryEvery, "err", err)
			return
		}
		j.waiting = j.waiting[1:]
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
