package host

import (
	"time"

	"github.com/prometheus/procfs"
)

// Process watches the time that a process runs on CPUs and the time that it would run and
// does not because others have them. It is safe for concurrent use.
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
	threads map[int]thread
	steal   time.Duration
	ok      bool
}

type thread struct{ running, waiting time.Duration } // waiting: for a CPU

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
	now := Schedule{threads: make(map[int]thread, len(threads)), ok: true}
	for _, t := range threads {
		stat, err := t.Schedstat()
		if err != nil { // it has ended meanwhile, or the kernel keeps none
			continue
		}
		found := thread{time.Duration(stat.RunningNanoseconds), time.Duration(stat.WaitingNanoseconds)}
		now.Running += found.running
		now.threads[t.PID] = found
	}
	if stat, err := p.proc.Stat(); err == nil {
		_, now.steal = sumUsage(stat, p.cpus)
	}
	return now
}

// Stopped reports whether a signal has stopped the process, or it is gone; true if the system does not
// report it.
func (p *Process) Stopped() bool {
	if !p.ok {
		return true
	}
	proc, err := p.proc.Proc(p.pid)
	if err != nil {
		return true
	}
	stat, err := proc.Stat()
	return err != nil || stat.State != "R" && stat.State != "S" && stat.State != "D"
}

// PeakMemory returns the most bytes that the process has had in memory so far, pages of files
// that it maps included (VmHWM; Linux's proc_pid_status(5)); 0 if the system does not report it.
func (p *Process) PeakMemory() int64 {
	if !p.ok {
		return 0
	}
	proc, err := p.proc.Proc(p.pid)
	if err != nil {
		return 0
	}
	status, err := proc.NewStatus()
	if err != nil {
		return 0
	}
	return int64(status.VmHWM)
}

// Interval is what became of a process between two schedules; zero if the system does not report it.
type Interval struct {
	Ran    time.Duration // the thread that ran longest
	Waited time.Duration // for a CPU; known to the nanosecond
	Stolen time.Duration // in which the hypervisor gave the CPUs to another machine; known in ticks of 10 ms
}

// Taken returns the share, 0 to 1, that others took of the whole time. Running is what is left of it
// without the times in which the process was stopped.
func (i Interval) Taken(whole, running time.Duration) float64 {
	if whole <= 0 || running <= 0 {
		return 0
	}
	return min(1, float64(i.Waited)/float64(running)+float64(i.Stolen)/float64(whole))
}

// Between returns what became of a process between two schedules. It waited for as long as the
// thread that waited longest, because the others of its process wait for it. Threads that
// compute have the same work; one that ran for less than half as long as another (it logs, or
// answers) may have waited for that other one, and the others for it, so that the time in which
// it ran was not taken.
func Between(before, after Schedule) Interval {
	if !before.ok || !after.ok {
		return Interval{}
	}
	spent, busiest := map[int]thread{}, time.Duration(0)
	for id, now := range after.threads {
		was := before.threads[id] // a new thread: since it began
		spent[id] = thread{now.running - was.running, now.waiting - was.waiting}
		busiest = max(busiest, spent[id].running)
	}
	longest, besides := time.Duration(0), time.Duration(0)
	for _, t := range spent {
		if t.running >= busiest/2 {
			longest = max(longest, t.waiting)
		} else {
			besides += t.running
		}
	}
	return Interval{Ran: busiest, Waited: max(longest-besides, 0), Stolen: max(after.steal-before.steal, 0)}
}
