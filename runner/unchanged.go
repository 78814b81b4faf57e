package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
)

// sourceUnchanged fails the cycle when the model, or the file that is measured in place of
// a copy, is not the file it was.
func (c *cycle) sourceUnchanged(ctx context.Context) error {
	if err := c.unchanged(ctx, &c.Model, "the model"); err != nil || c.Against == nil {
		return err
	}
	return c.unchanged(ctx, c.Against, "the file to compare with")
}

func (c *cycle) unchanged(ctx context.Context, m *model.Model, what string) error {
	now, err := m.Identity()
	if err == nil {
		err = c.settle(ctx, m, now)
	}
	if err == nil {
		err = c.untouched(ctx, m)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("looking whether %s has changed: %w", what, context.Cause(ctx))
	}
	return Failf(ReasonSourceChanged, "%s changed since its header was read, so nothing can be said about it: %w", what, err)
}

// settle compares the model's files with what they are now. Where nothing but the number of
// a file has changed its content decides, and the number is the model's from then on. What a
// file held that nobody has read yet, its header tells.
func (c *cycle) settle(ctx context.Context, m *model.Model, now []model.FileID) error {
	different := model.SameFiles(m.IDs, now)
	if different == nil || len(m.IDs) != len(now) {
		return different
	}
	unread := false
	for i, was := range m.IDs {
		if !was.Renumbered(now[i]) {
			if err := model.SameFiles(m.IDs[i:i+1], now[i:i+1]); err != nil {
				return err
			}
			continue
		}
		held, read := c.contents[was.Path]
		if !read {
			unread = true
			continue
		}
		c.Logger.Debug("a file has another inode, the same size and time: its content decides whether it is the same", "file", was.Path)
		holds, err := c.hash(ctx, now[i], false, func(int64) {})
		if err != nil {
			return err
		}
		if holds != held {
			return fmt.Errorf("%w, and holds something else", different)
		}
	}
	if unread {
		header, err := gguf.ReadSet(m.Files)
		if err != nil {
			return errors.Join(different, err)
		}
		if !reflect.DeepEqual(header, m.Header) {
			return fmt.Errorf("%w, and has another header", different)
		}
	}
	m.IDs = now
	return nil
}

// filesUnchanged fails the cycle when the model or the baseline changed, and pairs whose copy is
// not the file that was made any more: no tool but the one that makes it writes to it.
func (c *cycle) filesUnchanged(ctx context.Context, pairs []*pair) error {
	if err := c.sourceUnchanged(ctx); err != nil {
		return err
	}
	if err := c.broughtUnchanged(ctx); err != nil {
		return err
	}
	if c.baseline != nil {
		err := c.baseline.unchanged(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("looking whether the baseline has changed: %w", context.Cause(ctx))
		case err != nil:
			return Failf(ReasonBenchmark, "nothing can be said about the baseline, %s: %w", c.baseline.target, err)
		}
	}
	for _, p := range undecided(pairs) {
		err := p.unchanged(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("looking whether the copy has changed: %w", context.Cause(ctx))
		case err != nil:
			c.fail(p, Failf(ReasonBenchmark, "nothing can be said about the copy: %w", err))
		}
	}
	return nil
}

// brought is a file in the working directory that all pairs rest on: the model, and what it
// predicts.
type brought struct {
	id     model.FileID
	holds  string // SHA-256; "" where it is not known
	proved int
}

// bring notes what a file in the working directory is.
func (c *cycle) bring(name, holds string) error {
	id, err := model.Identify(filepath.Join(c.dir, name))
	if err != nil {
		return err
	}
	if c.brought == nil {
		c.brought = map[string]*brought{}
	}
	c.brought[name] = &brought{id: id, holds: holds}
	return nil
}

// broughtUnchanged fails where a tool has exchanged one of these files, or written to it.
func (c *cycle) broughtUnchanged(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(c.brought)) {
		err := c.brought[name].unchanged(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("looking whether %s has changed: %w", name, context.Cause(ctx))
		case err != nil:
			return Failf(ReasonBenchmark, "nothing can be said about any copy: %s is no longer the file that was brought into the working folder: %w", name, err)
		}
	}
	return nil
}

// unchanged lets the content decide where nothing but the number of the file is another one: some
// file systems make it up.
func (b *brought) unchanged(ctx context.Context) error {
	now, err := model.Identify(b.id.Path)
	if err != nil {
		return err
	}
	different := model.SameFiles([]model.FileID{b.id}, []model.FileID{now})
	if different == nil || !b.id.Renumbered(now) {
		return different
	}
	if b.holds != "" && b.proved < mostProofs {
		holds, _, err := disk.Hash(ctx, b.id.Path, nil)
		if err != nil {
			return err
		}
		if holds != b.holds {
			return fmt.Errorf("%w, and it holds something else", different)
		}
		b.proved++
	}
	return nil
}

// unchanged fails where the copy is not the file that was made any more. A file that exists
// and is compared in place of a copy is one for sourceUnchanged. On a file system that gives
// files new numbers the content decides, the first time.
func (p *pair) unchanged(ctx context.Context) error {
	if p.id.Path == "" {
		return nil
	}
	now, err := model.Identify(p.id.Path)
	if err == nil {
		err = model.SameFiles([]model.FileID{p.id}, []model.FileID{now})
	}
	if err != nil && p.id.Renumbered(now) {
		if !p.renumbered {
			holds, _, failed := disk.Hash(ctx, p.id.Path, nil)
			p.renumbered = failed == nil && holds == p.holds
			err = errors.Join(err, failed)
		}
		if p.renumbered {
			p.id = now
			return nil
		}
	}
	if err == nil {
		err = p.untouched(ctx)
	}
	if err != nil {
		return fmt.Errorf("it is no longer the file that was made: %w", err)
	}
	return nil
}

// untouched fails where the copy was written to although its size and time of modification are
// what they were: where it was touched its content decides.
func (p *pair) untouched(ctx context.Context) error {
	if p.watch.touched.IsZero() || p.watch.proved == mostProofs {
		return nil
	}
	touched, err := model.Touched(p.id.Path)
	if err != nil || touched.Equal(p.watch.touched) {
		return err
	}
	holds, _, err := disk.Hash(ctx, p.id.Path, nil)
	if err != nil {
		return err
	}
	if holds != p.holds {
		return fmt.Errorf("%q holds something else, although its size and time of modification are what they were: it was written to at %s", p.id.Path, touched.Format(time.RFC3339Nano))
	}
	p.watch = watched{touched: touched, proved: p.watch.proved + 1}
	return nil
}

// blameSource puts a change of the model in the place of the error that it led to.
func (c *cycle) blameSource(ctx context.Context, err error) error {
	if changed := c.sourceUnchanged(ctx); changed != nil {
		return fmt.Errorf("%w (which led to: %w)", changed, err)
	}
	return err
}

// concernsAll returns the error that ends the whole cycle, given the error of one pair: the
// cycle was asked to stop, or the model has changed. It returns nil if only the pair failed.
func (c *cycle) concernsAll(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if changed := c.sourceUnchanged(ctx); changed != nil {
		return fmt.Errorf("%w (which led to: %w)", changed, err)
	}
	return nil
}
