package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// daemon is a serving exporter.
type daemon struct {
	*host
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone

	mu   sync.Mutex
	log  strings.Builder
	more chan struct{}
	read int // of the log, by logged
}

// newServing is a place for an exporter on the bundled model.
func newServing(t *testing.T, config string, args ...string) *host {
	t.Helper()
	return newHost(t, config, append(args, "--model-dir", filepath.Dir(bundled()), "--storage.path", filepath.Join(t.TempDir(), "state"))...)
}

func (h *host) configure(config string) {
	h.t.Helper()
	require.NoError(h.t, os.WriteFile(filepath.Join(h.dir, "config.yml"), []byte(config), 0o600))
}

// serve starts the exporter; it is killed when the test is over.
func (h *host) serve(args ...string) *daemon {
	h.t.Helper()
	d := &daemon{host: h, cmd: h.command(args...), ended: make(chan struct{}), more: make(chan struct{})}
	d.cmd.Stderr = d
	require.NoError(h.t, d.cmd.Start())
	go func() {
		_ = d.cmd.Wait() // its status is in ProcessState
		close(d.ended)
	}()
	h.t.Cleanup(func() {
		d.kill()
		if h.t.Failed() {
			h.t.Log(d.log.String())
		}
		assert.NotContains(h.t, d.log.String(), "DATA RACE")
	})
	return d
}

// Write takes the log.
func (d *daemon) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log.Write(p)
	close(d.more)
	d.more = make(chan struct{})
	return len(p), nil
}

// logged waits for a text in the log, behind the one that it was called for before.
func (d *daemon) logged(text string) {
	d.t.Helper()
	limit := time.After(patience)
	for {
		d.mu.Lock()
		at := strings.Index(d.log.String()[d.read:], text)
		if at >= 0 {
			d.read += at + len(text)
		}
		more := d.more
		d.mu.Unlock()
		if at >= 0 {
			return
		}
		select {
		case <-more:
		case <-d.ended:
			require.Fail(d.t, "the exporter ended without logging "+text)
		case <-limit:
			require.Fail(d.t, "the exporter does not log "+text)
		}
	}
}

// kill is kill -9.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	<-d.ended
}

// reload has the daemon take another configuration.
func (d *daemon) reload(config string) {
	d.t.Helper()
	d.configure(config)
	require.NoError(d.t, d.cmd.Process.Signal(syscall.SIGHUP))
	d.logged("the configuration is reloaded")
}

// stop ends the exporter as a service manager does.
func (d *daemon) stop() {
	d.t.Helper()
	require.NoError(d.t, d.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-d.ended:
	case <-time.After(patience):
		require.Fail(d.t, "the exporter does not stop")
	}
	require.Zero(d.t, d.cmd.ProcessState.ExitCode())
	d.nothingLeft()
}

// endless has rounds that take minutes.
const endless = "benchmark: {generation_tokens: 1000000}\n"

func TestPrometheusSeesDecisionsAcrossAKill(t *testing.T) {
	t.Parallel()
	const everySecond = `schedule: [{name: often, cron: "@every 1s", run_on_start: true, targets: [Q4_K_M, Q2_K]}]`
	address := fmt.Sprintf("127.0.0.1:%d", servers.FreePort(t)) // Prometheus asks the same one after the kill
	prometheus := servers.StartPrometheus(t, `
global: {scrape_interval: 1s}
scrape_configs: [{job_name: quant-exporter, static_configs: [{targets: ["`+address+`"]}]}]
`, nil)
	h := newServing(t, quick+everySecond, "--web.listen-address", address, "--log.level=debug")
	d := h.serve()

	const pairs = 2
	const decisions = `sum by (target_format) (quant_cycle_decision_total{model_name="kjv-4m-f16", source_format="F16"})`
	all := func(value model.SampleValue) func(model.Vector) bool {
		return func(v model.Vector) bool {
			for _, sample := range v {
				if sample.Value < value {
					return false
				}
			}
			return len(v) == pairs
		}
	}
	// Waiting also where it is there already: after a scrape that took too long nothing is,
	// until the next one.
	some := func(n int) func(model.Vector) bool {
		return func(v model.Vector) bool { return len(v) == n }
	}
	prometheus.WaitFor(decisions, all(1))
	prometheus.WaitFor(`quant_cycle_last_decision{model_name="kjv-4m-f16"} == 1`, some(pairs))                 // one stands of each
	prometheus.WaitFor(`quant_cycle_throughput_tokens_per_second{model_name="kjv-4m-f16"} > 0`, some(1+pairs)) // of the original and the copies
	prometheus.WaitFor(`time() - quant_cycle_last_run_timestamp_seconds{model_name="kjv-4m-f16"} < 600`, some(1))

	// Killed in the middle of a measurement.
	d.reload(endless + everySecond)
	d.logged(" 1000000 ") // an argument of llama-bench
	prometheus.WaitFor(`quant_cycle_running{entry="often"} == 1`, some(1))
	before := prometheus.WaitFor(decisions, all(1))
	tool := d.toolOf(d.cmd)
	d.kill()
	d.gone(tool)
	prometheus.WaitFor(`up == 0`, some(1))

	h.configure(quick + everySecond)
	d = h.serve()
	prometheus.WaitFor(decisions, all(max(before[0].Value, before[1].Value)+1))
	assert.Empty(t, prometheus.Query(`resets(quant_cycle_decision_total[10m]) > 0`), "counters go on where they were")
	prometheus.WaitFor(fmt.Sprintf(`quant_cycle_failures_total{model_name="kjv-4m-f16", reason="interrupted"} == %d`, pairs), some(1))
	prometheus.WaitFor(fmt.Sprintf(`sum(quant_cycle_failures_total) == %d`, pairs), some(1)) // nothing else has failed
	d.stop()
}
