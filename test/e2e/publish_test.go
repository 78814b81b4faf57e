package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/publish"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// kept is a configuration under which copies are, whatever else the host does: none is a
// hundred times slower, and there are as many rounds as it takes to see that.
const kept = "benchmark: {prompt_tokens: 32, generation_tokens: 16, max_disturbance: 1}\nthreshold: 0.99\n"

// A copy of the bundled model, published: it is what llama.cpp makes of the model, it loads
// from where the link leads, and a second run moves nothing.
func TestPublish(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "published")
	h := newHost(t, kept+"publish: {dir: "+dir+"}\n")
	outcomes, exit := h.run("--model", bundled(), "--target", "Q8_0")
	require.Zero(t, exit)
	require.Len(t, outcomes, 2, "the decision, and what became of the copy")
	require.Equal(t, verdict.Kept, outcomes[0].Decision)
	require.Equal(t, "QUANT_PUBLICATION", outcomes[1].EventType)

	link := filepath.Join(dir, "kjv-4m-f16", "Q8_0", "stable")
	version, err := filepath.EvalSymlinks(link)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(version, "manifest.json"))
	require.NoError(t, err)
	var m publish.Manifest
	require.NoError(t, json.Unmarshal(text, &m))
	assert.Equal(t, modelSum, m.Source.SHA256)
	assert.Equal(t, "kjv-4m-f16-Q8_0.gguf", m.File)
	assert.Equal(t, outcomes[0].Evidence.Engine.Build, m.Engine.Build)
	assert.Equal(t, outcomes[0].Evidence.Quantize.Args, m.Arguments)
	assert.Equal(t, outcomes[0].Quantized.Bytes, m.Bytes)
	file := filepath.Join(version, m.File)
	sum, _, err := disk.Hash(t.Context(), file, nil)
	require.NoError(t, err)
	assert.Equal(t, m.SHA256, sum)

	served := exec.CommandContext(t.Context(), filepath.Join(shared.tools, "llama-bench"), "-m", file, "-p", "0", "-n", "8", "-r", "1")
	out, err := served.CombinedOutput()
	require.NoError(t, err, "%s", out)

	_, exit = h.run("--model", bundled(), "--target", "Q8_0")
	require.Zero(t, exit)
	again, err := filepath.EvalSymlinks(link)
	require.NoError(t, err)
	assert.Equal(t, version, again, "the same tools make the same of the same model")
}

// A copy that llama.cpp does not load does not get there, and the one before stays.
func TestACopyThatDoesNotLoadIsNotPublished(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "published")
	config := kept + "publish: {dir: " + dir + "}\n"
	h := newHost(t, config)
	_, exit := h.run("--model", bundled(), "--target", "Q8_0")
	require.Zero(t, exit)
	link := filepath.Join(dir, "kjv-4m-f16", "Q4_K_M", "stable")

	// A llama-bench that refuses the name under which a copy is loaded for the last time.
	tools := t.TempDir()
	for _, tool := range []string{"llama-quantize", "llama-bench"} {
		require.NoError(t, os.Symlink(filepath.Join(shared.tools, tool), filepath.Join(tools, tool)))
	}
	require.NoError(t, os.Remove(filepath.Join(tools, "llama-bench")))
	refusing := "#!/bin/sh\ncase \"$*\" in *copy.gguf*) echo \"error: failed to load model 'copy.gguf'\" >&2; exit 1;; esac\nexec " + filepath.Join(shared.tools, "llama-bench") + " \"$@\"\n"
	require.NoError(t, os.WriteFile(filepath.Join(tools, "llama-bench"), []byte(refusing), 0o755))
	cmd := newHost(t, config, "--llamacpp.dir", tools).command("run", "--model", bundled(), "--target", "Q4_K_M")
	text, err := cmd.Output()
	require.Error(t, err)
	assert.Equal(t, 1, cmd.ProcessState.ExitCode())
	assert.Contains(t, string(text), "Q4_K_M is not published: ")
	assert.Contains(t, string(text), "the copy does not load: ")
	assert.NoFileExists(t, link)
	_, err = os.Stat(filepath.Join(dir, "kjv-4m-f16", "Q8_0", "stable"))
	require.NoError(t, err)
}
