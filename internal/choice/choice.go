// Package choice says which of a model's formats to serve: among the kept ones the smallest,
// the fastest, or the one nearest to the original. No two measurements are the same, and a
// choice that followed every difference would change from night to night: so copies that
// cannot be told apart count as equal, and among equals the choice stays.
package choice

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/alecthomas/units"

	"github.com/quant-exporter/quant-exporter/internal/studentt"
	"github.com/quant-exporter/quant-exporter/internal/text"
)

// Rule is how a format is chosen: one of the words of the configuration, or such a word with
// limits, as Limited writes it.
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

// Limits bound the copies that a rule chooses, in bytes; 0 means no limit.
type Limits struct {
	Size   int64 // of the file
	Host   int64 // of the host's memory that the copy took while it was measured
	Device int64 // likewise, of each accelerator's memory
}

// names of the limits in a rule, as the configuration has them.
const (
	maxSize         = "max_size"
	maxMemoryHost   = "max_memory.host"
	maxMemoryDevice = "max_memory.device"
)

// named returns the limit of a name; nil if there is none.
func (l *Limits) named(name string) *int64 {
	switch name {
	case maxSize:
		return &l.Size
	case maxMemoryHost:
		return &l.Host
	case maxMemoryDevice:
		return &l.Device
	default:
		return nil
	}
}

// separator is what parts the word of a rule and its limits.
const separator = ", "

// Limited returns the rule by, limited to the copies within the limits. The rule is text that
// people can read: "fastest, max_size 8GB, max_memory.host 24GB".
func Limited(by Rule, limits Limits) Rule {
	for _, name := range []string{maxSize, maxMemoryHost, maxMemoryDevice} {
		if bytes := *limits.named(name); bytes != 0 {
			by += Rule(separator + name + " " + text.Bytes(bytes))
		}
	}
	return by
}

// By returns the rule without its limits.
func (r Rule) By() Rule {
	by, _, _ := strings.Cut(string(r), separator)
	return Rule(by)
}

// Limits returns the limits of a rule that Validate accepts.
func (r Rule) Limits() Limits {
	limits, _ := r.limits()
	return limits
}

func (r Rule) limits() (limits Limits, err error) {
	for _, limit := range strings.Split(string(r), separator)[1:] {
		name, size, _ := strings.Cut(limit, " ")
		bytes := limits.named(name)
		if bytes == nil {
			return limits, fmt.Errorf("%q is not a limit: use %s, %s or %s", name, maxSize, maxMemoryHost, maxMemoryDevice)
		}
		if *bytes, err = units.ParseStrictBytes(size); err != nil || *bytes < 0 {
			return limits, fmt.Errorf("%s: %q is not a size: use one such as 8GB, or 0 for no limit", name, size)
		}
	}
	return limits, nil
}

// Unmeasured returns the rule without the limits that only a measurement can hold a copy to.
func (r Rule) Unmeasured() Rule { return Limited(r.By(), Limits{Size: r.Limits().Size}) }

// Chooses reports whether a copy is within the limits. A copy of which a limited figure is not
// known is not.
func (r Rule) Chooses(c Candidate) bool {
	limits := r.Limits()
	switch {
	case limits.Size > 0 && c.Bytes > limits.Size:
		return false
	case (limits.Host > 0 || limits.Device > 0) && c.Memory == nil:
		return false
	case limits.Host > 0 && (c.Memory.Host == 0 || c.Memory.Host > limits.Host):
		return false
	default:
		return limits.Device == 0 || c.Memory.DeviceKnown && c.Memory.Device <= limits.Device
	}
}

// Validate returns an error for anything that is not a rule.
func (r Rule) Validate() error {
	if r == None {
		return nil
	}
	if r.By() == None {
		name, _, _ := strings.Cut(strings.TrimPrefix(string(r), separator), " ")
		return fmt.Errorf("%s limits no choice: say how to choose, as in {by: %s, max_size: 8GB}", name, Fastest)
	}
	if !slices.Contains(Rules(), r.By()) {
		return fmt.Errorf("%q is not a way to choose a format: use %s, %s or %s, or leave it out", string(r.By()), Smallest, Fastest, BestQuality)
	}
	_, err := r.limits()
	return err
}

// Superlative names the format that the rule chooses: "the smallest that is kept".
func (r Rule) Superlative() string {
	said := string(r.By())
	switch r.By() {
	case Smallest:
		said = "the smallest that is kept"
	case Fastest:
		said = "the fastest that is kept"
	case BestQuality:
		said = "the one that is kept with the least KL divergence"
	}
	limits := r.Limits()
	if limits.Size > 0 {
		said += ", of at most " + text.Bytes(limits.Size)
	}
	if limits.Host > 0 {
		said += ", in at most " + text.Bytes(limits.Host) + " of the host's memory"
	}
	if limits.Device > 0 {
		said += ", in at most " + text.Bytes(limits.Device) + " of a device's memory"
	}
	return said
}

