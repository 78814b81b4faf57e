package process_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/process"
	"github.com/quant-exporter/quant-exporter/internal/test/program"
)

func init() {
	moreParts["leave children behind, adopted"] = func() { adoptAndRun("leave escaped child behind") }
	moreParts["wait to be released"] = func() { waitForRelease(os.Getenv(lockEnv) + ".release") }
	moreParts["run one that waits"] = func() {
		wait := spec(os.Getenv(lockEnv), "wait to be released")
		wait.Timeout = stoppedLimit
		wait.OnStderr = func(line string) { fmt.Println(line) }
		_, err := process.Run(context.Background(), wait)
		fmt.Println("ended:", err)
	}
	moreParts["wait within a timeout"] = func() {
		ctx, cancel := process.WithTimeout(context.Background(), stoppedLimit, errors.New("too long"))
		defer cancel()
		fmt.Println("waiting")
		waitForRelease(os.Getenv(lockEnv) + ".release")
		fmt.Println("ended:", context.Cause(ctx))
	}
	moreParts["hold a descriptor and run"] = func() {
		process.KeepDescriptors()
		result, err := process.Run(context.Background(), spec(os.Getenv(lockEnv), "list descriptors"))
		fmt.Print(string(result.Stdout), err)
	}
	moreParts["list descriptors"] = func() {
		for fd := 3; fd < 64; fd++ {
			if path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && strings.Contains(path, "inherited") {
				fmt.Println("inherited", fd)
			}
		}
	}
}

// adoptAndRun plays a program that adopts strays and runs a tool.
func adoptAndRun(part string) {
	if err := process.AdoptStrays(); err != nil {
		panic(err)
	}
	s := spec(os.Getenv(lockEnv), part)
	s.OnStderr = func(line string) { fmt.Println(line) }
	began := time.Now()
	result, err := process.Run(context.Background(), s)
	fmt.Println("strays", result.Strays, err)
	if wall := time.Since(began); wall > 20*time.Second {
		fmt.Println("slow", wall)
	}
}

func TestRunEndsWhatLeftTheGroup(t *testing.T) {
	program := exec.Command(os.Args[0])
	program.Env = []string{helperEnv + "=leave children behind, adopted", lockEnv + "=" + newLock(t), raceEnv}
	said, err := program.Output()
	require.NoError(t, err)

	var pid int
	_, err = fmt.Sscanf(string(said), "escaped %d", &pid)
	require.NoError(t, err, string(said))
	assert.Contains(t, string(said), "strays 1 <nil>\n")
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, "the child that left its group runs on")
}

// stoppedLimit is the limit of a child whose parent is stopped for longer.
const stoppedLimit = time.Second

// waitForRelease plays a tool that ends when it can open a FIFO.
func waitForRelease(path string) {
	fmt.Fprintln(os.Stderr, "waiting")
	file, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	_ = file.Close()
}

// What ends while the exporter is stopped, a tool or a run of an entry, has not run into its
// limit.
func TestStoppedTimeDoesNotCount(t *testing.T) {
	program.NotShort(t)
	for _, part := range []string{"run one that waits", "wait within a timeout"} {
		t.Run(part, func(t *testing.T) {
			lock := newLock(t)
			release := lock + ".release"
			require.NoError(t, syscall.Mkfifo(release, 0o600))
			child := exec.Command(os.Args[0])
			child.Env = []string{helperEnv + "=" + part, lockEnv + "=" + lock, raceEnv}
			said, err := child.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, child.Start())
			lines := bufio.NewScanner(said)
			require.True(t, lines.Scan())
			require.Equal(t, "waiting", lines.Text())

			require.NoError(t, child.Process.Signal(syscall.SIGSTOP))
			<-time.After(3 * stoppedLimit / 2)
			file, err := os.OpenFile(release, os.O_RDWR, 0) // a stopped program opens nothing, which would be waited for
			require.NoError(t, err)
			defer file.Close()
			<-time.After(stoppedLimit / 8) // for the child to end
			require.NoError(t, child.Process.Signal(syscall.SIGCONT))

			require.True(t, lines.Scan())
			assert.Equal(t, "ended: <nil>", lines.Text())
			require.NoError(t, child.Wait())
		})
	}
}

func TestNoDescriptorIsInherited(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "inherited"))
	require.NoError(t, err)
	defer file.Close()
	program := exec.Command(os.Args[0])
	program.Env = []string{helperEnv + "=hold a descriptor and run", lockEnv + "=" + newLock(t), raceEnv}
	program.ExtraFiles = []*os.File{file}
	said, err := program.Output()
	require.NoError(t, err)
	assert.Equal(t, "<nil>", string(said))
}

func TestEndMarkedEndsWhoeverHasTheEntry(t *testing.T) {
	mark := "PROCESS_TEST_MARK=" + t.TempDir()
	start := func(entry string) *exec.Cmd {
		child := exec.Command("sleep", "3600")
		child.Env = []string{"PATH=" + os.Getenv("PATH"), entry}
		require.NoError(t, child.Start())
		t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
		return child
	}
	marked, other := start(mark), start(mark+"2")

	ended, err := process.EndMarked(mark)
	require.NoError(t, err)
	assert.Equal(t, 1, ended)
	require.EqualError(t, marked.Wait(), "signal: killed")
	require.NoError(t, other.Process.Signal(syscall.Signal(0)))
}
