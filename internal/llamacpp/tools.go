package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/process"
	"github.com/quant-exporter/quant-exporter/runner"
)

const (
	quantizeTool   = "llama-quantize"
	benchTool      = "llama-bench"
	perplexityTool = "llama-perplexity" // needed only where quality is evaluated
)

// probing bounds how long a tool may take to say something about itself.
type probing struct {
	quiet   time.Duration // before a log line says that it takes long
	limit   time.Duration // of --help and --version
	devices time.Duration // of the list of devices, which takes seconds with several GPUs
	again   time.Duration // before a tool that hung is asked once more
}

// patience is how long tools are waited for: a cycle asks one that hangs only once.
var patience = probing{quiet: 5 * time.Second, limit: 15 * time.Second, devices: time.Minute, again: time.Minute}

// question is what a tool was asked about itself.
type question struct {
	program binary
	flag    string
}

// hung is the failure of a tool that did not answer.
type hung struct {
	err error
	at  time.Time
}

// outputLimit is how much a tool may print to its standard output: the largest, a help,
// is 10 KB.
const outputLimit = 1 << 20

// toolset is where the tools are and what they can do.
type toolset struct {
	quantize, bench binary
	server          serverAbility // its binary is zero where there is none
	cpu             string        // of this host: llama-server does not name it
	abilities
}

// binary is a file that was looked at: when it is exchanged, it compares unequal.
type binary struct {
	path     string
	command  string // by which the one program llama is the tool; "" for a tool of its own
	size     int64
	modified int64 // nanoseconds of Unix time; a time.Time does not compare
}

// String is what somebody would type.
func (b binary) String() string {
	return strings.Join(append([]string{filepath.Base(b.path)}, b.args()...), " ")
}

// args are the arguments by which the program is the tool with these arguments.
func (b binary) args(args ...string) []string {
	if b.command == "" {
		return args
	}
	return append([]string{b.command}, args...)
}

// tools finds the tools and, unless it knows these very files, asks them for their
// abilities.
func (e *Engine) tools(ctx context.Context) (toolset, error) {
	quantize, quantizeErr := e.find(quantizeTool)
	bench, benchErr := e.find(benchTool)
	if err := errors.Join(quantizeErr, benchErr); err != nil {
		return toolset{}, missing(err)
	}

	server, serverErr := e.find(serverTool)

	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known.quantize == quantize && e.known.bench == bench && e.known.server.binary == server {
		return e.known, nil
	}
	known := toolset{quantize: quantize, bench: bench, cpu: host.CPUName()}
	if err := e.ask(ctx, &known); err != nil {
		return toolset{}, err
	}
	known.server = e.askServer(ctx, server, serverErr)
	e.logger.Debug("llama.cpp probed", "quantize", quantize.path, "bench", bench.path,
		"version", known.version.name, "build", known.version.build, "formats", len(known.formats), "gpu", known.gpu,
		"dry_run", known.dryRun, "jsonl", known.jsonl, "progress", known.progress, "depth", known.depth)
	e.known = known
	return known, nil
}

// askServer asks llama-server for its abilities. Nothing fails without it.
func (e *Engine) askServer(ctx context.Context, found binary, err error) serverAbility {
	if err != nil {
		return serverAbility{unusable: fmt.Sprintf("%v (Debian testing: apt install llama.cpp-tools)", err)}
	}
	help, err := e.print(ctx, found, "--help")
	if err != nil {
		return serverAbility{binary: found, unusable: err.Error()}
	}
	return newServerAbility(found, help.stdout, e.cfg.BenchArgs)
}

