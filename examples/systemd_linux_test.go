package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

const installed = "/usr/local/bin/quant-exporter"

// systemd lays out the unit and its socket with these drop-ins, and returns their paths.
// The program, which is not installed here, is replaced by one that is there.
func systemd(t *testing.T, dropIns ...string) (service, socket string) {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	put := func(from, to string) string {
		text, err := os.ReadFile(filepath.Join("systemd", from))
		require.NoError(t, err)
		to = filepath.Join(dir, to)
		require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
		require.NoError(t, os.WriteFile(to, []byte(strings.ReplaceAll(string(text), installed, program)), 0o600))
		return to
	}
	for _, name := range dropIns {
		put(name, filepath.Join("quant-exporter.service.d", name))
	}
	return put("quant-exporter.service", "quant-exporter.service"), put("quant-exporter.socket", "quant-exporter.socket")
}

func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), servers.Tool(t, "systemd-analyze"), args...).CombinedOutput()
	return string(out), err
}

func TestSystemdAcceptsTheUnits(t *testing.T) {
	for _, dropIns := range [][]string{nil, {"cpu-only.conf"}, {"socket.conf"}, {"cpu-only.conf", "socket.conf"}} {
		service, socket := systemd(t, dropIns...)
		out, err := analyze(t, "verify", service, socket)
		require.NoError(t, err, out)
		assert.Empty(t, out, "a key that systemd does not know is only a warning")
	}
}

func TestSystemdFindsTheUnitHardened(t *testing.T) {
	// "OK" is below 5; the bounds are what the units reach, rounded up.
	for bound, dropIns := range map[string][]string{"20": nil, "15": {"cpu-only.conf"}} {
		service, _ := systemd(t, dropIns...)
		out, err := analyze(t, "security", "--offline=true", "--threshold="+bound, service)
		require.NoError(t, err, out)
	}
}

// Hidden GPUs would be measured without.
func TestSystemdUnitHidesNoGPU(t *testing.T) {
	text, err := os.ReadFile("systemd/quant-exporter.service")
	require.NoError(t, err)
	for _, key := range []string{"PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "MemoryDenyWriteExecute"} {
		assert.NotContains(t, string(text), "\n"+key+"=")
	}
}
