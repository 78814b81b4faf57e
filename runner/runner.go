// Package runner takes one model through one cycle: isolate, quantize, measure,
// decide.
//
// The model is cloned into a working directory of the cycle's own and never written
// to. It is the original of the cycle or, where a baseline is asked for, a copy of it in
// that format is, made once. Every target of the cycle is quantized there, or a file that
// exists already is cloned in as the copy to judge, and its quality evaluated where that
// is asked for (see package quality); then original and copies are measured in paired
// rounds, until the verdict on each pair is in (see package verdict). A round pairs
// every copy that is still undecided with the original: in memory together, in bursts that
// take turns, or one measured after the other, within minutes and under the same conditions.
// A copy over a limit of quality is rejected at its first look, which gives the figures of its
// throughput. The same inputs give the same quality, so that no second set of rounds has to
// confirm it; and it comes first: it is the gate also where throughput would have rejected the
// copy, too. A copy that takes more memory than it may is rejected after its first round.
// Nothing but measurements makes a decision: whatever goes wrong ends a pair as a
// [Failure] with a reason.
//
// Where one of the targets is to be chosen (see package choice), those are passed over that
// could not be chosen any more, whatever they are. The order in which the rule itself
// puts them says which: the smallest copy that is kept is smaller than all that were not
// looked at, and the best that is kept better than all that were not measured. That a
// larger copy is a better one is never taken for granted. What may end the search goes
// through rounds as a group: the candidate, and the copies over a limit of quality that
// come before it, up to their first look. When it is not kept, the next group has rounds,
// and measurements of the original, of its own, so that each pair is compared within its
// rounds as ever.
//
// What a cycle needs of the rest of the program (an engine, the host's measurement
// lock, its load) it is given as interfaces and functions in [Options].
package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// Options are what all cycles of a Runner have in common.
type Options struct {
	// WorkDir is the directory in which each cycle makes its own.
	WorkDir string
	// Isolation says how a model gets into the working directory.
	Isolation disk.Mode
	// Clone brings a file into a working directory. Nil: disk.Clone does.
	Clone func(ctx context.Context, mode disk.Mode, src, dst string, progress func(done, total int64)) (disk.Mode, error)
	// DropCache has a file read from the disk when it is read next. Nil: disk.DropCache does.
	DropCache func(path string) error
	// AllowRequantize lets models be quantized that are quantized already.
	AllowRequantize bool
	// Host is the machine. Nil: nothing is known about it.
	Host Host
	// Hashes remember what files hold. Nil: each cycle reads them.
	Hashes Hashes
	// Cache keeps what cycles made. Nil: each cycle makes everything again.
	Cache Cache
	// Lock is what a cycle has while it measures. Nil: none.
	Lock   Lock
	Logger *slog.Logger
}

// Lock lets one process of a host measure at a time: see disk.Lock.
type Lock interface {
	Acquire(ctx context.Context, wait bool, waiting func(disk.Holder)) (release func(), err error)
}

// Host is the machine that measurements run on: see host.Host.
type Host interface {
	// String describes the machine, for the evidence.
	String() string
	// Machine describes what of the machine decisions depend on.
	Machine() string
	// Driver names the kernel and the drivers of GPUs as they are at the moment.
	Driver() string
	// Observe begins to watch the load. The function it returns ends that, given the CPU
	// time which the measurement itself used and its number of threads, and returns what
	// others took; nil if the system does not report it.
	Observe() func(ours time.Duration, threads int) *host.Load
	// WaitIdle waits for the host to be idle, for at most limit, and reports whether it
	// became so.
	WaitIdle(ctx context.Context, limit time.Duration) (idle bool, err error)
	// Pin gives the logical CPUs for the n-th measurement with so many threads; nil where the
	// system is to choose.
	Pin(threads, n int) []int
	// FreeMemory is how many bytes are free for measurements; 0 where that is not known.
	FreeMemory() int64
}

// unknownHost is the Host of which nothing is known.
type unknownHost struct{}

func (unknownHost) String() string  { return "" }
func (unknownHost) Machine() string { return "" }
func (unknownHost) Driver() string  { return "" }
func (unknownHost) Observe() func(time.Duration, int) *host.Load {
	return func(time.Duration, int) *host.Load { return nil }
}
func (unknownHost) WaitIdle(context.Context, time.Duration) (bool, error) { return true, nil }
func (unknownHost) Pin(int, int) []int                                    { return nil }
func (unknownHost) FreeMemory() int64                                     { return 0 }

