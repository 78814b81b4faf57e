package model

import (
	"errors"
	"log/slog"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

// Finder finds the models of a configuration, and what is to be decided of them.
type Finder struct {
	models  config.Models
	entries []config.Entry
	without []string
	logger  *slog.Logger
}

// NewFinder makes a Finder, which logs as Discover does.
func NewFinder(c *config.Config, logger *slog.Logger) Finder {
	return Finder{c.Models, c.Schedule, c.OwnDirs(), logger}
}

// Discover finds the models, as the function does: none in the program's own directories.
func (f Finder) Discover() (Found, error) {
	return Discover(f.models.Dir, f.models.AllowRequantize, f.logger, f.without...)
}

// ErrNoModels says that there is nothing to find models in.
var ErrNoModels = errors.New("which models? Name the folder that holds them with --model-dir (or MODEL_DIR, or models.dir in the configuration file); quant-exporter run takes single files, too, with --model PATH")

// Plan finds the models and the pairs of them that the schedule decides; last is as in
// NewPlan. It returns ErrNoModels if there is no model directory, and no model anywhere else.
func (f Finder) Plan(last map[string]string) (*Plan, error) {
	found, err := f.Discover()
	if err != nil {
		return nil, err
	}
	plan := NewPlan(f.entries, found, last)
	if f.models.Dir == "" && len(f.entries) > 0 && plan.CountModels() == 0 {
		return nil, ErrNoModels
	}
	return &plan, nil
}
