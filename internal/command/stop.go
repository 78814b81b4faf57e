package command

import (
	"context"
	"time"
)

// StopLimit is how long a stop may take, whatever hangs: a tool that waits for a dead network
// file system cannot even be killed. Service managers wait longer.
const StopLimit = 10 * time.Second

// StopAfter calls end when the process is still there so long after the context has ended.
func StopAfter(ctx context.Context, limit time.Duration, end func()) {
	context.AfterFunc(ctx, func() { time.AfterFunc(limit, end) })
}
