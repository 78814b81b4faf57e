package test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
)

// Within a prompt one server runs and the other is stopped: neither survives the exporter.
func TestKilledWithinAPrompt(t *testing.T) {
	t.Parallel()
	fault := fakellama.Fault{Tool: "llama-server", Step: "answer", Calls: []int{2}, Do: fakellama.Hang}
	p := newPlace(t, fakellama.Behaviour{Server: true, Faults: []fakellama.Fault{fault}})
	cmd, stderr := p.command("run", "--model-dir", p.models, "--llamacpp.dir", p.tools)
	require.NoError(t, cmd.Start())
	require.Eventually(t, p.stopsOne, patience, 10*time.Millisecond, "no server is stopped")
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.NotContains(t, stderr.String(), "DATA RACE")
	fakellama.NoneLeft(t, p.tools)

	p.configure(strings.Replace(quick, "benchmark: {", "benchmark: {method: process, ", 1))
	got := p.run("--output", "json")
	assert.Equal(t, exitKept, got.status, got.stderr)
	p.nothingLeft()
}

// stopsOne reports whether a process is stopped that runs in the working folder.
func (p *place) stopsOne() bool {
	proc, err := procfs.NewDefaultFS()
	require.NoError(p.t, err)
	all, err := proc.AllProcs()
	require.NoError(p.t, err)
	for _, process := range all {
		stat, err := process.Stat()
		if err != nil || stat.State != "T" { // it may have ended meanwhile
			continue
		}
		at, err := process.Cwd()
		if inside, _ := filepath.Match(filepath.Join(p.work(), "*"), at); err == nil && inside {
			return true
		}
	}
	return false
}
