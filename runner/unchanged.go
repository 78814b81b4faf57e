package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"

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
	if err == nil {
		return nil
	}
	return cmp.Or(cutOff(ctx, what), error(Failf(ReasonSourceChanged, "%s changed since its header was read, so nothing can be said about it: %w", what, err)))
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

// filesUnchanged fails the cycle when the model, what was brought in, or the baseline changed, and
// pairs whose copy is not the file that was made any more: no tool but the one that makes it
// writes to it.
func (c *cycle) filesUnchanged(ctx context.Context, pairs []*pair) error {
	if err := c.sourceUnchanged(ctx); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.brought)) {
		if err := c.brought[name].unchanged(ctx, mostProofs); err != nil {
			return cmp.Or(cutOff(ctx, name),
				error(Failf(ReasonBenchmark, "nothing can be said about any copy: %s is no longer the file that was brought into the working folder: %w", name, err)))
		}
	}
	if c.baseline != nil {
		if err := c.baseline.unchanged(ctx); err != nil {
			return cmp.Or(cutOff(ctx, "the baseline"), error(Failf(ReasonBenchmark, "nothing can be said about the baseline, %s: %w", c.baseline.target, err)))
		}
	}
	for _, p := range undecided(pairs) {
		if err := p.unchanged(ctx); err != nil {
			if cut := cutOff(ctx, "the copy"); cut != nil {
				return cut
			}
			c.fail(p, Failf(ReasonBenchmark, "nothing can be said about the copy: %w", err))
		}
	}
	return nil
}

// cutOff returns why a look at a file was cut off: the context has ended. Nil if it has not.
func cutOff(ctx context.Context, what string) error {
	if ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("looking whether %s has changed: %w", what, context.Cause(ctx))
}

// held is a file in the working directory that must stay as it was brought there, or made.
type held struct {
	id         model.FileID
	holds      string // SHA-256; "" where it is not known
	renumbered int    // how often the file had another number, and its content was read
	watch      watched
}

// bring notes what a file in the working directory is, on which all pairs rest: the model, and
// what it predicts.
func (c *cycle) bring(name, holds string) error {
	id, err := model.Identify(filepath.Join(c.dir, name))
	if err != nil {
		return err
	}
	if c.brought == nil {
		c.brought = map[string]*held{}
	}
	c.brought[name] = &held{id: id, holds: holds}
	return nil
}

// unchanged fails where a tool has exchanged the file, or written to it. Where nothing but the
// number of the file is another one its content decides, for so many times: some file systems
// make the number up.
func (h *held) unchanged(ctx context.Context, proofs int) error {
	hash := func() (string, error) {
		holds, _, err := disk.Hash(ctx, h.id.Path, nil)
		return holds, err
	}
	now, err := model.Identify(h.id.Path)
	if err != nil {
		return err
	}
	different := model.SameFiles([]model.FileID{h.id}, []model.FileID{now})
	switch {
	case different == nil:
		return h.watch.unharmed(h.id.Path, h.holds, hash)
	case !h.id.Renumbered(now):
		return different
	case h.holds != "" && h.renumbered < proofs:
		if holds, err := hash(); err != nil || holds != h.holds {
			return errors.Join(different, err)
		}
		h.renumbered++
	}
	h.id = now
	return nil
}

// unchanged fails where the copy is not the file that was made any more. A file that exists
// and is compared in place of a copy is one for sourceUnchanged.
func (p *pair) unchanged(ctx context.Context) error {
	if p.id.Path == "" {
		return nil
	}
	if err := p.held.unchanged(ctx, 1); err != nil {
		return fmt.Errorf("it is no longer the file that was made: %w", err)
	}
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
