// Package test runs the built program with fake tools, from outside: what stands on its
// output, in its state, on its pages and in its exit status. The real llama.cpp is in
// test/e2e, the pages in a browser in test/browser.
package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/test/golden"
	"github.com/quant-exporter/quant-exporter/internal/test/program"
	"github.com/quant-exporter/quant-exporter/internal/test/schemas"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Exit statuses of run, a contract; the other commands know the first two.
const (
	exitKept         = 0
	exitError        = 1
	exitRejected     = 3
	exitInconclusive = 4
	exitFailed       = 5
)

// binary is the program, built with the race detector.
func binary(t testing.TB) string { return program.Build(t, ".", "-race") }

// quick has few rounds and tokens, and repeats nothing because of this host's load.
const quick = `
engine: {threads: 1}
benchmark: {prompt_tokens: 32, generation_tokens: 16, rounds: {min: 3, max: 4}, max_disturbance: 1}
`

// unconfined is quick for tools that do what the sandbox would refuse.
var unconfined = strings.Replace(quick, "{threads: 1}", "{threads: 1, sandbox: off}", 1)

// evaluated is a configuration under which the quality of copies is evaluated; the fake's
// Q2_K is over its limit.
func (p *place) evaluated() string {
	p.t.Helper()
	text := filepath.Join(p.dir, "text.txt")
	require.NoError(p.t, os.WriteFile(text, []byte(strings.Repeat("word ", 20_000)), 0o600))
	return fmt.Sprintf("quality: {corpus: %s, max_kl_divergence: 0.05}\n", text)
}

// place is where the program runs: a fake llama.cpp, a model, a configuration, a lock
// and a working folder of its own.
type place struct {
	t      *testing.T
	dir    string
	tools  string
	models string // holds m.gguf, unless the test does something about it
	model  string // m.gguf's path
	config string
	env    []string // more environment
}

func newPlace(t *testing.T, behaviour fakellama.Behaviour) *place {
	t.Helper()
	dir := t.TempDir()
	p := &place{
		t: t, dir: dir,
		tools:  fakellama.BuildWith(t, behaviour),
		models: filepath.Join(dir, "models"),
		model:  filepath.Join(dir, "models", "m.gguf"),
		config: filepath.Join(dir, "config.yml"),
	}
	gguftest.Model(gguftest.Tiny()).Write(t, p.model)
	p.configure(quick)
	return p
}

func (p *place) configure(text string) {
	p.t.Helper()
	require.NoError(p.t, os.WriteFile(p.config, []byte(text), 0o600))
}

// ended is what a run of the program left.
type ended struct {
	status         int
	stdout, stderr string
}

// run runs `quant-exporter run` on the place's models with the fake llama.cpp.
func (p *place) run(args ...string) ended {
	p.t.Helper()
	return p.start(append([]string{"run", "--model-dir", p.models, "--llamacpp.dir", p.tools}, args...)...)
}

// start runs the program to its end, with nothing but the place's own.
func (p *place) start(args ...string) ended {
	p.t.Helper()
	var stdout bytes.Buffer
	cmd, stderr := p.command(args...)
	cmd.Stdout = &stdout
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(p.t, err)
	}
	require.NotContains(p.t, stderr.String(), "DATA RACE")
	return ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func (p *place) command(args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	p.t.Helper()
	built := binary(p.t)                                          // which may take its time
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*patience) // a server outlives a wait
	p.t.Cleanup(cancel)
	stderr = new(bytes.Buffer)
	cmd = exec.CommandContext(ctx, built, append(args, "--config.file", p.config, "--work.dir", p.work(), "--storage.path", p.state(), "--host.lock", filepath.Join(p.dir, "lock"))...)
	cmd.Dir = p.dir
	cmd.Stderr = stderr
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + p.dir, program.EndsAtOnce}, p.env...)
	return cmd, stderr
}

func (p *place) work() string  { return filepath.Join(p.dir, "work") }
func (p *place) state() string { return filepath.Join(p.dir, "state") }

