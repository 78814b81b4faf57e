// Command quant-exporter finds out, on the host it runs on, whether quantized copies
// of GGUF models are still worth serving.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
	"golang.org/x/term"

	"github.com/quant-exporter/quant-exporter/internal/calibrate"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/estimate"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/internal/workdir"
	"github.com/quant-exporter/quant-exporter/runner"
)

const (
	defaultConfigFile = "quant-exporter.yml"
	defaultTarget     = "Q2_K"
)

// Exit statuses of run, a contract.
const (
	exitKept         = 0
	exitError        = 1
	exitRejected     = 3
	exitInconclusive = 4
	exitFailed       = 5
)

func main() {
	os.Exit(mainStatus(os.Args[1:], os.Stdout, os.Stderr))
}

// mainStatus is the program, down to its exit status.
func mainStatus(args []string, stdout, stderr *os.File) int {
	ctx, stop := signalContext()
	defer stop()
	flags := newFlags(stdout)
	command, err := flags.app.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "quant-exporter: %v (quant-exporter --help lists commands and flags)\n", err)
		return exitError
	}
	status := exitKept
	p, err := flags.program(stdout, stderr)
	switch {
	case err != nil:
	case command == flags.run.command.FullCommand():
		status, err = p.run(ctx, flags.run)
	case command == flags.calibrate.command.FullCommand():
		err = p.calibrate(ctx, flags.calibrate)
	}
	if err != nil {
		p.progress.Clear()
		fmt.Fprintf(stderr, "quant-exporter: %s\n", report.Text(err.Error()))
		return exitError
	}
	return status
}

// signalContext is cancelled by the first signal that asks the process to end; the
// second one ends it at once, as it would without us.
func signalContext() (context.Context, context.CancelFunc) {
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, cancel)
	return ctx, cancel
}

// flags are the command line.
type flags struct {
	app         *kingpin.Application
	configFile  string
	modelDir    string
	llamaCppDir string
	workDir     string
	hostLock    string
	log         *promslog.Config
	threshold   threshold
	run         runFlags
	calibrate   calibrateFlags
}

// threshold as it was given; the environment serves every command.
type threshold struct {
	text   string
	byFlag bool // else by QUANT_THRESHOLD
}

func (t *threshold) flag(command *kingpin.CmdClause) {
	command.Flag("threshold", "Drop in throughput, a ratio, from which on a copy is rejected; default: 0.12.").
		Envar("QUANT_THRESHOLD").IsSetByUser(&t.byFlag).StringVar(&t.text)
}

type runFlags struct {
	command  *kingpin.CmdClause
	models   []string
	targets  []string
	previous string
	dryRun   bool
	verbose  bool
	output   string
	evidence bool
	noWait   bool
}

type calibrateFlags struct {
	command *kingpin.CmdClause
	model   string
	rounds  int
	threads []int
	output  string
	noWait  bool
}

