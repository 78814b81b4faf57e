package process

import (
	"context"
	"time"
)

// mostTick is the longest time between two looks at the clock of a deadline.
const mostTick = time.Second

// WithTimeout returns a context that is canceled, with the cause, once this process has been
// awake for the limit. What follows a clock, as [context.WithTimeout] does, would end the work
// of a process that was stopped (SIGSTOP, a frozen container) as soon as it goes on.
func WithTimeout(parent context.Context, limit time.Duration, cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	over, stop := awake(limit)
	go func() {
		defer stop()
		select {
		case <-over:
			cancel(cause)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// awake returns a channel that is closed once this process has been awake for the limit, and
// a function that ends the counting. The time in which it was itself stopped (SIGSTOP, a
// frozen container) does not count: the child could not be heard then, and may have been
// stopped as well.
func awake(limit time.Duration) (over <-chan struct{}, stop func()) {
	tick := min(max(limit/16, time.Millisecond), mostTick)
	passed, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for left, last := limit, time.Now(); left > 0; {
			select {
			case <-stopped:
				return
			case <-ticker.C:
			}
			now := time.Now()
			left -= min(now.Sub(last), 4*tick)
			last = now
		}
		close(passed)
	}()
	return passed, func() { close(stopped) }
}