// nothingLeft says that no tool runs any more and that the working folder is empty, but
// for what is kept for later cycles.
func (p *place) nothingLeft() {
	p.t.Helper()
	fakellama.NoneLeft(p.t, p.tools)
	left, err := filepath.Glob(filepath.Join(p.work(), "*"))
	require.NoError(p.t, err)
	left = slices.DeleteFunc(left, func(path string) bool { return filepath.Base(path) == "cache" }) // what is kept
	incoming, err := filepath.Glob(filepath.Join(p.work(), "cache", ".incoming-*"))
	require.NoError(p.t, err)
	assert.Empty(p.t, append(left, incoming...), "left in the working folder")
}

// outcome is a line of --output json.
type outcome struct {
	EventType string          `json:"event_type"`
	Model     string          `json:"model_name"`
	Decision  verdict.Outcome `json:"decision"`
	EventID   string          `json:"event_id"`
	Entry     string          `json:"entry"`
	Previous  string          `json:"previous_decision"`
	Threshold float64         `json:"threshold_percent"`
	Target    string          `json:"target_format"`
	Rounds    int             `json:"rounds"`
	Reason    runner.Reason   `json:"reason"`
	Error     string          `json:"error"`
	Estimated bool            `json:"estimated"`

	Method       config.Method `json:"method"`
	MethodReason string        `json:"method_reason"`

	Evidence runner.Evidence `json:"evidence"`
}

// outcomes reads all of standard output: nothing else may be there, and each line fits the
// schema.
func (e ended) outcomes(t *testing.T) []outcome {
	t.Helper()
	var all []outcome
	for line := range strings.Lines(e.stdout) {
		schemas.Check(t, schemas.RunOutput, line)
		var o outcome
		require.NoError(t, json.Unmarshal([]byte(line), &o), "standard output is nothing but objects: %q", line)
		all = append(all, o)
	}
	return all
}

// one is the only outcome.
func (e ended) one(t *testing.T) outcome {
	t.Helper()
	all := e.outcomes(t)
	require.Len(t, all, 1, e.stderr)
	return all[0]
}

// Behaviours of the fake, by what the program makes of them.
var (
	// A copy takes 0.8 of the original's time; by 2 that is 1.6.
	slowed = fakellama.Factor{Stage: "quantized", By: 2}
	// 1 / (0.8 × 1.42) is a drop of 12 %, and the noise triples every other round's one
	// side.
	atThreshold = fakellama.Factor{Stage: "quantized", By: 1.42}
	noisy       = []float64{1, 1, 3, 1}
)

func TestExitStatusSaysWhatBecameOfTheCopies(t *testing.T) {
	slow := func(format string) fakellama.Factor {
		return fakellama.Factor{Stage: "quantized", Format: format, By: 2}
	}
	fail := fakellama.Fault{Tool: "llama-quantize", Format: "Q8_0", Do: fakellama.ExitWithMessage}
	for name, test := range map[string]struct {
		behaviour fakellama.Behaviour
		want      int
		outcomes  map[string]string
	}{
		"all kept":                  {fakellama.Behaviour{}, 0, map[string]string{"Q2_K": "kept", "Q8_0": "kept"}},
		"all rejected":              {fakellama.Behaviour{Factors: []fakellama.Factor{slowed}}, 3, map[string]string{"Q2_K": "rejected", "Q8_0": "rejected"}},
		"one rejected":              {fakellama.Behaviour{Factors: []fakellama.Factor{slow("Q2_K")}}, 3, map[string]string{"Q2_K": "rejected", "Q8_0": "kept"}},
		"one failed, one kept":      {fakellama.Behaviour{Faults: []fakellama.Fault{fail}}, 5, map[string]string{"Q2_K": "kept", "Q8_0": "quantize"}},
		"one failed, one rejected":  {fakellama.Behaviour{Faults: []fakellama.Fault{fail}, Factors: []fakellama.Factor{slowed}}, 5, map[string]string{"Q2_K": "rejected", "Q8_0": "quantize"}},
		"one phase is slower, only": {fakellama.Behaviour{Factors: []fakellama.Factor{{Stage: "quantized", Phase: "prompt", By: 2}}}, 3, map[string]string{"Q2_K": "rejected", "Q8_0": "rejected"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, test.behaviour)
			got := p.run("--target", "Q2_K", "--target", "Q8_0", "--output", "json")
			assert.Equal(t, test.want, got.status, got.stderr)
			found := map[string]string{}
			for _, o := range got.outcomes(t) {
				found[o.Target] = string(o.Decision) + string(o.Reason)
			}
			assert.Equal(t, test.outcomes, found)
			p.nothingLeft()
		})
	}
}

