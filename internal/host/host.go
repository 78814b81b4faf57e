package host

import (
	"context"
	"time"
)

// Host is the machine on which measurements run, as this process may use it. Its methods
// are safe for concurrent use.
type Host struct {
	Hardware
	topology topology
	load     *usageReader
}

// Read asks the system what the machine is.
func Read() *Host {
	t := systemTopology()
	return &Host{Hardware: readHardware(t), topology: t, load: newUsageReader(t)}
}

// Usable returns the number of cores that the process can keep busy: all that it may use, or
// the quota of its control group, rounded up, where that is less. It is at least 1.
func (h *Host) Usable() int { return h.topology.usable() }

// Threads returns the number of threads for a measurement: one for each usable core but one,
// and at least one. The free core takes what else the host has to do.
func (h *Host) Threads() int { return max(1, h.Usable()-1) }

// Observe begins to watch what others use of the CPUs. The function that it returns ends
// that, given the CPU time and the number of threads of the measurement between the two,
// and returns what others took of it: see disturb. It returns nil if the system does
// not report it.
func (h *Host) Observe() func(ours time.Duration, threads int) *Load {
	before, begin := h.load.read(), time.Now()
	return func(ours time.Duration, threads int) *Load {
		return disturb(before, h.load.read(), time.Since(begin), ours, h.topology.cores, threads)
	}
}

// WaitIdle waits until the host is idle, for at most limit, and reports whether it became
// idle: whether others, stolen time included, used less than a fifth of a CPU for five
// seconds. If the system does not report its load, the host counts as idle at once. The
// caller must not run anything meanwhile, because that would count as others' use. If ctx
// ends first, WaitIdle returns its error.
func (h *Host) WaitIdle(ctx context.Context, limit time.Duration) (bool, error) {
	return waitIdle(ctx, h.load.read, limit)
}
