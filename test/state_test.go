package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/test/golden"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

func TestTheStateIsOneProcessesOwn(t *testing.T) {
	t.Parallel()
	p := newIdlePlace(t)
	s := p.serve()
	s.mustLog("msg=ready")
	before, _ := s.scrape("")
	pid := "pid " + strconv.Itoa(s.cmd.Process.Pid)
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"a second exporter": {[]string{"--model-dir", p.models, "--web.listen-address=127.0.0.1:0"}, "stop it"},
		"run":               {[]string{"run", "--model-dir", p.models, "--llamacpp.dir", p.tools}, "--no-record"},
	} {
		t.Run(name, func(t *testing.T) {
			got := p.start(test.args...)
			assert.Equal(t, exitError, got.status)
			assert.Empty(t, got.stdout)
			assert.Contains(t, got.stderr, pid)
			assert.Contains(t, got.stderr, test.says)
		})
	}

	got := p.run("--no-record")
	assert.Zero(t, got.status, got.stderr)
	after, _ := s.scrape("")
	assert.Equal(t, stored(before), stored(after), "a look without consequences")
}

func TestRunRecordsAsACycleOfTheScheduleIs(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	require.Zero(t, p.run().status)
	fakellama.Set(t, p.tools, fakellama.Behaviour{Factors: []fakellama.Factor{slowed}})
	require.Equal(t, exitRejected, p.run().status)

	opened := p.opened()
	require.NoError(t, opened.Check())
	id := store.PairID{Model: "m", Target: "Q2_K"}
	state := opened.State()
	assert.Equal(t, verdict.Rejected, state.Standing(id))
	assert.Len(t, slices.DeleteFunc(slices.Collect(maps.Keys(maps.Collect(state.Counters.All()))), func(c store.Counter) bool { return c.Kind != store.CountDecision }), 2)
	assert.NotEmpty(t, state.Models[store.ModelID{Name: "m"}].Durations)
	assert.Empty(t, state.Running)

	newest, records, found, err := opened.Cycle(2)
	require.NoError(t, err)
	require.True(t, found)
	assert.NotNil(t, newest.Ended)
	assert.Empty(t, newest.Entry)
	require.Len(t, records, 1)
	assert.Len(t, records[0].Evidence.Verdicts, 2, "what would change the decision is measured twice")
	assert.Equal(t, verdict.Kept, records[0].Previous)

	events, err := opened.Events(store.EventQuery{})
	require.NoError(t, err)
	require.Len(t, events, 2)
	var first, second struct {
		Decision string  `json:"decision"`
		Previous *string `json:"previous_decision"`
	}
	require.NoError(t, json.Unmarshal(events[0].Data, &first))
	require.NoError(t, json.Unmarshal(events[1].Data, &second))
	assert.Equal(t, "kept", first.Decision)
	assert.Nil(t, first.Previous)
	assert.Equal(t, "rejected", second.Decision)
	require.NotNil(t, second.Previous)
	assert.Equal(t, "kept", *second.Previous)
	assert.Equal(t, records[0].EventID, events[1].ID)
}

func TestRunWithoutRecordLeavesNoState(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	got := p.run("--no-record", "--output", "json")
	require.Zero(t, got.status, got.stderr)
	assert.Empty(t, got.one(t).EventID)
	assert.NoDirExists(t, p.state())
	got = p.start("events")
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, "--storage.path")
	assert.NoDirExists(t, p.state(), "looking makes none either")
}

// The event of a line has an id exactly where the standing decision changed.
func TestEventIDsOfARun(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	undecided := fakellama.Behaviour{Factors: []fakellama.Factor{atThreshold}, Noise: noisy}
	fails := fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-bench", Do: fakellama.ExitWithMessage}}}
	ids := map[string]bool{}
	for i, step := range []struct {
		behaviour fakellama.Behaviour
		decision  string // of the line
		changed   bool
	}{
		{undecided, "inconclusive", false},
		{fakellama.Behaviour{}, "kept", true},
		{fakellama.Behaviour{}, "kept", false},
		{fails, "", false},
		{fakellama.Behaviour{Factors: []fakellama.Factor{slowed}}, "rejected", true},
		{undecided, "inconclusive", false},
		{fakellama.Behaviour{Factors: []fakellama.Factor{slowed}}, "rejected", false},
	} {
		fakellama.Set(t, p.tools, step.behaviour)
		got := p.run("--output", "json")
		o := got.one(t)
		assert.Equal(t, step.decision, string(o.Decision), "step %d: %s", i, got.stderr)
		if !step.changed {
			assert.Equal(t, step.decision != "", strings.Contains(got.stdout, `"event_id":null`), "step %d: %s", i, got.stdout)
			continue
		}
		require.NotEmpty(t, o.EventID, "step %d", i)
		ids[o.EventID] = true
	}
	events, err := p.opened().Events(store.EventQuery{})
	require.NoError(t, err)
	require.Len(t, events, 2)
	for _, event := range events {
		assert.True(t, ids[event.ID], event.ID)
	}
}

