package llamacpp

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/process"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Engine runs llama.cpp's tools. It is safe for concurrent use, although two
// measurements at a time disturb each other.
type Engine struct {
	cfg         config.Engine
	automatic   Threads
	environment []string
	logger      *slog.Logger
	probing     probing
	hung        sync.Map // hung by question

	mu              sync.Mutex
	known           toolset
	knownPerplexity binary
}

var _ runner.Engine = (*Engine)(nil)

// Threads are what automatic threads mean on a host; 0 leaves a number to the tools.
type Threads struct {
	Measuring int // leaves a core to what else the host has to do, as host.Threads does
	Preparing int // makes and evaluates copies, where no time is taken
}

// New makes an engine of a valid configuration. Nothing is looked for before the first Probe.
func New(cfg config.Engine, automatic Threads, logger *slog.Logger) *Engine {
	return &Engine{
		cfg:         cfg,
		automatic:   automatic,
		environment: Environment(os.Environ(), cfg.Env),
		logger:      logger,
		probing:     patience,
	}
}

// Probe finds the tools and says what they are. The version is the one llama-bench
// prints; builds whose llama-bench has no --version print it with every measurement.
func (e *Engine) Probe(ctx context.Context) (runner.EngineInfo, error) {
	sandbox, err := e.sandbox()
	if err != nil {
		return runner.EngineInfo{}, err
	}
	tools, err := e.tools(ctx)
	if err != nil {
		return runner.EngineInfo{}, err
	}
	imatrix, err := e.imatrix()
	if err != nil {
		return runner.EngineInfo{}, err
	}
	files, err := e.files(imatrix)
	if err != nil {
		return runner.EngineInfo{}, err
	}
	return runner.EngineInfo{
		Name:    "llama.cpp",
		Version: tools.version.name,
		Build:   tools.version.build,
		Commit:  tools.version.commit,
		Formats: append([]runner.Format(nil), tools.formats...),
		Imatrix: imatrix != "" || e.matrices() != "",

		Matrices: e.matrices(),
		Threads:  e.benchThreads(tools.gpu),

		Sandbox:   sandbox,
		Unpaired:  tools.server.unusable,
		Files:     files,
		Devices:   tools.devices,
		Arguments: e.arguments(),
		Attempt:   fmt.Sprintf("sandbox: %v, sandbox_reads: %q, timeouts: %v", e.cfg.Sandbox, e.cfg.SandboxReads, e.cfg.Timeouts),
	}, nil
}

// placing are the arguments by which a device gets less than all of a model.
var placing = []string{
	"-ngl", "--n-gpu-layers", "-dev", "--device", "-ot", "--override-tensor",
	"-ncmoe", "--n-cpu-moe", "-nkvo", "--no-kv-offload",
}

// FreeDeviceMemory asks llama-bench; see [runner.Engine].
func (e *Engine) FreeDeviceMemory(ctx context.Context) (int64, error) {
	tools, err := e.tools(ctx)
	if err != nil {
		return 0, err
	}
	_, placed := option(e.cfg.BenchArgs, placing...)
	if tools.devices == "" || !tools.gpu || placed {
		return 0, nil
	}
	said, err := e.print(ctx, tools.bench, "--list-devices")
	if err != nil {
		return 0, err
	}
	return parseFree(said.stdout), nil
}

// files returns the files that the settings name: the importance matrix, if there is one, and
// what the arguments of the tools name.
func (e *Engine) files(imatrix string) (map[string]string, error) {
	reasons := map[string]runner.Reason{"bench_args": runner.ReasonBenchmark, "quantize_args": runner.ReasonQuantize, "evaluate_args": runner.ReasonEvaluate}
	all := map[string]string{}
	if imatrix != "" {
		all["imatrix"] = imatrix
	}
	for name, args := range e.toolArgs() {
		named, err := runner.NamedFiles(args)
		if err != nil {
			return nil, runner.Failf(reasons[name], "engine.%s %w", name, err)
		}
		for _, path := range named {
			all[name+" "+path] = path
		}
	}
	return all, nil
}

// toolArgs returns the arguments of the tools, by their keys.
func (e *Engine) toolArgs() map[string][]string {
	return map[string][]string{"bench_args": e.cfg.BenchArgs, "quantize_args": e.cfg.QuantizeArgs, "evaluate_args": e.cfg.EvaluateArgs}
}

