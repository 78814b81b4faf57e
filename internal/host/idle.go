package host

import (
	"context"
	"fmt"
	"time"
)

// idleInterval is the time over which the use of the CPUs is averaged while waiting:
// long enough for the kernel's ticks, short enough not to hide a burst.
const idleInterval = time.Second

// Idle says when a host counts as idle.
type Idle struct {
	// Threshold is what others, stolen time included, may use, in CPUs.
	Threshold float64
	// Window is how long they have to stay below it without a break.
	Window time.Duration
	// Limit is how long to wait for that.
	Limit time.Duration
}

// DefaultIdle is a fifth of a CPU at most over five seconds; what a desktop or a
// monitoring agent does in the background stays below.
func DefaultIdle(limit time.Duration) Idle {
	return Idle{Threshold: 0.2, Window: 5 * time.Second, Limit: limit}
}

// WaitIdle waits until the host is idle and says whether it became so within the limit.
// read gives the usage so far (Load.Read); where the system does not tell it, the host
// counts as idle at once. Nothing of the caller's own may be running: it would count as
// others. progress, which may be nil, is called from the caller's goroutine once a
// second with what others used in it, in CPUs, and the time waited so far. The error is
// that of ctx.
func WaitIdle(ctx context.Context, read func() Usage, idle Idle, progress func(others float64, waited time.Duration)) (bool, error) {
	before := read()
	if !before.OK {
		return true, ctx.Err()
	}
	begin := time.Now()
	last, quietSince := begin, begin
	ticker := time.NewTicker(idleInterval)
	defer ticker.Stop()
	for time.Since(begin) < idle.Limit {
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("waiting for the host to be idle: %w", ctx.Err())
		case <-ticker.C:
		}
		after, now := read(), time.Now()
		if !after.OK {
			return true, nil
		}
		used := max(0, after.Busy-before.Busy) + max(0, after.Steal-before.Steal)
		others := float64(used) / float64(now.Sub(last))
		if progress != nil {
			progress(others, now.Sub(begin))
		}
		if others >= idle.Threshold {
			quietSince = now
		}
		if now.Sub(quietSince) >= idle.Window {
			return true, nil
		}
		before, last = after, now
	}
	return false, nil
}
