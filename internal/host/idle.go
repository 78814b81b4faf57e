package host

import (
	"context"
	"fmt"
	"time"
)

// A host is idle once others, stolen time included, have stayed below the threshold for
// the window without a break. What a desktop or a monitoring agent does in the background
// stays below.
const (
	idleThreshold = 0.2 // CPUs
	idleWindow    = 5 * time.Second
)

// idleInterval is the time over which the use of the CPUs is averaged while waiting:
// long enough for the kernel's ticks, short enough not to hide a burst.
const idleInterval = time.Second

// waitIdle is [Host.WaitIdle], with the usage so far as read returns it.
func waitIdle(ctx context.Context, read func() usage, limit time.Duration) (bool, error) {
	before := read()
	if !before.ok {
		return true, ctx.Err()
	}
	begin := time.Now()
	last, quietSince := begin, begin
	ticker := time.NewTicker(idleInterval)
	defer ticker.Stop()
	for time.Since(begin) < limit {
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("waiting for the host to be idle: %w", ctx.Err())
		case <-ticker.C:
		}
		after, now := read(), time.Now()
		if !after.ok {
			return true, nil
		}
		used := max(0, after.busy-before.busy) + max(0, after.steal-before.steal)
		if others := float64(used) / float64(now.Sub(last)); others >= idleThreshold {
			quietSince = now
		}
		if now.Sub(quietSince) >= idleWindow {
			return true, nil
		}
		before, last = after, now
	}
	return false, nil
}
