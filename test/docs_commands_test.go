package test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/docs"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/test/program"
)

// Every command of the documentation runs, in the order of its page, in a copy of the
// repository with the fake llama.cpp, and succeeds; every configuration is valid. What
// cannot run on a test machine says why.
func TestDocsCommands(t *testing.T) {
	t.Parallel()
	pages := map[string][]docs.Block{}
	for _, block := range docs.Blocks(t, "..") {
		if block.NotRun == "" && (block.Language == "sh" || block.Language == "yaml") {
			pages[block.Page] = append(pages[block.Page], block)
		}
	}
	for page, blocks := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			c := newClone(t)
			if !slices.ContainsFunc(blocks, func(b docs.Block) bool { return strings.Contains(b.Text, "make build") }) {
				c.built()
			}
			for _, block := range blocks {
				if block.Language == "yaml" {
					c.check(block)
				} else {
					c.run(block)
				}
			}
		})
	}
}

// clone is a copy of the repository, as a reader has it, who has llama.cpp, models and
// the files that the documentation names, and has run a cycle.
type clone struct{ *place }

func newClone(t *testing.T) *clone {
	t.Helper()
	c := &clone{newPlace(t, fakellama.Behaviour{})}
	docs.Copy(t, "..", c.dir)
	models := filepath.Join(c.dir, "srv", "models")
	for _, name := range []string{"llama-8b-f16", "llama-70b-f16"} {
		gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(models, name+".gguf"))
	}
	gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(c.dir, "some.gguf"))
	gguftest.Model(gguftest.TinyQuantized()).Write(t, filepath.Join(models, "served", "llama-8b-q4.gguf"))
	gguftest.Model(gguftest.TinyQuantized()).Write(t, filepath.Join(c.dir, "served.gguf"))
	c.write("heldout.txt", strings.Repeat("word ", 20_000))
	c.env = []string{
		"PATH=" + filepath.Join(c.dir, "bin") + ":" + os.Getenv("PATH"), "HOME=" + c.dir,
		"MODEL_DIR=" + models, "LLAMA_CPP_DIR=" + c.tools, program.EndsAtOnce,
	}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} { // that HOME would move
		value, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		require.NoError(t, err)
		c.env = append(c.env, name+"="+strings.TrimSpace(string(value)))
	}
	out, err := c.shell(binary(t) + " run --model ./some.gguf --host.lock lock").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return c
}

// built puts the program where `make build` and an installation would, with a lock of its
// own.
func (c *clone) built() {
	c.t.Helper()
	script := "#!/bin/sh\nexec " + binary(c.t) + ` "$@" --host.lock ` + filepath.Join(c.dir, "lock") + "\n"
	for _, file := range []string{"quant-exporter", "bin/quant-exporter"} {
		path := filepath.Join(c.dir, file)
		require.NoError(c.t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(c.t, os.WriteFile(path, []byte(script), 0o755))
	}
}

// run runs a block of commands, line by line. One that serves goes on until the end of
// the block.
func (c *clone) run(block docs.Block) {
	c.t.Helper()
	var s *server
	if block.Served {
		s = c.serveLine("./quant-exporter --web.enable-lifecycle --web.enable-admin-api")
	}
	for line := range strings.Lines(strings.ReplaceAll(block.Text, "\\\n", "")) {
		line, _, _ = strings.Cut(line, " # ")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if serves(line) {
			s = c.serveLine(line)
			continue
		}
		if s != nil {
			line = strings.ReplaceAll(line, "http://localhost:10180", s.url)
		}
		out, err := c.shell(line).CombinedOutput()
		assert.NoError(c.t, err, "%s:%d: %s\n%s", block.Page, block.Line, line, out)
	}
	if s != nil {
		assert.Zero(c.t, s.stop(), s.log())
	}
}

// serves reports whether a command line starts the exporter, and does not end.
func serves(line string) bool {
	words := strings.Fields(line)
	return words[0] == "./quant-exporter" && !slices.ContainsFunc(words, func(word string) bool {
		return slices.Contains([]string{"run", "calibrate", "events", "export", "backup", "--config.check", "--help", "--version"}, word)
	})
}

func (c *clone) serveLine(line string) *server {
	c.t.Helper()
	s := c.begin(c.shell("exec " + line + " --web.listen-address=127.0.0.1:0"))
	s.endsWithTest()
	s.listens()
	require.NotEmpty(c.t, s.url, s.log())
	return s
}

// shell runs a command line of the documentation, in which /srv is the clone's.
func (c *clone) shell(line string) *exec.Cmd {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	c.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "sh", "-euc", c.here(line))
	cmd.Dir, cmd.Env = c.dir, c.env
	return cmd
}

func (c *clone) here(text string) string {
	return strings.ReplaceAll(text, "/srv/", filepath.Join(c.dir, "srv")+"/")
}

// check has the program check a configuration.
func (c *clone) check(block docs.Block) {
	c.t.Helper()
	file := c.write("block.yml", c.here(block.Text))
	cmd := c.shell("exec " + binary(c.t) + " --config.check --config.file " + file)
	out, err := cmd.CombinedOutput()
	assert.NoError(c.t, err, "%s:%d\n%s", block.Page, block.Line, out)
}
