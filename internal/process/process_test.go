package process_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/quant-exporter/quant-exporter/internal/process"
)

// The test binary is its own child: with helperEnv set it plays a part instead of
// running tests.
const (
	helperEnv = "PROCESS_TEST_HELPER"
	lockEnv   = "PROCESS_TEST_LOCK" // a file that every helper holds locked while it lives

	// Without it the race detector sleeps a second at every exit.
	raceEnv = "GORACE=atexit_sleep_ms=0"
)

// moreParts are those that only some systems can play.
var moreParts = map[string]func(){}

func TestMain(m *testing.M) {
	if part := os.Getenv(helperEnv); part != "" {
		helper(part)
		return
	}
	os.Exit(m.Run())
}

func helper(part string) {
	if path := os.Getenv(lockEnv); path != "" {
		holdLock(path)
	}
	switch part {
	case "print":
		fmt.Print("result")
		fmt.Fprint(os.Stderr, "one\ntwo\r\n\nthree")
	case "environment":
		fmt.Print(strings.Join(os.Environ(), "\n"))
	case "stdin":
		n, err := os.Stdin.Read(make([]byte, 1))
		fmt.Print(n, err)
	case "exit 7":
		fmt.Fprintln(os.Stderr, "the reason")
		os.Exit(7)
	case "segfault":
		die(syscall.SIGSEGV)
	case "kill":
		die(syscall.SIGKILL)
	case "hang":
		announceAndHang()
	case "hang and ignore":
		signal.Ignore(syscall.SIGTERM)
		announceAndHang()
	case "hang with stubborn child":
		startStubborn(false)
		announceAndHang()
	case "leave child behind":
		startStubborn(false)
	case "leave escaped child behind":
		fmt.Print("result")
		startStubborn(true)
	case "flood stdout":
		for {
			fmt.Println(strings.Repeat("x", 1000))
		}
	case "flood stderr":
		for i := range 5000 {
			fmt.Fprintf(os.Stderr, "%d %s\n", i, strings.Repeat("y", 10_000))
		}
	case "nice":
		// Set right after the start, which this can be a little ahead of.
		for nice() != 19 {
			time.Sleep(time.Millisecond)
		}
		fmt.Print(nice())
	case "burn":
		sum := 0
		for begin := time.Now(); time.Since(begin) < 50*time.Millisecond; {
			sum++
		}
		fmt.Print(sum)
	case "run and be killed":
		hang := spec(os.Getenv(lockEnv), "hang")
		hang.OnStderr = func(string) { die(syscall.SIGKILL) }
		_, err := process.Run(context.Background(), hang)
		panic(err)
	default:
		play, ok := moreParts[part]
		if !ok {
			panic("unknown part " + part)
		}
		play()
	}
}

// nice is this process's level; the raw system call of Linux returns 20 − nice.
func nice() int {
	priority, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		panic(err)
	}
	if runtime.GOOS == "linux" {
		return 20 - priority
	}
	return priority
}

// die ends the process by the signal. Go's runtime turns a SIGSEGV into a panic, a
// shell does not.
func die(sig syscall.Signal) {
	panic(syscall.Exec("/bin/sh", []string{"sh", "-c", fmt.Sprintf("kill -%d $$", sig)}, nil))
}

func announceAndHang() {
	fmt.Fprintln(os.Stderr, "hanging")
	time.Sleep(time.Hour)
}

// startStubborn starts a grandchild that ignores SIGTERM and holds our pipes, and
// waits until it says so.
func startStubborn(escape bool) {
	ready, readyWriter, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), helperEnv+"=hang and ignore")
	child.Stdout, child.Stderr = os.Stdout, readyWriter
	if escape {
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		child.Stdout, child.ExtraFiles = os.Stdout, []*os.File{os.Stderr}
		child.Env = append(child.Env, lockEnv+"=")
	}
	if err := child.Start(); err != nil {
		panic(err)
	}
	if escape {
		fmt.Fprintln(os.Stderr, "escaped", child.Process.Pid)
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		panic(err)
	}
}

