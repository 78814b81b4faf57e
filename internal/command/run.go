package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/publish"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// entry returns what a run decides: an entry of the schedule, or the settings of the
// configuration; flags override both. candidates are the targets among which a format is
// chosen if they are not the entry's: the targets of the schedule, even if the run takes only
// a part of them.
func (p *Program) entry(f runFlags) (entry config.Entry, candidates []string, err error) {
	entry = p.Config.NewEntry(0, f.against != "")
	if f.entry != "" {
		i := slices.IndexFunc(p.Config.Schedule, func(e config.Entry) bool { return e.Name == f.entry })
		if i < 0 {
			return entry, nil, fmt.Errorf("--entry: %s has no entry %q in its schedule; it has %s", p.flags.ConfigFile, f.entry, p.entryNames())
		}
		entry = p.Config.Schedule[i]
		for _, target := range entry.Targets {
			candidates = append(candidates, entry.Recipes.Canonical(target))
		}
	}
	if len(f.models) > 0 {
		entry.Models = f.models
	}
	entry.AllowRequantize = entry.AllowRequantize || f.allowRequantize
	if f.baseline != "" {
		entry.Baseline = gguf.Canonical(f.baseline)
	}
	switch {
	case len(f.targets) > 0 && f.against != "":
		return entry, nil, errors.New("--against takes the place of --target, and the file has a format of its own: leave one of them out")
	case len(f.targets) > 0:
		entry.Targets, entry.Against = f.targets, ""
		if err := p.findRecipes(&entry); err != nil {
			return entry, nil, err
		}
	case f.against != "":
		entry.Targets, entry.Against = nil, f.against
	}
	if first, second, twice := config.Twice(entry.Targets, entry.Recipes.Canonical); twice {
		return entry, nil, fmt.Errorf("the targets %q and %q are the same format: name it once", first, second)
	}
	if f.choose != "" {
		if entry.Choose = choice.Rule(f.choose); f.choose == chooseNone {
			entry.Choose = choice.None
		}
		for _, problem := range entry.Settings.Validate() { //nolint:staticcheck // entry.Validate() would read as if it were all of it
			if problem.Path == "choose" { // the rest was valid with the rule of the configuration
				return entry, nil, fmt.Errorf("--choose %s: %w", f.choose, problem.Err)
			}
		}
	}
	if entry.Against == "" {
		return entry, candidates, nil
	}
	switch {
	case f.choose != "" && entry.Choose != choice.None:
		return entry, nil, errors.New("--choose chooses one of several formats, and --against names one file: leave one of them out")
	case f.dryRun:
		return entry, nil, fmt.Errorf("--dry-run estimates copies that are to be made, but %q already exists: leave --dry-run out, to measure it", entry.Against)
	}
	entry.Choose, entry.Publish = choice.None, config.DefaultPublish() // it is served already
	return entry, nil, nil
}

// findRecipes adds the recipes of an entry's targets that it has not itself, from the entries of
// the schedule.
func (p *Program) findRecipes(entry *config.Entry) error {
	for _, target := range entry.Targets {
		if entry.Recipes.Of(target) != nil {
			continue
		}
		owner := ""
		for _, other := range p.Config.Schedule {
			theirs, found := other.Recipes.Of(target), entry.Recipes.Of(target)
			switch {
			case theirs == nil:
			case found == nil:
				entry.Recipes, owner = append(slices.Clone(entry.Recipes), *theirs), other.Name
			case !reflect.DeepEqual(*theirs, *found):
				return fmt.Errorf("--target %s: the entries %q and %q make it in different ways: name one of them with --entry", target, owner, other.Name)
			}
		}
	}
	return nil
}

func (p *Program) entryNames() string {
	if len(p.Config.Schedule) == 0 {
		return "none"
	}
	var names []string
	for _, e := range p.Config.Schedule {
		names = append(names, strconv.Quote(e.Name))
	}
	return strings.Join(names, ", ")
}

// resolve resolves an entry as the schedule would, but fails if a model is missing: whoever types a
// name wants to know at once that there is none. compared are the formats of files that the
// entries of the schedule compared before, by the entries' names; nil where they are not known.
func (p *Program) resolve(entry config.Entry, found model.Found, compared map[string]string) (model.Resolved, error) {
	entries := []config.Entry{entry}
	for _, other := range p.Config.Schedule { // which name other files of one format
		if entry.Against != "" && other.Against != "" && other.Name != entry.Name {
			entries = append(entries, other)
		}
	}
	resolved := model.NewPlan(entries, found, compared).Entries[0]
	switch {
	case resolved.Unfound != nil:
		return resolved, resolved.Unfound
	case entry.Against != "" && len(resolved.Models) != 1:
		return resolved, fmt.Errorf("%q is compared with one model, and there are %d: name one with --model", entry.Against, len(resolved.Models))
	}
	return resolved, nil
}

