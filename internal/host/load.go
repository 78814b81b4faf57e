package host

import (
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// usage is the CPU time that was used, since the host booted, on the CPUs of a topology.
type usage struct {
	// busy is the time spent working for anybody but this process: user, nice, system,
	// irq and softirq time. Guests' time is part of user time already. Its children
	// are somebody else here.
	busy time.Duration
	// steal is the time in which there was work and the hypervisor gave the CPU to
	// another machine.
	steal time.Duration
	// ok is false, and the rest zero, if the system does not report it.
	ok bool
}

// usageReader reads the host's CPU usage.
type usageReader struct {
	proc procfs.FS
	ok   bool
	cpus []int
}

// newUsageReader reads the CPUs of the topology, or all where it names none.
func newUsageReader(t topology) *usageReader {
	return usageReaderOf(procfs.DefaultMountPoint, t)
}

func usageReaderOf(proc string, t topology) *usageReader {
	tree, err := procfs.NewFS(proc)
	return &usageReader{proc: tree, ok: err == nil, cpus: t.cpus}
}

// read reads the usage up to now. The kernel counts it in ticks of 10 ms.
func (r *usageReader) read() usage {
	if !r.ok {
		return usage{}
	}
	stat, err := r.proc.Stat()
	if err != nil {
		return usage{}
	}
	var self unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &self); err != nil {
		return usage{}
	}
	busy, steal := sumUsage(stat, r.cpus)
	return usage{
		busy:  busy - time.Duration(self.Utime.Nano()+self.Stime.Nano()),
		steal: steal,
		ok:    true,
	}
}

// sumUsage sums up the CPUs. If one of them is not there the numbers are not the kernel's
// own, as where a container is shown a made-up /proc/stat, and the total is all there
// is.
func sumUsage(stat procfs.Stat, cpus []int) (busy, steal time.Duration) {
	var sum procfs.CPUStat
	for _, cpu := range cpus {
		s, ok := stat.CPU[int64(cpu)]
		if !ok {
			sum = stat.CPUTotal
			break
		}
		sum.User += s.User
		sum.Nice += s.Nice
		sum.System += s.System
		sum.IRQ += s.IRQ
		sum.SoftIRQ += s.SoftIRQ
		sum.Steal += s.Steal
	}
	if len(cpus) == 0 {
		sum = stat.CPUTotal
	}
	return seconds(sum.User + sum.Nice + sum.System + sum.IRQ + sum.SoftIRQ), seconds(sum.Steal)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Load is what others took of the CPU during a measurement.
type Load struct {
	// Others is what other processes used on average, in CPUs.
	Others float64 `json:"others_cpus"`
	// Steal is the part, 0 to 1, of the CPU time wanted on this host that the
	// hypervisor gave to other machines.
	Steal float64 `json:"steal_ratio"`
	// Share is the part, 0 to 1, of the CPUs which the measurement was to have that
	// others took.
	Share float64 `json:"share_ratio"`
}

// disturb returns how far others disturbed a measurement between two readings of the
// usage, given the wall time between them, the CPU time that the measurement used
// itself, the physical cores of the topology (whatever its quota), and the
// measurement's number of threads; a number that is not known, as when a GPU does the
// work, is 0 and counts as 1.
//
//	others = (busy − ours) / wall
//	steal  = stolen / (busy + stolen)
//	share  = min(1, max(0, others − (cores − threads)) / threads + steal)
//
// The cores that the measurement leaves free by design take others without harm; only
// what goes beyond them comes out of its own. It returns nil where one of the readings is
// not known.
//
// It is an average: others who need more than the free cores for a moment and less at
// other times are underrated. The ticks in which the kernel counts make it wrong by up
// to about two in each reading, 4 % of a core in a run of one second.
func disturb(before, after usage, wall, ours time.Duration, cores, threads int) *Load {
	if !before.ok || !after.ok || wall <= 0 {
		return nil
	}
	threads = max(1, threads)
	busy := max(0, after.busy-before.busy)
	stolen := max(0, after.steal-before.steal)
	l := &Load{Others: max(0, float64(busy-ours)/float64(wall))}
	if wanted := busy + stolen; wanted > 0 {
		l.Steal = float64(stolen) / float64(wanted)
	}
	free := float64(max(0, cores-threads))
	l.Share = min(1, max(0, l.Others-free)/float64(threads)+l.Steal)
	return l
}
