package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/process"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/runner"
)

// A confined tool gets at the model neither by its name nor by the link in the working folder.
func TestConfinedToolDoesNotChangeTheModel(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	before, err := os.ReadFile(p.model)
	require.NoError(t, err)
	refused := filepath.Join(fakellama.Notes(p.tools), "refused")
	command := fmt.Sprintf(`for f in '%s' original.gguf; do (echo more >> $f) 2>&- || echo $f >> '%s'; done; rm -f '%s'; true`, p.model, refused, p.model)
	wrappers := wrapped(t, p.tools, "llama-quantize", command)
	p.configure(strings.Replace(quick, "{threads: 1}", "{threads: 1, sandbox: required, sandbox_reads: ["+p.tools+"]}", 1))
	got := p.start("run", "--model-dir", p.models, "--llamacpp.dir", wrappers, "--output", "json", "--evidence")
	if process.Landlock() == 0 {
		p.requireFailed(got, runner.ReasonEngineMissing, "engine.sandbox is required")
		return
	}
	require.Contains(t, []int{exitKept, exitRejected, exitInconclusive}, got.status, got.stderr)
	assert.Contains(t, got.stdout, `"sandbox":"landlock `)
	after, err := os.ReadFile(p.model)
	require.NoError(t, err)
	assert.Equal(t, before, after)
	tried, err := os.ReadFile(refused)
	require.NoError(t, err)
	assert.Contains(t, string(tried), "original.gguf\n")
	assert.Contains(t, string(tried), p.model+"\n")
	p.nothingLeft()
}

// A wrapper script's child is not the exporter's to end when the exporter is killed: the next
// start finds it by its environment, before it measures.
func TestNextStartEndsWhatAKilledCycleLeft(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	noted := filepath.Join(fakellama.Notes(p.tools), "left")
	wrappers := wrapped(t, p.tools, "llama-bench", fmt.Sprintf(`[ -e '%s' ] || { sleep 3600 & echo $! > '%s'; wait; }`, noted, noted))
	p.configure(strings.Replace(quick, "{threads: 1}", "{threads: 1, sandbox_reads: ["+p.tools+"]}", 1))
	cmd, stderr := p.command("run", "--model-dir", p.models, "--llamacpp.dir", wrappers)
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	left := 0
	for look := time.NewTicker(10 * time.Millisecond); left == 0; {
		select {
		case err := <-ended:
			t.Fatalf("it ended by itself: %v\n%s", err, stderr)
		case <-look.C:
			text, _ := os.ReadFile(noted)
			left, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		}
	}
	t.Cleanup(func() { _ = syscall.Kill(left, syscall.SIGKILL) })
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, <-ended)
	require.NoError(t, syscall.Kill(left, 0), "the child was to survive, or this shows nothing")

	got := p.start("run", "--model-dir", p.models, "--llamacpp.dir", wrappers)
	require.Contains(t, []int{exitKept, exitRejected, exitInconclusive}, got.status, got.stderr)
	assert.Contains(t, got.stderr, "ended what the tools of a killed process had left running")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", left))
	assert.True(t, err != nil || strings.Contains(string(text), ") Z "), "it runs on: %s", text)
	p.nothingLeft()
}
