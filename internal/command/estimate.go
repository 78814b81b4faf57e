package command

import (
	"fmt"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/estimate"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/runner"
)

// estimate is `run --dry-run`: nothing is started, measured, stored or published.
func (p *Program) estimate(entry model.Resolved, output string) (int, error) {
	load := estimate.Workload{
		GenerationTokens: entry.Benchmark.GenerationTokens, Depth: entry.Benchmark.Depth.First(),
		CacheTokens: runner.CacheTokens(entry.Benchmark), Batch: entry.Benchmark.PromptTokens,
	}
	var worst outcomes
	estimated := false
	for _, model := range entry.Models {
		if model.Err != nil {
			if err := p.unusable(model, output, &worst); err != nil {
				return ExitError, err
			}
			continue
		}
		original, estimates, err := estimates(model, load, entry.Recipes)
		if err != nil {
			return ExitError, fmt.Errorf("estimating %s: %w", model.Name, err)
		}
		write := report.EstimateTable
		if output == "json" {
			write = report.EstimateLines
		}
		if err := write(p.stdout, model.Name, original, estimates, entry.Settings); err != nil {
			return ExitError, fmt.Errorf("writing the estimate: %w", err)
		}
		estimated = true
	}
	if estimated && output != "json" {
		if err := report.EstimateLegend(p.stdout, entry.Threshold); err != nil {
			return ExitError, fmt.Errorf("writing the estimate: %w", err)
		}
	}
	return worst.status(), nil
}

// estimates returns the estimates for the copies of a model, and the figures of the original. A
// copy by a recipe is estimated as one in the recipe's format.
func estimates(model model.Planned, load estimate.Workload, recipes config.Recipes) (original runner.FileFigures, copies []estimate.Estimate, err error) {
	original = runner.FiguresOf(model.Model)
	var baseline *estimate.Estimate
	if model.Baseline != "" && model.Baseline != original.Format {
		e, err := load.Of(model.Header, model.Baseline)
		if err != nil {
			return original, nil, fmt.Errorf("the baseline %s: %w", model.Baseline, err)
		}
		original, baseline = report.EstimatedFile(e, model.Header.Parameters), &e
	}
	for _, target := range model.Targets {
		e, err := load.Of(model.Header, recipes.Format(target))
		if err != nil {
			return original, nil, fmt.Errorf("%s: %w", target, err)
		}
		if recipe := recipes.Of(target); recipe != nil {
			e.Target, e.NeedsImatrix = recipe.Name, e.NeedsImatrix && recipe.Imatrix == ""
		}
		if baseline != nil {
			e = e.Beside(*baseline)
		}
		copies = append(copies, e)
	}
	return original, copies, nil
}

// unusable reports a model that cannot even be estimated, as a cycle would.
func (p *Program) unusable(model model.Planned, output string, worst *outcomes) error {
	var results []runner.Result
	for _, target := range model.Targets {
		result := runner.Result{Model: model.Name, TargetFormat: target, Failure: runner.Failf(runner.ReasonBadModel, "%w", model.Err)}
		worst.add(&result)
		results = append(results, result)
		if output == "json" {
			if err := report.JSONLine(p.stdout, &result, event.Origin{}, "", false); err != nil {
				return fmt.Errorf("writing the result: %w", err)
			}
		}
	}
	if output == "json" {
		return nil
	}
	return report.Table(p.stdout, report.Cycle{Results: results}, p.colored())
}
