package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/estimate"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/publish"
	"github.com/quant-exporter/quant-exporter/internal/report"
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
		s = settings{e.Settings, e.Name, e.Models, e.Targets, e.Against, nil, e.Engine}
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
	engine := p.engine(s.engine)
	asking := p.runner(p.config, engine, f.noWait, memory{}) // the state is opened once that is known
	if against == nil {
		formats, err := asking.Formats(ctx, s.targets)
		switch {
		case err == nil:
			s.targets = formats
		case !errors.As(err, new(*runner.Failure)): // that, every cycle will say
			return exitError, err
		}
	}
	if s.Baseline != "" {
		_, err := asking.Formats(ctx, []string{s.Baseline})
		if err != nil && !errors.As(err, new(*runner.Failure)) {
			return exitError, fmt.Errorf("baseline: %w", err)
		}
	}
	if err := p.prepare(ctx, f.noWait); err != nil {
		return exitError, err
	}
	files, err := p.openCache(ctx, p.config)
	if err != nil {
		return exitError, err
	}
	if s.Publish.Enabled() && !f.noRecord {
		if _, err := publish.Open(s.Publish.Dir, p.logger); err != nil {
			return exitError, fmt.Errorf("publish.dir %q: %w", s.Publish.Dir, err)
		}
	}
	records, err := p.openRecords(f.noRecord, s.entry)
	if err != nil {
		return exitError, err
	}
	r := p.runner(p.config, engine, f.noWait, memory{records.hashes(), files})
	status, err := p.cycles(ctx, r, models, against, s, f, records, discovering)
	return status, errors.Join(err, records.close(ctx, f.output == "text"))
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

// cycles runs one cycle a model and writes what it finds.
func (p *program) cycles(ctx context.Context, r *runner.Runner, models []model.Model, against *model.Model, s settings, f runFlags, records *records, discovering time.Duration) (int, error) {
	var worst outcomes
	unpublished := false
	for _, model := range models {
		var found report.Cycle
		var busy *disk.HeldError // only with --no-wait
		var writeErr error
		line := func(object any) {
			if f.output == "json" {
				p.progress.Clear()
				writeErr = errors.Join(writeErr, report.Line(p.stdout, object))
			}
		}
		records.next(model.Name, s)
		r.Run(ctx, runner.Request{
			Model:     model,
			Targets:   s.targets,
			Against:   against,
			Settings:  s.Settings,
			OrderSeed: rand.Uint64(),
			Previous:  records.standing,
			Finish:    records.publish(s.Publish),
			Outranked: func(by string, targets []string) {
				writeErr = errors.Join(writeErr, records.outrank(by, targets))
				found.Outranked = targets
				for _, target := range targets {
					line(event.NewOutranked(model.Name, target, by))
				}
			},
			Progress: func(now runner.Progress) {
				if now.Operation != runner.OperationWait {
					_ = records.begin() // add will say it
				}
				p.progress.Show(now)
			},
		}, func(result runner.Result) {
			if result.Failure != nil && errors.As(result.Failure, &busy) {
				return
			}
			eventID, err := records.add(&result)
			writeErr = errors.Join(writeErr, err)
			worst.add(&result)
			found.Results = append(found.Results, result)
			if f.output == "json" {
				p.progress.Clear()
				origin := event.Origin{Host: p.hardware.Host, Entry: s.entry, Chosen: records.chosen()}
				writeErr = errors.Join(writeErr, report.JSONLine(p.stdout, &result, origin, eventID, f.evidence))
			}
		})
		p.progress.Clear()
		if busy != nil {
			return exitError, busy
		}
		chosen, err := records.end(discovering, found.Results)
		writeErr = errors.Join(writeErr, err)
		if found.Choice = chosen; chosen != nil {
			line(chosen)
		}
		if f.output == "text" {
			found.Results = inOrder(found.Results, s.targets)
			writeErr = errors.Join(writeErr, report.Table(p.stdout, found, p.colored()))
		}
		published, failed := records.publications()
		unpublished = unpublished || failed
		for _, publication := range published {
			line(publication)
		}
		if f.output == "text" {
			writeErr = errors.Join(writeErr, report.Publications(p.stdout, published))
		}
		if writeErr != nil {
			return exitError, fmt.Errorf("writing the result: %w", writeErr)
		}
		if ctx.Err() != nil { // the other models were not even begun
			break
		}
	}
	if unpublished {
		return exitError, errors.New("not every copy that is kept could be published: see above")
	}
	return worst.status(), nil
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
