package command

import (
	"context"
	"fmt"

	"github.com/quant-exporter/quant-exporter/internal/calibrate"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Calibrate is the command `calibrate`.
func (p *Program) Calibrate(ctx context.Context) error {
	f := p.flags.calibrate
	found, err := model.NewFinder(p.Config, p.Logger).Discover()
	if err != nil {
		return err
	}
	models, err := found.Select([]string{f.model})
	if err != nil {
		return err
	}
	if len(models) != 1 {
		return fmt.Errorf("%q fits %d models: name one", f.model, len(models))
	}
	if err := models[0].Err; err != nil {
		return err
	}
	for _, problem := range llamacpp.Validate(p.calibrated(1)) {
		return fmt.Errorf("calibrate sets the number of threads: %w", problem.Err)
	}
	release, err := p.Prepare(ctx, f.noWait)
	if err != nil {
		return err
	}
	defer release()
	threads := f.threads
	if len(threads) == 0 {
		threads = calibrate.DefaultThreads(p.Host.Usable())
	}
	calibrated, err := calibrate.Run(ctx, calibrate.Options{
		Model:     models[0],
		Baseline:  p.Config.Baseline,
		Rounds:    f.rounds,
		Threads:   threads,
		Benchmark: p.Config.Benchmark,
		Threshold: p.Config.Threshold,
		Runner: func(threads int) *runner.Runner {
			return p.Runner(p.Config, p.engine(p.calibrated(threads), p.Logger), f.noWait, Memory{}, p.Logger)
		},
		Progress: p.Stderr.Show,
	})
	p.Stderr.Clear()
	if err != nil {
		return err
	}
	if f.output == "json" {
		return calibrated.WriteJSON(p.stdout)
	}
	return calibrated.WriteText(p.stdout)
}

// calibrated returns the engine's configuration with a number of threads.
func (p *Program) calibrated(threads int) config.Engine {
	c := p.Config.Engine
	c.Threads = threads
	return c
}