func TestExitStatusOfAnInconclusiveCopy(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Factors: []fakellama.Factor{atThreshold}, Noise: noisy})
	got := p.run("--output", "json")
	assert.Equal(t, exitInconclusive, got.status, got.stderr)
	assert.Equal(t, verdict.Inconclusive, got.one(t).Decision)
}

func TestWorstOfSeveralModelsIsTheExitStatus(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		behaviour fakellama.Behaviour
		damaged   bool // the second model
		want      int
	}{
		"kept and kept":         {fakellama.Behaviour{}, false, 0},
		"kept and failed":       {fakellama.Behaviour{}, true, 5},
		"rejected and failed":   {fakellama.Behaviour{Factors: []fakellama.Factor{slowed}}, true, 5},
		"rejected and rejected": {fakellama.Behaviour{Factors: []fakellama.Factor{slowed}}, false, 3},
		"failed and kept": {fakellama.Behaviour{
			Faults: []fakellama.Fault{{Tool: "llama-quantize", Calls: []int{1}, Do: fakellama.ExitWithMessage}},
		}, false, 5},
		"failed and rejected": {fakellama.Behaviour{
			Factors: []fakellama.Factor{slowed},
			Faults:  []fakellama.Fault{{Tool: "llama-quantize", Calls: []int{1}, Do: fakellama.ExitWithMessage}},
		}, false, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, test.behaviour)
			second := gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(p.models, "n.gguf"))
			if test.damaged {
				require.NoError(t, os.WriteFile(second, []byte("<html>not found</html>"), 0o600))
			}
			got := p.run("--output", "json")
			assert.Equal(t, test.want, got.status, got.stderr)
			assert.Len(t, got.outcomes(t), 2, "the one does not hold up the other")
		})
	}
}

func TestErrorWinsOverEveryOutcome(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return // no such device here
	}
	require.NoError(t, err)
	defer full.Close()
	for _, output := range []string{"text", "json"} {
		p := newPlace(t, fakellama.Behaviour{Factors: []fakellama.Factor{slowed}})
		cmd, stderr := p.command("run", "--model-dir", p.models, "--llamacpp.dir", p.tools, "--output", output)
		cmd.Stdout = full
		require.Error(t, cmd.Run())
		assert.Equal(t, exitError, cmd.ProcessState.ExitCode())
		assert.Contains(t, stderr.String(), "writing the result")
		p.nothingLeft()
	}
}

