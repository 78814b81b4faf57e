package process

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// waitEnded blocks until the child has ended, and leaves it to be reaped.
func waitEnded(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// startOn starts the child on the CPUs. A new process inherits the CPUs of the thread that
// starts it, so the caller must have locked that thread; it gets its own CPUs back.
func startOn(cpus []int, cmd *exec.Cmd) error {
	if len(cpus) > 0 {
		var own unix.CPUSet
		if err := unix.SchedGetaffinity(0, &own); err != nil {
			return fmt.Errorf("reading the CPUs of this thread: %w", err)
		}
		wanted := setOf(cpus)
		if err := unix.SchedSetaffinity(0, &wanted); err != nil {
			return fmt.Errorf("starting %s on the CPUs %v: %w", filepath.Base(cmd.Path), cpus, err)
		}
		defer func() { _ = unix.SchedSetaffinity(0, &own) }() // it was allowed before
	}
	if err := cmd.Start(); err != nil {
		return &StartError{Err: err}
	}
	return nil
}
