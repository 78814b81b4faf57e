package test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

var residentSet = regexp.MustCompile(`VmRSS:\s+([0-9]+) kB`)

// A worker that waits takes at most 30 MB of the host that it measures.
func TestIdleWorkerIsSmall(t *testing.T) {
	t.Parallel()
	redis := servers.StartRedis(t, servers.RedisOptions{})
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + fleetOf(redis))
	cmd, _ := p.command("worker", "--class", "a", "--model-dir", p.models, "--llamacpp.dir", p.tools)
	cmd.Path, cmd.Args[0] = plain(t), plain(t)
	s := p.begin(cmd)
	s.endsWithTest()
	s.mustLog("taking cycles")
	require.Eventually(t, func() bool { return redis.CLI("hlen", "quant:{workers}:said") == "1" }, patience, 100*time.Millisecond)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	require.NoError(t, err)
	match := residentSet.FindSubmatch(status)
	require.NotNil(t, match)
	kilobytes, err := strconv.Atoi(string(match[1]))
	require.NoError(t, err)
	t.Logf("an idle worker has %d kB", kilobytes)
	assert.LessOrEqual(t, kilobytes, 30_000)
}