func TestMistakesOnTheCommandLine(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "bad.yml"), []byte("threshold: 12\nfoo: 1\n"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(p.dir, "empty"), 0o750))
	models := []string{"run", "--model-dir", p.models, "--llamacpp.dir", p.tools}
	for name, test := range map[string]struct {
		args []string
		env  string
		says []string
	}{
		"unknown command":          {[]string{"sevre"}, "", []string{"sevre", "--help"}},
		"unknown flag":             {[]string{"run", "--thresold", "0.1"}, "", []string{"--thresold", "quant-exporter --help"}},
		"unknown format":           {append(models, "--target", "Q2_L"), "", []string{`"Q2_L"`, "Q2_K", "Q8_0", "IQ4_XS"}},
		"same format twice":        {append(models, "--target", "Q4_K", "--target", "q4_k_m"), "", []string{"same format"}},
		"same, in a dry run":       {append(models, "--dry-run", "--target", "Q4_K", "--target", "q4_k_m"), "", []string{`the targets "Q4_K" and "q4_k_m" are the same format`}},
		"format without imatrix":   {append(models, "--target", "IQ2_XS"), "", []string{"llama-imatrix", "engine.imatrix"}},
		"threshold by flag":        {append(models, "--threshold", "12"), "", []string{"--threshold: ", "threshold 12", "0.12"}},
		"threshold by flag, empty": {append(models, "--threshold", ""), "", []string{`--threshold: ""`}},
		"threshold by variable":    {models, "QUANT_THRESHOLD=12%", []string{`QUANT_THRESHOLD: "12%"`, "0.12"}},
		"threshold, variable, NaN": {models, "QUANT_THRESHOLD=NaN", []string{"QUANT_THRESHOLD: ", "NaN"}},
		"dry run by variable":      {models, "DRY_RUN=perhaps", []string{"perhaps"}},
		"no models named":          {[]string{"run", "--llamacpp.dir", p.tools}, "", []string{"--model-dir", "MODEL_DIR", "models.dir", "--model PATH"}},
		"model folder missing":     {[]string{"run", "--model-dir", filepath.Join(p.dir, "none")}, "", []string{filepath.Join(p.dir, "none")}},
		"model folder empty":       {[]string{"run", "--model-dir", filepath.Join(p.dir, "empty")}, "", []string{filepath.Join(p.dir, "empty")}},
		"model missing":            {append(models, "--model", "other"), "", []string{`"other"`}},
		"model is a folder":        {append(models, "--model", p.models), "", []string{p.models}},
		"bad output":               {append(models, "--output", "yaml"), "", []string{"text", "json"}},
		"evidence in a table":      {append(models, "--evidence"), "", []string{"--evidence", "--output json"}},
		"bad configuration":        {append(models, "--config.file", filepath.Join(p.dir, "bad.yml")), "", []string{"bad.yml:1: threshold: ", "bad.yml:2: foo: "}},
		"configuration missing":    {append(models, "--config.file", filepath.Join(p.dir, "none.yml")), "", []string{"none.yml"}},
		"several to calibrate":     {[]string{"calibrate", "*", "--model-dir", filepath.Join(p.dir, "empty")}, "", []string{"empty"}},
		"calibrate too little":     {[]string{"calibrate", p.model, "--rounds", "1", "--llamacpp.dir", p.tools}, "", []string{"rounds"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := *p
			p.t = t
			if test.env != "" {
				p.env = []string{test.env}
			}
			for i, arg := range test.args { // kingpin takes a flag once
				if arg == "--config.file" {
					p.config = test.args[i+1]
					test.args = append(test.args[:i:i], test.args[i+2:]...)
					break
				}
			}
			got := p.start(test.args...)
			assert.Equal(t, exitError, got.status)
			assert.Empty(t, got.stdout)
			for _, text := range test.says {
				assert.Contains(t, got.stderr, text)
			}
			p.nothingLeft()
		})
	}
	for _, call := range fakellama.Calls(t, p.tools) {
		assert.NotEmpty(t, call.Step, "nothing was quantized or measured: %v", call)
	}
}

func TestFlagBeforeEnvironmentBeforeFileBeforeDefault(t *testing.T) {
	t.Parallel()
	threshold := func(p *place, args ...string) float64 {
		return p.run(append(args, "--output", "json")...).one(t).Threshold
	}
	p := newPlace(t, fakellama.Behaviour{})
	assert.InDelta(t, 12, threshold(p), 1e-9)
	p.configure(quick + "threshold: 0.3\n")
	assert.InDelta(t, 30, threshold(p), 1e-9)
	p.env = []string{"QUANT_THRESHOLD=0.2"}
	assert.InDelta(t, 20, threshold(p), 1e-9)
	assert.InDelta(t, 10, threshold(p, "--threshold", "0.1"), 1e-9)
}

func TestModelFolderByFlagEnvironmentAndFile(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	for _, name := range []string{"flag", "environment", "file"} {
		gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(p.dir, name, name+".gguf"))
	}
	model := func(args ...string) string {
		return p.start(append([]string{"run", "--dry-run", "--output", "json"}, args...)...).one(t).Model
	}
	p.configure("models: {dir: file}\n")
	assert.Equal(t, "file", model())
	p.env = []string{"MODEL_DIR=" + filepath.Join(p.dir, "environment")}
	assert.Equal(t, "environment", model())
	assert.Equal(t, "flag", model("--model-dir", filepath.Join(p.dir, "flag")))
}