// holdLock takes a shared lock that only the end of the process releases.
func holdLock(path string) {
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	if err := syscall.Flock(fd, syscall.LOCK_SH); err != nil {
		panic(err)
	}
}

func spec(lock, part string) process.Spec {
	return process.Spec{
		Path:        os.Args[0],
		Dir:         filepath.Dir(lock),
		Env:         []string{helperEnv + "=" + part, lockEnv + "=" + lock, raceEnv},
		StdoutLimit: 1 << 20,
		Timeout:     time.Minute, // against a hang of the test
	}
}

func newLock(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lock")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	return path
}

// requireNobodyLeft fails unless every helper that held the lock has ended, the
// grandchildren too. A killed process lets go of its pipes a moment before its locks,
// so this waits; a process that lives on would hold its lock for an hour.
func requireNobodyLeft(t *testing.T, lock string) {
	t.Helper()
	file, err := os.OpenFile(lock, os.O_RDWR, 0)
	require.NoError(t, err)
	locked := make(chan error, 1)
	go func() {
		defer file.Close()
		locked <- syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
	}()
	select {
	case err := <-locked:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		require.Fail(t, "a process of the group is still alive")
	}
}

func TestRunReturnsWhatTheChildPrinted(t *testing.T) {
	s := spec(newLock(t), "print")
	var lines []string
	s.OnStderr = func(line string) { lines = append(lines, line) }

	result, err := process.Run(t.Context(), s)

	require.NoError(t, err)
	assert.Equal(t, "result", string(result.Stdout))
	assert.Equal(t, []string{"one", "two", "three"}, lines)
	assert.Equal(t, lines, result.Tail)
	assert.Positive(t, result.Wall)
}

func TestRunGivesNoInputAndNoEnvironmentOfItsOwn(t *testing.T) {
	t.Setenv("PROCESS_TEST_SECRET", "must not be seen")
	lock := newLock(t)

	result, err := process.Run(t.Context(), spec(lock, "stdin"))
	require.NoError(t, err)
	assert.Equal(t, "0 EOF", string(result.Stdout))

	result, err = process.Run(t.Context(), spec(lock, "environment"))
	require.NoError(t, err)
	assert.ElementsMatch(t, spec(lock, "environment").Env, strings.Split(string(result.Stdout), "\n"))
}

func TestRunSaysHowTheChildEnded(t *testing.T) {
	for _, test := range []struct {
		part string
		want process.ExitError
		text string
	}{
		{"exit 7", process.ExitError{Code: 7}, "exit status 7"},
		{"segfault", process.ExitError{Code: -1, Signal: syscall.SIGSEGV}, "killed by SIGSEGV"},
		{"kill", process.ExitError{Code: -1, Signal: syscall.SIGKILL}, "killed by SIGKILL"},
	} {
		t.Run(test.part, func(t *testing.T) {
			_, err := process.Run(t.Context(), spec(newLock(t), test.part))
			var exit *process.ExitError
			require.ErrorAs(t, err, &exit)
			assert.Equal(t, test.want, *exit)
			assert.EqualError(t, err, test.text)
		})
	}
}

func TestRunKeepsTheLastLinesOfAFailure(t *testing.T) {
	result, err := process.Run(t.Context(), spec(newLock(t), "exit 7"))
	require.Error(t, err)
	assert.Equal(t, []string{"the reason"}, result.Tail)
}

func TestRunSaysWhatCannotBeStarted(t *testing.T) {
	s := spec(newLock(t), "print")
	s.Path = filepath.Join(s.Dir, "missing")
	_, err := process.Run(t.Context(), s)
	var start *process.StartError
	require.ErrorAs(t, err, &start)
	require.ErrorIs(t, err, os.ErrNotExist)

	s = spec(newLock(t), "print")
	s.Dir = filepath.Join(s.Dir, "missing")
	_, err = process.Run(t.Context(), s)
	require.ErrorContains(t, err, "working folder")
	assert.NotErrorAs(t, err, &start, "a missing directory is not a missing program")
}

