package runner

import (
	"context"
)

// MeasureSelf measures a model, or its baseline, against itself: rounds in which both stages are the
// same file, so that whatever difference they show is the host's noise. It returns
// every round it ran, repeated ones included, of which as many counted as were asked
// for. Targets, threshold and standing decisions of the request are not used.
func (r *Runner) MeasureSelf(ctx context.Context, req Request, rounds int) ([]Round, error) {
	req.Targets = nil
	c := newCycle(r, req, func(Result) {})
	self := &pair{target: c.sourceFormat(), set: 1}
	err := c.prepared(ctx, func() error {
		if err := c.makeBaseline(ctx); err != nil {
			return err
		}
		self.file = c.original
		c.pairs = []*pair{self}
		if err := c.waitForIdle(ctx); err != nil {
			return err
		}
		m := c.newMeasuring(c.pairs, func(int) int { return rounds })
		for len(self.counted) < rounds {
			if err := m.round(ctx); err != nil {
				return err
			}
			if self.done { // measuring the second of the two runs failed
				return self.failure
			}
			if err := c.sourceUnchanged(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, AsFailure(err)
	}
	return self.rounds, nil
}
