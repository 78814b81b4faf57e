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

// Intervals of single copies that overlap, and rounds in common that tell them apart, or do not.
func TestRoundsInCommonTellCopiesApart(t *testing.T) {
	rounds := func(first int64, speeds ...float64) map[int64]float64 {
		found := map[int64]float64{}
		for i, speed := range speeds {
			found[first+int64(i)] = speed
		}
		return found
	}
	for name, test := range map[string]struct {
		q2, q4       map[int64]float64
		first, later string // the choice where none stands, and where Q2_K does
	}{
		"not known":              {nil, nil, "Q2_K", "Q2_K"},
		"faster in every round":  {rounds(0, 1.3, 1.4, 1.2, 1.5), rounds(0, 1.403, 1.511, 1.297, 1.62), "Q4_K_M", "Q4_K_M"},
		"faster, not so clearly": {rounds(0, 1.3, 1.4, 1.2, 1.5), rounds(0, 1.40, 1.47, 1.31, 1.58), "Q4_K_M", "Q2_K"},
		"now one, now the other": {rounds(0, 1.3, 1.4, 1.2, 1.5), rounds(0, 1.40, 1.35, 1.25, 1.48), "Q2_K", "Q2_K"},
		"too few in common":      {rounds(0, 1.3, 1.4, 1.2, 1.5), rounds(2, 1.297, 1.62, 1.403, 1.511), "Q2_K", "Q2_K"},
		"slower":                 {rounds(0, 1.403, 1.511, 1.297, 1.62), rounds(0, 1.3, 1.4, 1.2, 1.5), "Q2_K", "Q2_K"},
	} {
		small, large := within("Q2_K", 2, -0.35, -0.6, -0.1), within("Q4_K_M", 4, -0.45, -0.7, -0.2)
		small.Speeds, large.Speeds = test.q2, test.q4
		candidates := []choice.Candidate{small, large}
		assert.Equal(t, test.first, choice.Fastest.Choose(candidates, ""), name)
		assert.Equal(t, test.later, choice.Fastest.Choose(candidates, "Q2_K"), name)
		if name != "slower" {
			assert.Equal(t, "Q4_K_M", choice.Fastest.Choose(candidates, "Q4_K_M"), "%s: what is not faster takes no place", name)
		}
	}
}

// Each is faster than the next in rounds that the third has no part in.
func TestCopiesThatBeatEachOtherInACircle(t *testing.T) {
	a, b, c := within("A", 3, 0, -1, 1), within("B", 2, 0, -1, 1), within("C", 1, 0, -1, 1)
	a.Speeds = map[int64]float64{1: 2, 2: 2.1, 3: 2, 7: 1, 8: 1, 9: 1.01}
	b.Speeds = map[int64]float64{1: 1, 2: 1.0, 3: 1.01, 4: 2, 5: 2.1, 6: 2}
	c.Speeds = map[int64]float64{4: 1, 5: 1, 6: 1.01, 7: 2, 8: 2.1, 9: 2}
	assert.Equal(t, "C", choice.Fastest.Choose([]choice.Candidate{a, b, c}, ""), "the smallest of equals")
}

// Two copies that are equally fast, measured every night anew: the choice changes in one night of a
// thousand at most.
func TestEqualCopiesKeepTheirPlaces(t *testing.T) {
	const nights = 20_000
	random := rand.New(rand.NewPCG(3, 4))
	changes, standing := 0, "A"
	for range nights {
		a, b := within("A", 2, 0, -1, 1), within("B", 1, 0, -1, 1)
		a.Speeds, b.Speeds = map[int64]float64{}, map[int64]float64{}
		for round := range int64(4) {
			original := 0.1 * random.NormFloat64()
			a.Speeds[round], b.Speeds[round] = math.Exp(original+0.015*random.NormFloat64()), math.Exp(original+0.015*random.NormFloat64())
		}
		if chosen := choice.Fastest.Choose([]choice.Candidate{a, b}, standing); chosen != standing {
			changes, standing = changes+1, chosen
		}
	}
	assert.InDelta(t, nights*0.0005, changes, 12)
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
