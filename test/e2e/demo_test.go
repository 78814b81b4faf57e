package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/docs"
)

// The demo ends well, and prints a table of the shape that the README shows.
func TestDemo(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "make", "demo")
	cmd.Dir = t.TempDir()
	docs.Copy(t, shared.root, cmd.Dir)
	cmd.Env = append(os.Environ(), "LLAMA_CPP_DIR="+shared.tools)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	before, _, _ := strings.Cut(string(out), "kjv-4m-f16")
	assert.Contains(t, before, "this takes 2 to 4 minutes", "nobody takes the silence of a compiler for a hang")
	_, next, found := strings.Cut(string(out), "\nThat was a real decision on a tiny model. Next, on models of your own:\n")
	require.True(t, found, "%s", out)
	assert.Contains(t, next, "--dry-run")
	assert.NotContains(t, next, "kept", "the table is before it")

	readme, err := os.ReadFile(filepath.Join(shared.root, "README.md"))
	require.NoError(t, err)
	_, shown, ok := strings.Cut(string(readme), "```text\nkjv-4m-f16")
	require.True(t, ok, "the README shows what the demo prints")
	shown, _, _ = strings.Cut(shown, "```")
	for line := range strings.Lines("kjv-4m-f16" + shown) {
		assert.Contains(t, shape(string(out)), shape(line))
	}
}

var (
	interval = regexp.MustCompile(`\[[^]]*\]`)
	figure   = regexp.MustCompile(`-?[0-9]+(\.[0-9]+)?`)
	decision = regexp.MustCompile(`\b(kept|rejected|inconclusive)\b`)
	gap      = regexp.MustCompile(` +`)
)

// shape is a text without what is measured: its words in their order.
func shape(text string) string {
	text = interval.ReplaceAllString(text, "INTERVAL")
	text = strings.ReplaceAll(text, "threads", "thread")
	text = figure.ReplaceAllString(text, "FIGURE")
	return gap.ReplaceAllString(decision.ReplaceAllString(text, "DECISION"), " ")
}
