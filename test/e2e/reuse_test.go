package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/runner"
)

// rebuilt gives a folder of the real tools, which say that they are of another build.
func rebuilt(t *testing.T, from, to int) string {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range []string{"llama-quantize", "llama-server", "llama-perplexity"} {
		require.NoError(t, os.Symlink(filepath.Join(shared.tools, tool), filepath.Join(dir, tool)))
	}
	bench := filepath.Join(shared.tools, "llama-bench")
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = --version ]; then\n  '%s' --version 2>&1 | sed 's/%d/%d/g'\n  exit\nfi\nexec '%s' \"$@\"\n", bench, from, to, bench)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "llama-bench"), []byte(script), 0o700))
	return dir
}

// What an earlier cycle made is reused, what has changed is named, and what has not is not
// measured again.
func TestNothingTwice(t *testing.T) {
	t.Parallel()
	text := filepath.Join(shared.root, "examples", "models", "kjv-heldout.txt")
	// No copy is so slow, or so bad: all are kept, on the noisiest host.
	config := quick + "threshold: 0.95\nquality: {corpus: " + text + ", max_kl_divergence: 5, chunks: 10}\n"
	h := newServing(t, config)
	targets := []string{"--target", "Q8_0", "--target", "Q2_K"}
	outcomesOf := func(args ...string) []outcome { // in the order of targets: which is decided first is a matter of chance
		t.Helper()
		outcomes, _ := h.run(append(args, targets...)...)
		require.Len(t, outcomes, 2)
		for _, o := range outcomes {
			require.Empty(t, o.Error)
		}
		slices.SortFunc(outcomes, func(a, b outcome) int { return strings.Compare(b.Target, a.Target) })
		return outcomes
	}

	first := outcomesOf()
	for _, o := range first {
		assert.Empty(t, o.Changed)
		assert.Empty(t, o.Evidence.Reused)
		assert.NotEmpty(t, o.Evidence.Quantize.Args)
	}
	second := outcomesOf()
	for i, o := range second {
		assert.Empty(t, o.Changed)
		assert.Len(t, o.Evidence.Reused, 64, "the copy is the one of the first cycle")
		assert.Equal(t, first[i].Evidence.Quantize.Args, o.Evidence.Quantize.Args, "how it was made")
		assert.Zero(t, o.Evidence.Quantize.Wall)
		assert.Len(t, o.Evidence.Quality.Reused, 64, "and so are the original's predictions")
		assert.Equal(t, first[i].Quantized, o.Quantized)
		// llama-perplexity loses its summary now and then; its rows have a digit less, five.
		assert.InDelta(t, first[i].Evidence.Quality.Verdict().KLDivergence.Estimate, o.Evidence.Quality.Verdict().KLDivergence.Estimate, 1e-5)
	}

	build := second[0].Evidence.Engine.Build
	require.Positive(t, build)
	other := rebuilt(t, build, build+33)
	for _, o := range outcomesOf("--llamacpp.dir", other) {
		assert.Equal(t, []string{fmt.Sprintf("llama.cpp %d → %d", build, build+33)}, o.Changed)
		assert.Empty(t, o.Evidence.Reused, "another build may quantize otherwise")
	}
	for _, o := range outcomesOf() {
		assert.Equal(t, []string{fmt.Sprintf("llama.cpp %d → %d", build+33, build)}, o.Changed)
	}

	// The schedule has nothing to do.
	h.configure(config + `schedule: [{name: often, cron: "@every 1s", targets: [Q8_0, Q2_K], fresh_for: 7d}]`)
	d := h.serve("--web.listen-address", "127.0.0.1:0")
	for range 2 {
		d.logged("targets are skipped: a decision on the same inputs is younger than fresh_for")
		d.logged("run finished")
	}
	d.stop()
	assert.Equal(t, 4, h.exported("cycle"), "no cycle has begun")
	counter := h.export("counter")
	assert.Contains(t, counter, `"counter":"skipped","labels":{"entry":"often","reason":"unchanged"}`)
	assert.Contains(t, counter, fmt.Sprintf(`"counter":"input_change","labels":{"input":%q,"model_name":"kjv-4m-f16"},"value":2`, runner.InputEngine))
}

// export gives the lines of a kind that the state holds.
func (h *host) export(kind string) string {
	h.t.Helper()
	out, err := h.command("export").Output()
	require.NoError(h.t, err)
	var lines strings.Builder
	for line := range bytes.Lines(out) {
		if bytes.Contains(line, []byte(`"kind":"`+kind+`"`)) {
			lines.Write(line)
		}
	}
	return lines.String()
}

func (h *host) exported(kind string) int { return strings.Count(h.export(kind), "\n") }
