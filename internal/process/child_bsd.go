//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package process

import (
	"errors"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// waitEnded blocks until the child has ended, and leaves it to be reaped. There is no
// waitid that leaves the child in x/sys for these systems; a kernel queue does the
// same.
func waitEnded(pid int) error {
	queue, err := unix.Kqueue()
	if err != nil {
		return err
	}
	defer unix.Close(queue)

	var exit unix.Kevent_t
	unix.SetKevent(&exit, pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	exit.Fflags = unix.NOTE_EXIT
	events := make([]unix.Kevent_t, 1)
	for {
		_, err := unix.Kevent(queue, []unix.Kevent_t{exit}, events, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ESRCH): // our own child, not reaped: it has ended
			return nil
		default:
			return err
		}
	}
}

// startOn starts the child; these systems pin no process to CPUs.
func startOn(_ []int, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return &StartError{Err: err}
	}
	return nil
}