// Request is one cycle.
type Request struct {
	Model   model.Model
	Targets []string // formats, and names of recipes; see Formats
	// Against is a file that exists, to be measured in place of a copy that is made: see
	// model.Found.File. Targets then has nothing but its format. Nil: copies are made.
	Against *model.Model
	// Requantize lets the model be quantized although it is quantized already, as
	// Options.AllowRequantize does for all models.
	Requantize bool
	config.Settings
	// OrderSeed seeds the coins that choose the order of the stages in every two rounds: see
	// verdict.QuantizedFirst. Give each cycle its own.
	OrderSeed uint64
	// PassedOver is called at most once, with the targets that the cycle passes over because
	// by is chosen before them whatever they are: see the package. They have no result.
	// May be nil.
	PassedOver func(by string, targets []string)
	// Previous gives the standing decision of a target, "" for none. Nil: none
	// stands.
	Previous func(target string) verdict.Outcome
	// Chosen is the target that stands as chosen by the rule of Settings; "" when none does.
	Chosen string
	// Progress receives what the cycle does; it must not block. May be nil.
	Progress func(Progress)
	// Finish is called once, after the last result of a cycle that got as far as measuring,
	// even if it failed or was canceled, while the copies and the measurement lock are still
	// the cycle's. It must end soon after its context. Nil if nobody wants the copies.
	Finish func(ctx context.Context, finished Finished)
}

// Runner runs cycles on one engine. It may be used by several goroutines, as far as
// its engine may; the measurement lock makes their cycles wait for each other.
type Runner struct {
	engine Engine
	Options
}

// New makes a Runner.
func New(engine Engine, options Options) *Runner {
	if options.Clone == nil {
		options.Clone = disk.Clone
	}
	if options.DropCache == nil {
		options.DropCache = disk.DropCache
	}
	if options.Host == nil {
		options.Host = unknownHost{}
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	return &Runner{engine: engine, Options: options}
}

// Formats gives the targets the names by which results will call them: the recipe's name, or
// the engine's own spelling of a format, aliases resolved. The error is a *Failure when the engine cannot be asked,
// any other when a target cannot be made.
func Formats(ctx context.Context, engine Engine, targets []string, recipes config.Recipes) ([]string, error) {
	info, err := engine.Probe(ctx)
	if err != nil {
		return nil, AsFailure(fmt.Errorf("looking at the engine: %w", err))
	}
	formats, errs := resolveFormats(info, targets, recipes)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = f.Name
		if recipe := recipes.Of(targets[i]); recipe != nil {
			names[i] = recipe.Name
		}
	}
	return names, nil
}

// Run runs one cycle to its end and hands every pair's result to emit, in the order in which
// they are decided: once for each target, even if the whole cycle fails, except for the
// targets that Request.PassedOver gets. It returns when all results are emitted and the
// working directory is removed.
func (r *Runner) Run(ctx context.Context, req Request, emit func(Result)) {
	c := newCycle(r, req, emit)
	if err := c.run(ctx); err != nil {
		c.failUndecided(err)
	}
}

// cycle is the state of one Run.
type cycle struct {
	*Runner
	Request
	emit func(Result)

	started        time.Time
	isolating      time.Duration
	benchmarkBegan time.Time                // of the group that is measured; zero between two
	benchmarked    time.Duration            // groups before it
	turn           int                      // of the order of stages: see measuring
	corpus         CorpusID                 // of the text; zero before it is brought in
	predicted      map[int]*QualityEvidence // what the original predicts in so many chunks
	evaluated      time.Duration            // spent on evaluations so far
	info           EngineInfo
	inputs         *Inputs             // nil before they are found
	contents       map[string]string   // SHA-256 of the files of the model, by path, as far as they were read
	imatrix        string              // path of the model's own importance matrix; "" for the engine's, or none
	dir            string              // the working directory
	exposed        bool                // a hard link to the model lies where confined tools may write
	shelter        *disk.Dir           // for hard links to models, beside it; nil while there are none
	watch          map[string]*watched // the files of the model that tools may write to, by path
	source         string              // base name in dir of the model's first file
	isolation      string              // how the model got there
	method         config.Method       // of the rounds; "" before the first group is measured
	methodReason   string              // why that is not the paired one; "" where nothing had to be decided
	atOnce         int                 // files that a paired round of the group has at most; 0 for all
	mostAtOnce     int                 // likewise of any group, because more have failed to load; 0 for all
	brought        map[string]*held    // files in dir that all pairs rest on, by name
	afresh         bool                // the original is read anew from the disk: see readAfresh
	original       string              // base name in dir of the original's first file: the model's, or the baseline's
	baseline       *pair               // of which only the making is used; nil where the model is the original
	pairs          []*pair
}