func TestRunKillsTheGroup(t *testing.T) {
	for _, part := range []string{"hang", "hang and ignore", "hang with stubborn child"} {
		t.Run("canceled: "+part, func(t *testing.T) {
			cause := errors.New("told to stop")
			ctx, cancel := context.WithCancelCause(t.Context())
			lock := newLock(t)
			s := spec(lock, part)
			s.OnStderr = func(string) { cancel(cause) }
			_, err := process.Run(ctx, s)
			require.ErrorIs(t, err, cause)
			requireNobodyLeft(t, lock)
		})
		t.Run("timeout: "+part, func(t *testing.T) {
			lock := newLock(t)
			s := spec(lock, part)
			s.Timeout = 100 * time.Millisecond
			_, err := process.Run(t.Context(), s)
			var timeout *process.TimeoutError
			require.ErrorAs(t, err, &timeout)
			assert.Equal(t, s.Timeout, timeout.Limit)
			requireNobodyLeft(t, lock)
		})
	}
}

func TestRunStartsNothingWhenCanceledBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := spec(newLock(t), "print")
	s.Path = "/missing" // would be another error
	_, err := process.Run(ctx, s)
	require.ErrorIs(t, err, context.Canceled)
}

func TestRunKillsWhatTheLeaderLeftBehind(t *testing.T) {
	lock := newLock(t)
	_, err := process.Run(t.Context(), spec(lock, "leave child behind"))
	require.NoError(t, err, "the leader itself succeeded")
	requireNobodyLeft(t, lock)
}

func TestRunReturnsWhenAnEscapedChildHoldsThePipes(t *testing.T) {
	s := spec(newLock(t), "leave escaped child behind")
	var pid int
	s.OnStderr = func(line string) { _, _ = fmt.Sscanf(line, "escaped %d", &pid) }
	result, err := process.Run(t.Context(), s)
	if pid > 0 {
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	}
	require.NoError(t, err)
	assert.Equal(t, "result", string(result.Stdout))
	require.NotZero(t, pid)
	require.NoError(t, syscall.Kill(pid, 0), "the child was to escape, or this shows nothing")
}

func TestRunBoundsStandardOutput(t *testing.T) {
	lock := newLock(t)
	s := spec(lock, "flood stdout")
	s.StdoutLimit = 10_000
	result, err := process.Run(t.Context(), s)
	require.ErrorIs(t, err, process.ErrFlood)
	assert.Len(t, result.Stdout, s.StdoutLimit)
	requireNobodyLeft(t, lock)
}

func TestRunRefusesOutputOverTheLimitFromAChildThatEnded(t *testing.T) {
	s := spec(newLock(t), "print")
	s.StdoutLimit = len("result") - 1
	_, err := process.Run(t.Context(), s)
	require.ErrorIs(t, err, process.ErrFlood)

	s.StdoutLimit = len("result")
	_, err = process.Run(t.Context(), s)
	require.NoError(t, err)
}

func TestRunBoundsStandardError(t *testing.T) {
	s := spec(newLock(t), "flood stderr")
	lines, longest := 0, 0
	s.OnStderr = func(line string) { lines, longest = lines+1, max(longest, len(line)) }
	result, err := process.Run(t.Context(), s)
	require.NoError(t, err)
	assert.Equal(t, 5000, lines)
	assert.Equal(t, 4096, longest)
	require.Len(t, result.Tail, 60)
	assert.Contains(t, result.Tail[0], "4940 y")
	assert.Contains(t, result.Tail[59], "4999 y")
}

func TestRunSetsTheNiceLevel(t *testing.T) {
	s := spec(newLock(t), "nice")
	s.Nice = 19
	result, err := process.Run(t.Context(), s)
	require.NoError(t, err)
	assert.Equal(t, "19", string(result.Stdout))
}

func TestRunCountsProcessorTime(t *testing.T) {
	result, err := process.Run(t.Context(), spec(newLock(t), "burn"))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, result.CPU, 10*time.Millisecond)
}
