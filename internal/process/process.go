package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// Grace is how long a process group has between SIGTERM and SIGKILL, and how long Run
// waits for the pipes to be closed after that.
const Grace = 500 * time.Millisecond

// ErrFlood says that the child printed more to its standard output than Spec allows.
var ErrFlood = errors.New("printed more than its limit to standard output")

// TimeoutError says that the child ran past Spec.Timeout and was killed.
type TimeoutError struct{ Limit time.Duration }

func (e *TimeoutError) Error() string { return fmt.Sprintf("ran past its limit of %v", e.Limit) }

// StartError says that the program could not be started at all.
type StartError struct{ Err error }

func (e *StartError) Error() string { return "could not be started: " + e.Err.Error() }

// Unwrap returns the system's error.
func (e *StartError) Unwrap() error { return e.Err }

// ExitError says that the child ended by itself, and not with exit status 0.
type ExitError struct {
	Code   int            // exit status; −1 when a signal ended it
	Signal syscall.Signal // 0 when it exited
}

func (e *ExitError) Error() string {
	if e.Signal != 0 {
		return "killed by " + SignalName(e.Signal)
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Spec says what to run.
type Spec struct {
	Path string   // the program's file; becomes the first argument as well
	Args []string // arguments after the program's name
	Dir  string   // working directory; must exist
	Env  []string // the whole environment, "KEY=value"; nothing is inherited

	// Timeout is the time after which the child is killed; 0 means no limit. Time in which
	// this process was stopped itself does not count.
	Timeout time.Duration

	// Nice is the child's nice level, 0 to 19, set right after the start on the whole
	// group. A child that is nicer already, because we are, stays as it is.
	Nice int

	// Confinement bounds what the child may do; nil lets it do what we may. Where the kernel
	// has none, Run fails with ErrNoLandlock.
	Confinement *Confinement

	// CPUs are the logical CPUs that the child, and what it starts, may run on; nil leaves
	// them as ours are. They are heeded on Linux only.
	CPUs []int

	// KillAtOnce ends the child with SIGKILL, without SIGTERM and Grace before: it has
	// nothing to put away.
	KillAtOnce bool

	// StdoutLimit is how many bytes of standard output are kept, and allowed: one
	// more ends the child with ErrFlood.
	StdoutLimit int

	// OnStderr is called with every line of standard error, without its end, from one
	// goroutine; nil ignores them. A carriage return ends a line too. Lines longer
	// than 4 KiB are cut. It must not block for long: the child waits for it.
	OnStderr func(line string)
}

// Result is what a child left behind. It is filled in as far as known when Run returns
// an error, too.
type Result struct {
	Stdout []byte        // at most Spec.StdoutLimit bytes
	Tail   []string      // the last lines of standard error, the oldest first; at most 60
	Wall   time.Duration // from before the start until all is over
	CPU    time.Duration // user and system time of the child and of those it waited for
	// Peak is the most bytes that the child, or one that it waited for, had in memory. Linux
	// counts from what the starting process has, so that a smaller one is not seen.
	Peak int64
	// Strays are the processes that had left the group, and were ended: see AdoptStrays.
	Strays int
}

// Run starts the child, with standard input from the null device, and blocks until it
// and its process group are gone. The error is nil when the child exited with status
// 0; otherwise it is or wraps the context's cause, a *TimeoutError, a *StartError, an
// *ExitError or ErrFlood.
//
// Run may be called from any number of goroutines.
func Run(ctx context.Context, spec Spec) (result Result, err error) {
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	// A missing directory would otherwise read as a missing program.
	if _, err := os.Stat(spec.Dir); err != nil {
		return Result{}, fmt.Errorf("working folder of %s: %w", filepath.Base(spec.Path), err)
	}
	if spec.Confinement == nil {
		// The kernel sends the parent-death signal when the starting thread ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		return run(ctx, spec)
	}
	// A child inherits the confinement of the thread that starts it, so that no program of our
	// own has to run before the tool.
	onOwnThread(func() {
		if err = spec.Confinement.confineThread(); err != nil {
			err = fmt.Errorf("confining %s: %w", filepath.Base(spec.Path), err)
			return
		}
		result, err = run(ctx, spec)
	})
	return result, err
}

// run is Run, on a thread of its own.
func run(ctx context.Context, spec Spec) (Result, error) {
	begin := time.Now()
	out, err := newOutput(spec)
	if err != nil {
		return Result{}, fmt.Errorf("making pipes for %s: %w", filepath.Base(spec.Path), err)
	}
	cmd := &exec.Cmd{
		Path:        spec.Path,
		Args:        append([]string{spec.Path}, spec.Args...),
		Dir:         spec.Dir,
		Env:         append(make([]string, 0, len(spec.Env)), spec.Env...), // never nil: that would inherit ours
		Stdout:      out.stdout.writer,
		Stderr:      out.stderr.writer,
		SysProcAttr: attributes(),
	}
	err = adopt(func() (int, error) {
		if err := startOn(spec.CPUs, cmd); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	})
	if err != nil {
		out.abandon()
		return Result{}, err
	}
	out.start()

	stopped := supervise(ctx, spec, cmd.Process.Pid, out.flooded)
	waitErr := cmd.Wait() // the leader has ended: this reaps it
	disown(cmd.Process.Pid)
	strays := make(chan int, 1)
	go func() { strays <- endStrays(cmd.Process.Pid) }() // from a thread that is not confined, and may signal every stray
	result := Result{Strays: <-strays}
	out.finish()

	result.Stdout, result.Tail = out.kept(), out.tail.lines()
	result.Wall = time.Since(begin)
	result.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	result.Peak = peakMemory(cmd.ProcessState)
	if stopped == nil && out.overflowed() { // it ended before it could be stopped
		stopped = ErrFlood
	}
	if stopped != nil {
		return result, stopped
	}
	return result, exitError(waitErr)
}

// peakMemory returns what the system counted of a child; 0 where it did not.
func peakMemory(state *os.ProcessState) int64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	switch {
	case !ok:
		return 0
	case runtime.GOOS == "darwin": // in bytes there, in KiB elsewhere: getrusage(2)
		return int64(usage.Maxrss) //nolint:unconvert // an int32 on systems of 32 bits
	default:
		return int64(usage.Maxrss) << 10 //nolint:unconvert // likewise
	}
}

// supervise blocks until the leader has ended and its group has been killed. It returns
// why the group was stopped before its time, or nil.
func supervise(ctx context.Context, spec Spec, pid int, flooded <-chan struct{}) (cause error) {
	var waitErr error // valid once ended is closed
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		waitErr = waitEnded(pid)
	}()

	var deadline <-chan struct{}
	if spec.Timeout > 0 {
		over, stop := awake(spec.Timeout)
		defer stop()
		deadline = over
	}
	if cause = renice(pid, spec.Nice); cause == nil {
		select {
		case <-ended:
			signalGroup(pid, syscall.SIGKILL) // whoever is left goes with the leader
			return waitErr
		case <-ctx.Done():
			cause = context.Cause(ctx)
		case <-deadline:
			cause = &TimeoutError{Limit: spec.Timeout}
		case <-flooded:
			cause = ErrFlood
		}
	}

	if !spec.KillAtOnce {
		signalGroup(pid, syscall.SIGTERM)
		grace := time.NewTimer(Grace)
		defer grace.Stop()
		select {
		case <-ended:
		case <-grace.C:
		}
	}
	signalGroup(pid, syscall.SIGKILL) // the leader may have heeded SIGTERM; the others may not have
	<-ended
	return cause
}

// signalGroup ignores errors: the only one to expect is that nobody is left.
func signalGroup(pgid int, sig syscall.Signal) { _ = syscall.Kill(-pgid, sig) }

// renice sets the level of the group. On Linux the level belongs to each thread and
// is inherited; this early the child has but one.
func renice(pgid, nice int) error {
	if nice == 0 {
		return nil
	}
	err := syscall.Setpriority(syscall.PRIO_PGRP, pgid, nice)
	switch {
	case err == nil,
		errors.Is(err, syscall.ESRCH),                                 // it has ended already
		errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM): // it is nicer already
		return nil
	default:
		return fmt.Errorf("setting the nice level to %d: %w", nice, err)
	}
}

func exitError(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return &ExitError{Code: -1, Signal: status.Signal()}
	}
	return &ExitError{Code: exit.ExitCode()}
}