// Run is the command `run`: cycles now, one after the other.
func (p *Program) Run(ctx context.Context) (status int, err error) {
	f := p.flags.run
	if f.evidence && f.output != "json" {
		return ExitError, errors.New("--evidence goes with --output json: a table has no room for it")
	}
	if p.Config.Models.Dir == "" && f.entry == "" && len(f.models) == 0 {
		return ExitError, model.ErrNoModels
	}
	entry, candidates, err := p.entry(f)
	if err != nil {
		return ExitError, err
	}
	begin := time.Now()
	found, err := model.NewFinder(p.Config, p.Logger).Discover()
	if err != nil {
		return ExitError, err
	}
	resolved, err := p.resolve(entry, found, nil)
	if err != nil {
		return ExitError, err
	}
	discovering := time.Since(begin)
	p.Logger.Debug("found models", "count", len(resolved.Models), "took", discovering)
	if f.dryRun {
		return p.estimate(resolved, f.output)
	}
	log := cycle.NewLog(p.Logger.Handler())
	logger := slog.New(log)
	engine := p.engine(entry.Engine, logger)
	if err := checkFormats(ctx, engine, entry); err != nil {
		return ExitError, err
	}
	release, err := p.Prepare(ctx, f.noWait)
	if err != nil {
		return ExitError, err
	}
	defer release()
	files, err := p.OpenCache(ctx, p.Config)
	if err != nil {
		return ExitError, err
	}
	if f.noRecord {
		entry.Publish = config.DefaultPublish()
	}
	if entry.Publish.Enabled() {
		if _, err := publish.Open(entry.Publish.Dir, p.Logger); err != nil {
			return ExitError, fmt.Errorf("publish.dir %q: %w", entry.Publish.Dir, err)
		}
	}
	state, err := p.openRecords(f.noRecord)
	if err != nil {
		return ExitError, err
	}
	if entry.Against != "" { // its pair has the name that serving gives it, also while a file cannot be read
		compared := state.State().ComparedFormats()
		if f.against != "" { // which need not be the file that was compared under this name
			delete(compared, entry.Name)
		}
		if resolved, err = p.resolve(entry, found, compared); err != nil {
			return ExitError, errors.Join(err, state.Close())
		}
	}
	var jobs []cycle.Job
	r := p.Runner(p.Config, engine, f.noWait, Memory{state, files}, logger)
	state.State().OldestFirst(resolved.Models)
	for _, model := range resolved.Models {
		job := cycle.NewJob(entry, model, r, discovering)
		if candidates != nil {
			job.Candidates = candidates
		}
		jobs = append(jobs, job)
	}
	out := &printer{Program: p, runFlags: f, entry: entry.Name, choose: entry.Choose, state: state}
	cycles := &cycle.Cycles{Store: state, Writes: cycle.Strict{Logger: logger}, Log: log, Quiet: !f.verbose}
	timed, cancel := cycle.WithTimeout(ctx, entry.Name, time.Duration(entry.Timeout))
	defer cancel()
	err = p.cycles(timed, cycles, jobs, out)
	out.deliver(ctx)
	if err := errors.Join(err, state.Close()); err != nil {
		return ExitError, err
	}
	return out.status()
}

// checkFormats returns an error if the engine cannot make a target, or the baseline. An
// engine that cannot be asked is not an error here: every cycle will report it.
func checkFormats(ctx context.Context, engine runner.Engine, entry config.Entry) error {
	_, err := runner.Formats(ctx, engine, entry.Targets, entry.Recipes)
	if err == nil && entry.Baseline != "" {
		if _, err = runner.Formats(ctx, engine, []string{entry.Baseline}, nil); err != nil {
			err = fmt.Errorf("baseline: %w", err)
		}
	}
	if errors.As(err, new(*runner.Failure)) {
		return nil
	}
	return err
}

// openRecords opens the state that cycles are recorded in: with --no-record a temporary one.
func (p *Program) openRecords(noRecord bool) (*store.Store, error) {
	if noRecord {
		return store.Temporary(p.Config.Work.Dir, store.Options{Host: p.Host.Name, Logger: p.Logger})
	}
	s, err := p.OpenStore("--no-record runs without it, and keeps nothing")
	if locked, ok := errors.AsType[*store.LockedError](err); ok && locked.URL != "" {
		err = fmt.Errorf("%w; or have the exporter that serves run it: POST /api/v1/run (docs/http.md)", err)
	}
	return s, err
}

// cycles runs one cycle after the other, until the context ends.
func (p *Program) cycles(ctx context.Context, cycles *cycle.Cycles, jobs []cycle.Job, out *printer) error {
	for i, job := range jobs {
		outcome, err := cycles.Run(ctx, job, out)
		out.end(job, outcome)
		if err := errors.Join(err, out.err); err != nil {
			return err
		}
		if left := len(jobs) - i - 1; left > 0 && ctx.Err() != nil {
			p.Logger.Warn("the run ends early", "cause", context.Cause(ctx), "models_left", left)
			return nil
		}
	}
	return nil
}

func (p *Program) colored() bool {
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

// status returns the exit status, in the contract's order of badness.
func (o *outcomes) status() int {
	switch {
	case o.failed:
		return ExitFailed
	case o.rejected:
		return ExitRejected
	case o.inconclusive:
		return ExitInconclusive
	default:
		return ExitKept
	}
}