// pair is one target of the cycle.
type pair struct {
	target string // as it was asked for
	format Format
	recipe *config.Recipe // nil for a plain format
	matrix string         // path of the recipe's importance matrix; "" for the cycle's
	file   string         // base name in the working directory
	held                  // the copy as it was made; zero before
	size   int64          // bytes that the copy will have; 0 while only a bound is known

	quantized   FileFigures
	quantizing  time.Duration
	quantizeRun ToolRun
	reused      string // SHA-256 of a copy that an earlier cycle made; "" when this one did

	quality    *Evaluated // nil before, and where it is not asked for
	evidence   *QualityEvidence
	evaluating time.Duration // all evaluations up to the end of this one

	previous verdict.Outcome
	set      int             // which set of rounds is being measured: 1 or 2
	counted  []verdict.Round // of this set
	rounds   []Round         // of both, repeated ones included
	repeats  int             // of the round that is being repeated
	verdicts []verdict.Verdict

	done    bool
	outcome verdict.Outcome // "" where it did not end with a verdict
	failure *Failure        // why it ended, if not with one
}

func newCycle(r *Runner, req Request, emit func(Result)) *cycle {
	if req.Progress == nil {
		req.Progress = func(Progress) {}
	}
	if req.Against != nil { // whose identity the cycle renews
		against := *req.Against
		req.Against = &against
	}
	c := &cycle{Runner: r, Request: req, emit: emit, started: time.Now(), contents: map[string]string{}}
	for _, target := range req.Targets {
		p := &pair{target: target, set: 1}
		if req.Previous != nil {
			p.previous = req.Previous(target)
		}
		c.pairs = append(c.pairs, p)
	}
	return c
}

func (c *cycle) run(ctx context.Context) error {
	if err := c.usable(); err != nil {
		return err
	}
	return c.prepared(ctx, func() error {
		if err := c.makeBaseline(ctx); err != nil {
			return err
		}
		if err := c.decideAll(ctx); err != nil {
			c.failUndecided(err)
		}
		c.finish(ctx)
		return nil
	})
}

// prepared does the work with the host to itself, the engine looked at and the
// model in a working directory, which is gone afterwards whatever happens.
func (c *cycle) prepared(ctx context.Context, work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.Logger.Error("a cycle panicked", "model", c.Model.Name, "panic", p, "stack", string(debug.Stack()))
			err = Failf(ReasonInternal, "this is a defect of quant-exporter, please report it with the log: %v", p)
		}
	}()
	release, err := c.waitForHost(ctx)
	if err != nil {
		return err
	}
	defer release()
	c.started = time.Now()

	if err := c.withinContext(); err != nil {
		return err
	}
	if c.info, err = c.engine.Probe(ctx); err != nil {
		return fmt.Errorf("looking at the engine: %w", err)
	}
	if err := c.pairsFurther(); err != nil {
		return err
	}
	c.ownMatrix()
	if c.resolveTargets(); len(c.pairs) > 0 && len(c.undecided()) == 0 {
		return nil
	}
	if err := c.resolveBaseline(); err != nil {
		return err
	}
	dir, err := disk.NewDir(c.WorkDir)
	if err != nil {
		return fmt.Errorf("making a working folder in %s: %w", c.WorkDir, spaceFailure(err))
	}
	defer func() {
		c.removed(dir)
		if c.shelter != nil {
			c.removed(c.shelter)
		}
		c.dir, c.shelter = "", nil
	}()
	c.dir = dir.Path()
	if err = c.isolate(ctx); err == nil {
		err = work()
	}
	return c.refused(err)
}

