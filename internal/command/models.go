package command

import (
	"errors"
	"fmt"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/model"
)

var errNoModels = errors.New("which models? Name the folder that holds them with --model-dir (or MODEL_DIR, or models.dir in the configuration file); quant-exporter run takes single files, too, with --model PATH")

// discover looks for models.
func (p *Program) discover(c *config.Config) (model.Found, error) {
	return model.Discover(c.Models.Dir, c.Models.AllowRequantize, p.Logger)
}

// Plan finds models and the pairs of them that the schedule decides; last is as in
// model.NewPlan.
func (p *Program) Plan(c *config.Config, last map[string]string) (*model.Plan, error) {
	found, err := p.discover(c)
	if err != nil {
		return nil, err
	}
	plan := model.NewPlan(c.Schedule, found, last)
	if c.Models.Dir == "" && len(c.Schedule) > 0 && plan.CountModels() == 0 {
		return nil, errNoModels
	}
	return &plan, nil
}

// Conflicts are what two entries both decide or choose, at the line of the second, which
// leaves it to the first. A model file that is new can cause them, so they never refuse a
// start: `--config.check` does, and the page and the counters show them.
func Conflicts(file string, c *config.Config, found *model.Plan) []error {
	var errs []error
	for _, conflict := range found.Conflicts {
		for _, entry := range c.Schedule {
			if entry.Name == conflict.Second {
				errs = append(errs, fmt.Errorf("%s:%d: schedule: %w", file, entry.Line, conflict))
			}
		}
	}
	return errs
}
