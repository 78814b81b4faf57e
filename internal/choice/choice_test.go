package choice_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
)

func candidate(target string, bytes int64, drop, divergence float64) choice.Candidate {
	return choice.Candidate{Target: target, Bytes: bytes, Drop: &drop, KLDivergence: &divergence}
}

func TestChoose(t *testing.T) {
	ladder := []choice.Candidate{
		candidate("Q8_0", 800, -0.4, 0.001),
		candidate("Q4_K_M", 400, -0.9, 0.01),
		candidate("Q3_K_M", 300, -0.8, 0.04),
	}
	without := func(strip func(*choice.Candidate)) []choice.Candidate {
		list := slices.Clone(ladder)
		for i := range list {
			strip(&list[i])
		}
		return list
	}
	passedOver := func(target, by string) []choice.Candidate {
		return without(func(c *choice.Candidate) {
			if c.Target == target {
				c.PassedOverFor = by
			}
		})
	}
	for name, test := range map[string]struct {
		rule       choice.Rule
		candidates []choice.Candidate
		want       string
	}{
		"smallest":             {choice.Smallest, ladder, "Q3_K_M"},
		"fastest":              {choice.Fastest, ladder, "Q4_K_M"},
		"best quality":         {choice.BestQuality, ladder, "Q8_0"},
		"no rule":              {choice.None, ladder, ""},
		"nobody is kept":       {choice.Smallest, nil, ""},
		"not evaluated":        {choice.BestQuality, without(func(c *choice.Candidate) { c.KLDivergence = nil }), ""},
		"not measured":         {choice.Fastest, without(func(c *choice.Candidate) { c.Drop = nil }), ""},
		"size is always known": {choice.Smallest, without(func(c *choice.Candidate) { c.Drop, c.KLDivergence = nil, nil }), "Q3_K_M"},
		"of equals the first by name": {
			choice.Smallest, without(func(c *choice.Candidate) { c.Bytes = 5 }), "Q3_K_M",
		},
		"one without the figure is passed over": {
			choice.BestQuality, without(func(c *choice.Candidate) {
				if c.Target == "Q8_0" {
					c.KLDivergence = nil
				}
			}), "Q4_K_M",
		},
		// An older figure says that Q3_K_M is smaller: of another file.
		"passed over for one that is kept": {choice.Smallest, passedOver("Q3_K_M", "Q4_K_M"), "Q4_K_M"},
		"passed over for one that is not":  {choice.Smallest, passedOver("Q3_K_M", "Q2_K"), "Q3_K_M"},
		"passed over, and the only choice": {choice.Smallest, passedOver("Q3_K_M", "Q2_K")[2:], "Q3_K_M"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, test.want, test.rule.Choose(test.candidates))
			reversed := slices.Clone(test.candidates)
			slices.Reverse(reversed)
			assert.Equal(t, test.want, test.rule.Choose(reversed), "in whatever order they come")
		})
	}
}

func TestValidate(t *testing.T) {
	for _, rule := range append(choice.Rules(), choice.None) {
		require.NoError(t, rule.Validate())
	}
	assert.ErrorContains(t, choice.Rule("biggest").Validate(), `"biggest" is no way to choose a format: use smallest, fastest or best-quality`)
}
