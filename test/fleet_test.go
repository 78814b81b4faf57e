package test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/schemas"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// fleetHost is a host of a fleet, with tools, state, working folder and lock of its own. Its
// models are those of another place.
func (p *place) fleetHost(redis *servers.Redis, behaviour fakellama.Behaviour) *place {
	host := newPlace(p.t, behaviour)
	host.models = p.models
	host.configure(quick + fleetOf(redis))
	return host
}

func fleetOf(redis *servers.Redis) string {
	return fmt.Sprintf("fleet: {url: 'redis://%s'}\n", redis.Addr)
}

// worker has the host take cycles of a class.
func (p *place) worker(class string, more ...string) *server {
	p.t.Helper()
	cmd, _ := p.command(append([]string{"worker", "--class", class, "--model-dir", p.models, "--llamacpp.dir", p.tools}, more...)...)
	s := p.begin(cmd)
	s.endsWithTest()
	s.mustLog("taking cycles")
	return s
}

// decisionsByClass are the events of the place's state, by their class and target.
func (p *place) decisionsByClass() map[string]fleetEvent {
	p.t.Helper()
	got := p.start("events", "--output", "json")
	require.Zero(p.t, got.status, got.stderr)
	all := map[string]fleetEvent{}
	for _, event := range eventLines(p.t, got.stdout) {
		var e fleetEvent
		require.NoError(p.t, json.Unmarshal(event.Data, &e))
		schemas.Check(p.t, schemas.Of(e.Type), string(event.Data))
		key := e.Class + " " + e.Target
		require.NotContains(p.t, all, key, "once")
		all[key] = e
	}
	return all
}

type fleetEvent struct {
	Type     string `json:"event_type"`
	Class    string `json:"hardware_class"`
	Target   string `json:"target_format"`
	Decision string `json:"decision"`
	Host     string `json:"host"`
	Entry    string `json:"entry"`
}

// One schedule, two kinds of hardware and this host: each decides for itself, and the series
// of each say of which they are.
func TestFleetDecidesByClass(t *testing.T) {
	t.Parallel()
	redis := servers.StartRedis(t, servers.RedisOptions{})
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + fleetOf(redis) + `
schedule:
  - {name: fleet, cron: "@yearly", run_on_start: true, targets: [Q2_K, Q8_0], on: [fast, slow]}
  - {name: here, cron: "@yearly", run_on_start: true, targets: [Q4_0]}
`)
	fast := p.fleetHost(redis, fakellama.Behaviour{}).worker("fast")
	slow := p.fleetHost(redis, fakellama.Behaviour{Factors: []fakellama.Factor{slowed}}).worker("slow")
	s := p.serve()
	s.mustLog("run finished")
	s.loggedTimes(2, "a worker has done a cycle")
	for _, worker := range []*server{fast, slow} {
		worker.mustLog("the cycle is over")
	}
	s.shows(1, "quant_cycle_decision_total", "result", "kept", "target_format", "Q2_K", "hardware_class", "fast")
	s.shows(1, "quant_cycle_decision_total", "result", "rejected", "target_format", "Q2_K", "hardware_class", "slow")
	for _, class := range []string{"fast", "slow"} {
		assert.Positive(t, s.mustHave(ofWorkers[0], "hardware_class", class))
	}
	for _, metric := range s.metrics()["quant_cycle_decision_total"].GetMetric() {
		if has(metric, []string{"target_format", "Q4_0"}) {
			assert.False(t, has(metric, []string{"hardware_class", ""}), "none for this host")
			assert.Len(t, metric.GetLabel(), 4)
		}
	}
	require.Zero(t, s.stop(), s.log())
	require.Zero(t, fast.stop(), fast.log())
	require.Zero(t, slow.stop(), slow.log())
	got := map[string]string{}
	for key, e := range p.decisionsByClass() {
		got[key] = e.Decision + " of " + e.Entry
	}
	assert.Equal(t, map[string]string{
		"fast Q2_K": "kept of fleet", "fast Q8_0": "kept of fleet", "slow Q2_K": "rejected of fleet", "slow Q8_0": "rejected of fleet", " Q4_0": "kept of here",
	}, got)
	p.nothingLeft()
}

// A host dies during its cycle: another of its class goes on, within 150 s.
func TestCycleGoesOnWhenItsHostDies(t *testing.T) {
	t.Parallel()
	redis := servers.StartRedis(t, servers.RedisOptions{})
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + fleetOf(redis) + `schedule: [{name: fleet, cron: "@yearly", run_on_start: true, targets: [Q2_K], on: [a]}]`)
	dies := p.fleetHost(redis, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-quantize", Do: fakellama.Hang}}}).worker("a")
	s := p.serve()
	s.mustLog("a worker has begun the cycle")
	dies.kill()
	begin := time.Now()
	p.fleetHost(redis, fakellama.Behaviour{}).worker("a")
	s.mustLog("a worker has done a cycle.*attempt=2")
	t.Logf("another worker had done the cycle %v after the first one was killed", time.Since(begin).Round(time.Second))
	assert.Less(t, time.Since(begin), 150*time.Second)
	s.shows(1, "quant_cycle_decision_total", "result", "kept", "hardware_class", "a")
	require.Zero(t, s.stop(), s.log())
	assert.Len(t, p.decisionsByClass(), 1)
}

