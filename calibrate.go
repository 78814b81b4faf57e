package main

import (
	"context"
	"fmt"

	"github.com/quant-exporter/quant-exporter/internal/calibrate"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/runner"
)

// calibrate is the command `calibrate`.
func (p *program) calibrate(ctx context.Context, f calibrateFlags) error {
	found, err := p.discover(p.config)
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
	for _, problem := range p.calibrated(1).Validate() {
		return fmt.Errorf("calibrate sets the number of threads: %w", problem.Err)
	}
	release, err := p.prepare(ctx, f.noWait)
	if err != nil {
		return err
	}
	defer release()
	threads := f.threads
	if len(threads) == 0 {
		threads = calibrate.DefaultThreads(p.host.Usable())
	}
	calibrated, err := calibrate.Run(ctx, calibrate.Options{
		Model:     models[0],
		Baseline:  p.config.Baseline,
		Rounds:    f.rounds,
		Threads:   threads,
		Benchmark: p.config.Benchmark,
		Threshold: p.config.Threshold,
		Runner: func(threads int) *runner.Runner {
			return p.runner(p.config, p.engine(p.calibrated(threads), p.logger), f.noWait, memory{}, p.logger)
		},
		Progress: p.progress.Show,
	})
	p.progress.Clear()
	if err != nil {
		return err
	}
	if f.output == "json" {
		return calibrated.WriteJSON(p.stdout)
	}
	return calibrated.WriteText(p.stdout)
}

// calibrated is the engine's configuration with a number of threads.
func (p *program) calibrated(threads int) config.Engine {
	c := p.config.Engine
	c.Threads = threads
	return c
}
