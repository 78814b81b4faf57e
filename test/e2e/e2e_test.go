// Package e2e_test runs the built program with the real llama.cpp on the bundled
// model: few tokens, and never a claim about which way a measurement falls, except
// where a wrapper makes it fall.
//
// LLAMA_CPP_DIR names the folder of the tools; without it scripts/get-llama-cpp finds or
// fetches them.
package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/program"
	"github.com/quant-exporter/quant-exporter/internal/test/schemas"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// modelSum is the sha256 of the bundled model: no cycle may change it.
const modelSum = "4c1c9db17df4c3e691c16ab3876a87b415a0f085db48a5668c55a23ba58313b9"

// patience bounds every wait: it guards against hangs and measures nothing.
const patience = 5 * time.Minute

// kit is what all tests share.
type kit struct {
	root  string // of the repository
	tools string // folder of llama.cpp's tools
}

var shared kit

// slow is a llama-bench that makes one model look slower.
func slow(t testing.TB) string { return program.Build(t, "./scripts/slowbench", "-race") }

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() { // see program.NotShort
		return
	}
	status := 1
	if err := shared.prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "preparing the end-to-end tests:", err)
	} else {
		status = m.Run()
	}
	os.Exit(status)
}

func (k *kit) prepare() error {
	var err error
	if k.root, err = program.Root(); err != nil {
		return err
	}
	if k.tools = os.Getenv("LLAMA_CPP_DIR"); k.tools == "" {
		get := exec.Command(filepath.Join(k.root, "scripts", "get-llama-cpp"), filepath.Join(k.root, ".tools", "llama.cpp"))
		get.Stderr = os.Stderr
		out, err := get.Output()
		if err != nil {
			return fmt.Errorf("getting llama.cpp's tools: %w", err)
		}
		k.tools = strings.TrimSpace(string(out))
	}
	return nil
}

// quick is a configuration with few tokens and few rounds.
const quick = `
benchmark:
  prompt_tokens: 32
  generation_tokens: 16
  rounds: {min: 3, max: 4}
  max_disturbance: 1
`

// host is a place to run the program in: working folder, configuration, lock.
type host struct {
	t    *testing.T
	dir  string
	args []string
}

func newHost(t *testing.T, config string, args ...string) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir()}
	file := filepath.Join(h.dir, "config.yml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	h.args = []string{"--config.file", file, "--work.dir", filepath.Join(h.dir, "work")}
	for flag, name := range map[string]string{"--host.lock": "lock", "--storage.path": "state"} {
		if !slices.Contains(args, flag) {
			h.args = append(h.args, flag, filepath.Join(h.dir, name))
		}
	}
	h.args = append(h.args, args...)
	return h
}

// command is the program with these arguments; it is killed when the test is over.
func (h *host) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(h.t.Context(), program.Build(h.t, ".", "-race"), append(args, h.args...)...)
	cmd.Dir = shared.root
	cmd.Env = append(os.Environ(), "LLAMA_CPP_DIR="+shared.tools, program.EndsAtOnce)
	return cmd
}

// outcome is one line of --output json.
type outcome struct {
	EventType string             `json:"event_type"`
	Model     string             `json:"model_name"`
	Decision  verdict.Outcome    `json:"decision"`
	Source    string             `json:"source_format"`
	Target    string             `json:"target_format"`
	Reason    runner.Reason      `json:"reason"`
	Error     string             `json:"error"`
	Original  runner.FileFigures `json:"original_file"`
	Quantized runner.FileFigures `json:"quantized_file"`
	Changed   []string           `json:"changed_inputs"`
	Evidence  runner.Evidence    `json:"evidence"`

	PassedOverFor string `json:"passed_over_for"`
	Chosen        string `json:"chosen_format"`
	Previous      string `json:"previous_format"`
	EventID       string `json:"event_id"`
}

