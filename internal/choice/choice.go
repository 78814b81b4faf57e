// Package choice says which of a model's formats to serve: of those that are kept, the
// smallest, the fastest, or the one nearest to the original.
package choice

import (
	"cmp"
	"fmt"
	"slices"
)

// Rule is how a format is chosen; the words are those of the configuration.
type Rule string

// The rules.
const (
	None        Rule = ""             // no format is chosen
	Smallest    Rule = "smallest"     // fewest bytes
	Fastest     Rule = "fastest"      // least drop in throughput, in the primary phase
	BestQuality Rule = "best-quality" // least mean KL divergence from the original
)

// Rules are those that choose.
func Rules() []Rule { return []Rule{Smallest, Fastest, BestQuality} }

// Validate refuses what is no rule.
func (r Rule) Validate() error {
	if r == None || slices.Contains(Rules(), r) {
		return nil
	}
	return fmt.Errorf("%q is no way to choose a format: use %s, %s or %s, or leave it out", string(r), Smallest, Fastest, BestQuality)
}

// Superlative names the format that the rule chooses: "the smallest that is kept".
func (r Rule) Superlative() string {
	switch r {
	case Smallest:
		return "the smallest that is kept"
	case Fastest:
		return "the fastest that is kept"
	case BestQuality:
		return "the one that is kept with the least KL divergence"
	default:
		return string(r)
	}
}

// Candidate is a format whose standing decision is kept, with its latest figures.
type Candidate struct {
	Target string
	Bytes  int64
	// Drop in throughput from the original, a ratio, in the primary phase; nil when no
	// round was measured.
	Drop *float64
	// KLDivergence is the mean, in nats; nil when quality was not evaluated.
	KLDivergence *float64
	// PassedOverFor is the target for which this one was last passed over by the rule; "" when
	// it was not. While that one is a candidate, this one's figures, which are older, do
	// not count.
	PassedOverFor string
}

// Choose gives the target that the rule puts first; "" when there is none. A candidate
// without the figure that the rule goes by is none, and of equals the first by name wins.
func (r Rule) Choose(candidates []Candidate) string {
	running := slices.DeleteFunc(slices.Clone(candidates), func(c Candidate) bool {
		passedOver := slices.ContainsFunc(candidates, func(other Candidate) bool { return other.Target == c.PassedOverFor })
		_, known := r.figure(c)
		return passedOver || !known
	})
	if len(running) == 0 {
		return ""
	}
	return slices.MinFunc(running, r.compare).Target
}

// compare orders candidates, what comes first being chosen.
func (r Rule) compare(a, b Candidate) int {
	x, _ := r.figure(a)
	y, _ := r.figure(b)
	return cmp.Or(cmp.Compare(x, y), cmp.Compare(a.Target, b.Target))
}

// figure is what the rule goes by, the least being the best.
func (r Rule) figure(c Candidate) (figure float64, known bool) {
	switch {
	case r == Smallest:
		return float64(c.Bytes), true
	case r == Fastest && c.Drop != nil:
		return *c.Drop, true
	case r == BestQuality && c.KLDivergence != nil:
		return *c.KLDivergence, true
	}
	return 0, false
}
