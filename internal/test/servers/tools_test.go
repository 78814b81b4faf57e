package servers_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

func TestToolsDirNamesTheTools(t *testing.T) {
	dir := t.TempDir()
	program(t, dir, "promtool", "echo own promtool: $*")
	t.Setenv("TEST_TOOLS_DIR", dir)
	out, err := servers.Promtool(t, "check")
	require.NoError(t, err)
	assert.Equal(t, "own promtool: check\n", out)
}

// The script takes programs from PATH under Debian's name or the project's own, and the
// folder that it makes may be on PATH itself.
func TestScriptUsesWhatIsOnPath(t *testing.T) {
	own, folder := t.TempDir(), t.TempDir()
	program(t, own, "alertmanager", "echo alertmanager of PATH: $1")
	program(t, own, "amtool", "echo amtool of PATH: $1")
	path := filepath.Join(folder, "bin") + ":" + own + ":" + bare(t)
	for range 2 {
		out, err := script(path, folder, "prometheus-alertmanager")
		require.NoError(t, err, out)
		require.Equal(t, filepath.Join(folder, "bin")+"\n", out)
	}
	for name, want := range map[string]string{
		"prometheus-alertmanager": "alertmanager of PATH: a b\n",
		"amtool":                  "amtool of PATH: a b\n",
	} {
		out, err := exec.Command(filepath.Join(folder, "bin", name), "a b").Output()
		require.NoError(t, err)
		assert.Equal(t, want, string(out))
	}
}

func TestScriptSaysWhatToInstall(t *testing.T) {
	tests := map[string]struct {
		pkg  string
		want []string
	}{
		"no apt-get":      {"redis-server", []string{"no apt-get here", "brew install redis", "TEST_TOOLS_DIR"}},
		"unknown package": {"nginx", []string{"the package nginx is not known here"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			out, err := script(bare(t), t.TempDir(), test.pkg)
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			for _, want := range test.want {
				assert.Contains(t, out, want)
			}
		})
	}
}

// script runs get-debian-tools with this PATH; its output is that of both streams.
func script(path string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join("..", "..", "..", "scripts", "get-debian-tools"), args...)
	cmd.Env = []string{"PATH=" + path}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// bare is a folder with the few programs that the script needs everywhere.
func bare(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"sh", "cat", "chmod", "dirname", "mkdir", "mv"} {
		path, err := exec.LookPath(name)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(path, filepath.Join(dir, name)))
	}
	return dir
}

// program writes a shell script that can be started by its name.
func program(t *testing.T, dir, name, line string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+line+"\n"), 0o700))
}