func newFlags(stdout io.Writer) *flags {
	f := &flags{app: kingpin.New("quant-exporter", "Says, by measuring, whether quantized copies of GGUF models are still worth serving on this host."), log: new(promslog.Config)}
	f.app.UsageWriter(stdout)
	f.app.HelpFlag.Short('h')
	f.app.Version(version.Print("quant-exporter"))
	f.app.VersionFlag.Short('V')
	f.app.Flag("config.file", "Configuration file; optional.").Default(defaultConfigFile).StringVar(&f.configFile)
	f.app.Flag("model-dir", "Folder that is searched, recursively, for *.gguf.").Envar("MODEL_DIR").StringVar(&f.modelDir)
	f.app.Flag("llamacpp.dir", "Folder of llama-quantize and llama-bench; default: PATH.").Envar("LLAMA_CPP_DIR").StringVar(&f.llamaCppDir)
	f.app.Flag("work.dir", "Folder for the working directories of cycles; default: data/work.").StringVar(&f.workDir)
	f.app.Flag("host.lock", "Lock file that keeps measurements on this host from disturbing each other; default: "+host.DefaultLockPath()+".").StringVar(&f.hostLock)
	promslogflag.AddFlags(f.app, f.log)

	run := f.app.Command("run", "Run cycles now: quantize models, measure them against their originals, decide.")
	f.run.command = run
	run.Flag("model", "Model to take: a name, a glob or a path. Repeatable; default: all in the model folder.").StringsVar(&f.run.models)
	run.Flag("target", "Format to quantize to, one of those llama-quantize lists. Repeatable; default: "+defaultTarget+".").StringsVar(&f.run.targets)
	f.threshold.flag(run)
	run.Flag("previous", "The standing decision; a verdict that would change it is confirmed by a second set of rounds.").EnumVar(&f.run.previous, string(verdict.Kept), string(verdict.Rejected))
	run.Flag("dry-run", "Estimate sizes and drops from the file headers; start no tool, measure nothing.").Envar("DRY_RUN").BoolVar(&f.run.dryRun)
	run.Flag("verbose", "Log what is done, and the models that are passed over, with reasons.").BoolVar(&f.run.verbose)
	run.Flag("output", "text: a table. json: one object a line.").Default("text").EnumVar(&f.run.output, "text", "json")
	run.Flag("evidence", "With --output json: add everything that the decision rests on.").BoolVar(&f.run.evidence)
	run.Flag("no-wait", "Fail at once when another measurement runs on this host, instead of waiting for it.").BoolVar(&f.run.noWait)

	cal := f.app.Command("calibrate", "Measure a model against itself, and say which drop this host can tell from none.")
	f.calibrate.command = cal
	cal.Arg("model", "A name, a glob that fits one model, or a path.").Required().StringVar(&f.calibrate.model)
	cal.Flag("rounds", "Rounds for each number of threads, 4 to 100.").Default("8").IntVar(&f.calibrate.rounds)
	cal.Flag("threads", "Number of threads to try. Repeatable; default: one, half of the cores, all but one, all.").IntsVar(&f.calibrate.threads)
	f.threshold.flag(cal)
	cal.Flag("output", "text: a table. json: one object.").Default("text").EnumVar(&f.calibrate.output, "text", "json")
	cal.Flag("no-wait", "Fail at once when another measurement runs on this host, instead of waiting for it.").BoolVar(&f.calibrate.noWait)
	return f
}

// program is what the commands share: the configuration with the flags applied, and
// where to write.
type program struct {
	config   *config.Config
	hostLock string
	topology host.Topology
	hardware host.Hardware
	stdout   *os.File
	progress *report.Progress
	logger   *slog.Logger
}

func (f *flags) program(stdout, stderr *os.File) (*program, error) {
	p := &program{
		hostLock: f.hostLock,
		stdout:   stdout,
		progress: report.NewProgress(stderr, int(stderr.Fd())),
	}
	f.log.Writer = p.progress
	p.logger = promslog.New(f.log)
	if f.run.verbose {
		if err := f.log.Level.Set("debug"); err != nil {
			return p, err
		}
	}
	var err error
	if p.config, err = f.loadConfig(); err != nil {
		return p, err
	}
	p.topology = host.ReadTopology()
	p.hardware = host.ReadHardware(p.topology)
	return p, nil
}