// waitForHost takes the measurement lock.
func (c *cycle) waitForHost(ctx context.Context) (release func(), err error) {
	if c.Lock == nil {
		return func() {}, nil
	}
	return c.Lock.Acquire(ctx, true, func(holder disk.Holder) {
		c.Progress(Progress{Model: c.Model.Name, Operation: OperationWait, Detail: "another measurement on this host: " + holder.String()})
		c.Logger.Warn("another measurement is running on this host: waiting for it to end", "holder", holder.String())
	})
}

// resolveTargets gives every pair its format. A pair without one fails by itself.
func (c *cycle) resolveTargets() {
	if c.Against != nil { // whatever its format, nobody has to make it
		return
	}
	formats, errs := resolveFormats(c.info, c.Targets, c.Recipes)
	for i, p := range c.pairs {
		err := errs[i]
		if p.recipe = c.Recipes.Of(p.target); p.recipe != nil && err == nil {
			p.matrix, err = recipeMatrix(p.recipe, c.Model)
		}
		if err != nil {
			c.fail(p, Failf(ReasonQuantize, "%w", err))
			continue
		}
		p.format = formats[i]
		p.file = formats[i].Name + ".gguf"
		if p.recipe != nil {
			p.file = "recipe-" + p.recipe.Name + ".gguf"
		}
	}
}

// undecided returns the pairs that are still worked on, or will be.
func (c *cycle) undecided() []*pair { return undecided(c.pairs) }

func undecided(pairs []*pair) []*pair {
	var open []*pair
	for _, p := range pairs {
		if !p.done {
			open = append(open, p)
		}
	}
	return open
}

// fail ends one pair.
func (c *cycle) fail(p *pair, err error) {
	failure := AsFailure(c.refused(err))
	c.dropFailed(p, failure.Reason)
	result := c.result(p)
	result.Failure = failure
	p.done, p.failure = true, failure
	c.emit(result)
}

func (c *cycle) failUndecided(err error) {
	for _, p := range c.undecided() {
		c.fail(p, err)
	}
}

// decide ends one pair with its verdict.
func (c *cycle) decide(p *pair, v verdict.Verdict, unconfirmed bool) {
	result := c.result(p)
	result.Verdict = &v
	if phase, measured := v.Primary(); measured {
		result.Speeds = speeds(p.rounds, p.set, phase.Phase)
	}
	result.Unconfirmed = unconfirmed
	p.done, p.outcome = true, v.Outcome
	c.emit(result)
}

func (c *cycle) result(p *pair) Result {
	now := time.Now()
	original := c.originalFigures()
	benchmarking := c.benchmarked
	if !c.benchmarkBegan.IsZero() {
		benchmarking += now.Sub(c.benchmarkBegan)
	}
	result := Result{
		Model:        c.Model.Name,
		SourceFormat: c.sourceFormat(),
		TargetFormat: p.target,
		Quality:      p.quality,
		Memory:       memoryFigures(p.rounds, c.MaxMemory),
		Previous:     p.previous,
		Threshold:    c.Threshold,
		Original:     original,
		Quantized:    p.quantized,
		Started:      c.started,
		Finished:     now,
		Durations: map[Operation]time.Duration{
			OperationIsolate:   c.isolating,
			OperationQuantize:  c.makingBaseline() + p.quantizing,
			OperationBenchmark: benchmarking,
			OperationTotal:     now.Sub(c.started),
		},
		Evidence: Evidence{
			Model:        c.Model.Name,
			Source:       c.Model.IDs,
			Target:       p.target,
			Previous:     p.previous,
			Engine:       c.info,
			Hardware:     c.Host.String(),
			Benchmark:    c.Benchmark,
			Decision:     c.Benchmark.Decision(c.Threshold),
			MaxMemory:    c.MaxMemory,
			Isolation:    c.isolation,
			Method:       c.method,
			MethodReason: c.methodReason,
			Baseline:     c.baselineEvidence(),
			Quantize:     p.quantizeRun,
			Reused:       p.reused,
			Quality:      p.evidence,
			Rounds:       p.rounds,
			Verdicts:     p.verdicts,
		},
		Inputs: c.inputsOf(p),
	}
	if c.Against != nil {
		result.Against, result.Evidence.Against = c.Against.Name, c.Against.IDs
	}
	if p.recipe != nil {
		result.Recipe = c.recipeOf(p)
	}
	if c.Quality.Enabled() {
		result.Durations[OperationEvaluate] = p.evaluating
	}
	return result
}
