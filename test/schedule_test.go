package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/test/golden"
)

// add puts another model into the model folder, whole from the first moment on.
func (p *place) add(name string) {
	p.t.Helper()
	made := gguftest.Model(gguftest.Tiny()).Write(p.t, filepath.Join(p.t.TempDir(), name+".gguf"))
	require.NoError(p.t, os.Rename(made, filepath.Join(p.models, name+".gguf")))
}

// reload has the exporter read its configuration again, and waits until it has.
func (s *server) reload() {
	s.t.Helper()
	pattern := "the configuration is (not )?reloaded"
	before := s.count(pattern)
	s.signal(syscall.SIGHUP)
	require.Len(s.t, s.loggedTimes(before+1, pattern), before+1)
}

// check runs --config.check on the place's models.
func (p *place) check() ended {
	p.t.Helper()
	got := p.start("--config.check", "--model-dir", p.models, "--llamacpp.dir", p.tools)
	got.stdout = strings.ReplaceAll(got.stdout, p.dir, "DIR")
	got.stderr = strings.ReplaceAll(got.stderr, p.dir, "DIR")
	return got
}

var fireTime = regexp.MustCompile(`(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d\d:\d\d`)

// sandboxOfHost is what --config.check says of the kernel of this host.
var sandboxOfHost = regexp.MustCompile(`(?m)^sandbox: ((partial )?landlock \d+|none)$`)

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.add("n")
	assert.Equal(t, ended{0, "DIR/config.yml: the configuration is valid.\nNothing is scheduled: add entries to schedule:.\n", ""}, p.check())
	p.configure(`
schedule:
  - {name: nightly, cron: "0 3 * * *", timezone: Europe/Berlin}
  - {name: often, cron: "@every 36h", models: [m], targets: [Q8_0, q4_k]}
  - {name: later, cron: "@daily", models: ["x*", "n"], targets: [Q6_K], suspend: true}
`)
	got := p.check()
	assert.Zero(t, got.status, got.stderr)
	golden.Check(t, "check.txt", sandboxOfHost.ReplaceAllString(fireTime.ReplaceAllString(strings.ReplaceAll(got.stdout, p.tools, "TOOLS"), "TIME"), "sandbox: HOW"))
	assert.NoDirExists(t, p.state())
	assert.NoDirExists(t, p.work())

	p.configure(`schedule: [{name: nightly, cron: "@daily", targets: [Q2_KK]}]`)
	got = p.check()
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, `config.yml:1: schedule: entry "nightly": targets: "Q2_KK" is not a format`)
	got = p.start("--config.check", "--model-dir", p.models, "--llamacpp.dir", p.dir)
	assert.Zero(t, got.status, "it needs no llama.cpp: "+got.stderr)
	assert.Contains(t, got.stdout, "cycles would fail: llama-quantize is not in "+p.dir)
	assert.Contains(t, got.stdout, `"Q2_KK" is not a format that is known here`)
}

// Everything that is wrong is told at once, each with its place; and an exporter does not
// start with it.
func TestConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config string
		says   []string
	}{
		"text": {
			`schedule:
  - {name: a, cron: "61 * * * *"}
  - {name: a, cron: "0 3 30 2 *", target: [Q2_K]}
  - {name: c, cron: "@daily", timezone: Mars/Olympus, overlap: replace, starting_deadline: soon}
thresholds: 1
threshold: 12
`,
			[]string{
				"config.yml:2: schedule[0].cron", "config.yml:3: schedule[1].name", "config.yml:3: schedule[1].cron",
				"config.yml:3: schedule[1].target", "config.yml:4: schedule[2].timezone", "config.yml:4: schedule[2].overlap",
				"config.yml:4: schedule[2].starting_deadline", "config.yml:5: thresholds", "config.yml:6: threshold", "forbid", "Europe/Berlin",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, fakellama.Behaviour{})
			p.configure(test.config)
			started := p.start("--model-dir", p.models, "--llamacpp.dir", p.tools, "--web.listen-address=127.0.0.1:0")
			for _, got := range []ended{p.check(), started} {
				assert.Equal(t, exitError, got.status)
				assert.NotContains(t, got.stdout, "valid")
				for _, text := range test.says {
					assert.Contains(t, got.stderr, text)
				}
			}
			p.nothingLeft()
		})
	}
}

// What a new model file can cause is for the check alone: see TestConflictThatANewFileMakes.
func TestConfigCheckTellsOfPairsOfTwoEntries(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(`schedule:
  - {name: all, cron: "@daily", models: ["*"], targets: [Q2_K, Q8_0]}
  - {name: one, cron: "@daily", models: [m], targets: [q2_k]}
  - name: another
    cron: "@daily"
    models: ["m*"]
    targets: [Q4_0, Q8_0]
`)
	got := p.check()
	assert.Equal(t, exitError, got.status)
	assert.NotContains(t, got.stdout, "valid")
	assert.Contains(t, got.stderr, `config.yml:3: schedule: the entries "all" and "one" both decide Q2_K of "m"`)
	assert.Contains(t, got.stderr, `config.yml:4: schedule: the entries "all" and "another" both decide Q8_0 of "m"`)
	p.nothingLeft()
}

func TestConfigCheckTellsOfModelsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	require.NoError(t, os.WriteFile(filepath.Join(p.models, "bad.gguf"), []byte("<html>"), 0o600))
	p.configure(`schedule:
  - {name: named, cron: "@daily", models: [bad, gone]}
  - {name: twice, cron: "@daily", models: ["b*"]}
`)
	got := p.check()
	assert.Equal(t, exitError, got.status)
	assert.NotContains(t, got.stdout, "valid")
	for _, text := range []string{`config.yml:2: schedule: the entry "named"`, "bad.gguf", `"gone"`, `config.yml:3: schedule: the entries "named" and "twice"`} {
		assert.Contains(t, got.stderr, text)
	}
}

func TestLlamaCppIsMissingAndAppears(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(often)
	later := filepath.Join(p.dir, "later")
	s := p.serveOnly("--model-dir", p.models, "--llamacpp.dir", later)
	s.mustLog("no cycle can run: the engine cannot be used.*llama-quantize")
	status, _ := s.get("/-/ready")
	assert.Equal(t, 200, status)
	s.shows(0, "quant_cycle_engine_up")
	_, page := s.get("/")
	assert.Contains(t, page, "engine_missing")
	assert.Contains(t, page, later)
	s.mustLog("run finished")
	assert.Positive(t, s.mustHave("quant_cycle_failures_total", "model_name", "m", "reason", "engine_missing"))
	s.shows(0, "quant_cycle_decision_total", "model_name", "m", "result", "kept")

	require.NoError(t, os.Rename(p.tools, later))
	p.tools = later
	s.reload()
	s.mustLog("the engine is usable")
	s.shows(1, "quant_cycle_engine_up")
	s.mustLog("the decision has changed")
	s.shows(1, "quant_cycle_last_decision", "model_name", "m", "result", "kept")
	_, page = s.get("/")
	assert.NotContains(t, page, later)
	assert.Zero(t, s.stop())
	p.nothingLeft()
}

func TestModelsComeAndGo(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.add("n")
	p.configure(often)
	s := p.serve()
	s.mustLog("msg=decision .* model=n")
	p.add("o")
	s.mustLog("the decision has changed.* model=o")
	s.shows(1, "quant_cycle_last_decision", "model_name", "o", "result", "kept")

	require.NoError(t, os.Remove(filepath.Join(p.models, "n.gguf")))
	s.reload()
	status, text := s.get("/metrics")
	assert.Equal(t, 200, status)
	assert.NotContains(t, text, `model_name="n"`)
	assert.Contains(t, text, `model_name="m"`)
}

// A file that makes two entries decide one pair was copied in while the exporter ran: the
// first entry has the pair. An exporter goes on, starts and takes a new configuration with
// that fault, which the page, the log and the counters tell; --config.check refuses it.
func TestConflictThatANewFileMakes(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.add("a1")
	p.add("b2")
	overlapping := quick + `schedule:
  - {name: first, cron: "@yearly", run_on_start: true, models: ["a*"], targets: [Q2_K]}
  - {name: second, cron: "@every 1s", models: ["*2"], targets: [Q2_K]}
`
	p.configure(overlapping)
	s := p.serve()
	s.mustLog("msg=decision .* model=b2")
	s.shows(0, "quant_cycle_skipped_total", "entry", "second", "reason", "conflict")
	p.add("a2")
	s.mustLog(`a pair is skipped" entry=second .*a2`)
	over := s.count("run finished.* entry=second")
	s.loggedTimes(over+1, "run finished.* entry=second")
	assert.Positive(t, s.mustHave("quant_cycle_skipped_total", "entry", "second", "reason", "conflict"))
	s.shows(0, "quant_cycle_skipped_total", "entry", "first", "reason", "conflict")
	_, page := s.get("/")
	assert.Equal(t, 1, strings.Count(page, "overwrite each other"), "the page tells it once")
	assert.Zero(t, s.stop())

	s = p.serve()
	s.mustLog("msg=ready")
	s.mustLog("msg=decision .* model=a2") // by the first entry
	p.configure(strings.Replace(overlapping, "@every 1s", "@every 2s", 1))
	s.reload()
	s.shows(1, "quant_exporter_config_last_reload_successful")
	s.mustLog(`two entries decide the same.*config.yml:\d+: schedule: the entries .*first.* and .*second.* both decide Q2_K of .*a2`)
	assert.Zero(t, s.stop())
	got := p.check()
	assert.Equal(t, exitError, got.status)
	assert.Regexp(t, `config.yml:\d+: schedule: the entries "first" and "second" both decide Q2_K of "a2"`, got.stderr)
}