// The exporter stops and starts again during a cycle on a worker, which goes on; then somebody
// cancels it.
func TestRemoteCycleOutlivesTheExporterAndIsCanceled(t *testing.T) {
	t.Parallel()
	redis := servers.StartRedis(t, servers.RedisOptions{})
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + fleetOf(redis) + `schedule: [{name: fleet, cron: "@yearly", run_on_start: true, targets: [Q2_K], on: [a]}]`)
	worker := p.fleetHost(redis, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-quantize", Do: fakellama.Hang}}}).worker("a")
	s := p.serve()
	s.mustLog("a worker has begun the cycle")
	require.Zero(t, s.stop(), s.log())
	p.configure(quick + fleetOf(redis) + `schedule: [{name: fleet, cron: "@yearly", targets: [Q2_K], on: [a]}]`)
	s = p.serve("--web.enable-admin-api")
	s.mustLog("a cycle that was given to a worker is followed again")
	s.mustLog("a worker has begun the cycle")
	s.shows(1, "quant_cycle_fleet_running", "hardware_class", "a")
	_, body := s.get("/api/v1/schedule")
	assert.Contains(t, body, `"hardware_class":"a"`)
	_, page := s.get("/")
	assert.Contains(t, page, "<h3>Workers</h3>")
	begin := time.Now()
	status, answer := s.do("POST", "/api/v1/cancel?cycle=1")
	require.Equal(t, 202, status, answer)
	worker.mustLog("the cycle is over")
	assert.Less(t, time.Since(begin), 10*time.Second)
	s.mustLog("a worker has done a cycle")
	s.shows(1, "quant_cycle_failures_total", "reason", "canceled", "hardware_class", "a")
}

// A pair that fails on a worker is not tried again while nothing has changed there.
func TestAPairThatFailsOnAWorkerIsLeftAlone(t *testing.T) {
	t.Parallel()
	redis := servers.StartRedis(t, servers.RedisOptions{})
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + fleetOf(redis) + `schedule: [{name: fleet, cron: "@yearly", run_on_start: true, targets: [Q2_K], on: [fails, lacks]}]`)
	p.fleetHost(redis, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-quantize", Do: fakellama.ExitWithMessage}}}).worker("fails")
	lacks := p.fleetHost(redis, fakellama.Behaviour{})
	lacks.models = t.TempDir()
	lacks.worker("lacks")
	s := p.serve()
	s.loggedTimes(2, "a worker has done a cycle")
	failedOnce := func() {
		t.Helper()
		s.shows(1, "quant_cycle_failures_total", "reason", "quantize", "hardware_class", "fails")
		s.shows(1, "quant_cycle_failures_total", "reason", "bad_model", "hardware_class", "lacks")
	}
	failedOnce()
	assert.Positive(t, s.mustHave(ofWorkers[1], "hardware_class", "fails"))
	require.Zero(t, s.stop(), s.log())
	s = p.serve()
	s.loggedTimes(2, "targets are skipped: nothing that they depend on has changed")
	require.Eventually(t, func() bool {
		n, _ := s.value("quant_cycle_skipped_total", "reason", "unchanged", "entry", "fleet")
		return n == 2
	}, patience, 100*time.Millisecond)
	failedOnce()
}

// A reload applies to what no worker has begun, and not to what one has.
func TestReloadAppliesToWhatNoWorkerHasBegun(t *testing.T) {
	t.Parallel()
	redis := servers.StartRedis(t, servers.RedisOptions{})
	p := newPlace(t, fakellama.Behaviour{})
	with := func(threshold string) {
		p.configure(quick + fleetOf(redis) + `schedule: [{name: fleet, cron: "@yearly", run_on_start: true, targets: [Q2_K], on: [begun, waits], threshold: ` + threshold + `}]`)
	}
	with("0.12")
	p.fleetHost(redis, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-quantize", Do: fakellama.Hang}}}).worker("begun")
	s := p.serve()
	s.mustLog("a worker has begun the cycle.*class=begun")
	with("0.9")
	s.reload()
	s.mustLog("a cycle that no worker has begun is given again.*class=waits")
	p.fleetHost(redis, fakellama.Behaviour{Factors: []fakellama.Factor{slowed}}).worker("waits")
	s.mustLog("a worker has done a cycle.*class=waits")
	s.shows(1, "quant_cycle_decision_total", "result", "kept", "hardware_class", "waits")
	s.shows(1, "quant_cycle_fleet_running", "hardware_class", "begun")
	assert.Equal(t, 1, s.count("is given again"))
}