// Candidate is a format whose standing decision is kept, with its latest figures.
type Candidate struct {
	Target string
	Bytes  int64
	// Drop in throughput from the original, a ratio, in the primary phase; nil when no
	// round was measured.
	Drop *Figure
	// Method is how the drop was measured; "" when that is not known. Drops by two methods are
	// not compared.
	Method string
	// Speeds are the ratios of its speed to the original's that the drop is the mean of, by round:
	// two candidates that were measured in the same round have the same key for it. nil when they are
	// not known.
	Speeds map[int64]float64
	// KLDivergence is the mean, in nats; nil when quality was not evaluated.
	KLDivergence *Figure
	// Memory is what the copy took while it was measured; nil when no round was.
	Memory *Memory
	// PassedOverFor is the target for which this one was last passed over by the rule; "" when
	// it was not. While that one is a candidate, this one's figures, which are older, do
	// not count.
	PassedOverFor string
}

// Memory is in bytes.
type Memory struct {
	Host   int64 // 0 where the system does not report it
	Device int64 // the most of any one accelerator; 0 without one
	// DeviceKnown is false where the tool did not say what it took, and Device is 0 for that reason.
	DeviceKnown bool
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

// Compare returns -1 where f is below other whatever both may well be, +1 where it is above, and 0
// where their intervals overlap.
func (f Figure) Compare(other Figure) int {
	switch {
	case f.below(other, 0):
		return -1
	case other.below(f, 0):
		return +1
	default:
		return 0
	}
}

// below reports whether f is below other by more than the tolerance, whatever both may well be.
func (f Figure) below(other Figure, tolerance float64) bool {
	_, upper := f.ends()
	lower, _ := other.ends()
	return upper+tolerance < lower
}

// Tolerance is by how much the mean KL divergence of two copies, in nats, has to differ, beyond
// their intervals, for one to be the better. Near the original, the order of the divergence says
// nothing of the order in tasks (arXiv 2606.19558: rank correlations of 0.00 and -0.24); 0.005
// is about the divergence of a Q6_K.
const Tolerance = 0.005

// Rounds that two copies have in common tell their speeds apart much better than the intervals of
// each: what the original and the host did in a round is the same for both. This many are needed for it,
// and the interval of the difference has a confidence of firstConfidence where nothing is chosen yet, and
// of changeConfidence where another takes the place of what is: two copies that are equally fast
// change places in one cycle of two thousand then.
const (
	fewestRounds     = 3
	firstConfidence  = 0.95
	changeConfidence = 0.999
)

// Choose returns the target that the rule chooses; "" when there is none. A candidate without
// the figure that the rule goes by, or beyond its limits, is none. Those are equal of which none
// is better than another beyond its interval. Of equals the standing choice stays, else the smallest is
// chosen, then the one with the better figure, then the first by name.
func (r Rule) Choose(candidates []Candidate, standing string) string {
	running := slices.DeleteFunc(slices.Clone(candidates), func(c Candidate) bool {
		passedOver := slices.ContainsFunc(candidates, func(other Candidate) bool { return other.Target == c.PassedOverFor })
		return passedOver || r.figure(c) == nil || !r.Chooses(c)
	})
	beaten := func(c Candidate, confidence float64) bool {
		return slices.ContainsFunc(running, func(other Candidate) bool { return r.better(other, c, confidence) })
	}
	if i := slices.IndexFunc(running, func(c Candidate) bool { return c.Target == standing }); i >= 0 && !beaten(running[i], changeConfidence) {
		return standing
	}
	if len(running) == 0 {
		return ""
	}
	equal := slices.DeleteFunc(slices.Clone(running), func(c Candidate) bool { return beaten(c, firstConfidence) })
	if len(equal) == 0 { // beaten in a circle, each in other rounds
		equal = running
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
func (r Rule) better(a, b Candidate, confidence float64) bool {
	switch r.By() {
	case Fastest:
		return compareSpeeds(a, b, confidence) < 0
	case BestQuality:
		return r.figure(a).below(*r.figure(b), Tolerance)
	default:
		return r.figure(a).below(*r.figure(b), 0)
	}
}

// CompareSpeeds returns -1 where a is faster than b whatever the speeds of both, which have to be known,
// may well be, +1 where it is slower, and 0 where they cannot be told apart.
func CompareSpeeds(a, b Candidate) int { return compareSpeeds(a, b, firstConfidence) }

// compareSpeeds goes by the rounds that both were measured in where there are enough of them, at that
// confidence, and else by whether their intervals overlap.
func compareSpeeds(a, b Candidate, confidence float64) int {
	var faster []float64 // by how much a is
	for round, speed := range a.Speeds {
		if other := b.Speeds[round]; other > 0 && speed > 0 {
			faster = append(faster, math.Log(speed)-math.Log(other))
		}
	}
	if len(faster) >= fewestRounds {
		slices.Sort(faster) // so that the sum is the same each time
		mean, half := studentt.Interval(faster, confidence)
		switch {
		case mean > half:
			return -1
		case mean < -half:
			return +1
		default:
			return 0
		}
	}
	if a.Method != b.Method {
		return 0
	}
	return a.Drop.Compare(*b.Drop)
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
