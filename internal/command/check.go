package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	toolkit "github.com/prometheus/exporter-toolkit/web"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/estimate"
	"github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/web"
	"github.com/quant-exporter/quant-exporter/runner"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// shownFires is how many fire times of an entry are printed.
const shownFires = 3

// Check is `--config.check`: it reports everything that a start would find wrong, or that
// would fail later, and what is due when.
func (p *Program) Check(ctx context.Context) error {
	bad := []error{p.checkWeb(), p.checkBus(), p.checkFleet(ctx)}
	found, err := model.NewFinder(p.Config, p.Logger).Plan(nil)
	if err != nil {
		return errors.Join(append(bad, err)...)
	}
	bad = append(bad, Conflicts(p.flags.ConfigFile, p.Config, found)...)
	var due strings.Builder
	engines := p.Engines(p.Config, p.Logger)
	var probed []probe
	if len(p.Config.Schedule) > 0 {
		probed = probeAll(ctx, engines)
	}
	for i, entry := range p.Config.Schedule {
		engine := engines.Of(entry.Engine)
		usable := slices.ContainsFunc(probed, func(p probe) bool { return p.engine.Engine == engine && p.err == nil })
		bad = append(bad, p.checked(&due, found.Entries[i]), p.checkFormats(ctx, &due, entry, engine, usable), p.checkFiles(entry))
	}
	describe(&due, probed)
	err = errors.Join(bad...)
	switch {
	case err != nil:
	case p.Config.Hash() == "":
		fmt.Fprintf(p.stdout, "There is no %s here: the defaults are used.\n", p.flags.ConfigFile)
	default:
		fmt.Fprintf(p.stdout, "%s: the configuration is valid.\n", p.flags.ConfigFile)
	}
	if len(p.Config.Schedule) == 0 {
		due.WriteString("Nothing is scheduled: add entries to schedule:.\n")
	}
	if _, writeErr := p.stdout.WriteString(due.String()); writeErr != nil {
		err = errors.Join(err, fmt.Errorf("writing what is due: %w", writeErr))
	}
	return err
}

// checkWeb checks the flags of the server, and its file with TLS and authentication.
func (p *Program) checkWeb() error {
	f := p.flags.Serve
	_, err := web.NewMount(f.ExternalURL, f.RoutePrefix)
	if file := *f.Web.WebConfigFile; file != "" {
		if invalid := toolkit.Validate(file); invalid != nil {
			err = errors.Join(err, fmt.Errorf("--web.config.file %s: %w", file, invalid))
		}
	}
	return err
}