func TestRunByAnEntryOfTheSchedule(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Factors: []fakellama.Factor{{Stage: "quantized", By: 1.6}}}) // a drop of 22 %
	gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(p.models, "n.gguf"))
	p.configure(quick + `
schedule:
  - {name: strict, cron: "@yearly", models: [m], targets: [Q2_K]}
  - {name: lenient, cron: "@yearly", models: [n], targets: [Q8_0, Q4_K_M], threshold: 0.3, benchmark: {generation_tokens: 24}}
`)
	got := p.run("--entry", "lenient", "--output", "json")
	require.Zero(t, got.status, got.stderr)
	all := got.outcomes(t)
	require.Len(t, all, 2)
	for i, o := range all {
		assert.Equal(t, "n", o.Model)
		assert.Equal(t, []string{"Q8_0", "Q4_K_M"}[i], o.Target)
		assert.InDelta(t, 30, o.Threshold, 1e-9)
		assert.Equal(t, "lenient", o.Entry)
	}
	for _, call := range fakellama.Calls(t, p.tools) {
		if call.Tool == "llama-bench" && call.Step == "" {
			assert.Contains(t, strings.Join(call.Args, " "), "-n 24")
		}
	}
	assert.Equal(t, exitRejected, p.run("--entry", "strict").status)
	got = p.run("--entry", "lenient", "--target", "Q2_K", "--threshold", "0.1", "--output", "json")
	assert.Equal(t, exitRejected, got.status, "flags come before the entry")
	assert.Equal(t, "Q2_K", got.one(t).Target)

	got = p.run("--entry", "nightly")
	assert.Equal(t, exitError, got.status)
	for _, text := range []string{"--entry", `"nightly"`, `"strict", "lenient"`} {
		assert.Contains(t, got.stderr, text)
	}
	cycle, _, found, err := p.opened().Cycle(1)
	require.NoError(t, err)
	require.True(t, found)
	assert.Equal(t, "lenient", cycle.Entry)
}

// decidedTwice has two pairs with a first decision, and one of them with a second.
func decidedTwice(t *testing.T) *place {
	t.Helper()
	p := newPlace(t, fakellama.Behaviour{})
	require.Zero(t, p.run("--target", "Q2_K", "--target", "Q8_0").status)
	fakellama.Set(t, p.tools, fakellama.Behaviour{Factors: []fakellama.Factor{slowed}})
	require.Equal(t, exitRejected, p.run().status)
	return p
}

var (
	eventTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
	eventID   = regexp.MustCompile(`\b[A-Z2-7]{26}\b`)
)

func TestEventsExportAndBackupOfAFile(t *testing.T) {
	t.Parallel()
	p := decidedTwice(t)

	got := p.start("events")
	require.Zero(t, got.status, got.stderr)
	golden.Check(t, "events.txt", eventID.ReplaceAllString(eventTime.ReplaceAllString(got.stdout, "YYYY-MM-DDTHH:MM:SSZ"), "EVENT"))
	got = p.start("events", "--output", "json", "--delivery", "held")
	require.Zero(t, got.status, got.stderr)
	assert.Len(t, eventLines(t, got.stdout), 3)
	got = p.start("events", "--delivery", "delivered")
	require.Zero(t, got.status, got.stderr)
	assert.Equal(t, "There are no such events.\n", got.stdout)
	got = p.start("events", "--delivery", "delivered", "--output", "json")
	require.Zero(t, got.status, got.stderr)
	assert.Empty(t, got.stdout)
	got = p.start("events", "--delivery", "lost")
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, "superseded")

	exported := p.start("export")
	require.Zero(t, exported.status, exported.stderr)
	assert.Equal(t, map[string]int{"meta": 1, "cycle": 2, "log": 2, "result": 3, "pair": 2, "model": 1, "counter": 4, "event": 3}, kinds(t, exported.stdout))

	copied := filepath.Join(p.dir, "copied", "state.db")
	require.NoError(t, os.Mkdir(filepath.Dir(copied), 0o700))
	got = p.start("backup", copied)
	require.Zero(t, got.status, got.stderr)
	sameButTheProducer(t, p, filepath.Dir(copied))
	was, err := os.ReadFile(copied)
	require.NoError(t, err)
	got = p.start("backup", copied)
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, copied)
	assert.Contains(t, got.stderr, "name a new file")
	is, err := os.ReadFile(copied)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(was, is), "a file that is there stays as it is")
}

