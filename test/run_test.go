package test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/runner"
)

// One entry is run by the command, by its schedule and because somebody asks a serving
// exporter for it: all three leave the same state and the same copies.
func TestEveryWayToRunAnEntryStoresTheSame(t *testing.T) {
	t.Parallel()
	runs := map[string]func(p *place){
		"schedule": func(p *place) {
			s := p.serve()
			s.mustLog("run finished")
			require.Zero(p.t, s.stop())
		},
		"POST /api/v1/run": func(p *place) {
			s := p.serve("--web.enable-admin-api")
			status, body := s.do(http.MethodPost, "/api/v1/run?entry=nightly")
			require.Equal(p.t, http.StatusAccepted, status, body)
			s.mustLog("run finished")
			require.Zero(p.t, s.stop())
		},
	}
	want := ranNightly(t, false, func(p *place) {
		got := p.run("--entry", "nightly")
		require.Equal(p.t, exitFailed, got.status, got.stderr)
	})
	require.Len(t, want["cycle"], 2, "one model's is decided, and one model's fails")
	require.Len(t, want["log"], 2)
	require.Len(t, want["result"], 2+3)
	require.Len(t, want["event"], 2+1, "two decisions and a choice")
	require.Len(t, want["manifest"], 1)
	for name, run := range runs {
		got := ranNightly(t, name == "schedule", run)
		for kind := range want {
			assert.Equal(t, want[kind], got[kind], "%s: %s", name, kind)
		}
		assert.Len(t, got, len(want), name)
	}
}

// ranNightly gives what the run of an entry leaves, by its kind: the lines of the export, and
// the manifest of the copy that is to be served. One of the entry's models is decided, with a
// rejected, a kept and a passed over target, and the other one is damaged.
func ranNightly(t *testing.T, runOnStart bool, run func(*place)) map[string][]any {
	t.Helper()
	p := newPlace(t, fakellama.Behaviour{})
	require.NoError(t, os.WriteFile(filepath.Join(p.models, "n.gguf"), []byte("<html>not found</html>"), 0o600))
	start := ""
	if runOnStart {
		start = "run_on_start: true, "
	}
	p.configure(quick + p.evaluated() + `
publish: {dir: published}
schedule: [{name: nightly, cron: "@yearly", ` + start + `models: [m, n], choose: smallest, targets: [Q8_0, Q3_K_M, Q2_K]}]`)
	run(p)
	p.nothingLeft()
	exported := p.start("export")
	require.Zero(t, exported.status, exported.stderr)
	left := map[string][]any{}
	for line := range strings.Lines(exported.stdout) {
		var object map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &object), line)
		switch kind := object["kind"].(string); kind {
		case "meta", "entry": // the identity of the file, and what the schedule remembers
		case "log":
			left[kind] = append(left[kind], p.comparableLog(object["text"].(string)))
		default:
			left[kind] = append(left[kind], p.comparable(object))
		}
	}
	manifest, err := os.ReadFile(filepath.Join(p.published(), "m", "stable", "manifest.json"))
	require.NoError(t, err)
	var object map[string]any
	require.NoError(t, json.Unmarshal(manifest, &object))
	left["manifest"] = []any{p.comparable(object)}
	return left
}

// differs are the keys of a state whose values differ between any two runs.
var differs = map[string]string{
	"due":          "the command is due at no time",
	"timestamp":    "a time, in seconds",
	"durations_ns": "what operations took",
	"wall_ns":      "what a tool took",
	"cpu_ns":       "what a tool took",
	"first":        "a coin chooses the order of the stages",
	"load":         "what others took of the host",
	"host_bytes":   "what a process had in memory at most",
	"depends_on":   "where the model's file is",
	"device":       "where the model's file is",
	"inode":        "where the model's file is",
	"speeds":       "when its rounds were measured",
}

var (
	anyTime   = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:[0-9.]+Z`)
	cycleDir  = regexp.MustCompile(`/cycle-[0-9a-f]+`)
	toolsTime = regexp.MustCompile(`(wall|cpu)=\S+`)
)

// comparable leaves out of a value what differs between any two runs.
func (p *place) comparable(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key := range value {
			if _, ok := differs[key]; ok {
				value[key] = nil
			} else {
				value[key] = p.comparable(value[key])
			}
		}
	case []any:
		for i := range value {
			value[i] = p.comparable(value[i])
		}
	case string:
		return p.comparableText(value)
	}
	return value
}

func (p *place) comparableText(text string) string {
	text = strings.NewReplacer(p.dir, "DIR", p.tools, "TOOLS").Replace(text)
	text = anyTime.ReplaceAllString(text, "TIME")
	return eventID.ReplaceAllString(text, "EVENT")
}

// comparableLog is the log of a cycle, sorted, as coins choose the order of the stages. A
// serving exporter looks for its engine now and then, also while a cycle runs, which the
// command does before.
func (p *place) comparableLog(text string) []string {
	text = cycleDir.ReplaceAllString(toolsTime.ReplaceAllString(p.comparableText(text), "$1=TOOK"), "/cycle")
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool {
		return strings.Contains(line, "the engine is usable") || strings.Contains(line, "llama.cpp probed")
	})
	slices.Sort(lines)
	return lines
}

func TestRunStoresItsLog(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-quantize", Format: "Q8_0", Do: fakellama.ExitWithMessage}}})
	require.Equal(t, exitFailed, p.run("--target", "Q2_K", "--target", "Q8_0").status)
	p.configure(never)
	s := p.serve()
	_, page := s.get("/cycles/1")
	_, exported := s.get("/api/v1/export")
	for _, line := range []string{"a cycle begins", "msg=decision ", "no decision", "something went wrong in the fake", "--progress"} {
		assert.Contains(t, page, line)
		assert.Contains(t, exported, line)
	}
	assert.NotContains(t, page, "There is no log")
}

// As the schedule would, a run by an entry ends at the entry's timeout: the cycle fails, those
// after it do not begin, and nothing is left running.
func TestRunByAnEntryEndsAtItsTimeout(t *testing.T) {
	t.Parallel()
	for _, hang := range []fakellama.Do{fakellama.Hang, fakellama.HangWithGrandchild} {
		t.Run(string(hang), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-bench", Do: hang}}})
			p.add("n")
			p.configure(quick + `schedule: [{name: nightly, cron: "@daily", timeout: 3s, targets: [Q2_K]}]`)
			got := p.run("--entry", "nightly", "--output", "json")
			p.requireFailed(got, runner.ReasonTimeout, `the run of the entry "nightly" took longer than its timeout of 3s`)
			assert.Contains(t, got.stderr, "models_left: 1")
			cycle, records, found, err := p.opened().Cycle(1)
			require.NoError(t, err)
			require.True(t, found)
			assert.NotNil(t, cycle.Ended)
			require.Len(t, records, 1)
			assert.Equal(t, runner.ReasonTimeout, records[0].Failure.Reason)
		})
	}
}
