package runner

import (
	"context"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

// Noise is what rounds showed in which both stages are the same file.
type Noise struct {
	Rounds []Round // repeated ones included
	// Method is how those were measured that count. Reason says why it was not the paired one;
	// "" where another was asked for.
	Method config.Method
	Reason string
	Took   time.Duration // of all rounds together
}

// MeasureNoise measures a model, or its baseline, against itself: whatever difference the
// rounds show is the host's noise. As many rounds count as were asked for. Targets, threshold
// and standing decisions of the request are not used: rounds are as long as they are where a copy's
// drop is near its threshold.
func (r *Runner) MeasureNoise(ctx context.Context, req Request, rounds int) (Noise, error) {
	req.Targets, req.Threshold = nil, 0 // the drop of a file beside itself
	c := newCycle(r, req, func(Result) {})
	self := &pair{target: c.sourceFormat(), set: 1}
	var took time.Duration
	err := c.prepared(ctx, func() error {
		if err := c.makeBaseline(ctx); err != nil {
			return err
		}
		self.file = c.original
		c.pairs = []*pair{self}
		self.quantized = c.originalFigures()
		m, err := c.beginMeasuring(ctx, c.pairs, func(int) int { return rounds })
		if err != nil {
			return err
		}
		m.everyPhase = true
		for len(self.counted) < rounds {
			if err := m.round(ctx); err != nil {
				return err
			}
			if self.done { // measuring the second of the two files failed
				return self.failure
			}
			if err := c.filesUnchanged(ctx, nil); err != nil {
				return err
			}
		}
		took = time.Since(m.begin)
		return nil
	})
	if err != nil {
		return Noise{}, AsFailure(err)
	}
	return Noise{Rounds: self.rounds, Method: c.method, Reason: c.methodReason, Took: took}, nil
}
