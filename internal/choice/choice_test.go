package choice_test

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
)

func candidate(target string, bytes int64, drop, divergence float64) choice.Candidate {
	return choice.Candidate{Target: target, Bytes: bytes, Drop: &choice.Figure{Estimate: drop}, KLDivergence: &choice.Figure{Estimate: divergence}}
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
			assert.Equal(t, test.want, test.rule.Choose(test.candidates, ""))
			reversed := slices.Clone(test.candidates)
			slices.Reverse(reversed)
			assert.Equal(t, test.want, test.rule.Choose(reversed, ""), "in whatever order they come")
		})
	}
}

func within(target string, bytes int64, estimate, lower, upper float64) choice.Candidate {
	figure := &choice.Figure{Estimate: estimate, Lower: lower, Upper: upper}
	return choice.Candidate{Target: target, Bytes: bytes, Drop: figure, KLDivergence: figure}
}

func TestEqualsAreWhatIntervalsDoNotTellApart(t *testing.T) {
	inf := math.Inf(1)
	night := []choice.Candidate{
		within("Q8_0", 800, -0.42, -0.50, -0.36), within("Q6_K", 600, -0.45, -0.52, -0.38), within("Q4_K_M", 400, -0.30, -0.35, -0.25),
	}
	near := []choice.Candidate{
		within("Q8_0", 800, 0.0002, 0.0001, 0.0003), within("Q6_K", 600, 0.0013, 0.0012, 0.0014), within("Q4_K_M", 400, 0.0115, 0.0110, 0.0120),
	}
	for name, test := range map[string]struct {
		rule       choice.Rule
		candidates []choice.Candidate
		standing   string
		want       []string
	}{
		"the smaller of equals":                    {choice.Fastest, night, "", []string{"Q6_K", "Q8_0", "Q4_K_M"}},
		"the choice stays among equals":            {choice.Fastest, night, "Q8_0", []string{"Q8_0", "Q6_K", "Q4_K_M"}},
		"another is better beyond its interval":    {choice.Fastest, night, "Q4_K_M", []string{"Q6_K", "Q8_0", "Q4_K_M"}},
		"the choice is no candidate any more":      {choice.Fastest, night, "Q2_K", []string{"Q6_K", "Q8_0", "Q4_K_M"}},
		"near the original, divergence ranks none": {choice.BestQuality, near, "", []string{"Q6_K", "Q8_0", "Q4_K_M"}},
		"the choice stays near the original":       {choice.BestQuality, near, "Q8_0", []string{"Q8_0", "Q6_K", "Q4_K_M"}},
		"bytes have no interval":                   {choice.Smallest, night, "Q8_0", []string{"Q4_K_M", "Q6_K", "Q8_0"}},
		"an open end": {
			choice.Fastest, []choice.Candidate{within("A", 2, -0.9, -0.95, -0.8), within("B", 1, 0, -inf, inf)}, "", []string{"B", "A"},
		},
		"of one size, the better": {
			choice.Fastest, []choice.Candidate{within("A", 1, -0.4, -0.5, -0.3), within("B", 1, -0.41, -0.5, -0.3)}, "", []string{"B", "A"},
		},
		// B overlaps both, and C is better than A: all that is not beaten is equal.
		"overlap is not transitive": {
			choice.Fastest, []choice.Candidate{within("A", 1, -0.1, -0.2, 0), within("B", 2, -0.2, -0.4, -0.1), within("C", 3, -0.4, -0.5, -0.3)}, "A", []string{"B", "C", "A"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			order := test.rule.Order(test.candidates, test.standing)
			assert.Equal(t, test.want, order)
			chosen := test.rule.Choose(test.candidates, test.standing)
			assert.Equal(t, test.want[0], chosen)
			assert.Equal(t, chosen, test.rule.Choose(test.candidates, chosen), "nothing changed, nothing changes")
		})
	}
}

func TestSpeedsByTwoMethodsAreNotCompared(t *testing.T) {
	fast, slow := within("Q8_0", 8, -0.5, -0.51, -0.49), within("Q2_K", 2, 0, -0.01, 0.01)
	fast.Method, slow.Method = "paired", "process"
	assert.Equal(t, "Q2_K", choice.Fastest.Choose([]choice.Candidate{fast, slow}, ""), "the smaller of equals")
	slow.Method = "paired"
	assert.Equal(t, "Q8_0", choice.Fastest.Choose([]choice.Candidate{fast, slow}, ""))
}

// Twenty nights of measurements whose order changes from one to the next.
func TestTheChoiceHoldsStill(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	standing, orders := "", map[string]bool{}
	for range 20 {
		night := []choice.Candidate{}
		for i, drop := range []float64{-0.40, -0.42, -0.44} {
			estimate := drop + 0.03*random.NormFloat64()
			night = append(night, within([]string{"Q8_0", "Q6_K", "Q5_K_M"}[i], int64(800-100*i), estimate, estimate-0.1, estimate+0.1))
		}
		fastest := slices.MinFunc(night, func(a, b choice.Candidate) int { return cmp.Compare(a.Drop.Estimate, b.Drop.Estimate) })
		orders[fastest.Target] = true
		chosen := choice.Fastest.Choose(night, standing)
		if standing != "" {
			assert.Equal(t, standing, chosen)
		}
		standing = chosen
	}
	assert.Greater(t, len(orders), 1, "the least drop alone would choose one and then another")
}