// arguments returns the settings that results depend on, and the environment as far as results
// depend on it: a PATH differs from terminal to terminal.
func (e *Engine) arguments() map[string]string {
	all := map[string]string{}
	for name, args := range e.toolArgs() {
		if len(args) > 0 {
			all[name] = fmt.Sprint(config.RedactArgs(args))
		}
	}
	for _, entry := range e.environment {
		name, value, _ := strings.Cut(entry, "=")
		if _, set := e.cfg.Env[name]; (set || steersTools(name)) && !config.SecretName(name) {
			all["env."+name] = shownValue(value)
		}
	}
	return all
}

// benchThreads returns how many threads a measurement uses; 0 when llama-bench decides.
func (e *Engine) benchThreads(gpu bool) int {
	if value, ok := option(e.cfg.BenchArgs, "-t", "--threads"); ok {
		threads, _ := strconv.Atoi(value) // llama-bench will complain
		return threads
	}
	layers, _ := option(e.cfg.BenchArgs, "-ngl", "--n-gpu-layers")
	device, _ := option(e.cfg.BenchArgs, "-dev", "--device")
	switch {
	case e.cfg.Threads > 0:
		return e.cfg.Threads
	case gpu && layers != "0" && device != "none":
		return 0
	default:
		return e.automatic.Measuring
	}
}

// matrices returns the path of the importance matrix of each model, with a placeholder; ""
// where all models have the same or none.
func (e *Engine) matrices() string {
	if !runner.PerModel(e.cfg.Imatrix) {
		return ""
	}
	return e.cfg.Imatrix
}

// imatrix returns the absolute path of the importance matrix of all models, "" when none is
// configured.
func (e *Engine) imatrix() (string, error) {
	if e.cfg.Imatrix == "" || e.matrices() != "" {
		return "", nil
	}
	path, err := runner.MatrixFile(e.cfg.Imatrix)
	if err != nil {
		return "", runner.Failf(runner.ReasonQuantize, "engine.imatrix: %w", err)
	}
	return path, nil
}

// command is one run of a tool on a job.
type command struct {
	operation
	program  binary
	args     []string
	dir      string
	nice     int
	cpus     []int // that it may run on; nil for all
	onStderr func(line string)
}

// run runs a tool to its end. The trace is filled in on failure too.
func (e *Engine) run(ctx context.Context, c command) (process.Result, runner.ToolRun, error) {
	e.logger.Debug("running", "tool", c.program.path, "args", config.RedactArgs(c.args), "dir", c.dir)
	c.confined = e.confines()
	result, err := process.Run(ctx, process.Spec{
		Path:        c.program.path,
		Args:        c.program.args(c.args...),
		Dir:         c.dir,
		Env:         e.environmentIn(c.dir),
		Confinement: e.confinement(c.program, c.args, c.dir),
		Timeout:     c.limit,
		Nice:        c.nice,
		CPUs:        c.cpus,
		StdoutLimit: outputLimit,
		OnStderr:    c.onStderr,
	})
	trace := e.ended(c, &result)
	e.logger.Debug("ran", "tool", c.tool, "wall", result.Wall.Round(time.Millisecond), "cpu", result.CPU.Round(time.Millisecond), "err", err)
	if err != nil {
		result.Stdout = []byte(config.HideArgs(string(result.Stdout), c.args))
		return result, trace, c.failure(ctx, result, err)
	}
	return result, trace, nil
}

// ended returns the trace of a tool that has ended, and takes the secrets among its arguments out
// of the last words that it has printed.
func (e *Engine) ended(c command, result *process.Result) runner.ToolRun {
	if result.Strays > 0 {
		e.logger.Warn("a tool left processes behind, which were ended", "tool", c.tool, "processes", result.Strays)
	}
	for i, line := range result.Tail {
		result.Tail[i] = config.HideArgs(line, c.args)
	}
	return runner.ToolRun{
		Args:    append([]string{c.tool}, config.RedactArgs(c.args)...),
		Wall:    result.Wall,
		CPUTime: result.CPU,
	}
}

// checkNames guards the tools' command lines: a name that looks like an option, or that
// llama-bench would split at its comma, must not get there.
func checkNames(names ...string) error {
	for _, name := range names {
		if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, "-") || strings.Contains(name, ",") {
			return fmt.Errorf("%q is not a safe file name for llama.cpp's command lines", name)
		}
	}
	return nil
}