// eventLines are the events of --output json.
func eventLines(t *testing.T, text string) []store.Event {
	t.Helper()
	var events []store.Event
	for line := range strings.Lines(text) {
		var event store.Event
		require.NoError(t, json.Unmarshal([]byte(line), &event), line)
		events = append(events, event)
	}
	return events
}

// kinds counts the lines of an export.
func kinds(t *testing.T, text string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for line := range strings.Lines(text) {
		var object struct {
			Kind string `json:"kind"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &object), line)
		counts[object.Kind]++
	}
	return counts
}

// sameButTheProducer compares the place's state with a copy, which opens as a state and
// publishes under a name of its own.
func sameButTheProducer(t *testing.T, p *place, copied string) {
	t.Helper()
	opened, err := store.OpenForReading(p.state())
	require.NoError(t, err)
	original := opened.State()
	require.NoError(t, opened.Close())
	s, err := store.Open(copied, store.Options{})
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	require.NoError(t, s.Check())
	assert.Equal(t, original.Pairs, s.State().Pairs)
	assert.Equal(t, original.Counters, s.State().Counters)
	assert.NotEqual(t, original.Outbox.Producer, s.State().Outbox.Producer)
}

// The commands and the API of an exporter that serves say what the commands say of the file.
func TestEventsExportAndBackupOfAServingExporter(t *testing.T) {
	t.Parallel()
	p := decidedTwice(t)
	table, listed, held := p.start("events"), p.start("events", "--output", "json"), p.start("events", "--delivery", "held")
	exported := p.start("export")
	p.configure(never)
	s := p.serve("--web.enable-admin-api")
	s.mustLog("msg=ready")

	assert.Equal(t, table, p.start("events"))
	assert.Equal(t, listed, p.start("events", "--output", "json"))
	assert.Equal(t, held, p.start("events", "--delivery", "held"))
	_, body := s.get("/api/v1/events")
	var answer struct {
		Data struct {
			Events []store.Event `json:"events"`
		} `json:"data"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	assert.Equal(t, eventLines(t, listed.stdout), answer.Data.Events)

	_, body = s.get("/api/v1/export")
	asked := p.start("export")
	require.Zero(t, asked.status, asked.stderr)
	for _, text := range []string{body, asked.stdout} {
		found := kinds(t, text)
		delete(found, "entry") // what the schedule remembers, a moment after it is ready
		assert.Equal(t, kinds(t, exported.stdout), found)
	}

	status, body := s.do(http.MethodPost, "/api/v1/admin/backup")
	require.Equal(t, http.StatusOK, status)
	byHTTP, byCommand := filepath.Join(p.dir, "http"), filepath.Join(p.dir, "command")
	for _, dir := range []string{byHTTP, byCommand} {
		require.NoError(t, os.Mkdir(dir, 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(byHTTP, "state.db"), []byte(body), 0o600))
	got := p.start("backup", filepath.Join(byCommand, "state.db"))
	require.Zero(t, got.status, got.stderr)
	got = p.start("backup", filepath.Join(byCommand, "state.db"))
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, "name a new file")
	require.Zero(t, s.stop())
	sameButTheProducer(t, p, byHTTP)
	sameButTheProducer(t, p, byCommand)
	assert.Equal(t, table, p.start("events"), "the file again")
}

// What keeps the commands from an answer is said with what to do about it.
func TestExporterThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	p := newIdlePlace(t)
	s := p.serve()
	s.mustLog("msg=ready")
	copied := filepath.Join(p.dir, "copy.db")
	got := p.start("backup", copied)
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, "the exporter at "+s.url+" answered 403 Forbidden: this is switched off: start quant-exporter with --web.enable-admin-api")
	left, err := filepath.Glob(filepath.Join(p.dir, "*.db"))
	require.NoError(t, err)
	assert.Empty(t, left)

	elsewhere := newIdlePlace(t) // has no state
	assert.Equal(t, "There are no such events.\n", elsewhere.start("events", "--url", s.url).stdout)
	got = elsewhere.start("export", "--url", "http://"+nobody)
	assert.Equal(t, exitError, got.status)
	assert.Empty(t, got.stdout)
	assert.Contains(t, got.stderr, "give the URL at which it answers with --url")
	got = elsewhere.start("export", "--url", s.url+"/elsewhere")
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, "404")

	// A run has the state, and answers nothing.
	s.kill()
	opened := p.opened()
	got = p.start("events")
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, "wait for it to end, or, where it is an exporter that serves in a container or on another host, name its address with --url")
	require.NoError(t, opened.Close())
	assert.Zero(t, p.start("events").status)
}

