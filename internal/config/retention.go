package config

import (
	"time"

	"github.com/prometheus/common/model"
)

// Retention is the section `storage.retention:`, which bounds the results that are kept
// of each pair. The newest decision and the newest failure
// of a pair always stay, and so do its standing decision, its latest figures and its
// counters.
type Retention struct {
	// Age beyond which decided results go, and failed ones at twice that: whoever looks for
	// what went wrong comes late. Default 365d; 0 means no bound.
	Age model.Duration `yaml:"age"`
	// Cycles is how many decided results are kept of each pair, and twice as many failed
	// ones; the two are counted apart, so that neither pushes out the other. Default 200;
	// 0 means no bound.
	Cycles int `yaml:"cycles"`
}

// DefaultRetention keeps a year and 200 cycles.
func DefaultRetention() Retention {
	return Retention{Age: model.Duration(365 * 24 * time.Hour), Cycles: 200}
}

// Validate finds every value that cannot be used.
func (r Retention) Validate() []Problem {
	var found problems
	if r.Age < 0 {
		found.add("age", "%v is not an age: use a duration such as 365d, or 0 for no bound", time.Duration(r.Age))
	}
	if r.Cycles < 0 {
		found.add("cycles", "%d cycles cannot be kept: use 1 or more, or 0 for no bound", r.Cycles)
	}
	return found
}