func TestToolsByFlagEnvironmentFileAndPath(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	folders := map[string]string{}
	for _, name := range []string{"flag", "environment", "file", "PATH"} {
		folders[name] = fakellama.Build(t)
	}
	use := func(want string, args ...string) {
		t.Helper()
		got := p.start(append([]string{"run", "--model-dir", p.models}, args...)...)
		require.Zero(t, got.status, got.stderr)
		for name, dir := range folders {
			used := len(fakellama.Calls(t, dir)) > 0
			assert.Equal(t, name == want, used, "%s, where %s is meant", name, want)
		}
		delete(folders, want)
	}
	// From the weakest on: each wins over the ones before.
	p.env = []string{"PATH=" + folders["PATH"] + ":/usr/bin:/bin"}
	use("PATH")
	p.configure(strings.Replace(quick, "engine: {", "engine: {dir: '"+folders["file"]+"', ", 1))
	use("file")
	p.env = append(p.env, "LLAMA_CPP_DIR="+folders["environment"])
	use("environment")
	use("flag", "--llamacpp.dir", folders["flag"])
}

func TestOnlyTheResultIsOnStandardOutput(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	got := p.run("--verbose", "--output", "json")
	require.Zero(t, got.status, got.stderr)
	assert.Equal(t, "QUANT_DECISION", got.one(t).EventType)
	assert.Contains(t, got.stderr, "debug: running (tool: ")
	assert.NotContains(t, got.stderr, "level=", "it is for whoever typed it")
	assert.Contains(t, got.stderr, "quantizing to Q2_K", "progress goes to standard error")
}

func TestVerboseInAFormat(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	got := p.run("--verbose", "--log.format=logfmt", "--output", "json")
	require.Zero(t, got.status, got.stderr)
	assert.Contains(t, got.stderr, "level=DEBUG")
}

// Durations differ from run to run.
var duration = regexp.MustCompile(`(The cycle took )[0-9hms.µ]+`)

func TestTableOfALadder(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{
		Factors: []fakellama.Factor{{Stage: "quantized", Format: "Q3_K_M", By: 2}},
		Faults:  []fakellama.Fault{{Tool: "llama-quantize", Format: "Q4_0", Do: fakellama.ExitWithMessage}},
	})
	got := p.run("--target", "Q8_0", "--target", "Q4_0", "--target", "Q3_K_M", "--target", "Q2_K")
	assert.Equal(t, exitFailed, got.status, got.stderr)
	text := duration.ReplaceAllString(got.stdout, "${1}TIME")
	golden.Check(t, "ladder.txt", strings.ReplaceAll(text, p.tools, "/TOOLS"))
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ arg, env string }{
		"flag":     {"--dry-run", "X=y"},
		"variable": {"--verbose", "DRY_RUN=true"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, fakellama.Behaviour{})
			p.env = []string{test.env}
			got := p.run(test.arg, "--target", "Q2_K", "--target", "Q8_0", "--output", "json")
			require.Zero(t, got.status, got.stderr)
			all := got.outcomes(t)
			require.Len(t, all, 2)
			for _, o := range all {
				assert.Equal(t, "QUANT_ESTIMATE", o.EventType)
				assert.True(t, o.Estimated)
				assert.Empty(t, o.Decision)
			}
			assert.NotContains(t, got.stdout, "original_throughput", "no tokens per second are made up")

			got = p.run(test.arg, "--target", "Q2_K", "--target", "Q8_0")
			require.Zero(t, got.status, got.stderr)
			rows := 0
			for line := range strings.Lines(got.stdout) {
				if strings.HasPrefix(line, "Q") {
					rows++
					assert.Contains(t, line, "estimated")
				}
			}
			assert.GreaterOrEqual(t, rows, 2)
			assert.Empty(t, fakellama.Calls(t, p.tools), "no tool is started")
			assert.NoDirExists(t, p.work())
			assert.NoFileExists(t, filepath.Join(p.dir, "lock"))
		})
	}
}

func TestDryRunNeedsNoLlamaCpp(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.env = []string{"PATH="}
	got := p.start("run", "--model-dir", p.models, "--dry-run")
	assert.Zero(t, got.status, got.stderr)
	got = p.start("run", "--model-dir", p.models, "--dry-run", "--target", "Q2_K", "--target", "Q2_L")
	assert.Equal(t, exitError, got.status)
	assert.Empty(t, got.stdout)
	assert.Contains(t, got.stderr, `"Q2_L"`)
	assert.Contains(t, got.stderr, "Q4_K_M", "the known ones are listed")
}