// An exporter that asks for TLS and a password is found, too, and asked with what
// --http.config.file has.
func TestExporterBehindTLSAndAPassword(t *testing.T) {
	t.Parallel()
	p := newIdlePlace(t)
	p.certify()
	s := p.serve("--web.config.file", p.secured(), "--web.external-url", "https://example.org/quant")
	s.mustLog("msg=ready")
	for _, test := range []struct{ config, says string }{
		{"{}", "ca_file under tls_config: in the file of --http.config.file"},
		{"tls_config: {ca_file: ca.crt}", "401 Unauthorized: Unauthorized: give basic_auth in the file of --http.config.file"},
		{"tls_config: {ca_file: ca.crt}\nbasic_auth: {username: prometheus, password: right}", ""},
	} {
		got := p.start("events", "--http.config.file", p.write("client.yml", test.config))
		assert.Contains(t, got.stderr, test.says)
		assert.Equal(t, test.says == "", got.status == 0, got.stderr)
		assert.NotContains(t, got.stderr, "password")
	}
}

// A state of another version is refused by every command, with a sentence that says so, and
// is left as it is: one of a newer version, and one from before the first release.
func TestStateOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	meta := func(change func(meta *bbolt.Bucket) error) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte("meta"))) }
	}
	for sentence, change := range map[string]func(*bbolt.Tx) error{
		"made by a newer version of this program (schema 1000; this one reads up to 1) and was left as it is": meta(func(meta *bbolt.Bucket) error {
			return meta.Put([]byte("quant-exporter.schema"), []byte("1000"))
		}),
		"from before its first release, which this version cannot read, and was left as it is": meta(func(meta *bbolt.Bucket) error {
			return errors.Join(meta.Delete([]byte("quant-exporter.schema")), meta.Put([]byte("schema"), []byte("2")))
		}),
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			refusesState(t, sentence, change)
		})
	}
}

func refusesState(t *testing.T, sentence string, change func(*bbolt.Tx) error) {
	t.Helper()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(once)
	require.Zero(t, p.run().status)
	file := filepath.Join(p.state(), "state.db")
	db, err := bbolt.Open(file, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(change))
	require.NoError(t, db.Close())
	was, err := os.ReadFile(file)
	require.NoError(t, err)
	calls := len(fakellama.Calls(t, p.tools))
	for _, args := range [][]string{
		{"--model-dir", p.models, "--llamacpp.dir", p.tools, "--web.listen-address=127.0.0.1:0"},
		{"run", "--model-dir", p.models, "--llamacpp.dir", p.tools},
		{"events"},
		{"export"},
		{"backup", filepath.Join(p.dir, "copy.db")},
	} {
		got := p.start(args...)
		assert.Equal(t, exitError, got.status)
		assert.Contains(t, got.stderr, sentence, args)
		assert.Contains(t, got.stderr, p.state())
	}
	is, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(was, is), "it stays as it is")
	for _, call := range fakellama.Calls(t, p.tools)[calls:] {
		assert.NotEmpty(t, call.Step, "nothing was measured: %v", call)
	}
}
