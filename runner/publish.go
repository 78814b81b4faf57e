package runner

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// Finished is what a cycle has once all its pairs are decided or have failed.
type Finished struct {
	Model  model.Model
	Copies []Copy // of the pairs that came to a verdict, in the order of the targets
	// Load reports whether the engine can load the file of this name in a directory, and
	// compute a token with it. It may leave other files there.
	Load func(ctx context.Context, dir, file string) error
	// Unchanged fails when the model is not what it was in the cycle.
	Unchanged func(ctx context.Context) error
}

// Copy is a quantized file in the working directory. Whoever gets it may give it a second
// name, and must not write to it.
type Copy struct {
	Target  string
	Path    string // absolute
	SHA256  string // of what the cycle made and measured, in hexadecimal
	Outcome verdict.Outcome
}

// finish hands the copies on before they are removed. It does nothing if the cycle has none,
// or was canceled before it had measured anything. An existing file that was compared is not
// ours to hand on.
func (c *cycle) finish(ctx context.Context) {
	if c.Finish == nil || c.Against != nil {
		return
	}
	finished := Finished{Model: c.Model, Load: c.load, Unchanged: c.sourceUnchanged}
	for _, p := range c.pairs {
		if p.outcome == "" {
			continue
		}
		if err := p.unchanged(ctx); err != nil {
			c.Logger.Error("a copy is not published", "model", c.Model.Name, "target", p.target, "err", err)
			continue
		}
		finished.Copies = append(finished.Copies, Copy{p.target, filepath.Join(c.dir, p.file), p.holds, p.outcome})
	}
	c.Progress(Progress{Model: c.Model.Name, Operation: OperationPublish})
	c.Finish(ctx, finished)
}

func (c *cycle) load(ctx context.Context, dir, file string) error {
	files, err := c.engine.Round(ctx, RoundJob{
		Dir: dir, Files: []string{file}, Order: []int{0}, Method: config.MethodProcess,
		Phases: []verdict.Phase{verdict.Generation}, PromptTokens: 1, GenerationTokens: 1,
		Observe: c.Host.Observe,
	}, func(int, float64) {})
	if err == nil {
		err = files[0].Err
	}
	if err != nil && ctx.Err() != nil {
		return errors.Join(ctx.Err(), err)
	}
	return err
}
