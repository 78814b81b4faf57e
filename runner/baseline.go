package runner

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// BaselineEvidence says how an original was made that is not the model as it is.
type BaselineEvidence struct {
	Format   string  `json:"format"`
	Quantize ToolRun `json:"quantize"`
	// Reused is as in Evidence.
	Reused string `json:"reused_copy,omitempty"`
}

// baselineFile is its base name in the working directory.
const baselineFile = "baseline.gguf"

// resolveBaseline finds out whether there is one to make: a model that is in that format
// already is its own.
func (c *cycle) resolveBaseline() error {
	if c.Baseline == "" || strings.EqualFold(c.Baseline, c.Model.Header.Format) {
		c.Baseline = ""
		return nil
	}
	formats, errs := resolveFormats(c.info, []string{c.Baseline}, nil)
	if errs[0] != nil {
		return Failf(ReasonQuantize, "baseline: %w", errs[0])
	}
	c.Baseline = formats[0].Name
	c.baseline = &pair{target: c.Baseline, format: formats[0], file: baselineFile}
	return nil
}

// makeBaseline makes the original of the cycle, where that is not the model itself.
// Without it nothing can be said about any pair.
func (c *cycle) makeBaseline(ctx context.Context) error {
	if c.baseline == nil {
		return nil
	}
	if err := c.quantizeOne(ctx, c.baseline, c.quantizing(c.baseline)); err != nil {
		return fmt.Errorf("making the baseline %s: %w", c.baseline.target, c.blameSource(ctx, err))
	}
	c.original = c.baseline.file
	return c.sourceUnchanged(ctx)
}

// copies returns all that the cycle may have to make of the model: the baseline first, then
// those that are undecided.
func (c *cycle) copies() []*pair {
	var all []*pair
	if c.baseline != nil {
		all = append(all, c.baseline)
	}
	if c.Against == nil {
		all = append(all, c.undecided()...)
	}
	return all
}

// makingBaseline returns how long it took; 0 where there is none.
func (c *cycle) makingBaseline() time.Duration {
	if c.baseline == nil {
		return 0
	}
	return c.baseline.quantizing
}

// sourceFormat returns the format of the original; "" if the model could not be read.
func (c *cycle) sourceFormat() string { return c.Model.OriginalFormat(c.Baseline) }

// originalFigures are zero when the model could not be read, and while there is no
// baseline yet.
func (c *cycle) originalFigures() FileFigures {
	switch {
	case c.baseline != nil:
		return c.baseline.quantized
	case c.Model.Header == nil, c.Baseline != "":
		return FileFigures{}
	default:
		return FiguresOf(c.Model)
	}
}

func (c *cycle) baselineEvidence() *BaselineEvidence {
	if c.baseline == nil {
		return nil
	}
	return &BaselineEvidence{Format: c.baseline.target, Quantize: c.baseline.quantizeRun, Reused: c.baseline.reused}
}