// run gives the outcomes and the exit status of a run with --output json --evidence,
// and sees that nothing is left of it.
func (h *host) run(args ...string) ([]outcome, int) {
	h.t.Helper()
	cmd := h.command(append([]string{"run", "--output", "json", "--evidence"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		require.NoError(h.t, err)
	}
	h.t.Logf("%s", &stderr)
	var outcomes []outcome
	for line := range bytes.Lines(out) {
		var o outcome
		require.NoError(h.t, json.Unmarshal(line, &o), "%s", line)
		schemas.Check(h.t, schemas.RunOutput, string(line))
		outcomes = append(outcomes, o)
	}
	h.nothingLeft()
	return outcomes, cmd.ProcessState.ExitCode()
}

func (h *host) nothingLeft() {
	h.t.Helper()
	left, err := filepath.Glob(filepath.Join(h.dir, "work", "*"))
	require.NoError(h.t, err)
	left = slices.DeleteFunc(left, func(path string) bool { return filepath.Base(path) == "cache" }) // what is kept
	incoming, err := filepath.Glob(filepath.Join(h.dir, "work", "cache", ".incoming-*"))
	require.NoError(h.t, err)
	assert.Empty(h.t, append(left, incoming...), "left in the working folder")
	content, err := os.ReadFile(bundled())
	require.NoError(h.t, err)
	sum := sha256.Sum256(content)
	assert.Equal(h.t, modelSum, hex.EncodeToString(sum[:]), "the model was written to")
}

func bundled() string { return filepath.Join(shared.root, "examples", "models", "kjv-4m-f16.gguf") }

// status is the exit status that goes with the outcomes.
func status(outcomes []outcome) int {
	worst := 0
	for _, o := range outcomes {
		code := map[verdict.Outcome]int{verdict.Rejected: 3, verdict.Inconclusive: 4, "": 5}[o.Decision]
		if order := map[int]int{0: 0, 4: 1, 3: 2, 5: 3}; order[code] > order[worst] {
			worst = code
		}
	}
	return worst
}

func TestLadderOnTheBundledModel(t *testing.T) {
	t.Parallel()
	// Exact sizes, as llama-quantize of build 11669 makes them; other builds' mixes may
	// differ a little.
	sizes := map[string]int64{"Q8_0": 4_200_000, "Q6_K": 3_250_000, "Q4_K_M": 2_450_000, "Q3_K_M": 2_000_000, "Q2_K": 1_590_000}
	args := []string{"--model-dir", filepath.Dir(bundled())}
	for target := range sizes {
		args = append(args, "--target", target)
	}
	outcomes, code := newHost(t, quick).run(args...)
	require.Len(t, outcomes, len(sizes))
	assert.Equal(t, status(outcomes), code)
	for _, o := range outcomes {
		require.Equal(t, "QUANT_DECISION", o.EventType, o.Error)
		assert.Equal(t, "kjv-4m-f16", o.Model)
		assert.Equal(t, "F16", o.Source)
		assert.InEpsilon(t, sizes[o.Target], o.Quantized.Bytes, 0.1, o.Target)
		assert.Equal(t, int64(3934464), o.Quantized.Parameters)
		assert.Zero(t, o.Quantized.FallbackShare)
		assert.Equal(t, o.Decision, o.Evidence.Verdict().Outcome, "the evidence says something else")
		assert.NotEmpty(t, o.Evidence.Rounds[0].Original.Measurement.Backends)
		assert.Positive(t, o.Evidence.Engine.Build)
	}
}

func TestRejection(t *testing.T) {
	t.Parallel()
	// The real quantizer, and a llama-bench whose samples of the copy are multiplied: by
	// 3, so that no noise hides it.
	dir := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(shared.tools, "llama-quantize"), filepath.Join(dir, "llama-quantize")))
	require.NoError(t, os.Symlink(slow(t), filepath.Join(dir, "llama-bench")))
	config := fmt.Sprintf("engine: {env: {SLOWBENCH_REAL: %q, SLOWBENCH_MODEL: F16.gguf, SLOWBENCH_FACTOR: \"3\"}}\nbenchmark: {prompt_tokens: 64, generation_tokens: 64}\n",
		filepath.Join(shared.tools, "llama-bench"))
	outcomes, code := newHost(t, config, "--llamacpp.dir", dir).run("--model", bundled(), "--target", "F16")
	require.Len(t, outcomes, 1)
	assert.Equal(t, verdict.Rejected, outcomes[0].Decision, outcomes[0].Error)
	assert.Equal(t, 3, code)
}

func TestHostileFileNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	names := []string{"comma, space", "-m", "new\nline", "ünï ✓", "$(touch pwned)'\"", "<script>alert(1)<", "sub/f16"}
	for _, name := range names {
		path := filepath.Join(dir, name+".gguf")
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		copyModel(t, path)
	}
	outcomes, code := newHost(t, quick).run("--model-dir", dir)
	assert.Equal(t, status(outcomes), code)
	var found []string
	for _, o := range outcomes {
		found = append(found, o.Model)
		assert.Empty(t, o.Error)
	}
	assert.ElementsMatch(t, names, found)
	assert.NoFileExists(t, filepath.Join(shared.root, "pwned"))
}

func TestSplitSet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	split := exec.Command(filepath.Join(shared.tools, "llama-gguf-split"), "--split", "--split-max-tensors", "20", bundled(), filepath.Join(dir, "split"))
	out, err := split.CombinedOutput()
	require.NoError(t, err, "%s", out)
	outcomes, code := newHost(t, quick).run("--model-dir", dir)
	require.Len(t, outcomes, 1)
	assert.Empty(t, outcomes[0].Error)
	assert.Equal(t, "split-00001-of-00002", outcomes[0].Model)
	assert.Equal(t, int64(3934464), outcomes[0].Quantized.Parameters)
	assert.Equal(t, status(outcomes), code)

	require.NoError(t, os.Remove(filepath.Join(dir, "split-00002-of-00002.gguf")))
	cmd := newHost(t, quick).command("run", "--model-dir", dir)
	text, err := cmd.CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(text), "split-00002-of-00002.gguf")
}

func TestFormatThatNeedsAnImatrix(t *testing.T) {
	t.Parallel()
	text, err := newHost(t, quick).command("run", "--model", bundled(), "--target", "IQ2_XS").CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(text), "llama-imatrix")

	imatrix := filepath.Join(t.TempDir(), "imatrix.gguf")
	command := exec.Command(filepath.Join(shared.tools, "llama-imatrix"), "-m", bundled(), "-f", filepath.Join(shared.root, "examples", "models", "kjv-heldout.txt"),
		"-o", imatrix, "-c", "128", "--chunks", "4")
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s", out)
	outcomes, _ := newHost(t, quick+"engine: {imatrix: "+imatrix+"}\n").run("--model", bundled(), "--target", "IQ2_XS")
	require.Len(t, outcomes, 1)
	assert.Empty(t, outcomes[0].Error)
	assert.Equal(t, "IQ2_XS", outcomes[0].Quantized.Format)
}

func TestUnknownFormatListsTheKnown(t *testing.T) {
	t.Parallel()
	cmd := newHost(t, quick).command("run", "--model", bundled(), "--target", "Q2_L")
	text, err := cmd.CombinedOutput()
	require.Error(t, err)
	assert.Equal(t, 1, cmd.ProcessState.ExitCode())
	assert.Contains(t, string(text), "Q2_K_S, Q3_K")
}

