package test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
)

// The state is on a small file system, mounted for the exporter alone, that gets full,
// and is given room again. Where the system allows nobody a mount namespace this fails.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + `schedule: [{name: often, cron: "@every 1s", run_on_start: true, targets: [Q2_K, Q4_K_M, Q8_0]}]`)
	require.NoError(t, os.Mkdir(p.state(), 0o700))
	cmd, _ := p.command("--model-dir", p.models, "--llamacpp.dir", p.tools, "--web.listen-address=127.0.0.1:0")
	cmd.Args = append([]string{"sh", "-c", `mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"`, p.state(), cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	s := p.begin(cmd)
	s.endsWithTest()
	s.listens()
	s.mustLog("the run is over")

	// The open folder keeps the file system when the exporter, and its mounts, are gone.
	folder, err := os.Open(fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, p.state()))
	require.NoError(t, err)
	defer folder.Close()
	inside := fmt.Sprintf("/proc/self/fd/%d", folder.Fd())
	filler := filepath.Join(inside, "filler")
	fill(t, filler)
	s.mustLog("the state cannot be stored|it cannot be recorded")

	status, _ := s.get("/-/healthy")
	assert.Equal(t, http.StatusOK, status)
	assert.Positive(t, s.mustHave("quant_exporter_storage_write_failures_total"))
	assert.Positive(t, s.mustHave("quant_cycle_decision_total", "result", "kept", "target_format", "Q8_0"), "what was stored is shown")
	status, events := s.get("/api/v1/events")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, 3, strings.Count(events, `"seq":`), events)

	require.NoError(t, os.Remove(filler))
	over := s.count("the run is over")
	require.Len(t, s.loggedTimes(over+2, "the run is over"), over+2)
	assert.Zero(t, s.stop())

	opened, err := store.OpenForReading(inside)
	require.NoError(t, err)
	defer func() { assert.NoError(t, opened.Close()) }()
	require.NoError(t, opened.Check())
	decisions := uint64(0)
	for counter, n := range opened.State().Counters {
		if counter.Kind == store.CountDecision {
			decisions += n
		}
	}
	assert.EqualValues(t, s.count("a pair is decided"), decisions, "nothing that was found is lost, or counted twice")
}

// fill writes a file until the file system is full.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	require.NoError(t, err)
	for err == nil {
		_, err = file.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, errors.Join(err, file.Close()), syscall.ENOSPC)
}
