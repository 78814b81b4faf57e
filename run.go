package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/estimate"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/publish"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// settings are what cycles from the command line go by.
type settings struct {
	config.Settings
	entry   string // "" without one
	models  []string
	targets []string
	against string // file in place of targets; "" without one
	// candidates are the targets of which a format is chosen, where they are not those.
	candidates []string
	engine     config.Engine
	timeout    time.Duration // of the entry; 0 is no bound
}

// settings are those of an entry, or the global ones; flags come before both.
func (p *program) settings(f runFlags) (settings, error) {
	s := settings{
		Settings: p.config.Settings,
		targets:  []string{defaultTarget},
		engine:   p.config.Engine,
	}
	if f.entry != "" {
		i := slices.IndexFunc(p.config.Schedule, func(e config.Entry) bool { return e.Name == f.entry })
		if i < 0 {
			return s, fmt.Errorf("--entry: %s has no entry %q in its schedule; it has %s", p.flags.configFile, f.entry, entryNames(p.config.Schedule))
		}
		e := p.config.Schedule[i]
		s = settings{e.Settings, e.Name, e.Models, e.Targets, e.Against, nil, e.Engine, time.Duration(e.Timeout)}
		for _, target := range e.Targets { // also when the run takes a part of them
			s.candidates = append(s.candidates, gguf.Canonical(target))
		}
	}
	if f.choose != "" {
		s.Choose = choice.Rule(f.choose)
		if f.choose == chooseNone {
			s.Choose = choice.None
		}
		for _, problem := range s.Validate() {
			if problem.Path == "choose" { // the rest was valid with the rule of the configuration
				return s, fmt.Errorf("--choose %s: %w", f.choose, problem.Err)
			}
		}
	}
	if len(f.models) > 0 {
		s.models = f.models
	}
	switch {
	case len(f.targets) > 0 && f.against != "":
		return s, errors.New("--against takes the place of --target, and the file has a format of its own: leave one of them out")
	case len(f.targets) > 0:
		s.targets, s.against = f.targets, ""
	case f.against != "":
		s.against = f.against
	}
	if s.against != "" {
		if f.choose != "" && s.Choose != choice.None {
			return s, errors.New("--choose chooses one of several formats, and --against names one file: leave one of them out")
		}
		s.Choose, s.candidates, s.Publish = choice.None, nil, config.DefaultPublish() // it is served already
	}
	if s.against != "" && f.dryRun {
		return s, fmt.Errorf("--dry-run estimates copies that are to be made, and %q is there: leave it out, to measure", s.against)
	}
	if f.baseline != "" {
		s.Baseline = gguf.Canonical(f.baseline)
	}
	return s, nil
}

func entryNames(entries []config.Entry) string {
	if len(entries) == 0 {
		return "none"
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strconv.Quote(e.Name)
	}
	return strings.Join(names, ", ")
}

// run is the command `run`: cycles now, one after the other.
func (p *program) run(ctx context.Context, f runFlags) (int, error) {
	if f.evidence && f.output != "json" {
		return exitError, errors.New("--evidence goes with --output json: a table has no room for it")
	}
	s, err := p.settings(f)
	if err != nil {
		return exitError, err
	}
	begin := time.Now()
	models, against, err := p.named(&s)
	if err != nil {
		return exitError, err
	}
	discovering := time.Since(begin)
	p.logger.Debug("found models", "count", len(models), "took", discovering)
	if f.dryRun {
		return p.estimate(models, s, f.output)
	}
	log := cycle.NewLog(p.logger.Handler())
	logger := slog.New(log)
	engine := p.engine(s.engine, logger)
	if err := resolve(ctx, engine, &s); err != nil {
		return exitError, err
	}
	release, err := p.prepare(ctx, f.noWait)
	if err != nil {
		return exitError, err
	}
	defer release()
	files, err := p.openCache(ctx, p.config)
	if err != nil {
		return exitError, err
	}
	if f.noRecord {
		s.Publish = config.DefaultPublish()
	}
	if s.Publish.Enabled() {
		if _, err := publish.Open(s.Publish.Dir, p.logger); err != nil {
			return exitError, fmt.Errorf("publish.dir %q: %w", s.Publish.Dir, err)
		}
	}
	state, err := p.openRecords(f.noRecord)
	if err != nil {
		return exitError, err
	}
	var jobs []cycle.Job
	r := p.runner(p.config, engine, f.noWait, memory{state, files}, logger)
	for _, model := range models {
		jobs = append(jobs, cycle.Job{
			Entry: s.entry, Model: model, Targets: s.targets, Candidates: s.candidates, Against: against,
			Settings: s.Settings, Runner: r, Discovering: discovering,
		})
	}
	out := &printer{program: p, runFlags: f, entry: s.entry, choose: s.Choose, state: state}
	cycles := &cycle.Cycles{Store: state, Writes: cycle.Strict{}, Log: log, Quiet: !f.verbose}
	timed, cancel := cycle.WithTimeout(ctx, s.entry, s.timeout)
	defer cancel()
	err = p.cycles(timed, cycles, jobs, out)
	out.deliver(ctx)
	if err := errors.Join(err, state.Close()); err != nil {
		return exitError, err
	}
	return out.status()
}

