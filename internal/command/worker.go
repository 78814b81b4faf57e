package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

type workerFlags struct {
	class string
	once  bool
}

func (f *workerFlags) flags(app *kingpin.Application) {
	worker := app.Command("worker", "Take cycles of a fleet that are for this class of hardware, and run them on this host.")
	worker.Flag("class", "Class of hardware whose cycles are taken. Default: the name of the GPU, else of the CPU.").PlaceHolder("NAME").Envar("QUANT_CLASS").StringVar(&f.class)
	worker.Flag("once", "Take one cycle, and exit when it is over.").BoolVar(&f.once)
}

// Worker is the command `worker`: it takes cycles of a fleet until the context ends.
func (p *Program) Worker(ctx context.Context) error {
	c := p.Config
	if !c.Fleet.Enabled() {
		return fmt.Errorf("there is no fleet to take cycles from: give the URL of its Redis as fleet.url in %s", p.flags.ConfigFile)
	}
	if c.Models.Dir == "" {
		return model.ErrNoModels
	}
	release, err := p.Prepare(ctx, false)
	if err != nil {
		return err
	}
	release()
	state, err := p.OpenStore("give this worker a --storage.path of its own")
	if err != nil {
		return err
	}
	defer func() { _ = state.Close() }()
	files, err := p.OpenCache(ctx, c)
	if err != nil {
		return err
	}
	w := &fleetHost{Program: p, memory: Memory{Hashes: state, Cache: files}}
	class := p.flags.worker.class
	if class == "" {
		class = w.class(ctx)
	}
	if err := config.CheckClass(class); err != nil {
		return fmt.Errorf("--class: %w", err)
	}
	worker, err := fleet.NewWorker(fleet.WorkerOptions{
		Config: c.Fleet, Secrets: fleet.SecretsOf(os.Getenv), Class: class, Host: p.Host.Name, Version: version.Version,
		Engine: w.engineName, Do: w.do, Logger: p.Logger,
	})
	if err != nil {
		return err
	}
	p.Logger.Info("taking cycles", "class", class, "fleet", c.Fleet.Redacted().URL, "once", p.flags.worker.once)
	return worker.Run(ctx, p.flags.worker.once)
}

// fleetHost does cycles of a fleet on this host.
type fleetHost struct {
	*Program
	memory Memory
}

func (w *fleetHost) engineName(ctx context.Context) (string, error) {
	info, err := w.engine(w.Config.Engine, slog.New(slog.DiscardHandler)).Probe(ctx)
	if err != nil {
		return "", err
	}
	return info.String(), nil
}

// class returns what this host's hardware is called: its first accelerator, in the spelling of
// the label nvidia.com/gpu.product, else its CPU.
func (w *fleetHost) class(ctx context.Context) string {
	info, err := w.engine(w.Config.Engine, w.Logger).Probe(ctx)
	if err == nil && info.Devices != "" {
		for device := range strings.SplitSeq(info.Devices, ", ") {
			if kind, name, found := strings.Cut(device, ": "); found && kind != "BLAS" {
				return safeClass(name)
			}
		}
	}
	return safeClass(w.Host.CPU)
}

var unsafeInClass = regexp.MustCompile(`[^A-Za-z0-9._]+`)

// safeClass makes a name of hardware one that a class can have.
func safeClass(name string) string {
	name = strings.NewReplacer("(R)", "", "(TM)", "", "(C)", "").Replace(name)
	name = strings.Trim(unsafeInClass.ReplaceAllString(name, "-"), "-._")
	return strings.TrimRight(name[:min(len(name), 63)], "-._")
}

// do does the cycle of a task.
func (w *fleetHost) do(ctx context.Context, task fleet.Task, out *fleet.Report) {
	logger := slog.New(tee{w.Logger.Handler(), slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})})
	task.Requantize = task.Requantize && w.Config.Models.AllowRequantize // both have to allow it
	request := runner.Request{
		Model: model.Model{Name: task.Model}, Targets: task.Targets, Requantize: task.Requantize, Settings: task.Settings, OrderSeed: task.OrderSeed,
		Chosen: task.Chosen, Previous: func(target string) verdict.Outcome { return task.Standing[target] },
		PassedOver: out.PassedOver, Progress: out.Progress,
	}
	undecided := slices.Clone(task.Targets)
	emit := func(r runner.Result) {
		undecided = slices.DeleteFunc(undecided, func(target string) bool { return target == r.TargetFormat })
		if r.Inputs != nil {
			if other := w.another(&task, *r.Inputs); other != nil {
				r.Verdict, r.Quality, r.Unconfirmed, r.Inputs, r.Failure = nil, nil, false, nil, runner.AsFailure(other)
			}
		}
		out.Result(r)
	}
	failure := cycle.Guard(logger, func() {
		found, err := w.find(&task)
		if err == nil {
			request.Model = found
			err = w.files(&request.Settings)
		}
		r := w.Runner(w.Config, w.engine(task.Engine.Over(w.Config.Engine), logger), false, w.memory, logger)
		if task.AskFresh {
			inputs := fleet.Inputs{}
			if err == nil {
				inputs, err = w.inputs(ctx, r, &task, request, logger)
			} else {
				inputs.Cannot = err.Error()
			}
			fresh, _ := out.Fresh(ctx, inputs) // else the cycle ends
			request.Targets = slices.DeleteFunc(slices.Clone(request.Targets), func(target string) bool { return slices.Contains(fresh, target) })
			undecided = slices.Clone(request.Targets)
		}
		switch {
		case len(request.Targets) == 0:
		case err != nil:
			failUndecided(request, undecided, runner.AsFailure(err), emit)
		default:
			r.Run(ctx, request, emit)
		}
	})
	if failure != nil {
		failUndecided(request, undecided, failure, emit)
	}
}

