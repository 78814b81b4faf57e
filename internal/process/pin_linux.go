package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Pin has all threads of a process that runs go on on these CPUs only, and with them those
// that they start. A thread that may run on some of them already keeps to these, and one that
// may run on none of them stays where it is: whoever wraps a tool may have placed it. It
// fails when the process is gone.
func Pin(pid int, cpus []int) error {
	wanted := setOf(cpus)
	// A thread that is not pinned yet may start another while they are listed.
	for pinned := map[int]bool{}; ; {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return fmt.Errorf("listing the threads of process %d: %w", pid, err)
		}
		found := false
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil || pinned[id] {
				continue
			}
			if err := pinThread(id, wanted); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("moving thread %d of process %d to the CPUs %v: %w", id, pid, cpus, err)
			}
			pinned[id], found = true, true
		}
		if !found {
			return nil
		}
	}
}

func setOf(cpus []int) (set unix.CPUSet) {
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	return set
}

func pinThread(id int, wanted unix.CPUSet) error {
	var now, both unix.CPUSet
	if err := unix.SchedGetaffinity(id, &now); err != nil {
		return err
	}
	for i := range now {
		both[i] = now[i] & wanted[i]
	}
	if both.Count() == 0 || both == now {
		return nil
	}
	return unix.SchedSetaffinity(id, &both)
}
