package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/docs"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// A coordinator and two workers decide the bundled model with the real llama.cpp, within two
// minutes.
func TestFleetDemo(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "make", "fleet-demo")
	cmd.Dir = t.TempDir()
	docs.Copy(t, shared.root, cmd.Dir)
	cmd.Env = append(os.Environ(), "LLAMA_CPP_DIR="+shared.tools, "PATH="+filepath.Dir(servers.Tool(t, "redis-server"))+":"+os.Getenv("PATH"))
	cmd.Stderr = os.Stderr
	begin := time.Now()
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	t.Logf("took %v, building included:\n%s", time.Since(begin), out)
	assert.Equal(t, 2, strings.Count(string(out), "a worker has done a cycle"))
	assert.Equal(t, 2, strings.Count(string(out), "msg=decision"))
}
