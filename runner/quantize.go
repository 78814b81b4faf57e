package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
)

func (c *cycle) quantizeJob(p *pair) QuantizeJob {
	job := QuantizeJob{
		Dir:             c.dir,
		Input:           c.source,
		Output:          p.file,
		Format:          p.format.Name,
		Imatrix:         cmp.Or(p.matrix, c.imatrix),
		AllowRequantize: c.AllowRequantize || c.Requantize || c.Model.Header.Native,
	}
	if p.recipe != nil {
		job.Args = p.recipe.Args
	}
	return job
}

// quantize makes the copies of pairs. A pair whose copy cannot be made fails by itself;
// only what concerns them all is returned.
func (c *cycle) quantize(ctx context.Context, pairs []*pair) error {
	for _, p := range pairs {
		err := c.quantizeOne(ctx, p, c.quantizing(p))
		if err == nil {
			continue
		}
		err = fmt.Errorf("quantizing to %s: %w", p.target, err)
		if err := c.concernsAll(ctx, err); err != nil {
			return err
		}
		c.fail(p, err)
	}
	return c.sourceUnchanged(ctx)
}

func (c *cycle) quantizeOne(ctx context.Context, p *pair, report func(done, total int)) error {
	begin := time.Now()
	defer func() { p.quantizing = time.Since(begin) }()
	key, path := c.copyKey(p), filepath.Join(c.dir, p.file)
	if p.reused = c.reuse(ctx, key, p.file); p.reused != "" {
		if header, bytes, err := c.proved(p, path); err == nil {
			if p.quantizeRun.Args, err = c.engine.QuantizeArgs(ctx, c.quantizeJob(p)); err != nil {
				return err
			}
			return errors.Join(p.copied(ctx, path, header, bytes), p.watched(path))
		} else if err := c.discard(ctx, p, path, err); err != nil {
			return err
		}
	}
	var err error
	if p.quantizeRun, err = c.engine.Quantize(ctx, c.quantizeJob(p), report); err != nil {
		return err
	}
	header, bytes, err := c.proved(p, path)
	if err != nil {
		return err
	}
	if err := p.copied(ctx, path, header, bytes); err != nil {
		return err
	}
	c.keep(ctx, key, p.file)
	return p.watched(path) // after that: a link to it touches it
}

// watched notes when the copy was last touched: see untouched.
func (p *pair) watched(path string) (err error) {
	p.watch.touched, err = model.Touched(path)
	return err
}

// copied notes what the copy is, and what it holds.
func (p *pair) copied(ctx context.Context, path string, header *gguf.Header, bytes int64) (err error) {
	if p.id, err = model.Identify(path); err != nil {
		return fmt.Errorf("looking at the copy: %w", err)
	}
	if p.holds = p.reused; p.holds == "" {
		if p.holds, _, err = disk.Hash(ctx, path, nil); err != nil {
			return fmt.Errorf("looking at the copy: %w", err)
		}
	}
	p.quantized, p.size = copyFigures(p.format.Name, header, bytes), bytes
	if p.recipe != nil { // its larger types are there on purpose
		p.quantized.FallbackShare = 0
	}
	return nil
}

// discard removes a kept copy that cannot be used, so that it is made again.
func (c *cycle) discard(ctx context.Context, p *pair, path string, why error) error {
	c.Logger.Warn("a kept copy cannot be used, and is made again", "model", c.Model.Name, "target", p.target, "err", why)
	p.reused = ""
	c.drop(ctx, c.copyKey(p))
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing a kept copy that cannot be used: %w", err)
	}
	return nil
}

// quantizing reports how far the making of a copy is, as a part of the making of all that
// the cycle may come to.
func (c *cycle) quantizing(p *pair) func(done, total int) {
	begin, made, all := time.Now(), 0, c.pairs
	if c.baseline != nil {
		all = append([]*pair{c.baseline}, all...)
	}
	for _, other := range all {
		if other != p && (other.done || other.quantized.Bytes > 0) {
			made++
		}
		begin = begin.Add(-other.quantizing)
	}
	return func(done, total int) {
		fraction := (float64(made) + float64(done)/float64(max(total, 1))) / float64(len(all))
		c.Progress(Progress{
			Model: c.Model.Name, Operation: OperationQuantize, Target: p.target,
			Done: fraction, Detail: fmt.Sprintf("tensor %d/%d", done, total),
			Left: left(time.Since(begin), fraction),
		})
	}
}

// left extrapolates how long the rest of an operation takes.
func left(spent time.Duration, done float64) time.Duration {
	if done <= 0 || done > 1 {
		return 0
	}
	return time.Duration(float64(spent) * (1 - done) / done)
}