func TestEntriesThatAreDueAtOnceTakeTurns(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + `schedule:
  - {name: one, cron: "@yearly", run_on_start: true, targets: [Q2_K]}
  - {name: two, cron: "@yearly", run_on_start: true, targets: [Q8_0]}
  - {name: off, cron: "@yearly", run_on_start: true, targets: [Q6_K], suspend: true}
`)
	s := p.serve()
	require.Len(t, s.loggedTimes(2, "run finished"), 2)
	s.mustHave("quant_cycle_next_run_timestamp_seconds", "entry", "one")
	_, found := s.value("quant_cycle_next_run_timestamp_seconds", "entry", "off")
	assert.False(t, found, "a suspended entry is never due")
	s.shows(0, "quant_cycle_running", "entry", "off")
	assert.Zero(t, s.stop())

	cycles, err := p.opened().Cycles(0, 0)
	require.NoError(t, err)
	require.Len(t, cycles, 2, "and is not run at the start either")
	second, first := cycles[0], cycles[1]
	assert.Equal(t, []string{"one", "two"}, []string{first.Entry, second.Entry})
	require.NotNil(t, first.Ended)
	assert.False(t, second.Started.Before(*first.Ended))
}

func TestRunsThatWouldOverlap(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-bench", Do: fakellama.Hang}}})
	p.configure(quick + `schedule:
  - {name: busy, cron: "@every 1s", run_on_start: true, targets: [Q2_K]}
  - {name: patient, cron: "@every 1s", targets: [Q8_0], overlap: queue}
`)
	s := p.serve()
	for _, entry := range []string{"busy", "patient"} { // of two, the first is counted
		require.Len(t, s.loggedTimes(2, "a run is skipped.* entry="+entry), 2)
		assert.Positive(t, s.mustHave("quant_cycle_skipped_total", "entry", entry, "reason", "overlap"))
	}
	s.shows(1, "quant_cycle_running", "entry", "busy")
	s.shows(0, "quant_cycle_queued", "entry", "busy")
	s.shows(0, "quant_cycle_running", "entry", "patient")
	s.shows(1, "quant_cycle_queued", "entry", "patient")
	assert.Zero(t, s.stop())
	assert.Zero(t, p.opened().State().Counters.Of(store.Counter{Kind: store.CountSkipped, Entry: "busy", By: string(store.SkipDeadline)}))
	p.nothingLeft()
}

// hanging is a place whose llama-bench does not end, and free a folder with one that does.
func hanging(t *testing.T) (p *place, free string) {
	t.Helper()
	p = newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-bench", Do: fakellama.Hang}}})
	p.configure(once)
	return p, fakellama.Build(t)
}

// look starts `run --no-record` with these tools.
func (p *place) look(tools string, args ...string) *server {
	p.t.Helper()
	cmd, _ := p.command(append([]string{"run", "--no-record", "--verbose", "--log.format=logfmt", "--model-dir", p.models, "--llamacpp.dir", tools}, args...)...)
	s := p.begin(cmd)
	s.endsWithTest()
	return s
}

const measuring = `msg=running tool=\S*llama-bench`

func TestScheduledCycleWaitsForAnotherProcess(t *testing.T) {
	t.Parallel()
	p, free := hanging(t)
	run := p.look(p.tools)
	run.mustLog(measuring)
	p.tools, free = free, p.tools
	s := p.serve()
	s.mustLog("another measurement is running on this host")
	s.shows(1, "quant_cycle_running", "entry", "once")
	_, page := s.get("/")
	assert.Contains(t, page, "another measurement on this host")
	assert.Contains(t, page, "pid "+strconv.Itoa(run.cmd.Process.Pid))
	made, err := fakellama.Outputs(p.tools)
	require.NoError(t, err)
	assert.Empty(t, made, "nothing is quantized meanwhile")

	assert.Equal(t, exitFailed, run.stop())
	s.mustLog("run finished")
	s.shows(1, "quant_cycle_decision_total", "result", "kept", "model_name", "m")
	fakellama.NoneLeft(t, free)
}

func TestRunWaitsForTheExportersCycle(t *testing.T) {
	t.Parallel()
	p, free := hanging(t)
	s := p.serve("--log.level=debug")
	s.mustLog(measuring)
	pid := "pid " + strconv.Itoa(s.cmd.Process.Pid)
	refused := p.look(free, "--no-wait")
	assert.Equal(t, exitError, refused.wait())
	assert.Contains(t, refused.log(), pid)
	run := p.look(free)
	run.mustLog(`another measurement is running on this host.*holder="pid ` + strconv.Itoa(s.cmd.Process.Pid))
	assert.Zero(t, s.stop())
	assert.Zero(t, run.wait(), run.log())
}

// A lock that somebody else holds for good does not keep the exporter from serving, nor
// from stopping.
func TestStopWhileWaitingForTheHost(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(once)
	release, err := disk.NewLock(filepath.Join(p.dir, "lock")).Acquire(t.Context(), false, nil)
	require.NoError(t, err)
	defer release()
	s := p.serve()
	s.mustLog("another measurement is running on this host")
	status, _ := s.get("/-/ready")
	assert.Equal(t, 200, status)
	assert.Zero(t, s.stop())
}
