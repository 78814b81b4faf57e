package verdict

import (
	"errors"
	"fmt"
	"slices"
)

// Config says what is asked and how sure the answer has to be.
type Config struct {
	// Threshold is the drop from which on a pair is rejected, as a ratio: 0 < t < 1.
	Threshold float64 `json:"threshold"`
	// Phases must each pass for a pair to be kept. The report lists them in this order.
	Phases []Phase `json:"phases"`
	// MinRounds and MaxRounds bound the number of rounds: 3 ≤ min ≤ max ≤ 1000. No
	// verdict but Inconclusive comes before the first or after the last.
	MinRounds int `json:"min_rounds"`
	MaxRounds int `json:"max_rounds"`
	// Alpha is the one-sided error rate of a verdict as a whole, over all looks and
	// phases: how often, at a true drop of exactly Threshold, a pair is kept, and how
	// often it is rejected. 0.001 ≤ Alpha ≤ 0.25.
	Alpha float64 `json:"alpha"`
}

// Bounds of a Config: a t test needs three rounds to be of any use, and a thousand rounds
// of a second each already take longer than anyone waits. An alpha beyond the bounds was not
// simulated.
const (
	fewestRounds = 3
	mostRounds   = 1000
	lowestAlpha  = 0.001
	highestAlpha = 0.25
)

// Check reports every field that cannot be used, by its name in JSON, with what to give
// instead.
func (c Config) Check(report func(field string, err error)) {
	add := func(field, format string, args ...any) { report(field, fmt.Errorf(format, args...)) }
	// The comparisons are written so that NaN fails them.
	if err := ValidateThreshold(c.Threshold); err != nil {
		add("threshold", "%w", err)
	}
	if len(c.Phases) == 0 {
		add("phases", "needs at least one of generation and prompt")
	}
	for i, phase := range c.Phases {
		switch {
		case !phase.known():
			add("phases", "%q is not a phase: use generation or prompt", phase)
		case slices.Contains(c.Phases[:i], phase):
			add("phases", "%q is named twice", phase)
		}
	}
	if c.MinRounds < fewestRounds {
		add("min_rounds", "%d is too few rounds for a useful interval: use %d or more", c.MinRounds, fewestRounds)
	}
	if c.MaxRounds < c.MinRounds || c.MaxRounds > mostRounds {
		add("max_rounds", "%d is out of range: use the minimum (%d) to %d", c.MaxRounds, c.MinRounds, mostRounds)
	}
	if !(c.Alpha >= lowestAlpha && c.Alpha <= highestAlpha) {
		add("alpha", "%v is not a usable error rate: use %v to %v, such as 0.05", c.Alpha, lowestAlpha, highestAlpha)
	}
}

// Validate joins what Check reports; nil where that is nothing.
func (c Config) Validate() error {
	var errs []error
	c.Check(func(field string, err error) { errs = append(errs, fmt.Errorf("%s: %w", field, err)) })
	return errors.Join(errs...)
}

// ValidateThreshold accepts ratios between 0 and 1, both excluded.
func ValidateThreshold(t float64) error {
	if t > 0 && t < 1 {
		return nil
	}
	if t >= 1 && t < 100 {
		return fmt.Errorf("the threshold %v is not between 0 and 1: it is a ratio, so write %v %% as %v", t, t, t/100)
	}
	return fmt.Errorf("the threshold %v is not between 0 and 1: it is a ratio, such as 0.12 for 12 %%", t)
}

// NextLook returns the number of rounds at which, after n rounds, the next look takes place: until
// then Decide has nothing new to say. It is 0 when there is none left, or when the
// configuration is not valid.
func (c Config) NextLook(n int) int {
	if c.Validate() != nil {
		return 0
	}
	for _, rounds := range lookRounds(c.MinRounds, c.MaxRounds) {
		if rounds > n {
			return rounds
		}
	}
	return 0
}
