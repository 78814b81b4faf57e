package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/quant-exporter/quant-exporter/internal/cache"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/runner"
)

var errNoModels = errors.New("which models? Name the folder that holds them with --model-dir (or MODEL_DIR, or models.dir in the configuration file); quant-exporter run takes single files, too, with --model PATH")

// discover looks for models.
func (p *program) discover(c *config.Config) (model.Found, error) {
	return model.Discover(c.Models.Dir, c.Models.AllowRequantize, p.logger)
}

func (p *program) engine(c config.Engine, logger *slog.Logger) *llamacpp.Engine {
	return llamacpp.New(c, p.host.Threads(), logger)
}

// engines makes the engines of a configuration, which log through logger.
func (p *program) engines(c *config.Config, logger *slog.Logger) llamacpp.Engines {
	return llamacpp.NewEngines(c, p.host.Threads(), logger)
}

// memory is what cycles have of those before them. What is nil they do without.
type memory struct {
	hashes runner.Hashes
	cache  runner.Cache
}

// openCache opens the files that are kept for later cycles; nil where none are to be. What
// there is goes, then.
func (p *program) openCache(ctx context.Context, c *config.Config) (runner.Cache, error) {
	dir := c.Cache.In(c.Work.Dir)
	if _, err := os.Stat(dir); c.Cache.Size == 0 && err != nil {
		return nil, nil
	}
	files, err := cache.Open(ctx, dir, int64(c.Cache.Size), p.logger)
	if err != nil || c.Cache.Size == 0 {
		return nil, err
	}
	return files, nil
}

// runner makes a runner. hosted says that the caller has the host to itself already.
func (p *program) runner(c *config.Config, engine runner.Engine, hosted bool, before memory, logger *slog.Logger) *runner.Runner {
	options := runner.Options{
		WorkDir:         c.Work.Dir,
		Isolation:       c.Work.Isolation,
		AllowRequantize: c.Models.AllowRequantize,
		Host:            p.host,
		Hashes:          before.hashes,
		Cache:           before.cache,
		Logger:          logger,
	}
	if !hosted {
		options.Lock = func(ctx context.Context, waiting func(string)) (func(), error) {
			return disk.NewLock(p.flags.hostLock).Acquire(ctx, true, func(holder disk.Holder) {
				waiting("another measurement on this host: " + holder.String())
				logger.Warn("another measurement runs on this host: waiting for it to end (--no-wait would give up)", "pid", holder.PID, "since", holder.Since)
			})
		}
	}
	return runner.New(engine, options)
}

// prepare sees that the measurement lock and the working folder can be used at all, and
// removes from that what killed processes left. With keep it takes the host to itself until
// release is called, and fails at once where another process has it.
func (p *program) prepare(ctx context.Context, keep bool) (release func(), err error) {
	release, err = disk.NewLock(p.flags.hostLock).Acquire(ctx, false, nil)
	if !keep && errors.As(err, new(*disk.HeldError)) {
		release, err = func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	if !keep {
		release()
	}
	removed, err := disk.Sweep(p.config.Work.Dir)
	for _, dir := range removed {
		p.logger.Info("removed the working directory of a process that was killed", "dir", dir)
	}
	if err != nil {
		p.logger.Warn("could not clear the working folder of what killed processes left", "dir", p.config.Work.Dir, "err", err)
	}
	dir, err := disk.NewDir(p.config.Work.Dir)
	if err == nil {
		err = dir.Remove()
	}
	if err != nil {
		return nil, fmt.Errorf("the working folder %q cannot be used: %w: name another with --work.dir", p.config.Work.Dir, err)
	}
	return release, nil
}