func TestCalibrate(t *testing.T) {
	t.Parallel()
	out, err := newHost(t, quick).command("calibrate", bundled(), "--rounds", "4", "--threads", "1", "--output", "json").Output()
	require.NoError(t, err)
	var report struct {
		Model   string `json:"model_name"`
		Threads []struct {
			Threads int    `json:"threads"`
			Method  string `json:"method"`
			Rounds  int    `json:"rounds"`
			Phases  []struct {
				Throughput float64 `json:"throughput"`
				Spread     float64 `json:"spread"`
				Resolves   []struct {
					Rounds int     `json:"rounds"`
					Drop   float64 `json:"drop_ratio"`
				} `json:"resolves"`
			} `json:"phases"`
		} `json:"threads"`
		Recommended int    `json:"recommended_threads"`
		Method      string `json:"recommended_method"`
	}
	require.NoError(t, json.Unmarshal(out, &report), "%s", out)
	assert.Equal(t, "kjv-4m-f16", report.Model)
	assert.Equal(t, 1, report.Recommended)
	assert.NotEmpty(t, report.Method, "two methods were tried")
	require.Len(t, report.Threads, 2)
	assert.Equal(t, []string{"paired", "process"}, []string{report.Threads[0].Method, report.Threads[1].Method})
	assert.Equal(t, 4, report.Threads[0].Rounds)
	for _, p := range report.Threads[0].Phases {
		assert.Positive(t, p.Throughput)
		assert.Positive(t, p.Spread)
		require.Len(t, p.Resolves, 3)
		assert.Equal(t, 4, p.Resolves[0].Rounds)
		assert.Equal(t, 20, p.Resolves[2].Rounds)
		assert.Greater(t, p.Resolves[0].Drop, p.Resolves[2].Drop, "more rounds resolve less")
	}
}

func TestInterruptStopsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			// Rounds of this many tokens take minutes.
			h := newHost(t, "benchmark: {generation_tokens: 1000000}\n")
			cmd := h.command("run", "--model", bundled(), "--output", "json")
			var stdout bytes.Buffer
			cmd.Stdout = &stdout
			tool := h.startUntilMeasuring(cmd)
			require.NoError(t, cmd.Process.Signal(sig))
			assert.True(t, h.ends(cmd), "still running after %s", sig)
			assert.Equal(t, 5, cmd.ProcessState.ExitCode())
			var o outcome
			require.NoError(t, json.Unmarshal(stdout.Bytes(), &o), "%s", &stdout)
			assert.Equal(t, runner.ReasonCanceled, o.Reason, o.Error)
			h.gone(tool)
			h.nothingLeft()
		})
	}
}

func TestWhatAKilledProcessLeavesIsRemovedAtTheNextStart(t *testing.T) {
	t.Parallel()
	h := newHost(t, "benchmark: {generation_tokens: 1000000}\n")
	cmd := h.command("run", "--model", bundled())
	tool := h.startUntilMeasuring(cmd)
	require.NoError(t, cmd.Process.Kill())
	require.True(t, h.ends(cmd))
	if runtime.GOOS == "linux" {
		h.gone(tool)
	}
	left, err := filepath.Glob(filepath.Join(h.dir, "work", "cycle-*"))
	require.NoError(t, err)
	require.NotEmpty(t, left, "kill -9 leaves the working folder")

	require.NoError(t, os.WriteFile(filepath.Join(h.dir, "config.yml"), []byte(quick), 0o600))
	outcomes, code := h.run("--model", bundled())
	assert.Equal(t, status(outcomes), code)
}

func TestSecondRunWaitsForTheHost(t *testing.T) {
	t.Parallel()
	config := "benchmark: {generation_tokens: 1000000}\n"
	h := newHost(t, config)
	first := h.command("run", "--model", bundled())
	h.startUntilMeasuring(first)

	other := newHost(t, config, "--host.lock", filepath.Join(h.dir, "lock"))
	impatient := other.command("run", "--model", bundled(), "--no-wait")
	text, err := impatient.CombinedOutput()
	require.Error(t, err)
	assert.Equal(t, 1, impatient.ProcessState.ExitCode())
	assert.Contains(t, string(text), fmt.Sprintf("pid %d", first.Process.Pid))

	second := other.command("run", "--model", bundled())
	lines := &watch{seen: make(chan struct{}), text: fmt.Sprintf("pid %d", first.Process.Pid)}
	second.Stderr = lines
	require.NoError(t, second.Start())
	select {
	case <-lines.seen:
	case <-time.After(patience):
		assert.Fail(t, "the second run does not say for whom it waits", lines.sofar())
	}
	for _, cmd := range []*exec.Cmd{second, first} {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.True(t, h.ends(cmd))
	}
	h.nothingLeft()
	other.nothingLeft()
}