// resolve gives the targets the engine's names. An engine that cannot be asked is no error:
// every cycle will say so.
func resolve(ctx context.Context, engine runner.Engine, s *settings) error {
	unless := func(err error) error {
		if errors.As(err, new(*runner.Failure)) {
			return nil
		}
		return err
	}
	if s.against == "" {
		formats, err := runner.Formats(ctx, engine, s.targets)
		if err != nil {
			return unless(err)
		}
		s.targets = formats
	}
	if s.Baseline == "" {
		return nil
	}
	if _, err := runner.Formats(ctx, engine, []string{s.Baseline}); unless(err) != nil {
		return fmt.Errorf("baseline: %w", err)
	}
	return nil
}

// openRecords opens the state that cycles are recorded in: with --no-record one that is
// gone afterwards.
func (p *program) openRecords(noRecord bool) (*store.Store, error) {
	if noRecord {
		return store.Temporary(p.config.Work.Dir, store.Options{Host: p.host.Name, Logger: p.logger})
	}
	return p.openStore("--no-record runs without it, and keeps nothing; a serving exporter with --web.enable-admin-api takes POST /api/v1/run")
}

// cycles runs one cycle after the other, until the context ends.
func (p *program) cycles(ctx context.Context, cycles *cycle.Cycles, jobs []cycle.Job, out *printer) error {
	for i, job := range jobs {
		outcome, err := cycles.Run(ctx, job, out)
		out.end(job, outcome)
		if err := errors.Join(err, out.err); err != nil {
			return fmt.Errorf("writing the result: %w", err)
		}
		if left := len(jobs) - i - 1; left > 0 && ctx.Err() != nil {
			p.logger.Warn("the run ends early", "cause", context.Cause(ctx), "models_left", left)
			return nil
		}
	}
	return nil
}

// named finds the models, and the file to compare one of them with, whose format is then
// the target; nil where copies are made.
func (p *program) named(s *settings) (models []model.Model, against *model.Model, err error) {
	found, err := p.discover(s.models)
	if err != nil {
		return nil, nil, err
	}
	models, err = found.Select(s.models)
	if err != nil || s.against == "" {
		return models, nil, err
	}
	if len(models) != 1 {
		return nil, nil, fmt.Errorf("%q is compared with one model, and there are %d: name one with --model", s.against, len(models))
	}
	file, err := found.File(s.against)
	if err != nil {
		return nil, nil, err
	}
	s.targets = []string{model.Format(&file, "")}
	return models, &file, nil
}

// estimate is `run --dry-run`: nothing is started, measured, stored or published.
func (p *program) estimate(models []model.Model, s settings, output string) (int, error) {
	for i, target := range s.targets {
		for _, earlier := range s.targets[:i] {
			if gguf.Canonical(earlier) == gguf.Canonical(target) { // as a cycle says it
				return exitError, fmt.Errorf("the targets %q and %q are the same format: name it once", earlier, target)
			}
		}
	}
	load := estimate.Workload{GenerationTokens: s.Benchmark.GenerationTokens, Depth: s.Benchmark.Depth}
	var worst outcomes
	for _, model := range models {
		if model.Err != nil {
			if err := p.unusable(model, s.targets, output, &worst); err != nil {
				return exitError, err
			}
			continue
		}
		original, estimates, err := s.estimates(model, load)
		if err != nil {
			return exitError, fmt.Errorf("estimating %s: %w", model.Name, err)
		}
		write := report.EstimateTable
		if output == "json" {
			write = report.EstimateLines
		}
		if err := write(p.stdout, model.Name, original, estimates, s.Threshold); err != nil {
			return exitError, fmt.Errorf("writing the estimate: %w", err)
		}
	}
	return worst.status(), nil
}

// estimates are those of the copies of a model, beside what they are compared with.
func (s *settings) estimates(model model.Model, load estimate.Workload) (original runner.FileFigures, copies []estimate.Estimate, err error) {
	original = runner.FiguresOf(model)
	var baseline *estimate.Estimate
	if s.Baseline != "" && s.Baseline != original.Format {
		e, err := load.Of(model.Header, s.Baseline)
		if err != nil {
			return original, nil, fmt.Errorf("the baseline %s: %w", s.Baseline, err)
		}
		original, baseline = report.EstimatedFile(e, model.Header.Parameters), &e
	}
	for _, target := range s.targets {
		e, err := load.Of(model.Header, target)
		if err != nil {
			return original, nil, fmt.Errorf("%s: %w", target, err)
		}
		if baseline != nil {
			e = e.Beside(*baseline)
		}
		copies = append(copies, e)
	}
	return original, copies, nil
}

// unusable reports a model that cannot even be estimated, as a cycle would.
func (p *program) unusable(model model.Model, targets []string, output string, worst *outcomes) error {
	var results []runner.Result
	for _, target := range targets {
		result := runner.Result{Model: model.Name, TargetFormat: target, Failure: runner.Failf(runner.ReasonBadModel, "%w", model.Err)}
		worst.add(&result)
		results = append(results, result)
		if output == "json" {
			if err := report.JSONLine(p.stdout, &result, event.Origin{}, "", false); err != nil {
				return fmt.Errorf("writing the result: %w", err)
			}
		}
	}
	if output == "json" {
		return nil
	}
	return report.Table(p.stdout, report.Cycle{Results: results}, p.colored())
}

func (p *program) colored() bool {
	return term.IsTerminal(int(p.stdout.Fd())) && os.Getenv("NO_COLOR") == ""
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
