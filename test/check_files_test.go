package test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
)

// What a cycle would only miss at night is said by --config.check.
func TestCheckOfFilesAndFolders(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "text"), []byte("text"), 0o600))
	const entry = "schedule: [{name: n, cron: '@daily'}]\n"
	for name, test := range map[string]struct{ text, want string }{
		"text":                 {"quality: {corpus: text, max_kl_divergence: 0.1}\n", ""},
		"no text":              {"quality: {corpus: nowhere, max_kl_divergence: 0.1}\n", "nowhere: no such file or directory: name the file of a text"},
		"folder for a text":    {"quality: {corpus: ., max_kl_divergence: 0.1}\n", "it is not a regular file: name the file of a text"},
		"folder to be made":    {"publish: {dir: a/b}\n", ""},
		"file for a folder":    {"publish: {dir: text}\n", "text is not a folder: name another one"},
		"below a file":         {"publish: {dir: text/a}\n", "text/a: not a directory"},
		"folder that is there": {"publish: {dir: .}\n", ""},
	} {
		p.configure(entry + test.text)
		got := p.check()
		if test.want == "" {
			assert.Zero(t, got.status, "%s: %s", name, got.stderr)
			continue
		}
		assert.Equal(t, exitError, got.status, name)
		assert.Contains(t, got.stderr, `config.yml:1: schedule: entry "n": `, name)
		assert.Contains(t, got.stderr, test.want, name)
	}
	assert.NoFileExists(t, filepath.Join(p.dir, "a"), "a check makes nothing")
}
