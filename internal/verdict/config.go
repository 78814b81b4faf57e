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
	// Phases must each pass for a pair to be kept. Their order is that of the report.
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

// Default asks for both phases, a threshold of 12 %, 3 to 56 rounds and an error rate
// of 5 %. The package's documentation says why 56.
func Default() Config {
	return Config{Threshold: 0.12, Phases: []Phase{Generation, Prompt}, MinRounds: 3, MaxRounds: 56, Alpha: 0.05}
}

// Validate says, all at once, what of the configuration cannot be used and what to give
// instead.
func (c Config) Validate() error {
	var errs []error
	// The comparisons are written so that NaN fails them.
	if !(c.Threshold > 0 && c.Threshold < 1) {
		errs = append(errs, fmt.Errorf("threshold is %v: give a drop between 0 and 1, both excluded, such as 0.12 for 12 %%", c.Threshold))
	}
	if len(c.Phases) == 0 {
		errs = append(errs, errors.New("no phases to decide on: give at least one"))
	}
	for i, phase := range c.Phases {
		switch {
		case phase != Generation && phase != Prompt:
			errs = append(errs, fmt.Errorf("phase %q is unknown: give %q, %q or both", phase, Generation, Prompt))
		case slices.Contains(c.Phases[:i], phase):
			errs = append(errs, fmt.Errorf("phase %q is named twice: name each once", phase))
		}
	}
	if c.MinRounds < fewestRounds {
		errs = append(errs, fmt.Errorf("the minimum is %d rounds: give at least %d, fewer have no useful interval", c.MinRounds, fewestRounds))
	}
	if c.MaxRounds < c.MinRounds || c.MaxRounds > mostRounds {
		errs = append(errs, fmt.Errorf("the maximum is %d rounds: give at least the minimum (%d) and at most %d", c.MaxRounds, c.MinRounds, mostRounds))
	}
	if !(c.Alpha >= lowestAlpha && c.Alpha <= highestAlpha) {
		errs = append(errs, fmt.Errorf("alpha is %v: give an error rate from %v to %v, such as 0.05", c.Alpha, lowestAlpha, highestAlpha))
	}
	return errors.Join(errs...)
}

// NextLook is the number of rounds at which, after n rounds, the next look takes place: until
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