func TestChangeOfTheStandingDecisionIsMeasuredTwice(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	first := p.run("--output", "json", "--evidence").one(t)
	assert.Empty(t, first.Previous)
	assert.NotEmpty(t, first.EventID, "the first decision of a pair is a change")

	fakellama.Set(t, p.tools, fakellama.Behaviour{Factors: []fakellama.Factor{slowed}})
	got := p.run("--output", "json", "--evidence")
	assert.Equal(t, exitRejected, got.status, got.stderr)
	o := got.one(t)
	assert.Equal(t, "kept", o.Previous)
	assert.NotEmpty(t, o.EventID)
	assert.Len(t, o.Evidence.Verdicts, 2)
	sets := map[int]int{}
	for _, round := range o.Evidence.Rounds {
		sets[round.Set]++
	}
	assert.Len(t, sets, 2)
	assert.Equal(t, verdict.Rejected, o.Evidence.Verdict().Outcome, "the evidence says the same")

	same := p.run("--output", "json", "--evidence").one(t)
	assert.Len(t, same.Evidence.Verdicts, 1, "what changes nothing needs no confirmation")
	assert.Empty(t, same.EventID)
}

func TestNoWaitNamesWhoMeasures(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	release, err := disk.NewLock(filepath.Join(p.dir, "lock")).Acquire(t.Context(), false, nil)
	require.NoError(t, err)
	for _, command := range [][]string{{"run", "--model", p.model}, {"calibrate", p.model, "--rounds", "4"}} {
		got := p.start(append(command, "--no-wait", "--llamacpp.dir", p.tools)...)
		assert.Equal(t, exitError, got.status)
		assert.Empty(t, got.stdout)
		assert.Contains(t, got.stderr, "pid "+strconv.Itoa(os.Getpid()))
		assert.Contains(t, got.stderr, "--no-wait")
	}
	release()
	got := p.run("--no-wait")
	assert.Zero(t, got.status, got.stderr)
}

func TestCalibrateWithTheFake(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	got := p.start("calibrate", p.model, "--llamacpp.dir", p.tools, "--rounds", "4", "--threads", "1", "--output", "json")
	require.Zero(t, got.status, got.stderr)
	assert.True(t, json.Valid([]byte(got.stdout)), got.stdout)
	p.nothingLeft()
}

func TestQuantizedModelByItsPathWhereItIsAllowed(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	shape := gguftest.Tiny()
	shape.Weights, shape.FileType = gguf.Q8_0, 7
	path := gguftest.Model(shape).Write(t, filepath.Join(p.dir, "q8.gguf"))
	run := func() ended {
		return p.start("run", "--model", path, "--llamacpp.dir", p.tools, "--output", "json")
	}
	got := run()
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, "models.allow_requantize")
	p.configure(quick + "models: {allow_requantize: true}\n")
	got = run()
	assert.Zero(t, got.status, got.stderr)
	assert.Equal(t, "q8", got.one(t).Model)
}

func TestTargetsAreCalledAsTheToolCallsThem(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	assert.Equal(t, "Q4_K_M", p.run("--target", "q4_k", "--output", "json").one(t).Target)
}

func TestDryRunGoesOnAfterADamagedModel(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	bad := gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(p.models, "bad.gguf"))
	require.NoError(t, os.Truncate(bad, 1000))
	args := []string{"--dry-run", "--model", "bad", "--model", "m"}
	got := p.run(append(args, "--output", "json")...)
	assert.Equal(t, exitFailed, got.status, got.stderr)
	all := got.outcomes(t)
	require.Len(t, all, 2)
	assert.Equal(t, runner.ReasonBadModel, all[0].Reason)
	assert.True(t, all[1].Estimated)
	assert.Contains(t, p.run(args...).stdout, "bad_model")
}

func TestCalibrateSetsTheThreadsItself(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(`engine: {bench_args: ["-t", "4"]}`)
	got := p.start("calibrate", p.model, "--llamacpp.dir", p.tools)
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, "bench_args")
}

func TestLockThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	require.NoError(t, os.Mkdir(filepath.Join(p.dir, "lock"), 0o700))
	got := p.run("--output", "json")
	assert.Equal(t, exitError, got.status, got.stdout)
	assert.Empty(t, got.stdout)
	assert.Contains(t, got.stderr, filepath.Join(p.dir, "lock"))
}
