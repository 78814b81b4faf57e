package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
)

// OpenStore opens the state to change it; hint says what to do while another process has
// it.
func (p *Program) OpenStore(hint string) (*store.Store, error) {
	s, err := store.Open(p.Config.Storage.Path, store.Options{
		Retention: p.Config.Storage.Retention,
		Bus:       p.Config.A2A.URL != "",
		Host:      p.Host.Name,
		Logger:    p.Logger,
	})
	switch {
	case errors.As(err, new(*store.LockedError)):
		return nil, fmt.Errorf("%w: %s", err, hint)
	case errors.As(err, new(*fs.PathError)):
		return nil, fmt.Errorf("%w: name another folder with --storage.path, or run as its owner", err)
	}
	return s, err
}

// Place says to people which exporter this is: its host, and where its state is.
func (p *Program) Place() string {
	dir, err := filepath.Abs(p.Config.Storage.Path)
	if err != nil {
		dir = p.Config.Storage.Path
	}
	return p.Host.Name + ", " + dir
}

// Events is the command `events`.
func (p *Program) Events(ctx context.Context) error {
	f := p.flags.events
	from, err := p.stored()
	if err != nil {
		return err
	}
	events, err := from.events(ctx, store.Delivery(f.delivery))
	if err := errors.Join(explained(err), from.close()); err != nil {
		return err
	}
	if f.output == "json" {
		encoder := json.NewEncoder(p.stdout)
		for _, e := range events {
			if err := encoder.Encode(e); err != nil {
				return fmt.Errorf("writing the events: %w", err)
			}
		}
		return nil
	}
	return p.eventTable(events)
}

func (p *Program) eventTable(events []store.Event) error {
	if len(events) == 0 {
		_, err := fmt.Fprintln(p.stdout, "There are no such events.")
		return err
	}
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "made\tmodel\ttarget\tdecision\tbefore\tdelivery\tevent_id\twhy")
	for _, e := range events {
		target, decision, before, why, err := parts(e)
		if err != nil {
			return fmt.Errorf("reading the event %s: %w", e.ID, err)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Created.UTC().Format(time.RFC3339), text.Name(e.Model), text.Name(target), decision, text.Name(before), e.Delivery, e.ID, why)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("writing the events: %w", err)
	}
	return nil
}

// parts returns what an event says: the outcomes of a decision and why a copy was rejected, or
// the formats of a choice.
func parts(e store.Event) (target, decision, before, why string, err error) {
	if e.Type == event.TypeChoice {
		var c event.Choice
		err := json.Unmarshal(e.Data, &c)
		return orNone(c.ChosenFormat), "chosen", orNone(c.PreviousFormat), "-", err
	}
	var d event.Decision
	err = json.Unmarshal(e.Data, &d)
	return e.Target, string(d.Decision), string(orNone(d.PreviousDecision)), cmp.Or(report.GateOfEvent(&d), "-"), err
}

func orNone[S ~string](word *S) S {
	if word == nil {
		return "-"
	}
	return *word
}

// Export is the command `export`.
func (p *Program) Export(ctx context.Context) error {
	from, err := p.stored()
	if err != nil {
		return err
	}
	return errors.Join(explained(from.export(ctx, p.stdout)), from.close())
}

// Backup is the command `backup`.
func (p *Program) Backup(ctx context.Context) error {
	from, err := p.stored()
	if err != nil {
		return err
	}
	return errors.Join(explained(from.backup(ctx, p.flags.backup)), from.close())
}
