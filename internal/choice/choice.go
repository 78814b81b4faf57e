// Package choice says which of a model's formats to serve: among the kept ones the smallest,
// the fastest, or the one nearest to the original. No two measurements are the same, and a
// choice that followed every difference would change from night to night: so copies whose
// intervals overlap count as equal, and among equals the choice stays.
package choice

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/units"
)

// Rule is how a format is chosen: one of the words of the configuration, or such a word with
// a limit, as Limited writes it.
type Rule string

// The rules.
const (
	None        Rule = ""             // no format is chosen
	Smallest    Rule = "smallest"     // fewest bytes
	Fastest     Rule = "fastest"      // least drop in throughput, in the primary phase
	BestQuality Rule = "best-quality" // least mean KL divergence from the original, within Tolerance
)

// Rules returns the rules that choose.
func Rules() []Rule { return []Rule{Smallest, Fastest, BestQuality} }

// limit separates the word of a rule from the size of the largest copy that it chooses.
const limit = ", max_size "

// Limited returns the rule by, limited to copies of at most so many bytes; 0 means no limit.
// The rule is text that people can read: "fastest, max_size 8GB".
func Limited(by Rule, maxSize int64) Rule {
	switch {
	case maxSize == 0:
		return by
	case maxSize%1000 == 0:
		return by + limit + Rule(units.MetricBytes(maxSize).String())
	default:
		return by + limit + Rule(units.Base2Bytes(maxSize).String())
	}
}

// By returns the rule without its limit.
func (r Rule) By() Rule {
	by, _, _ := strings.Cut(string(r), limit)
	return Rule(by)
}

// MaxSize returns the size of the largest copy that the rule chooses, in bytes; 0 without a limit.
func (r Rule) MaxSize() int64 {
	bytes, _ := r.maxSize()
	return bytes
}

func (r Rule) maxSize() (bytes int64, err error) {
	if _, size, limited := strings.Cut(string(r), limit); limited {
		bytes, err = units.ParseStrictBytes(size)
	}
	return bytes, err
}

// Chooses reports whether a copy of so many bytes is within the limit.
func (r Rule) Chooses(bytes int64) bool { return r.MaxSize() == 0 || bytes <= r.MaxSize() }

// Validate returns an error for anything that is not a rule.
func (r Rule) Validate() error {
	if r == None {
		return nil
	}
	if r.By() == None {
		return fmt.Errorf("max_size limits no choice: say how to choose, as in {by: %s, max_size: 8GB}", Fastest)
	}
	if !slices.Contains(Rules(), r.By()) {
		return fmt.Errorf("%q is not a way to choose a format: use %s, %s or %s, or leave it out", string(r.By()), Smallest, Fastest, BestQuality)
	}
	if bytes, err := r.maxSize(); err != nil || bytes < 0 {
		return fmt.Errorf("max_size: %d bytes is not a size: use one such as 8GB, or 0 for no limit", bytes)
	}
	return nil
}

// Superlative names the format that the rule chooses: "the smallest that is kept".
func (r Rule) Superlative() string {
	if _, size, limited := strings.Cut(string(r), limit); limited {
		return r.By().Superlative() + ", of at most " + size
	}
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
	Drop *Figure
	// KLDivergence is the mean, in nats; nil when quality was not evaluated.
	KLDivergence *Figure
	// PassedOverFor is the target for which this one was last passed over by the rule; "" when
	// it was not. While that one is a candidate, this one's figures, which are older, do
	// not count.
	PassedOverFor string
}

// Figure is what was measured, and between which ends it may well be. Ends that do not hold
// the estimate say nothing: the estimate then is all that is known.
type Figure struct{ Estimate, Lower, Upper float64 }

func (f Figure) ends() (lower, upper float64) {
	if f.Lower <= f.Estimate && f.Estimate <= f.Upper {
		return f.Lower, f.Upper
	}
	return f.Estimate, f.Estimate
}

// Tolerance is by how much the mean KL divergence of two copies, in nats, has to differ, beyond
// their intervals, for one to be the better. Near the original, the order of the divergence says
// nothing of the order in tasks (arXiv 2606.19558: rank correlations of 0.00 and -0.24); 0.005
// is about the divergence of a Q6_K.
const Tolerance = 0.005

// Choose returns the target that the rule chooses; "" when there is none. A candidate without
// the figure that the rule goes by, or beyond its limit, is none. Those are equal of which none is better than
// another beyond its interval. Of equals the standing choice stays, else the smallest is
// chosen, then the one with the better figure, then the first by name.
func (r Rule) Choose(candidates []Candidate, standing string) string {
	running := slices.DeleteFunc(slices.Clone(candidates), func(c Candidate) bool {
		passedOver := slices.ContainsFunc(candidates, func(other Candidate) bool { return other.Target == c.PassedOverFor })
		return passedOver || r.figure(c) == nil || !r.Chooses(c.Bytes)
	})
	equal := slices.DeleteFunc(slices.Clone(running), func(c Candidate) bool {
		return slices.ContainsFunc(running, func(other Candidate) bool { return r.better(other, c) })
	})
	if len(equal) == 0 {
		return ""
	}
	if slices.ContainsFunc(equal, func(c Candidate) bool { return c.Target == standing }) {
		return standing
	}
	return slices.MinFunc(equal, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(r.figure(a).Estimate, r.figure(b).Estimate), cmp.Compare(a.Target, b.Target))
	}).Target
}

// Order returns the targets in the order in which the rule would choose them, were those before
// not kept.
func (r Rule) Order(candidates []Candidate, standing string) []string {
	var order []string
	for rest := slices.Clone(candidates); ; {
		next := r.Choose(rest, standing)
		if next == "" {
			return order
		}
		order = append(order, next)
		rest = slices.DeleteFunc(rest, func(c Candidate) bool { return c.Target == next })
	}
}

// better reports whether a is better than b beyond what their figures may well be.
func (r Rule) better(a, b Candidate) bool {
	tolerance := 0.0
	if r.By() == BestQuality {
		tolerance = Tolerance
	}
	_, worst := r.figure(a).ends()
	best, _ := r.figure(b).ends()
	return worst+tolerance < best
}

// figure returns what the rule goes by, the least being the best; nil where it is not known.
func (r Rule) figure(c Candidate) *Figure {
	switch r.By() {
	case Smallest:
		bytes := float64(c.Bytes)
		return &Figure{bytes, bytes, bytes}
	case Fastest:
		return c.Drop
	case BestQuality:
		return c.KLDivergence
	default:
		return nil
	}
}
