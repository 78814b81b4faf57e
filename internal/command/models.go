package command

import (
	"fmt"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/model"
)

// Conflicts returns what two entries both decide or choose, at the line of the second, which
// leaves it to the first. A new model file can cause conflicts, so they never prevent a
// start: `--config.check` fails, and the page and the counters show them.
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
