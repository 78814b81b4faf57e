package host

import (
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Usage is the CPU time that was used, since the host booted, on the CPUs of a
// Topology.
type Usage struct {
	// Busy is the time spent working for anybody but this process: user, nice, system,
	// irq and softirq time. Guests' time is part of user time already. Its children
	// are somebody else here.
	Busy time.Duration
	// Steal is the time in which there was work and the hypervisor gave the CPU to
	// another machine.
	Steal time.Duration
	// OK is false, and the rest zero, where the system does not tell.
	OK bool
}

// Load reads the host's CPU usage. Its methods are safe for concurrent use.
type Load struct {
	proc procfs.FS
	ok   bool
	cpus []int
}

// NewLoad makes a Load over the CPUs of the topology, or over all where it names none.
func NewLoad(t Topology) *Load {
	return newLoad(procfs.DefaultMountPoint, t)
}

func newLoad(proc string, t Topology) *Load {
	tree, err := procfs.NewFS(proc)
	return &Load{proc: tree, ok: err == nil, cpus: t.CPUs}
}

// Read reads the usage up to now. The kernel counts it in ticks of 10 ms.
func (l *Load) Read() Usage {
	if !l.ok {
		return Usage{}
	}
	stat, err := l.proc.Stat()
	if err != nil {
		return Usage{}
	}
	var self unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &self); err != nil {
		return Usage{}
	}
	busy, steal := usage(stat, l.cpus)
	return Usage{
		Busy:  busy - time.Duration(self.Utime.Nano()+self.Stime.Nano()),
		Steal: steal,
		OK:    true,
	}
}

// usage sums up the CPUs. If one of them is not there the numbers are not the kernel's
// own, as where a container is shown a made-up /proc/stat, and the total is all there
// is.
func usage(stat procfs.Stat, cpus []int) (busy, steal time.Duration) {
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

// Disturbance is what a measurement lost to others.
type Disturbance struct {
	// Others is what other processes used on average, in CPUs.
	Others float64 `json:"others_cpus"`
	// Steal is the part, 0 to 1, of the CPU time wanted on this host that the
	// hypervisor gave to other machines.
	Steal float64 `json:"steal_ratio"`
	// Share is the part, 0 to 1, of the measurement's own CPUs that others took: see
	// Disturb.
	Share float64 `json:"share_ratio"`
}

// Disturb says how far others disturbed a measurement between two readings of the
// usage, given the wall time between them, the CPU time that the measurement used
// itself, the physical cores of the Topology (whatever its quota), and the
// measurement's number of threads; a number that is not known, as when a GPU does the
// work, is 0 and counts as 1.
//
//	others = (busy − ours) / wall
//	steal  = stolen / (busy + stolen)
//	share  = min(1, max(0, others − (cores − threads)) / threads + steal)
//
// The cores that the measurement leaves free by design take others without harm; only
// what goes beyond them comes out of its own. ok is false where one of the readings is.
//
// It is an average: others who need more than the free cores for a moment and less at
// other times are underrated. The ticks in which the kernel counts make it wrong by up
// to about two in each reading, 4 % of a core in a run of one second.
func Disturb(before, after Usage, wall, ours time.Duration, cores, threads int) (d Disturbance, ok bool) {
	if !before.OK || !after.OK || wall <= 0 {
		return Disturbance{}, false
	}
	threads = max(1, threads)
	busy := max(0, after.Busy-before.Busy)
	stolen := max(0, after.Steal-before.Steal)
	d.Others = max(0, float64(busy-ours)/float64(wall))
	if wanted := busy + stolen; wanted > 0 {
		d.Steal = float64(stolen) / float64(wanted)
	}
	free := float64(max(0, cores-threads))
	d.Share = min(1, max(0, d.Others-free)/float64(threads)+d.Steal)
	return d, true
}
