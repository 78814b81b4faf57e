package runner

import (
	"context"
	"slices"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// decideAll decides every pair, or passes over those that could not be chosen any more.
func (c *cycle) decideAll(ctx context.Context) error {
	pairs := c.undecided()
	switch {
	case c.Choose.By() == choice.Smallest && len(pairs) > 1:
		return c.smallestFirst(ctx, pairs)
	case c.Choose.By() == choice.BestQuality && len(pairs) > 1:
		return c.bestFirst(ctx, pairs)
	}
	if err := c.prepareCopies(ctx, pairs); err != nil {
		return err
	}
	if err := c.forgetPredictions(); err != nil {
		return err
	}
	return c.measure(ctx, pairs)
}

// prepareCopies makes copies, where they are not made yet, and finds their quality.
func (c *cycle) prepareCopies(ctx context.Context, pairs []*pair) error {
	missing := slices.DeleteFunc(undecided(pairs), func(p *pair) bool { return p.quantized.Bytes > 0 })
	if err := c.quantize(ctx, missing); err != nil {
		return err
	}
	return c.evaluate(ctx, undecided(pairs))
}

// smallestFirst looks at pairs from the smallest on, until one is kept: the others are
// larger.
func (c *cycle) smallestFirst(ctx context.Context, pairs []*pair) error {
	if slices.ContainsFunc(pairs, func(p *pair) bool { return p.size == 0 }) { // bounds say nothing of the order
		if err := c.quantize(ctx, pairs); err != nil {
			return err
		}
	}
	rest, beyond := c.inOrder(undecided(pairs))
	for len(rest) > 0 {
		var group []*pair
		var err error
		if group, rest, err = c.upToCandidate(ctx, rest); err != nil {
			return err
		}
		if over, err := c.decideGroup(ctx, group, slices.Concat(rest, beyond)); over || err != nil {
			return err
		}
	}
	if err := c.prepareCopies(ctx, beyond); err != nil {
		return err
	}
	return c.measure(ctx, beyond)
}

// upToCandidate prepares copies in their order up to the first that no limit of quality
// rejects. It gives those, without what failed by itself, and the ones it has not looked
// at.
func (c *cycle) upToCandidate(ctx context.Context, pairs []*pair) (group, rest []*pair, err error) {
	for i, p := range pairs {
		if err := c.prepareCopies(ctx, []*pair{p}); err != nil {
			return nil, nil, err
		}
		if p.done {
			continue
		}
		if group = append(group, p); !p.exceedsLimit() {
			return group, pairs[i+1:], nil
		}
	}
	return group, nil, nil
}

// bestFirst measures pairs from the best on, until one is kept: the others are not as good.
func (c *cycle) bestFirst(ctx context.Context, pairs []*pair) error {
	if err := c.prepareCopies(ctx, pairs); err != nil {
		return err
	}
	if err := c.forgetPredictions(); err != nil {
		return err
	}
	var group, rest []*pair
	for _, p := range undecided(pairs) {
		if p.exceedsLimit() {
			group = append(group, p)
		} else {
			rest = append(rest, p)
		}
	}
	rest, beyond := c.inOrder(rest)
	for len(rest) > 0 {
		group, rest = append(group, rest[0]), rest[1:]
		if over, err := c.decideGroup(ctx, group, slices.Concat(rest, beyond)); over || err != nil {
			return err
		}
		group = nil
	}
	return c.measure(ctx, slices.Concat(group, beyond))
}

// inOrder puts pairs whose sizes, and quality where the rule goes by it, are known into the
// order of the rule. Those beyond its limit of size can never be chosen.
func (c *cycle) inOrder(pairs []*pair) (ordered, beyond []*pair) {
	var candidates []choice.Candidate
	byTarget := map[string]*pair{}
	rule := c.Choose.Unmeasured()
	for _, p := range pairs {
		candidate := choice.Candidate{Target: p.target, Bytes: p.size, KLDivergence: divergence(p.quality)}
		if !rule.Chooses(candidate) {
			beyond = append(beyond, p)
			continue
		}
		candidates = append(candidates, candidate)
		byTarget[p.target] = p
	}
	for _, target := range rule.Order(candidates, c.Chosen) {
		ordered = append(ordered, byTarget[target])
	}
	return ordered, beyond
}

// decideGroup measures a group, of which the last is the candidate. If that stands as kept, and
// took no more memory than the rule allows, the rest, which the rule puts behind it, is passed over, and the search over.
func (c *cycle) decideGroup(ctx context.Context, group, rest []*pair) (over bool, err error) {
	if err := c.measure(ctx, group); err != nil || len(group) == 0 {
		return false, err
	}
	candidate := group[len(group)-1]
	taken := memoryFigures(candidate.rounds, c.MaxMemory).taken(c.info.Devices == "")
	if !candidate.kept() || !c.Choose.Chooses(choice.Candidate{Bytes: candidate.size, Memory: taken}) {
		return false, nil
	}
	if len(rest) == 0 {
		return true, nil
	}
	var targets []string
	for _, p := range rest {
		p.done = true
		targets = append(targets, p.target)
	}
	if c.PassedOver != nil {
		c.PassedOver(candidate.target, targets)
	}
	return true, nil
}

// kept reports whether the pair stands as kept now that it has ended.
func (p *pair) kept() bool {
	return p.outcome == verdict.Kept || p.outcome == verdict.Inconclusive && p.previous == verdict.Kept
}
