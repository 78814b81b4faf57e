package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/plan"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// shownFires is how many fire times of an entry are printed.
const shownFires = 3

// check is `--config.check`: everything a start would find wrong, and what is due when.
func (p *program) check() error {
	found, err := p.discoverer(p.config)()
	if err != nil {
		return err
	}
	if err := conflictsError(p.flags.configFile, p.config, found); err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s: the configuration is valid.\n", p.flags.configFile)
	if len(p.config.Schedule) == 0 {
		text.WriteString("Nothing is scheduled: add entries to schedule:.\n")
	}
	var bad []error
	for i, entry := range p.config.Schedule {
		bad = append(bad, p.checked(&text, entry, found.Entries[i]))
	}
	if _, err := p.stdout.WriteString(text.String()); err != nil {
		return fmt.Errorf("writing what is due: %w", err)
	}
	return errors.Join(bad...)
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
	fmt.Fprintf(text, "\n  targets  %s\n  models   ", strings.Join(entry.Targets, ", "))
	var bad []error
	var names []string
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
