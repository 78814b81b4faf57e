package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/quant-exporter/quant-exporter/internal/cache"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/publish"
	"github.com/quant-exporter/quant-exporter/runner"
)

func (p *Program) engine(c config.Engine, logger *slog.Logger) *llamacpp.Engine {
	return llamacpp.New(c, p.threads(), logger)
}

func (p *Program) threads() llamacpp.Threads {
	return llamacpp.Threads{Measuring: p.Host.Threads(), Preparing: p.Host.Usable()}
}

// Engines makes the engines of a configuration, which log through logger.
func (p *Program) Engines(c *config.Config, logger *slog.Logger) llamacpp.Engines {
	return llamacpp.NewEngines(c, p.threads(), logger)
}

// Memory is what cycles remember of earlier ones. They do without what is nil.
type Memory struct {
	Hashes runner.Hashes
	Cache  runner.Cache
}

// OpenCache opens the files that are kept for later cycles. If none are to be kept, it removes
// the ones there are, and returns nil.
func (p *Program) OpenCache(ctx context.Context, c *config.Config) (runner.Cache, error) {
	dir := filepath.Join(c.Work.Dir, "cache")
	if _, err := os.Stat(dir); c.Cache.Size == 0 && err != nil {
		return nil, nil
	}
	files, err := cache.Open(ctx, dir, int64(c.Cache.Size), p.Logger)
	if err != nil || c.Cache.Size == 0 {
		return nil, err
	}
	return files, nil
}

// Runner makes a runner. hosted says that the caller has the host to itself already.
func (p *Program) Runner(c *config.Config, engine runner.Engine, hosted bool, before Memory, logger *slog.Logger) *runner.Runner {
	isolation := disk.Auto
	if c.Work.Copy {
		isolation = disk.Copy
	}
	options := runner.Options{
		WorkDir:         c.Work.Dir,
		Isolation:       isolation,
		AllowRequantize: c.Models.AllowRequantize,
		Host:            p.Host,
		Hashes:          before.Hashes,
		Cache:           before.Cache,
		Logger:          logger,
	}
	if !hosted {
		options.Lock = disk.NewLock(p.flags.hostLock)
	}
	return runner.New(engine, options)
}

// Prepare checks that the measurement lock and the working directory can be used, and removes
// from the directory what killed processes left. With keep it holds the host until release
// is called, and fails at once if another process has it.
func (p *Program) Prepare(ctx context.Context, keep bool) (release func(), err error) {
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
	removed, err := disk.Sweep(p.Config.Work.Dir)
	for _, published := range p.Config.PublishDirs() { // where the engine loads what is published
		left, failed := publish.Sweep(published)
		removed, err = append(removed, left...), errors.Join(err, failed)
	}
	for _, dir := range removed {
		p.Logger.Info("removed the working folder of a process that was killed", "dir", dir)
	}
	ended, failed := llamacpp.EndLeft(removed)
	if ended > 0 {
		p.Logger.Warn("ended what the tools of a killed process had left running", "processes", ended)
	}
	err = errors.Join(err, failed)
	if err != nil {
		p.Logger.Warn("could not remove what killed processes left", "dir", p.Config.Work.Dir, "err", err)
	}
	dir, err := disk.NewDir(p.Config.Work.Dir)
	if err == nil {
		err = dir.Remove()
	}
	if err != nil {
		return nil, fmt.Errorf("the working folder %q cannot be used: %w: name another with --work.dir", p.Config.Work.Dir, err)
	}
	return release, nil
}
