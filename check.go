package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	toolkit "github.com/prometheus/exporter-toolkit/web"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/plan"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// shownFires is how many fire times of an entry are printed.
const shownFires = 3

// check is `--config.check`: everything that a start would find wrong, or that would fail
// later, and what is due when.
func (p *program) check() error {
	found, err := p.discoverer(p.config)()
	if err != nil {
		return errors.Join(p.checkWeb(), err)
	}
	bad := []error{p.checkWeb(), conflictsError(p.flags.configFile, p.config, found)}
	var due strings.Builder
	for i, entry := range p.config.Schedule {
		bad = append(bad, p.checked(&due, entry, found.Entries[i]))
	}
	err = errors.Join(bad...)
	if err == nil {
		fmt.Fprintf(p.stdout, "%s: the configuration is valid.\n", p.flags.configFile)
	}
	if len(p.config.Schedule) == 0 {
		due.WriteString("Nothing is scheduled: add entries to schedule:.\n")
	}
	if _, writeErr := p.stdout.WriteString(due.String()); writeErr != nil {
		err = errors.Join(err, fmt.Errorf("writing what is due: %w", writeErr))
	}
	return err
}

// checkWeb checks the file with TLS and basic authentication.
func (p *program) checkWeb() error {
	file := *p.flags.serve.web.WebConfigFile
	if file == "" {
		return nil
	}
	if err := toolkit.Validate(file); err != nil {
		return fmt.Errorf("--web.config.file %s: %w", file, err)
	}
	return nil
}

// checked describes one entry; the error is of the models it names and that cannot be
// used.
func (p *program) checked(text *strings.Builder, entry config.Entry, found plan.Resolved) error {
	fmt.Fprintf(text, "\n%s: %s", report.Name(entry.Name), entry.Cron)
	if entry.Timezone != "" {
		fmt.Fprintf(text, " in %s", entry.Timezone)
	}
	text.WriteString("\n  due      ")
	if entry.Suspend {
		text.WriteString("never: it is suspended")
	}
	for i, at := range schedule.Upcoming(entry.Entry, p.hardware.Host, time.Now(), shownFires) {
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString(at.Format("Mon 2006-01-02 15:04:05 -07:00"))
	}
	var targets, names []string
	for _, target := range entry.Targets {
		targets = append(targets, plan.Canonical(target))
	}
	fmt.Fprintf(text, "\n  targets  %s\n  models   ", strings.Join(targets, ", "))
	var bad []error
	for _, model := range found.Models {
		names = append(names, report.Name(model.Name))
		if model.Err != nil {
			bad = append(bad, fmt.Errorf("%s:%d: schedule: the entry %q names a model that cannot be used: %w", p.flags.configFile, entry.Line, entry.Name, model.Err))
		}
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	fmt.Fprintln(text, strings.Join(names, ", "))
	for _, problem := range found.Unresolved {
		fmt.Fprintf(text, "  warning  %s\n", report.Text(problem.Error()))
	}
	return errors.Join(bad...)
}