func TestDryRunAgreesWithTheRealSizes(t *testing.T) {
	t.Parallel()
	targets := []string{"Q8_0", "Q6_K", "Q4_K_M", "Q2_K"}
	args := []string{"--model", bundled()}
	for _, target := range targets {
		args = append(args, "--target", target)
	}
	out, err := newHost(t, quick).command(append([]string{"run", "--dry-run", "--output", "json"}, args...)...).Output()
	require.NoError(t, err)
	estimated := map[string]float64{}
	for line := range bytes.Lines(out) {
		var e struct {
			EventType string `json:"event_type"`
			Estimated bool   `json:"estimated"`
			Target    string `json:"target_format"`
			File      struct {
				Bytes float64 `json:"bytes"`
			} `json:"quantized_file"`
		}
		require.NoError(t, json.Unmarshal(line, &e))
		assert.Equal(t, "QUANT_ESTIMATE", e.EventType)
		assert.True(t, e.Estimated)
		estimated[e.Target] = e.File.Bytes
	}
	outcomes, _ := newHost(t, quick).run(args...)
	require.Len(t, outcomes, len(targets))
	for _, o := range outcomes {
		assert.InEpsilon(t, o.Quantized.Bytes, estimated[o.Target], 0.1, o.Target)
	}
}

// startUntilMeasuring starts the program and returns when it measures, with the process
// of the tool.
func (h *host) startUntilMeasuring(cmd *exec.Cmd) (tool int) {
	h.t.Helper()
	lines := &watch{seen: make(chan struct{}), text: "round 1"}
	cmd.Stderr = lines
	require.NoError(h.t, cmd.Start())
	select {
	case <-lines.seen:
	case <-time.After(patience):
		require.Fail(h.t, "the cycle does not get to measuring", lines.sofar())
	}
	return h.toolOf(cmd)
}

// toolOf gives the process of the tool that the program was about to start, or has.
func (h *host) toolOf(cmd *exec.Cmd) (tool int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		out, err := exec.CommandContext(ctx, "ps", "-o", "pid=", "--ppid", strconv.Itoa(cmd.Process.Pid)).Output()
		if _, scanErr := fmt.Sscan(string(out), &tool); err == nil && scanErr == nil {
			return tool
		}
	}
	require.Fail(h.t, "no tool was started")
	return 0
}

// ends waits for the process, and not for one that hangs.
func (h *host) ends(cmd *exec.Cmd) bool {
	h.t.Helper()
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its exit status is for the caller to see
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		<-ended
		return false
	}
}

// gone waits until the process has ended.
func (h *host) gone(pid int) {
	h.t.Helper()
	assert.Eventually(h.t, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) },
		patience, 10*time.Millisecond, "the tool outlived its cycle")
}

// zombie reports whether the process has ended and only waits for an init to notice.
func zombie(pid int) bool {
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err != nil || strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}

// watch closes seen when its text comes by.
type watch struct {
	seen chan struct{}
	text string

	mu   sync.Mutex
	all  bytes.Buffer
	done bool
}

// sofar is all that was written yet.
func (w *watch) sofar() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}

func (w *watch) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all.Write(p)
	if !w.done && strings.Contains(w.all.String(), w.text) {
		w.done = true
		close(w.seen)
	}
	return len(p), nil
}

func copyModel(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(bundled())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, content, 0o600))
}