// perplexity finds the tool that evaluates quality and, unless it knows this very file,
// asks whether it can.
func (e *Engine) perplexity(ctx context.Context) (binary, error) {
	found, err := e.find(perplexityTool)
	if err != nil {
		return binary{}, missing(fmt.Errorf("%w, and quality needs it (Debian testing: apt install llama.cpp-tools-extra)", err))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.knownPerplexity == found {
		return found, nil
	}
	help, err := e.print(ctx, found, "--help")
	if err != nil {
		return binary{}, err
	}
	if !hasFlag(help.stdout, "--kl-divergence") || !hasFlag(help.stdout, "--kl-divergence-base") {
		return binary{}, help.notThe(perplexityTool, "names no --kl-divergence and --kl-divergence-base")
	}
	e.knownPerplexity = found
	return found, nil
}

// missing returns the failure of a tool that is not there.
func missing(err error) error {
	return runner.Failf(runner.ReasonEngineMissing,
		"%w: install llama.cpp (brew install llama.cpp; nix profile install nixpkgs#llama-cpp; winget install llama.cpp; "+
			"Debian testing: apt install llama.cpp-tools; or https://github.com/ggml-org/llama.cpp/releases), "+
			"or name the folder of its tools with --llamacpp.dir or LLAMA_CPP_DIR", oneLine(err))
}

// oneLine puts joined errors on one line.
func oneLine(err error) error { return errors.New(strings.ReplaceAll(err.Error(), "\n", "; ")) }

// oneProgram is all tools in one: its first argument names the tool, as in "llama bench".
const oneProgram = "llama"

// find looks for a tool in the configured directory or on PATH: for the tool of that name, and
// else for the one program of llama.cpp.
func (e *Engine) find(name string) (binary, error) {
	found, err := e.findProgram(name)
	if err == nil {
		return found, nil
	}
	if one, missing := e.findProgram(oneProgram); missing == nil {
		one.command = strings.TrimPrefix(name, oneProgram+"-")
		return one, nil
	}
	return binary{}, err
}

func (e *Engine) findProgram(name string) (binary, error) {
	where, path := "on PATH", name
	if e.cfg.Dir != "" {
		where, path = "in "+e.cfg.Dir, filepath.Join(e.cfg.Dir, name)
	}
	path, err := exec.LookPath(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return binary{}, fmt.Errorf("%s %s is not executable", name, where)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound):
		return binary{}, fmt.Errorf("%s is not %s", name, where)
	case err != nil:
		return binary{}, fmt.Errorf("looking for %s %s: %w", name, where, err)
	}
	// The tools run in another directory.
	if path, err = filepath.Abs(path); err != nil {
		return binary{}, fmt.Errorf("finding the path of %s: %w", name, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return binary{}, fmt.Errorf("looking at %s: %w", name, err)
	}
	return binary{path: path, size: info.Size(), modified: info.ModTime().UnixNano()}, nil
}

// ask fills in the abilities.
func (e *Engine) ask(ctx context.Context, t *toolset) error {
	help, err := e.print(ctx, t.quantize, "--help")
	if err != nil {
		return err
	}
	t.formats = parseFormats(help.stdout)
	if len(t.formats) == 0 {
		return help.notThe(quantizeTool, "lists no types to quantize to")
	}
	t.dryRun = hasFlag(help.stdout, "--dry-run")

	help, err = e.print(ctx, t.bench, "--help")
	if err != nil {
		return err
	}
	if !hasFlag(help.stdout, "--n-prompt") || !hasFlag(help.stdout, "--n-gen") {
		return help.notThe(benchTool, "names no --n-prompt and --n-gen")
	}
	if option := unknownOption(e.cfg.BenchArgs, help.stdout); option != "" {
		return runner.Failf(runner.ReasonEngineMissing, "engine.bench_args: %s does not know %s; remove it, or use a build that knows it", t.bench, option)
	}
	t.jsonl = hasFlag(help.stdout, "jsonl")
	t.progress = hasFlag(help.stdout, "--progress")
	t.depth = hasFlag(help.stdout, "--n-depth")

	if hasFlag(help.stdout, "--version") {
		said, err := e.print(ctx, t.bench, "--version")
		if err != nil {
			return err
		}
		t.version = parseVersion(said.stdout + "\n" + said.stderr)
	}
	// Without the list: what the tool printed at its start, and that Macs have Metal.
	t.gpu = gpuBackend.MatchString(help.stderr) || runtime.GOOS == "darwin"
	if hasFlag(help.stdout, "--list-devices") {
		devices, err := e.print(ctx, t.bench, "--list-devices")
		if err != nil {
			return err
		}
		t.devices, t.gpu = parseDevices(devices.stdout)
	}
	return nil
}

// printed is what a tool printed when it was asked about itself.
type printed struct {
	path           string
	stdout, stderr string
	err            error // how it ended; some tools exit 1 after their help
	confined       bool
}

// print asks a tool about itself. Its exit status does not count, a crash does. One that hung a
// moment ago is not asked again.
func (e *Engine) print(ctx context.Context, program binary, flag string) (printed, error) {
	asked := question{program, flag}
	if before, ok := e.hung.Load(asked); ok && time.Since(before.(hung).at) < e.probing.again {
		return printed{}, before.(hung).err
	}
	limit := e.probing.limit
	if flag == "--list-devices" {
		limit = e.probing.devices
	}
	op := operation{
		tool:   program.String(),
		doing:  "printing its " + strings.TrimPrefix(flag, "--"),
		reason: runner.ReasonEngineMissing,
		limit:  limit,

		confined: e.confines(),
	}
	slow := time.AfterFunc(e.probing.quiet, func() {
		e.logger.Warn("a tool does not answer: it is waited for", "tool", program.path, "asked", flag, "for", e.probing.quiet, "at_most", limit)
	})
	defer slow.Stop()
	result, err := process.Run(ctx, process.Spec{
		Path:        program.path,
		Args:        program.args(flag),
		Dir:         string(filepath.Separator),
		Env:         e.environment,
		Confinement: e.confinement(program, nil, ""),
		Timeout:     limit,
		StdoutLimit: outputLimit,
	})
	said := printed{confined: op.confined, path: program.path, stdout: string(result.Stdout), stderr: strings.Join(result.Tail, "\n"), err: err}
	var exit *process.ExitError
	if err == nil || errors.As(err, &exit) && signalOf(exit) == 0 {
		return said, nil
	}
	failure := op.failure(ctx, result, err)
	if errors.As(err, new(*process.TimeoutError)) {
		e.hung.Store(asked, hung{failure, time.Now()})
	}
	return said, failure
}

// notThe says that a program is not the tool it is named after. The usual cause is one
// that cannot load its libraries.
func (p printed) notThe(tool, why string) error {
	ended := "exit status 0"
	if p.err != nil {
		ended = p.err.Error()
	}
	advice := ""
	if p.confined {
		advice = refusedBySandbox(p.stdout + p.stderr)
	}
	return runner.Failf(runner.ReasonEngineMissing, "%s does not work as llama.cpp's %s: its --help %s (%s%s)%s",
		p.path, tool, why, ended, lastWords(process.Result{Stdout: []byte(p.stdout), Tail: strings.Split(p.stderr, "\n")}), advice)
}