func TestValidate(t *testing.T) {
	for _, rule := range append(choice.Rules(), choice.None) {
		require.NoError(t, rule.Validate())
	}
	assert.ErrorContains(t, choice.Rule("biggest").Validate(), `"biggest" is not a way to choose a format: use smallest, fastest or best-quality`)
}

func TestRuleWithALimit(t *testing.T) {
	of := func(bytes int64) choice.Candidate { return choice.Candidate{Bytes: bytes} }
	rule := choice.Limited(choice.Fastest, choice.Limits{Size: 8_000_000_000})
	assert.EqualValues(t, "fastest, max_size 8GB", rule)
	assert.Equal(t, choice.Fastest, rule.By())
	assert.Equal(t, choice.Limits{Size: 8_000_000_000}, rule.Limits())
	assert.Equal(t, "the fastest that is kept, of at most 8GB", rule.Superlative())
	require.NoError(t, rule.Validate())
	assert.True(t, rule.Chooses(of(8_000_000_000)))
	assert.False(t, rule.Chooses(of(8_000_000_001)))

	for _, bytes := range []int64{1, 1000, 1024, 1025, 1_500_000, 7<<30 + 1} {
		assert.Equal(t, bytes, choice.Limited(choice.Smallest, choice.Limits{Size: bytes}).Limits().Size)
	}
	assert.Equal(t, choice.Fastest, choice.Limited(choice.Fastest, choice.Limits{}))
	assert.True(t, choice.Fastest.Chooses(of(1<<62)))
	require.ErrorContains(t, choice.Limited(choice.None, choice.Limits{Size: 1000}).Validate(), "max_size limits no choice: say how to choose, as in {by: fastest, max_size: 8GB}")
	require.ErrorContains(t, choice.Limited(choice.None, choice.Limits{Host: 1000}).Validate(), "max_memory.host limits no choice")
	require.ErrorContains(t, choice.Limited("biggest", choice.Limits{Size: 1000}).Validate(), `"biggest" is not a way to choose a format`)
	require.ErrorContains(t, choice.Rule("fastest, max_size much").Validate(), "max_size")
	require.ErrorContains(t, choice.Rule("fastest, max_age 1d").Validate(), `"max_age" is not a limit`)

	ladder := []choice.Candidate{candidate("Q8_0", 800, -0.4, 0.001), candidate("Q4_K_M", 400, -0.9, 0.01), candidate("Q3_K_M", 300, -0.8, 0.04)}
	upTo := func(by choice.Rule, size int64) choice.Rule { return choice.Limited(by, choice.Limits{Size: size}) }
	assert.Equal(t, "Q3_K_M", upTo(choice.Fastest, 300).Choose(ladder, ""))
	assert.Equal(t, "Q3_K_M", upTo(choice.Fastest, 300).Choose(ladder, "Q4_K_M"), "the choice does not stay beyond the limit")
	assert.Equal(t, "Q4_K_M", upTo(choice.BestQuality, 799).Choose(ladder, ""))
	assert.Empty(t, upTo(choice.Smallest, 299).Choose(ladder, ""))
}

func TestRuleWithLimitsOfMemory(t *testing.T) {
	rule := choice.Limited(choice.Fastest, choice.Limits{Size: 8_000_000_000, Host: 24_000_000_000, Device: 12 << 30})
	assert.EqualValues(t, "fastest, max_size 8GB, max_memory.host 24GB, max_memory.device 12GiB", rule)
	assert.Equal(t, choice.Limits{Size: 8_000_000_000, Host: 24_000_000_000, Device: 12 << 30}, rule.Limits())
	require.NoError(t, rule.Validate())
	assert.Equal(t, "the fastest that is kept, of at most 8GB, in at most 24GB of the host's memory, in at most 12GiB of a device's memory", rule.Superlative())
	assert.EqualValues(t, "fastest, max_size 8GB", rule.Unmeasured())

	took := func(host, device int64) choice.Candidate {
		return choice.Candidate{Memory: &choice.Memory{Host: host, Device: device, DeviceKnown: true}}
	}
	for name, test := range map[string]struct {
		limits choice.Limits
		copied choice.Candidate
		want   bool
	}{
		"within":                     {choice.Limits{Host: 100, Device: 50}, took(100, 50), true},
		"too much of the host":       {choice.Limits{Host: 100, Device: 50}, took(101, 50), false},
		"too much of a device":       {choice.Limits{Host: 100, Device: 50}, took(100, 51), false},
		"nothing of a device":        {choice.Limits{Device: 50}, took(0, 0), true},
		"the system does not say":    {choice.Limits{Host: 100}, took(0, 0), false},
		"the tool does not say":      {choice.Limits{Device: 50}, choice.Candidate{Memory: &choice.Memory{Host: 100}}, false},
		"nor does anyone ask":        {choice.Limits{Host: 100}, choice.Candidate{Memory: &choice.Memory{Host: 100}}, true},
		"not measured":               {choice.Limits{Host: 100}, choice.Candidate{}, false},
		"not measured, and no limit": {choice.Limits{Size: 1}, choice.Candidate{}, true},
		"no limit of what it took":   {choice.Limits{}, took(1<<60, 1<<60), true},
	} {
		assert.Equal(t, test.want, choice.Limited(choice.Smallest, test.limits).Chooses(test.copied), name)
	}
}
