package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/docs"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/grafana"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// A coordinator and two workers decide the bundled model with the real llama.cpp, within two
// minutes.
func TestFleetDemo(t *testing.T) {
	t.Parallel()
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

// The dashboard's row of the fleet finds data where there is one: a worker of one class, and none
// of another, whose cycle waits.
func TestDashboardOfAFleet(t *testing.T) {
	t.Parallel()
	d, err := grafana.Read(filepath.Join(shared.root, "examples", "grafana", "quant-exporter.json"))
	require.NoError(t, err)
	redis := servers.StartRedis(t, servers.RedisOptions{})
	nobody, address := servers.FreePort(t), fmt.Sprintf("127.0.0.1:%d", servers.FreePort(t))
	f := &fleet{t: t, start: time.Now()}
	f.Prometheus = startMonitoring(t, fmt.Sprintf("127.0.0.1:%d", nobody), address)
	tools := fakellama.BuildWith(t, fakellama.Behaviour{})
	config := quick + fmt.Sprintf("fleet: {url: \"redis://%s\"}\n", redis.Addr)
	newServing(t, config, "--llamacpp.dir", tools).serve("worker", "--class", "has").logged("taking cycles")
	newServing(t, config+`schedule: [{name: all, cron: "@yearly", run_on_start: true, targets: [Q8_0], on: [has, lacks]}]`,
		"--llamacpp.dir", tools, "--web.listen-address", address).serve()
	f.seen(`sum(quant_cycle_decision_total{instance="%s", hardware_class="has"}) > 0`, address)
	f.seen(`quant_cycle_workers{instance="%s", hardware_class="has"} == 1`, address)
	f.seen(`quant_cycle_fleet_waiting{instance="%s", hardware_class="lacks"} > 0`, address)
	f.seen(`quant_cycle_worker_last_decision_timestamp_seconds{instance="%s", hardware_class="has"}`, address)

	f.start = time.Now() // a range query looks at its beginning, and every so often after it
	everything := grafana.Choice{"job": {"quant-exporter"}, "instance": grafana.All(), "model": grafana.All(), "target": grafana.All()}
	found := map[string]bool{}
	for _, p := range d.Shown() {
		for _, target := range p.Targets {
			if name := p.Title + " " + target.RefID; noData[name] == noFleet {
				found[name] = true
				assert.NotEmpty(t, f.ask(d, target.Expr, everything, target.Range), name)
			}
		}
	}
	assert.Len(t, found, 5)
}