// checkBus checks what only the making of a relay does, such as files of certificates,
// and that there is a password where one is to be read at each connection.
func (p *Program) checkBus() error {
	if p.Config.A2A.URL == "" {
		return nil
	}
	_, err := p.NewBus(nil).Prepare(p.Config.A2A)
	for _, file := range []string{p.Config.A2A.PasswordFile, p.Config.A2A.SentinelPasswordFile} {
		if file != "" {
			_, missing := disk.ReadSmall(file, 64<<10)
			err = errors.Join(err, missing)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: a2a: %w", p.flags.ConfigFile, err)
	}
	return nil
}

// checkFleet connects to the fleet's Redis, and checks that it can hold a fleet.
func (p *Program) checkFleet(ctx context.Context) error {
	if !p.Config.Fleet.Enabled() {
		return nil
	}
	if err := fleet.Check(ctx, p.Config.Fleet, fleet.SecretsOf(os.Getenv)); err != nil {
		return fmt.Errorf("%s: fleet: %w", p.flags.ConfigFile, err)
	}
	return nil
}

// probe is what an engine answered.
type probe struct {
	engine *llamacpp.UsedEngine
	info   runner.EngineInfo
	err    error
}

// probeAll probes each engine once: one whose tools hang takes a minute.
func probeAll(ctx context.Context, engines llamacpp.Engines) []probe {
	var all []probe
	for _, engine := range engines {
		info, err := engine.Probe(ctx)
		all = append(all, probe{engine, info, err})
	}
	return all
}

// describe writes what the engines are.
func describe(out *strings.Builder, probed []probe) {
	for _, p := range probed {
		of := ""
		if len(probed) > 1 {
			of = " of " + strings.Join(p.engine.Entries, ", ")
		}
		if p.err != nil {
			fmt.Fprintf(out, "\nwarning: the engine%s cannot be used, and cycles would fail: %s\n", text.Name(of), text.Text(p.err.Error()))
		} else {
			fmt.Fprintf(out, "\nengine%s: %s\nsandbox: %s\n", text.Name(of), text.Name(p.info.String()), text.Name(p.info.Sandbox))
			if p.info.Unpaired != "" {
				fmt.Fprintf(out, "warning: files cannot be measured in pairs, which takes many times as long: %s\n", text.Text(p.info.Unpaired))
			}
		}
	}
}

// checkFormats finds the targets, and the baseline, that the engine does not make. If the
// engine cannot be used, it warns about formats that are not known here.
func (p *Program) checkFormats(ctx context.Context, text *strings.Builder, entry config.Entry, engine runner.Engine, usable bool) error {
	asked := map[string][]string{"targets": entry.Targets}
	if entry.Baseline != "" {
		asked["baseline"] = []string{entry.Baseline}
	}
	recipes := map[string]config.Recipes{"targets": entry.Recipes}
	var bad []error
	for _, key := range slices.Sorted(maps.Keys(asked)) {
		if !usable {
			for _, target := range asked[key] {
				if format := recipes[key].Format(target); !slices.Contains(estimate.Formats(), gguf.Canonical(format)) {
					fmt.Fprintf(text, "  warning  %q is not a format that is known here\n", format)
				}
			}
			continue
		}
		if _, err := runner.Formats(ctx, engine, asked[key], recipes[key]); err != nil {
			bad = append(bad, fmt.Errorf("%s:%d: schedule: entry %q: %s: %w", p.flags.ConfigFile, entry.Line, entry.Name, key, err))
		}
	}
	return errors.Join(bad...)
}

// checked describes one entry. It returns an error for the models that the entry names and
// that cannot be used.
func (p *Program) checked(out *strings.Builder, entry model.Resolved) error {
	fmt.Fprintf(out, "\n%s: %s", text.Name(entry.Name), entry.Cron)
	if words := schedule.Words(entry.Cron); words != "" {
		fmt.Fprintf(out, " (%s)", words)
	}
	if entry.Timezone != "" {
		fmt.Fprintf(out, " in %s", entry.Timezone)
	}
	out.WriteString("\n  due      ")
	if entry.Suspend {
		out.WriteString("never: it is suspended")
	}
	for i, at := range schedule.Upcoming(entry.Entry.Entry, p.Host.Name, time.Now(), shownFires) {
		if i > 0 {
			out.WriteString(", ")
		}
		out.WriteString(at.Format("Mon 2006-01-02 15:04:05 -07:00"))
	}
	if entry.Jitter > 0 {
		fmt.Fprintf(out, " (jitter of up to %v included)", entry.Jitter)
	}
	if entry.RunOnStart {
		out.WriteString(", and at each start")
	}
	var targets, names []string
	if entry.Against == "" {
		for _, target := range entry.Targets {
			name := entry.Recipes.Canonical(target)
			if how := entry.Recipes.How(target); how != "" {
				name += " (" + how + ")"
			}
			targets = append(targets, text.Name(name))
		}
		fmt.Fprintf(out, "\n  targets  %s\n", strings.Join(targets, ", "))
	} else {
		fmt.Fprintf(out, "\n  against  %s (%s)\n", text.Name(entry.Against), text.Name(strings.Join(entry.Targets, ", ")))
	}
	if entry.Baseline != "" {
		fmt.Fprintf(out, "  baseline %s\n", entry.Baseline)
	}
	if entry.Choose != choice.None {
		fmt.Fprintf(out, "  choose   %s\n", entry.Choose)
	}
	if entry.Publish.Enabled() {
		fmt.Fprintf(out, "  publish  in %s\n", text.Name(entry.Publish.Dir))
	}
	out.WriteString("  models   ")
	var bad []error
	for _, model := range entry.Models {
		names = append(names, text.Name(model.Name))
		if model.Err != nil {
			bad = append(bad, fmt.Errorf("%s:%d: schedule: the entry %q names a model that cannot be used: %w", p.flags.ConfigFile, entry.Line, entry.Name, model.Err))
		}
		if file := model.Against; file != nil {
			if err := cmp.Or(file.Err, model.ComparableWith(*file)); err != nil {
				bad = append(bad, fmt.Errorf("%s:%d: schedule: against: the entry %q names a file that cannot be used: %w", p.flags.ConfigFile, entry.Line, entry.Name, err))
			}
		}
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	fmt.Fprintln(out, strings.Join(names, ", "))
	for _, problem := range entry.Unresolved {
		fmt.Fprintf(out, "  warning  %s\n", text.Text(problem.Error()))
	}
	return errors.Join(bad...)
}
