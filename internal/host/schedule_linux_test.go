package host

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestStopped(t *testing.T) {
	child := exec.CommandContext(t.Context(), "sleep", "3600")
	require.NoError(t, child.Start())
	pid := child.Process.Pid
	watch := WatchProcess(pid, nil)
	changed := func() (status unix.WaitStatus) {
		_, err := unix.Wait4(pid, &status, unix.WUNTRACED|unix.WCONTINUED, nil)
		require.NoError(t, err)
		return status
	}
	assert.False(t, watch.Stopped())

	require.NoError(t, child.Process.Signal(unix.SIGSTOP))
	require.True(t, changed().Stopped())
	assert.True(t, watch.Stopped())

	require.NoError(t, child.Process.Signal(unix.SIGCONT))
	require.True(t, changed().Continued())
	assert.False(t, watch.Stopped())

	require.NoError(t, child.Process.Kill())
	require.True(t, changed().Signaled())
	assert.True(t, watch.Stopped(), "it is gone")
	assert.True(t, WatchProcess(0, nil).Stopped(), "it is not known")
}
