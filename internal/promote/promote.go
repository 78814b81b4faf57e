// Package promote publishes what a cycle has found worth serving: it joins what the store
// knows, what the runner has made, and package publish.
package promote

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/publish"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Store has the decisions: *store.Store.
type Store interface {
	State() *store.State
	Cycle(id uint64) (store.Cycle, []store.Record, bool, error)
}

// Cycle publishes the copies of a cycle that ends: those that it decided as kept, as far as
// that is stored. What is not published, and why, is in the result, for
// store.Store.Published, and in the log; it is no failure of the cycle. Nil when there was
// nothing to publish.
func Cycle(ctx context.Context, from Store, id uint64, settings runner.Publish, f runner.Finished, logger *slog.Logger) []store.Publication {
	kept := slices.DeleteFunc(slices.Clone(f.Copies), func(c runner.Copy) bool { return c.Outcome != verdict.Kept })
	if len(kept) == 0 {
		return nil
	}
	p := promotion{ctx: ctx, from: from, cycle: id, settings: settings, finished: f, logger: logger}
	err := p.prepare()
	var all []store.Publication
	for _, c := range kept {
		var v publish.Version
		failure := err
		if failure == nil {
			v, failure = p.publish(c)
		}
		all = append(all, p.publication(c.Target, v, failure))
	}
	return all
}

// promotion is the publishing of one cycle's copies.
type promotion struct {
	ctx      context.Context
	from     Store
	cycle    uint64
	settings runner.Publish
	finished runner.Finished
	logger   *slog.Logger

	dir     *publish.Directory
	records []store.Record
	source  publish.Source
}

// prepare does what all copies need.
func (p *promotion) prepare() (err error) {
	if err := p.ctx.Err(); err != nil {
		return fmt.Errorf("the cycle was stopped: %w", context.Cause(p.ctx))
	}
	if p.dir, err = publish.Open(p.settings.Dir, p.logger); err != nil {
		return err
	}
	if _, p.records, _, err = p.from.Cycle(p.cycle); err != nil {
		return err
	}
	p.source, err = sourceOf(p.ctx, p.finished.Model)
	return err
}

// sourceOf hashes the model's files, which have to be those that the cycle had.
func sourceOf(ctx context.Context, m runner.Model) (publish.Source, error) {
	sum, _, err := publish.Hash(ctx, m.Files...)
	if err != nil {
		return publish.Source{}, fmt.Errorf("reading the model: %w", err)
	}
	now, err := m.Identity()
	if err == nil {
		err = runner.SameFiles(m.IDs, now)
	}
	if err != nil {
		return publish.Source{}, fmt.Errorf("the model changed during the cycle: %w", err)
	}
	source := publish.Source{SHA256: sum}
	for _, id := range m.IDs {
		source.Files = append(source.Files, publish.SourceFile{Path: id.Path, Bytes: id.Size, Modified: id.Modified.UTC()})
	}
	return source, nil
}

func (p *promotion) publish(c runner.Copy) (publish.Version, error) {
	id := store.PairID{Model: p.finished.Model.Name, Target: c.Target}
	i := slices.IndexFunc(p.records, func(r store.Record) bool { return r.PairID == id })
	if i < 0 || p.from.State().Standing(id) != verdict.Kept {
		return publish.Version{}, fmt.Errorf("publishing %s of %q: its decision could not be stored, and nothing is published without", id.Target, id.Model)
	}
	return p.dir.Publish(p.ctx, publish.Copy{
		File: c.Path, Manifest: manifest(&p.records[i], p.source), Keep: p.settings.Keep, Load: p.finished.Load,
	})
}

// publication says what became of a copy, in the log, too.
func (p *promotion) publication(target string, v publish.Version, err error) store.Publication {
	logger := p.logger.With("cycle", p.cycle, "model", p.finished.Model.Name, "target", target)
	if err != nil {
		logger.Error("a copy that is kept could not be published; what was published before stays", "err", err)
		return store.Publication{Target: target, Time: time.Now(), Error: err.Error()}
	}
	logger.Info("a copy is published", "dir", v.Dir, "stable", v.Stable)
	return store.Publication{Target: target, Time: v.Published, Dir: v.Dir, Stable: v.Stable}
}

func manifest(r *store.Record, source publish.Source) publish.Manifest {
	engine := r.Evidence.Engine
	m := publish.Manifest{
		Model: r.Model, SourceFormat: r.SourceFormat, TargetFormat: r.Target,
		Source:    source,
		Engine:    publish.Engine{Name: engine.Name, Version: engine.Version, Build: engine.Build, Commit: engine.Commit},
		Arguments: r.Evidence.Quantize.Args,
		Decision: publish.Decision{
			Decision: string(r.Verdict.Outcome), Cycle: r.Cycle, Time: r.Finished, Host: r.Host, Entry: r.Entry,
			Rounds: r.Verdict.Rounds, Threshold: event.ThresholdPercent(r.Threshold),
		},
	}
	if r.EventID != "" {
		m.Decision.EventID = &r.EventID
	}
	for _, phase := range r.Verdict.Phases {
		m.Decision.Phases = append(m.Decision.Phases, publish.Phase{
			Phase: string(phase.Phase), Original: phase.Original, Quantized: phase.Quantized,
			Drop: phase.Drop * 100, Interval: [2]*float64{event.Percent(phase.Lower), event.Percent(phase.Upper)},
		})
	}
	if q := r.Quality; q != nil {
		m.Decision.KLDivergence = &q.KLDivergence.Estimate
	}
	return m
}