// inputs finds what a cycle depends on here; where that cannot be found out, it is zero, which is
// like no other. The error says that the model is not the coordinator's.
func (w *fleetHost) inputs(ctx context.Context, r *runner.Runner, task *fleet.Task, request runner.Request, logger *slog.Logger) (fleet.Inputs, error) {
	if err := request.Model.Err; err != nil { // its cycle says so, too
		return fleet.Inputs{Cannot: err.Error()}, nil
	}
	inputs, err := r.Inputs(ctx, request)
	if err != nil {
		logger.Debug("cannot find out whether the inputs have changed", "err", err)
		return fleet.Inputs{}, nil
	}
	if err := w.another(task, inputs); err != nil {
		return fleet.Inputs{Cannot: err.Error()}, err
	}
	return fleet.Inputs{Inputs: inputs}, nil
}

// another returns an error if the model that a cycle depends on here has other content than the
// coordinator's, as far as both know it.
func (w *fleetHost) another(task *fleet.Task, inputs runner.Inputs) error {
	if task.SHA256 == "" || inputs.Source == "" || inputs.Source == task.SHA256 {
		return nil
	}
	return runner.Failf(runner.ReasonBadModel, "the model on %s is another file than the coordinator's, by their SHA-256 (%.12s and %.12s): give all hosts of the fleet the same models",
		w.Host.Name, inputs.Source, task.SHA256)
}

// find returns the model of a task: one that is found in this worker's model folder, by its
// name there. Nothing else is looked for, so that no name leaves the folder.
func (w *fleetHost) find(task *fleet.Task) (model.Model, error) {
	found, err := model.Discover(w.Config.Models.Dir, task.Requantize, w.Logger, w.Config.OwnDirs()...)
	if err != nil {
		return model.Model{}, err
	}
	i := slices.IndexFunc(found.Models, func(m model.Model) bool { return m.Name == task.Model })
	if i < 0 {
		for _, skipped := range found.Skipped {
			if skipped.Name == task.Model {
				return model.Model{}, runner.Failf(runner.ReasonBadModel, "%s on %s: %s", skipped.Name, w.Host.Name, skipped.Reason)
			}
		}
		return model.Model{}, runner.Failf(runner.ReasonBadModel, "there is no model %q in the model folder of %s: give all hosts of the fleet the same models", task.Model, w.Host.Name)
	}
	m := found.Models[i]
	if task.Bytes > 0 && m.Size != task.Bytes {
		return model.Model{}, runner.Failf(runner.ReasonBadModel, "the model %q on %s has %d bytes, and the coordinator's %d: give all hosts of the fleet the same models", m.Name, w.Host.Name, m.Size, task.Bytes)
	}
	return m, nil
}

// files puts this worker's own files in the place of those that a task's settings name.
func (w *fleetHost) files(s *config.Settings) error {
	if s.Quality.Enabled() {
		if s.Quality.Corpus = w.Config.Quality.Corpus; !s.Quality.Enabled() {
			return runner.Failf(runner.ReasonEvaluate, "the worker on %s has no text to evaluate quality on: name its file there as quality.corpus", w.Host.Name)
		}
	}
	s.Publish = config.DefaultPublish()
	return nil
}

func failUndecided(req runner.Request, targets []string, failure *runner.Failure, emit func(runner.Result)) {
	for _, target := range slices.Clone(targets) {
		emit(runner.Undecided(req, target, failure))
	}
}

// tee is a slog.Handler that hands what it gets to two.
type tee struct{ shown, kept slog.Handler }

// Enabled implements slog.Handler.
func (t tee) Enabled(ctx context.Context, level slog.Level) bool {
	return t.shown.Enabled(ctx, level) || t.kept.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (t tee) Handle(ctx context.Context, r slog.Record) error {
	err := t.kept.Handle(ctx, r.Clone())
	if t.shown.Enabled(ctx, r.Level) {
		err = errors.Join(err, t.shown.Handle(ctx, r))
	}
	return err
}

// WithAttrs implements slog.Handler.
func (t tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	return tee{t.shown.WithAttrs(attrs), t.kept.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (t tee) WithGroup(name string) slog.Handler {
	return tee{t.shown.WithGroup(name), t.kept.WithGroup(name)}
}

var _ io.Writer = (*fleet.Report)(nil)
