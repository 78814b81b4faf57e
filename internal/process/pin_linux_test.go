package process_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/quant-exporter/quant-exporter/internal/process"
)

// cpusOf returns the CPUs that each thread of a process may run on.
func cpusOf(t *testing.T, pid int) map[string]unix.CPUSet {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	require.NoError(t, err)
	all := map[string]unix.CPUSet{}
	for _, thread := range threads {
		var id int
		_, err := fmt.Sscan(filepath.Base(thread), &id)
		require.NoError(t, err)
		var set unix.CPUSet
		require.NoError(t, unix.SchedGetaffinity(id, &set))
		all[thread] = set
	}
	return all
}

func TestPin(t *testing.T) {
	var own unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &own))
	cpus := []int{}
	for cpu := range 1024 {
		if own.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	lock := newLock(t)
	child := exec.Command(os.Args[0]) // with the threads of the Go runtime
	child.Env = []string{helperEnv + "=hang", lockEnv + "=" + lock}
	said, err := child.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	_, err = said.Read(make([]byte, 1))
	require.NoError(t, err)
	pinned := func(want unix.CPUSet) {
		t.Helper()
		threads := cpusOf(t, child.Process.Pid)
		require.Greater(t, len(threads), 1)
		for thread, set := range threads {
			assert.Equal(t, want, set, thread)
		}
	}

	require.NoError(t, process.Pin(child.Process.Pid, []int{1023}))
	pinned(own) // it may not run there: it stays

	var first unix.CPUSet
	first.Set(cpus[0])
	require.NoError(t, process.Pin(child.Process.Pid, []int{cpus[0], 1023}))
	pinned(first)

	require.NoError(t, process.Pin(child.Process.Pid, cpus))
	pinned(first) // as somebody has placed it

	require.NoError(t, child.Process.Kill())
	_ = child.Wait()
	require.ErrorIs(t, process.Pin(child.Process.Pid, cpus), os.ErrNotExist)
}