// loadConfig reads the configuration file, which only has to be there when it was
// asked for, and lets the flags have their way.
func (f *flags) loadConfig() (*config.Config, error) {
	c, err := config.Load(f.configFile)
	if errors.Is(err, fs.ErrNotExist) && f.configFile == defaultConfigFile {
		defaults := config.Default()
		c, err = &defaults, nil
	}
	if err != nil {
		return nil, err
	}
	override(&c.Models.Dir, f.modelDir)
	override(&c.Engine.Dir, f.llamaCppDir)
	override(&c.Work.Dir, f.workDir)
	if t := f.threshold; t.text != "" || t.byFlag {
		source := "QUANT_THRESHOLD"
		if t.byFlag {
			source = "--threshold"
		}
		if c.Threshold, err = config.ParseThreshold(source, t.text); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func override(key *string, flag string) {
	if flag != "" {
		*key = flag
	}
}

// run is the command `run`: cycles now, one after the other.
func (p *program) run(ctx context.Context, f runFlags) (int, error) {
	if f.evidence && f.output != "json" {
		return exitError, errors.New("--evidence goes with --output json: a table has no room for it")
	}
	begin := time.Now()
	models, err := p.models(f.models)
	if err != nil {
		return exitError, err
	}
	p.logger.Debug("found models", "count", len(models), "took", time.Since(begin))
	if len(f.targets) == 0 {
		f.targets = []string{defaultTarget}
	}
	if f.dryRun {
		return p.estimate(models, f)
	}
	r := p.runner(p.engine(p.config.Engine.Threads), f.noWait)
	formats, err := r.Formats(ctx, f.targets)
	switch {
	case err == nil:
		f.targets = formats
	case !errors.As(err, new(*runner.Failure)): // that, every cycle will say
		return exitError, err
	}
	if err := p.prepare(ctx, f.noWait); err != nil {
		return exitError, err
	}
	var worst outcomes
	for _, model := range models {
		var results []runner.Result
		var busy *host.HeldError // only with --no-wait
		var writeErr error
		r.Run(ctx, runner.Request{
			Model:     model,
			Targets:   f.targets,
			Benchmark: p.config.Benchmark,
			Threshold: p.config.Threshold,
			OrderSeed: rand.Uint64(),
			Previous:  func(string) verdict.Outcome { return verdict.Outcome(f.previous) },
			Progress:  p.progress.Show,
		}, func(result runner.Result) {
			if result.Failure != nil && errors.As(result.Failure, &busy) {
				return
			}
			worst.add(&result)
			results = append(results, result)
			if f.output == "json" {
				p.progress.Clear()
				writeErr = errors.Join(writeErr, report.JSONLine(p.stdout, &result, event.Origin{Host: p.hardware.Host}, f.evidence))
			}
		})
		p.progress.Clear()
		if busy != nil {
			return exitError, busy
		}
		if f.output == "text" {
			writeErr = report.Table(p.stdout, inOrder(results, f.targets), p.colored())
		}
		if writeErr != nil {
			return exitError, fmt.Errorf("writing the result: %w", writeErr)
		}
		if ctx.Err() != nil { // the other models were not even begun
			break
		}
	}
	return worst.status(), nil
}

// estimate is `run --dry-run`: nothing is started, measured, stored or published.
func (p *program) estimate(models []runner.Model, f runFlags) (int, error) {
	load := estimate.Workload{GenerationTokens: p.config.Benchmark.GenerationTokens, Depth: p.config.Benchmark.Depth}
	var worst outcomes
	for _, model := range models {
		if model.Err != nil {
			if err := p.unusable(model, f, &worst); err != nil {
				return exitError, err
			}
			continue
		}
		var estimates []estimate.Estimate
		for _, target := range f.targets {
			e, err := load.Of(model.Header, target)
			if err != nil {
				return exitError, fmt.Errorf("estimating %s of %s: %w", target, model.Name, err)
			}
			estimates = append(estimates, e)
		}
		write := report.EstimateTable
		if f.output == "json" {
			write = report.EstimateLines
		}
		if err := write(p.stdout, model, estimates, p.config.Threshold); err != nil {
			return exitError, fmt.Errorf("writing the estimate: %w", err)
		}
	}
	return worst.status(), nil
}

// unusable reports a model that cannot even be estimated, as a cycle would.
func (p *program) unusable(model runner.Model, f runFlags, worst *outcomes) error {
	var results []runner.Result
	for _, target := range f.targets {
		result := runner.Result{Model: model.Name, TargetFormat: target, Failure: runner.AsFailure(model.Err)}
		worst.add(&result)
		results = append(results, result)
		if f.output == "json" {
			if err := report.JSONLine(p.stdout, &result, event.Origin{}, false); err != nil {
				return fmt.Errorf("writing the result: %w", err)
			}
		}
	}
	if f.output == "json" {
		return nil
	}
	return report.Table(p.stdout, results, p.colored())
}

// calibrate is the command `calibrate`.
func (p *program) calibrate(ctx context.Context, f calibrateFlags) error {
	models, err := p.models([]string{f.model})
	if err != nil {
		return err
	}
	if len(models) != 1 {
		return fmt.Errorf("%q fits %d models: name one", f.model, len(models))
	}
	if err := models[0].Err; err != nil {
		return err
	}
	for _, problem := range p.calibrated(1).Validate() {
		return fmt.Errorf("calibrate sets the number of threads: %w", problem.Err)
	}
	if err := p.prepare(ctx, f.noWait); err != nil {
		return err
	}
	threads := f.threads
	if len(threads) == 0 {
		threads = calibrate.DefaultThreads(p.topology.Usable())
	}
	found, err := calibrate.Run(ctx, calibrate.Options{
		Model:     models[0],
		Rounds:    f.rounds,
		Threads:   threads,
		Benchmark: p.config.Benchmark,
		Threshold: p.config.Threshold,
		Runner:    func(threads int) *runner.Runner { return p.runner(p.engine(threads), f.noWait) },
		Progress:  p.progress.Show,
	})
	p.progress.Clear()
	if err != nil {
		return err
	}
	if f.output == "json" {
		return found.WriteJSON(p.stdout)
	}
	return found.WriteText(p.stdout)
}

// models finds what the patterns name.
func (p *program) models(patterns []string) ([]runner.Model, error) {
	if p.config.Models.Dir == "" && len(patterns) == 0 {
		return nil, errors.New("which models? Name the folder that holds them with --model-dir (or MODEL_DIR, or models.dir in the configuration file), or single files with --model PATH")
	}
	found, err := runner.Discover(p.config.Models.Dir, p.config.Models.AllowRequantize, p.logger)
	if err != nil {
		return nil, err
	}
	return found.Select(patterns)
}

// calibrated is the engine's configuration with a number of threads.
func (p *program) calibrated(threads int) llamacpp.Config {
	c := p.config.Engine
	c.Threads = threads
	return c
}

func (p *program) engine(threads int) runner.Engine {
	return llamacpp.New(p.calibrated(threads), host.BenchmarkThreads(p.topology.Usable()), p.logger)
}

func (p *program) runner(engine runner.Engine, noWait bool) *runner.Runner {
	lock := host.NewLock(p.hostLock)
	return runner.New(engine, runner.Options{
		WorkDir:         p.config.Work.Dir,
		Isolation:       p.config.Work.Isolation,
		AllowRequantize: p.config.Models.AllowRequantize,
		Hardware:        p.hardware.String(),
		Lock: func(ctx context.Context, waiting func(string)) (func(), error) {
			return lock.Acquire(ctx, !noWait, func(holder host.Holder) {
				waiting("another measurement on this host: " + holder.String())
				p.logger.Warn("another measurement runs on this host: waiting for it to end (--no-wait would give up)", "pid", holder.PID, "since", holder.Since)
			})
		},
		Observer: observer{host.NewLoad(p.topology), p.topology.Cores},
		WaitIdle: p.waitIdle,
		Logger:   p.logger,
	})
}

// observer lets the runner see the load of the host.
type observer struct {
	load  *host.Load
	cores int
}

// Observe implements runner.Observer.
func (o observer) Observe() func(ours time.Duration, threads int) *runner.Load {
	before, begin := o.load.Read(), time.Now()
	return func(ours time.Duration, threads int) *runner.Load {
		d, ok := host.Disturb(before, o.load.Read(), time.Since(begin), ours, o.cores, threads)
		if !ok {
			return nil
		}
		return &runner.Load{Others: d.Others, Steal: d.Steal, Share: d.Share}
	}
}

func (p *program) waitIdle(ctx context.Context, limit time.Duration) error {
	idle, err := host.WaitIdle(ctx, host.NewLoad(p.topology).Read, host.DefaultIdle(limit), nil)
	if err == nil && !idle {
		p.logger.Warn("the host did not become idle in the time given: measuring regardless", "wait_idle", limit)
	}
	return err
}

// prepare sees that the measurement lock and the working folder can be used at all, and
// removes from that what killed processes left.
func (p *program) prepare(ctx context.Context, noWait bool) error {
	release, err := host.NewLock(p.hostLock).Acquire(ctx, false, nil)
	switch held := new(host.HeldError); {
	case err == nil:
		release()
	case noWait || !errors.As(err, &held):
		return err
	}
	removed, err := workdir.Sweep(p.config.Work.Dir)
	for _, dir := range removed {
		p.logger.Info("removed the working directory of a process that was killed", "dir", dir)
	}
	if err != nil {
		p.logger.Warn("could not clear the working folder of what killed processes left", "dir", p.config.Work.Dir, "err", err)
	}
	dir, err := workdir.Create(p.config.Work.Dir)
	if err == nil {
		err = dir.Remove()
	}
	if err != nil {
		return fmt.Errorf("the working folder %q cannot be used: %w: name another with --work.dir", p.config.Work.Dir, err)
	}
	return nil
}

func (p *program) colored() bool {
	return term.IsTerminal(int(p.stdout.Fd())) && os.Getenv("NO_COLOR") == ""
}

// inOrder sorts results as their targets were named.
func inOrder(results []runner.Result, targets []string) []runner.Result {
	var sorted []runner.Result
	for _, target := range targets {
		for _, r := range results {
			if r.TargetFormat == target {
				sorted = append(sorted, r)
			}
		}
	}
	return sorted
}

// outcomes remembers the worst of what happened.
type outcomes struct{ failed, rejected, inconclusive bool }

func (o *outcomes) add(r *runner.Result) {
	switch {
	case r.Failure != nil:
		o.failed = true
	case r.Verdict.Outcome == verdict.Rejected:
		o.rejected = true
	case r.Verdict.Outcome == verdict.Inconclusive:
		o.inconclusive = true
	}
}

// status is the exit status, in the contract's order of badness.
func (o *outcomes) status() int {
	switch {
	case o.failed:
		return exitFailed
	case o.rejected:
		return exitRejected
	case o.inconclusive:
		return exitInconclusive
	default:
		return exitKept
	}
}
