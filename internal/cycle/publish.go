package cycle

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/publish"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// publishCopies publishes what a cycle that ends has found worth serving, as far as its
// decisions are stored: the copies that it decided as kept or, where a format is chosen, the
// chosen one. A chosen format of which the cycle has no such copy is served as it was last
// published, if it was. A copy that cannot be published does not fail the cycle: what became
// of each is in the result, for store.Store.Published, and in the log; so is what was published
// before and was damaged since. Nil when there was nothing to publish, and nothing is damaged.
func publishCopies(ctx context.Context, from Store, id uint64, settings config.Publish, f runner.Finished, logger *slog.Logger) []store.Publication {
	p := promotion{from: from, settings: settings, finished: f, logger: logger, copies: map[string]runner.Copy{}}
	var targets []string
	for _, c := range f.Copies {
		if c.Outcome == verdict.Kept {
			p.copies[c.Target] = c
			targets = append(targets, c.Target)
		}
	}
	var err error
	if p.cycle, p.records, _, err = from.Cycle(id); err == nil && p.cycle.Choose != choice.None {
		targets = nil
		if chosen := from.State().Choose(p.cycle.Choose, p.cycle.ModelID(), p.cycle.Candidates); chosen != "" {
			targets = []string{chosen}
		}
	}
	if len(targets) == 0 {
		return p.damaged(ctx)
	}
	if err == nil {
		err = p.prepare(ctx, slices.ContainsFunc(targets, func(target string) bool { _, made := p.copies[target]; return made }))
	}
	var all []store.Publication
	for _, target := range targets {
		if done := p.target(ctx, target, err); done != nil {
			all = append(all, *done)
		}
	}
	return append(all, p.damaged(ctx)...)
}

// damaged finds the published copies of pairs that failed that are not what was published any
// more. Without reflinks a published copy may be another name of a kept one, which the cycle
// took and a tool may have written to. Only what was touched since the cycle began is read.
func (p *promotion) damaged(ctx context.Context) (all []store.Publication) {
	for _, r := range p.records {
		pair := p.from.State().Pairs[p.cycle.PairID(r.TargetFormat)]
		if r.Failure == nil || pair == nil || pair.Published == nil {
			continue
		}
		v, err := publish.Read(pair.Published.Dir)
		if err != nil { // it was removed since
			continue
		}
		touched, err := model.Touched(v.Path())
		if err != nil || touched.Before(p.cycle.Started) {
			continue
		}
		if err = v.Check(ctx); err == nil || ctx.Err() != nil {
			continue
		}
		err = fmt.Errorf("the published copy is damaged: %w; remove the folder, for it to be made again", err)
		p.logger.Error("a published copy is not what was published: do not serve it", "target", r.TargetFormat, "dir", v.Dir, "err", err)
		all = append(all, store.Publication{Target: r.TargetFormat, Time: time.Now(), Error: err.Error()})
	}
	return all
}

// promotion is the publishing of one cycle's copies.
type promotion struct {
	from     Store
	settings config.Publish
	finished runner.Finished
	logger   *slog.Logger
	copies   map[string]runner.Copy // those that are kept, by target

	cycle   store.Cycle
	records []store.Record
	dir     *publish.Directory
	source  publish.Source
}

// prepare does what all targets need. If no copy is to be published, at most a link has to
// move, and it moves even if the cycle was stopped or its model changed.
func (p *promotion) prepare(ctx context.Context, copies bool) (err error) {
	if copies && ctx.Err() != nil {
		return fmt.Errorf("the cycle was stopped: %w", context.Cause(ctx))
	}
	for _, c := range p.finished.Copies {
		if p.record(c.Target) == nil {
			return fmt.Errorf("the decision on %s could not be stored, and without it nothing is published", c.Target)
		}
	}
	if p.dir, err = publish.Open(p.settings.Dir, p.logger); err != nil || !copies {
		return err
	}
	if err := p.finished.Unchanged(ctx); err != nil {
		return fmt.Errorf("the model changed during the cycle: %w", err)
	}
	p.source = p.sourceOf(p.finished.Model)
	return nil
}

// record is this cycle's result of a target; nil when none is stored.
func (p *promotion) record(target string) *store.Record {
	i := slices.IndexFunc(p.records, func(r store.Record) bool { return r.TargetFormat == target })
	if i < 0 {
		return nil
	}
	return &p.records[i]
}

// target publishes a target, unless that is impossible already, and says what became of
// it, in the log, too; nil when nothing did.
func (p *promotion) target(ctx context.Context, target string, err error) *store.Publication {
	logger := p.logger.With("target", target)
	var v publish.Version
	if err == nil {
		c, made := p.copies[target]
		if made {
			v, err = p.publish(ctx, c)
		} else {
			var known, moved bool
			v, known, moved, err = p.dir.Choose(p.cycle.Model, target)
			switch {
			case err == nil && !known:
				logger.Warn("the chosen format was never published: it will be once a cycle keeps a copy of it")
				return nil
			case err == nil && !moved:
				return nil
			}
		}
	}
	if err != nil {
		logger.Error("a copy that is kept could not be published; what was published before stays", "err", err)
		return &store.Publication{Target: target, Time: time.Now(), Error: err.Error()}
	}
	logger.Info("a copy is published", "dir", v.Dir, "stable", v.Stable)
	return &store.Publication{Target: target, Time: time.Now(), Dir: v.Dir, Stable: v.Stable}
}

func (p *promotion) publish(ctx context.Context, c runner.Copy) (publish.Version, error) {
	m := manifest(p.record(c.Target), p.source)
	m.Decision.Choose, m.SHA256 = string(p.cycle.Choose), c.SHA256
	return p.dir.Publish(ctx, publish.Copy{
		File: c.Path, Manifest: m, Chosen: p.cycle.Choose != choice.None, Keep: p.settings.Keep, Load: p.finished.Load,
	})
}

// sourceOf describes the model's files.
func (p *promotion) sourceOf(m model.Model) publish.Source {
	var source publish.Source
	for _, r := range p.records {
		if r.Inputs != nil { // all of a cycle have the same
			source.SHA256 = r.Inputs.Source
		}
	}
	for _, id := range m.IDs {
		source.Files = append(source.Files, publish.SourceFile{Path: id.Path, Bytes: id.Size, Modified: id.Modified.UTC()})
	}
	return source
}

func manifest(r *store.Record, source publish.Source) publish.Manifest {
	engine := r.Evidence.Engine
	m := publish.Manifest{
		Model: r.Model, SourceFormat: r.SourceFormat, TargetFormat: r.TargetFormat,
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
