package test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

func TestServeRunsWhatIsDueShowsAndKeepsIt(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Factors: []fakellama.Factor{slowed}})
	p.configure(once)
	s := p.serve()
	s.mustLog("run finished")
	pair := []string{"model_name", "m", "target_format", "Q2_K", "source_format", "F16"}
	s.shows(1, "quant_cycle_decision_total", append(pair, "result", "rejected")...)
	s.shows(0, "quant_cycle_decision_total", append(pair, "result", "kept")...)
	s.shows(1, "quant_cycle_last_decision", append(pair, "result", "rejected")...)
	assert.Zero(t, s.stop(), s.log())
	p.nothingLeft()

	opened := p.opened()
	assert.Equal(t, verdict.Rejected, opened.State().Standing(store.PairID{Model: "m", Target: "Q2_K"}))
	events, err := opened.Events(store.EventQuery{})
	require.NoError(t, err)
	assert.Len(t, events, 1)
	require.NoError(t, opened.Check())
}

func TestStopCancelsTheCycleAndRecordsThat(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-bench", Do: fakellama.HangIgnoringSIGTERM}}})
	redis := servers.StartRedis(t, servers.RedisOptions{})
	p.configure(once + "a2a: {url: \"redis://" + redis.Addr + "\"}\n")
	s := p.serve("--log.level=debug")
	s.mustLog(`msg=running tool=\S*llama-bench`)
	redis.Freeze()
	begin := time.Now()
	assert.Zero(t, s.stop(), s.log())
	assert.Less(t, time.Since(begin), 10*time.Second, "what is promised, whatever hangs")
	p.nothingLeft()
	assert.EqualValues(t, 1, p.opened().State().Counters.Of(store.Counter{Kind: store.CountFailure, Model: "m", By: "canceled"}))
}

// A second signal waits neither for requests to end nor for tools to.
func TestSecondSignalEndsTheProcessAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-bench", Do: fakellama.HangIgnoringSIGTERM}}})
	p.configure(once)
	s := p.serve("--log.level=debug")
	s.mustLog(measuring)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/debug/pprof/trace?seconds=60", nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request) // the answer has begun; a stop gives it 5 seconds to end
	require.NoError(t, err)
	defer response.Body.Close()
	s.signal(syscall.SIGTERM)
	s.mustLog("msg=stopping")
	s.signal(syscall.SIGTERM)
	s.wait()
	assert.Equal(t, "signal: terminated", s.cmd.ProcessState.String(), s.log())
	if runtime.GOOS == "linux" { // elsewhere nobody ends the tools of such a process
		fakellama.NoneLeft(t, p.tools)
	}
}

func TestKilledCycleIsInterruptedAndNotRunAgain(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-bench", Do: fakellama.Hang}}})
	p.configure(once)
	s := p.serve("--log.level=debug")
	s.mustLog(`msg=running tool=\S*llama-bench`)
	s.kill()
	p.configure(quick + `schedule: [{name: once, cron: "@yearly", targets: [Q2_K]}]`)
	again := p.serve()
	again.mustLog("msg=ready")
	again.shows(1, "quant_cycle_failures_total", "model_name", "m", "reason", "interrupted")
	again.shows(0, "quant_cycle_running", "entry", "once")
	assert.Zero(t, again.stop())
	p.nothingLeft()
}

func TestReload(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(*server) string{
		"SIGHUP": func(s *server) string {
			require.NoError(t, s.cmd.Process.Signal(syscall.SIGHUP))
			return ""
		},
		"POST": func(s *server) string {
			_, body := s.do(http.MethodPost, "/-/reload")
			return body
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, fakellama.Behaviour{})
			p.configure(quick + `schedule: [{name: one, cron: "@yearly", targets: [Q2_K]}]`)
			s := p.serve("--web.enable-lifecycle")
			s.mustLog("msg=ready")
			s.shows(1, "quant_exporter_config_last_reload_successful")

			p.configure(quick + `schedule: [{name: two, cron: "61 * * * *", target: [Q8_0]}]`)
			body := ask(s)
			s.mustLog("could not be reloaded.*config.yml:")
			if body != "" {
				assert.Contains(t, body, "cron")
				assert.Contains(t, body, "target")
			}
			s.shows(0, "quant_exporter_config_last_reload_successful")
			s.mustHave("quant_cycle_next_run_timestamp_seconds", "entry", "one")

			p.configure(quick + `schedule: [{name: two, cron: "@yearly", targets: [Q8_0]}]`)
			ask(s)
			s.mustLog("configuration is reloaded")
			s.shows(1, "quant_exporter_config_last_reload_successful")
			_, found := s.value("quant_cycle_next_run_timestamp_seconds", "entry", "one")
			assert.False(t, found)
			s.mustHave("quant_cycle_decision_total", "target_format", "Q8_0", "result", "kept")
			_, found = s.value("quant_cycle_decision_total", "target_format", "Q2_K", "result", "kept")
			assert.False(t, found, "what is scheduled no more has left")

			body = ask(s)
			s.mustLog("configuration is reloaded.*same_as_before=true")
			if body != "" {
				assert.Contains(t, body, "the file is the very same as before")
			}
		})
	}
}

func TestReloadMissesTheFileThatWasThere(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.config = "quant-exporter.yml" // the default, which need not be there at a start
	file := filepath.Join(p.dir, p.config)
	require.NoError(t, os.WriteFile(file, []byte(quick+`schedule: [{name: one, cron: "@yearly"}]`), 0o600))
	s := p.serve("--web.enable-lifecycle")
	s.mustLog("msg=ready")
	require.NoError(t, os.Remove(file))
	status, body := s.do(http.MethodPost, "/-/reload")
	assert.Equal(t, http.StatusInternalServerError, status)
	assert.Contains(t, body, "has gone")
	s.mustHave("quant_cycle_next_run_timestamp_seconds", "entry", "one")
}

func TestSIGHUPNeverEndsTheProcess(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-bench", Do: fakellama.HangIgnoringSIGTERM}}})
	p.configure(once)
	s := p.serve("--log.level=debug") // it listens, and looks for models yet
	s.signal(syscall.SIGHUP)
	s.mustLog(`msg=running tool=\S*llama-bench`)
	s.signal(syscall.SIGTERM)
	s.signal(syscall.SIGHUP)
	<-s.ended
	assert.Zero(t, s.cmd.ProcessState.ExitCode(), s.log())
}

func TestEnginesOfTheEntriesCount(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + fmt.Sprintf(`
schedule:
  - {name: one, cron: "@yearly", targets: [Q2_K], engine: {dir: %q}}
  - {name: two, cron: "@yearly", targets: [Q8_0], engine: {dir: %q}}
`, p.tools, filepath.Join(p.dir, "none")))
	s := p.serveOnly("--model-dir", p.models)
	assert.Contains(t, s.mustLog("engine cannot be used"), `entry \"two\"`)
	s.shows(0, "quant_cycle_engine_up")

	p.configure(quick + fmt.Sprintf(`schedule: [{name: one, cron: "@yearly", engine: {dir: %q}}]`, p.tools))
	s.signal(syscall.SIGHUP)
	s.mustLog("engine is usable") // although there is none on PATH
	s.shows(1, "quant_cycle_engine_up")
}
