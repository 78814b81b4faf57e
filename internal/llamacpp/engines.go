package llamacpp

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Engines are the engines of a configuration: one for the entries of the schedule that
// configure it alike, which is the section's where there are no entries. It is safe for
// concurrent use.
type Engines []*UsedEngine

// UsedEngine is an engine and the entries that use it.
type UsedEngine struct {
	*Engine
	Entries []string // their names, in the order of the schedule
}

// NewEngines makes the engines; automatic is as in New.
func NewEngines(c *config.Config, automatic Threads, logger *slog.Logger) Engines {
	var all Engines
	for _, entry := range c.Schedule {
		used := all.find(entry.Engine)
		if used == nil {
			used = &UsedEngine{Engine: New(entry.Engine, automatic, logger)}
			all = append(all, used)
		}
		used.Entries = append(used.Entries, entry.Name)
	}
	if len(all) == 0 {
		all = Engines{{Engine: New(c.Engine, automatic, logger)}}
	}
	return all
}

func (all Engines) find(cfg config.Engine) *UsedEngine {
	for _, used := range all {
		if reflect.DeepEqual(used.cfg, cfg) {
			return used
		}
	}
	return nil
}

// Of returns the engine of a configuration that an entry has. It panics when none has it.
func (all Engines) Of(cfg config.Engine) *Engine { return all.find(cfg).Engine }

// Probe probes all engines and describes the first. Where there are several, the error
// names an entry whose engine cannot be used.
func (all Engines) Probe(ctx context.Context) (runner.EngineInfo, error) {
	var first runner.EngineInfo
	for i, used := range all {
		info, err := used.Probe(ctx)
		if err != nil && len(all) > 1 {
			err = fmt.Errorf("entry %q: %w", used.Entries[0], err)
		}
		if err != nil {
			return runner.EngineInfo{}, err
		}
		if i == 0 {
			first = info
		}
	}
	return first, nil
}
