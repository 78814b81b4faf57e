package host

import (
	"time"

	"github.com/prometheus/procfs"
)

// Process watches the time that a process runs on CPUs and the time that it would run and
// does not because others have them. It is not safe for concurrent use.
type Process struct {
	proc procfs.FS
	pid  int
	cpus []int
	ok   bool
}

// WatchProcess watches a process that may run on the CPUs, on all where there are none; its
// number is 0 where it is not known.
func WatchProcess(pid int, cpus []int) *Process {
	proc, err := procfs.NewDefaultFS()
	return &Process{proc: proc, pid: pid, cpus: cpus, ok: err == nil && pid > 0}
}

// Schedule is what the scheduler did with a process up to a time.
type Schedule struct {
	// Running is the CPU time of all its threads.
	Running time.Duration
	waiting map[int]time.Duration // of each thread, for a CPU
	steal   time.Duration
	ok      bool
}

// Read reads the schedule; the zero value if the system does not report it. The kernel counts
// nanoseconds, but for the time stolen by the hypervisor, which has ticks of 10 ms. (Linux's
// Documentation/scheduler/sched-stats.rst: /proc/PID/task/TID/schedstat.)
func (p *Process) Read() Schedule {
	if !p.ok {
		return Schedule{}
	}
	threads, err := p.proc.AllThreads(p.pid)
	if err != nil {
		return Schedule{}
	}
	now := Schedule{waiting: make(map[int]time.Duration, len(threads)), ok: true}
	for _, thread := range threads {
		stat, err := thread.Schedstat()
		if err != nil { // it has ended meanwhile, or the kernel keeps none
			continue
		}
		now.Running += time.Duration(stat.RunningNanoseconds)
		now.waiting[thread.PID] = time.Duration(stat.WaitingNanoseconds)
	}
	if stat, err := p.proc.Stat(); err == nil {
		_, now.steal = sumUsage(stat, p.cpus)
	}
	return now
}

// Taken returns the share, 0 to 1, that others took of the time that a process had between two
// schedules: in which the thread that waited longest waited for a CPU, because the others of
// its process wait for it, or the hypervisor gave the CPUs to another machine. Of the whole
// time, running is what is left without the times in which the process was stopped. Taken is
// 0 if the system does not report it.
func Taken(before, after Schedule, whole, running time.Duration) float64 {
	if !before.ok || !after.ok || whole <= 0 || running <= 0 {
		return 0
	}
	longest := time.Duration(0)
	for thread, waited := range after.waiting {
		longest = max(longest, waited-before.waiting[thread]) // a new thread: since it began
	}
	stolen := max(after.steal-before.steal, 0)
	return min(1, float64(longest)/float64(running)+float64(stolen)/float64(whole))
}
