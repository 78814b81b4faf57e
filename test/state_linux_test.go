package test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/namespace"
)

// The state is on a small file system, mounted for the exporter alone, that gets full,
// and is given room again. Where the system allows nobody a mount namespace this fails.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + `schedule: [{name: often, cron: "@every 1s", run_on_start: true, targets: [Q2_K, Q4_K_M, Q8_0]}]`)
	require.NoError(t, os.Mkdir(p.state(), 0o700))
	cmd, _ := p.command("--model-dir", p.models, "--llamacpp.dir", p.tools, "--web.listen-address=127.0.0.1:0")
	onSmallDisk(cmd, p.state(), `exec "$@"`)
	s := p.begin(cmd)
	s.endsWithTest()
	s.listens()
	s.mustLog("run finished")

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
	over := s.count("run finished")
	require.Len(t, s.loggedTimes(over+2, "run finished"), over+2)
	assert.Zero(t, s.stop())

	opened, err := store.OpenForReading(inside)
	require.NoError(t, err)
	defer func() { assert.NoError(t, opened.Close()) }()
	require.NoError(t, opened.Check())
	decisions := uint64(0)
	for counter, n := range opened.State().Counters.All() {
		if counter.Kind == store.CountDecision {
			decisions += n
		}
	}
	assert.EqualValues(t, s.count("msg=decision "), decisions, "nothing that was found is lost, or counted twice")
}

// onSmallDisk has a shell run the command after it has mounted a small file system at dir, for
// the command alone: "$0" is dir, and "$@" the command, in the script.
func onSmallDisk(cmd *exec.Cmd, dir, script string) {
	cmd.Args = append([]string{"sh", "-c", `mount -t tmpfs -o size=4m tmpfs "$0" && ` + script, dir, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	namespace.WithMounts(cmd)
}

// A run by hand does not wait for room, as an exporter does: it says what could not be stored,
// and ends with status 1. What it found is printed, and what was stored before is whole.
func TestRunOnAFullDisk(t *testing.T) {
	t.Parallel()
	const fill = `cat /dev/zero > "$0/filler" 2> /dev/null; `
	for name, test := range map[string]struct {
		script  string // what the shell does before and after the program
		fills   bool   // llama-quantize fills the disk
		decided int    // lines of the output
		stored  bool   // a state, with the cycle that was begun
	}{
		"from the start":     {script: fill + `"$@"`},
		"while a cycle runs": {script: `"$@"; status=$?; rm "$0/filler"; cp "$0/state.db" "$0-after/"; exit $status`, fills: true, decided: 3, stored: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, fakellama.Behaviour{})
			after := p.state() + "-after"
			require.NoError(t, os.Mkdir(p.state(), 0o700))
			require.NoError(t, os.Mkdir(after, 0o700))
			if test.fills {
				p.configure(unconfined)
				p.tools = wrapped(t, p.tools, "llama-quantize", `cat /dev/zero > "`+p.state()+`/filler" 2> /dev/null`)
			}
			var stdout bytes.Buffer
			cmd, stderr := p.command("run", "--model-dir", p.models, "--llamacpp.dir", p.tools, "--output", "json", "--target", "Q2_K", "--target", "Q4_K_M", "--target", "Q8_0")
			cmd.Stdout = &stdout
			onSmallDisk(cmd, p.state(), test.script)
			require.Error(t, cmd.Run())
			assert.Equal(t, exitError, cmd.ProcessState.ExitCode())
			assert.Contains(t, stderr.String(), syscall.ENOSPC.Error())
			assert.Contains(t, stderr.String(), "quant-exporter: ")
			assert.Equal(t, test.decided, strings.Count(stdout.String(), `"decision":"kept"`), stdout.String())
			left, err := filepath.Glob(filepath.Join(p.work(), "cycle-*"))
			require.NoError(t, err)
			assert.Empty(t, left)
			if !test.stored {
				return
			}
			opened, err := store.OpenForReading(after)
			require.NoError(t, err)
			defer func() { assert.NoError(t, opened.Close()) }()
			require.NoError(t, opened.Check())
			_, _, found, err := opened.Cycle(1)
			require.NoError(t, err)
			assert.True(t, found)
			assert.Contains(t, stderr.String(), "quant-exporter: storing the result of Q2_K of \"m\": ")
		})
	}
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
