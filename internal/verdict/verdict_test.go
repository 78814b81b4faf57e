package verdict

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// oneRound has the same relative throughput, 1 − drop, in both phases.
func oneRound(drop float64) Round {
	return Round{Generation: {Original: 1000, Quantized: 1000 * (1 - drop)}, Prompt: {Original: 9000, Quantized: 9000 * (1 - drop)}}
}

// steady is n rounds without noise.
func steady(drop float64, n int) []Round {
	var rounds []Round
	for range n {
		rounds = append(rounds, oneRound(drop))
	}
	return rounds
}

// noisy is n rounds with drops around the given ones; sd is the deviation of each log throughput.
func noisy(random *rand.Rand, generation, prompt, sd float64, n int) []Round {
	pair := func(level, drop float64) Pair {
		return Pair{
			Original:  level * math.Exp(sd*random.NormFloat64()),
			Quantized: level * (1 - drop) * math.Exp(sd*random.NormFloat64()),
		}
	}
	var rounds []Round
	for range n {
		rounds = append(rounds, Round{Generation: pair(50, generation), Prompt: pair(400, prompt)})
	}
	return rounds
}

func TestDecideWithoutNoise(t *testing.T) {
	for _, c := range []struct {
		name    string
		drop    float64
		rounds  int
		outcome Outcome
		used    int
	}{
		{"no rounds", 0, 0, GoOn, 0},
		{"one round is no interval", 0, 1, GoOn, 1},
		{"nor are two", 0, 2, GoOn, 2},
		{"much faster, at the first look", -1.7, 3, Kept, 3},
		{"no drop, at the first look", 0, 3, Kept, 3},
		{"half, at the first look", 0.5, 3, Rejected, 3},
		{"what comes after a decision changes nothing", 0.5, 56, Rejected, 3},
		{"the floor keeps 11.5 % open at three rounds", 0.115, 3, GoOn, 3},
		{"which is settled a little later", 0.115, 56, Kept, 6},
		{"between two looks the last one counts", 0.1199, 7, GoOn, 6},
		{"exactly the threshold is never kept", 0.12, 56, Inconclusive, 56},
		{"rounds past the last look are not read", 0.12, 60, Inconclusive, 56},
		{"just beyond the threshold", 0.123, 56, Rejected, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := Decide(Default(), steady(c.drop, c.rounds))

			assert.Equal(t, c.outcome, v.Outcome)
			assert.Equal(t, c.used, v.Rounds)
			for _, phase := range v.Phases {
				assert.Equal(t, c.outcome, phase.Outcome)
				if c.rounds > 0 {
					assert.InDelta(t, c.drop, phase.Drop, 1e-12)
				}
			}
		})
	}
}

func TestOpenIntervalBeforeTheFirstLook(t *testing.T) {
	v := Decide(Default(), []Round{oneRound(0.10), oneRound(0.20)})

	for _, phase := range v.Phases {
		assert.Nil(t, phase.Lower)
		assert.Nil(t, phase.Upper)
		assert.Empty(t, phase.Looks)
		assert.InDelta(t, 1-math.Sqrt(0.9*0.8), phase.Drop, 1e-12)
		assert.InDelta(t, math.Log(0.9/0.8)/math.Sqrt2, phase.Spread, 1e-12, "the sample standard deviation")
	}
	assert.InDelta(t, 1, v.Resolvable, 0)

	text, err := json.Marshal(v)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"lower":null,"upper":null`)
}

func TestEstimateAgreesWithAComputationByHand(t *testing.T) {
	// n = 6, g = 1, h = 4: trimmed {2, 3, 4, 5}, winsorised {2, 2, 3, 4, 5, 5}.
	e := estimateLogRatio([]float64{100, 3, 2, 5, 4, -50})

	assert.InDelta(t, 3.5, e.mean, 1e-12)
	s := math.Sqrt((1.5*1.5*4 + 0.5*0.5*2) / 5)
	assert.InDelta(t, s*math.Sqrt(5.0/(4*3)), e.se, 1e-12)
	assert.InDelta(t, e.se*math.Sqrt(6), e.spread, 1e-12)
}

func TestZeroSpreadHasAFloor(t *testing.T) {
	e := estimateLogRatio([]float64{0.1, 0.1, 0.1, 0.1})

	assert.InDelta(t, 0, e.spread, 1e-15)
	assert.InDelta(t, 0.001, e.se, 1e-15)
}

func TestQuantiles(t *testing.T) {
	// From any table of Student's t.
	assert.InDelta(t, 2.919986, upperT(3, 0.05), 1e-6)   // 2 degrees of freedom
	assert.InDelta(t, 22.327125, upperT(3, 0.001), 1e-5) // 2
	assert.InDelta(t, 3.364930, upperT(8, 0.01), 1e-6)   // 8 rounds, 6 kept: 5
	assert.InDelta(t, 1.770933, upperT(20, 0.05), 1e-6)  // 20 rounds, 14 kept: 13
}

func TestLooks(t *testing.T) {
	for _, c := range []struct {
		low, high int
		rounds    []int
		alphas    []float64 // of alpha
	}{
		{3, 56, []int{3, 4, 6, 8, 12, 16, 20, 28, 40, 56}, []float64{0.02, 0.04, 0.1125, 0.1125, 0.1125, 0.1125, 0.1125, 0.1125, 0.1125, 0.1125}},
		{3, 20, []int{3, 4, 6, 8, 12, 16, 20}, []float64{0.02, 0.04, 0.18, 0.18, 0.18, 0.18, 0.18}},
		{3, 3, []int{3}, []float64{0.80}},
		{3, 4, []int{3, 4}, []float64{0.02, 0.80}},
		{3, 6, []int{3, 4, 6}, []float64{0.02, 0.04, 0.80}},
		{5, 10, []int{5, 6, 8, 10}, []float64{0.04, 0.30, 0.30, 0.30}},
		{10, 20, []int{10, 12, 16, 20}, []float64{0.225, 0.225, 0.225, 0.225}},
		{16, 30, []int{16, 20, 28, 30}, []float64{0.225, 0.225, 0.225, 0.225}},
		{30, 60, []int{30, 40, 56, 60}, []float64{0.225, 0.225, 0.225, 0.225}},
		{56, 100, []int{56, 80, 100}, []float64{0.30, 0.30, 0.30}},
	} {
		rounds := lookRounds(c.low, c.high)
		assert.Equal(t, c.rounds, rounds, "%d to %d", c.low, c.high)
		assert.InDeltaSlice(t, c.alphas, lookAlphas(rounds, 1, 2), 1e-12, "%d to %d", c.low, c.high)
	}
}

func TestAlphaOfALookIsReportedWithoutTheErrorOfItsProduct(t *testing.T) {
	c := Default()
	c.MinRounds, c.MaxRounds = 8, 8 // one look, which has 0.80 of 0.05
	looks := Decide(c, steady(0.1, 8)).Phases[0].Looks
	require.Len(t, looks, 1)
	assert.InDelta(t, 0.04, looks[0].Alpha, 0)
}

func TestDefaultAlphas(t *testing.T) {
	c := Default()
	rounds := lookRounds(c.MinRounds, c.MaxRounds)
	assert.InDeltaSlice(t, []float64{0.001, 0.002, 0.005625, 0.005625, 0.005625, 0.005625, 0.005625, 0.005625, 0.005625, 0.005625}, lookAlphas(rounds, c.Alpha, 2), 1e-12)
}

func TestSeveralLooksSpendNoMoreThanOneOfThreePhases(t *testing.T) {
	assert.InDeltaSlice(t, []float64{0.001, 0.002, 0.02, 0.02}, lookAlphas(lookRounds(3, 8), 0.05, 3), 1e-12)
}

func TestSeveralLooksSpendNoMoreThanOneBelowFivePercent(t *testing.T) {
	assert.InDeltaSlice(t, []float64{0.0002, 0.0004, 0.004, 0.004}, lookAlphas(lookRounds(3, 8), 0.01, 2), 1e-12)
}

func TestOrderTurnsInTwosByFairCoins(t *testing.T) {
	const seeds, twos = 2000, 10
	first, same, alike := 0, 0, 0
	for seed := range uint64(seeds) {
		for i := range twos {
			one := QuantizedFirst(seed, 2*i)
			require.NotEqual(t, one, QuantizedFirst(seed, 2*i+1), "both rounds of two in one order")
			for count, equal := range map[*int]bool{
				&first: one,
				&same:  one == QuantizedFirst(seed, 2*i+2),
				&alike: one == QuantizedFirst(seed+1, 2*i),
			} {
				if equal {
					*count++
				}
			}
		}
	}
	// Four standard deviations of so many tosses are 0.014.
	assert.InDelta(t, 0.5, float64(first)/(seeds*twos), 0.014)
	assert.InDelta(t, 0.5, float64(same)/(seeds*twos), 0.014, "consecutive twos")
	assert.InDelta(t, 0.5, float64(alike)/(seeds*twos), 0.014, "neighbouring seeds")
}

func TestNextLook(t *testing.T) {
	c := Default()
	for n, next := range map[int]int{0: 3, 2: 3, 3: 4, 4: 6, 5: 6, 8: 12, 19: 20, 20: 28, 40: 56, 55: 56, 56: 0, 70: 0} {
		assert.Equal(t, next, c.NextLook(n), "after %d rounds", n)
	}
	c.MaxRounds = 2
	assert.Zero(t, c.NextLook(0), "of an invalid configuration")
}

func TestOnePhaseIsEnoughToReject(t *testing.T) {
	rounds := steady(-1.7, 3)
	for _, round := range rounds {
		round[Prompt] = Pair{Original: 100, Quantized: 80}
	}

	v := Decide(Default(), rounds)

	assert.Equal(t, Rejected, v.Outcome)
	assert.Equal(t, Prompt, v.Gate)
	assert.Equal(t, Prompt, v.Worst().Phase)
	assert.Equal(t, Kept, v.Phases[0].Outcome)
	assert.Equal(t, Rejected, v.Phases[1].Outcome)
}

// A phase that is kept needs no more rounds: without them, or with others in their place, the verdict
// is the same.
func TestAKeptPhaseIsSettled(t *testing.T) {
	rounds := noisy(rand.New(rand.NewPCG(3, 1)), -1, 0.05, 0.03, 56)
	all := Decide(Default(), rounds)
	require.Equal(t, Kept, all.Outcome)
	require.Equal(t, 3, all.Phases[0].Looks[0].Rounds)
	require.Len(t, all.Phases[0].Looks, 1)
	require.Greater(t, all.Rounds, 3)
	assert.Equal(t, []Phase{Prompt}, Decide(Default(), rounds[:3]).Open())

	for _, round := range rounds[3:] {
		round[Generation] = Pair{Original: 100, Quantized: 1}
	}
	assert.Equal(t, all, Decide(Default(), rounds))
	for _, round := range rounds[3:] {
		delete(round, Generation)
	}
	assert.Equal(t, all, Decide(Default(), rounds))
}

// A look at a phase waits until it was measured so often, whatever the others were.
func TestAPhaseThatIsMissingIsWaitedFor(t *testing.T) {
	rounds := steady(0, 5)
	for _, round := range rounds[:3] {
		delete(round, Prompt)
	}
	v := Decide(Default(), rounds)
	assert.Equal(t, GoOn, v.Outcome)
	assert.Equal(t, []Phase{Generation, Prompt}, v.Open())
	assert.Equal(t, Inconclusive, Conclude(Default(), rounds).Outcome)

	v = Decide(Default(), append(rounds, oneRound(0)))
	assert.Equal(t, Kept, v.Outcome)
	assert.Equal(t, 3, v.Rounds, "of each phase")
	assert.Empty(t, v.Open())
}

func TestGateIsTheLargestDrop(t *testing.T) {
	rounds := steady(0.3, 3)
	for _, round := range rounds {
		round[Prompt] = Pair{Original: 100, Quantized: 50}
	}

	assert.Equal(t, Prompt, Decide(Default(), rounds).Gate)

	for _, round := range rounds {
		round[Generation] = round[Prompt]
	}
	assert.Equal(t, Generation, Decide(Default(), rounds).Gate, "both the same: by name")
}

func TestAStraddlingPhaseOfARejectedPairIsInconclusive(t *testing.T) {
	rounds := steady(0.12, 3)
	for _, round := range rounds {
		round[Prompt] = Pair{Original: 100, Quantized: 50}
	}

	v := Decide(Default(), rounds)

	assert.Equal(t, Rejected, v.Outcome)
	assert.Equal(t, Inconclusive, v.Phases[0].Outcome)
}

func TestConcludeEndsWhatWouldGoOn(t *testing.T) {
	rounds := noisy(rand.New(rand.NewPCG(3, 1)), 0.10, -1, 0.05, 5)
	open, closed := Decide(Default(), rounds), Conclude(Default(), rounds)

	require.Equal(t, GoOn, open.Outcome)
	assert.Equal(t, GoOn, open.Phases[0].Outcome)
	assert.Equal(t, Kept, open.Phases[1].Outcome)
	assert.Equal(t, Inconclusive, closed.Outcome)
	assert.Equal(t, Inconclusive, closed.Phases[0].Outcome)
	assert.Equal(t, Kept, closed.Phases[1].Outcome)
	assert.Equal(t, 4, closed.Rounds, "the last look taken")
	assert.Equal(t, open.Phases[0].Upper, closed.Phases[0].Upper)

	kept := steady(0, 3)
	assert.Equal(t, Decide(Default(), kept), Conclude(Default(), kept))
}

func TestFiguresOfAPhaseAgree(t *testing.T) {
	rounds := []Round{
		{Generation: {Original: 100, Quantized: 90}}, {Generation: {Original: 400, Quantized: 360}}, {Generation: {Original: 200, Quantized: 180}},
	}
	c := Default()
	c.Phases = []Phase{Generation}

	phase := Decide(c, rounds).Phases[0]

	assert.InDelta(t, 200, phase.Original, 0, "the median")
	assert.InDelta(t, 0.1, phase.Drop, 1e-12)
	assert.InDelta(t, 180, phase.Quantized, 1e-9)
}

func TestConfidence(t *testing.T) {
	c := Default()
	assert.InDelta(t, 0.925, Decide(c, nil).Confidence, 1e-12)
	c.Phases = c.Phases[:1]
	assert.InDelta(t, 0.90, Decide(c, nil).Confidence, 1e-12)
}

func TestRoundsThatAreNoMeasurement(t *testing.T) {
	for name, bad := range map[string]Round{
		"nothing measured":    {},
		"zero original":       {Generation: {Original: 0, Quantized: 1}, Prompt: {Original: 1, Quantized: 1}},
		"zero quantized":      {Generation: {Original: 1, Quantized: 0}, Prompt: {Original: 1, Quantized: 1}},
		"negative":            {Generation: {Original: 1, Quantized: 1}, Prompt: {Original: -1, Quantized: -1}},
		"not a number":        {Generation: {Original: 1, Quantized: math.NaN()}, Prompt: {Original: 1, Quantized: 1}},
		"infinite":            {Generation: {Original: 1, Quantized: math.Inf(1)}, Prompt: {Original: 1, Quantized: 1}},
		"beyond any hardware": {Generation: {Original: 1e-300, Quantized: 1e300}, Prompt: {Original: 1, Quantized: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			c := Default()
			require.Error(t, bad.Check(c.Phases))

			early := Decide(c, []Round{oneRound(0), oneRound(0), bad, oneRound(0)})
			assert.Equal(t, Inconclusive, early.Outcome)
			assert.Equal(t, 2, early.Rounds)

			late := Decide(c, append(steady(0, 3), bad))
			assert.Equal(t, Kept, late.Outcome, "decided before it")
		})
	}
	assert.NoError(t, oneRound(0.1).Check([]Phase{Generation, Prompt}))
}

// Default asks for both phases, a threshold of 12 %, 3 to 56 rounds and an error rate of
// 5 %, as the program does by default.
func Default() Config {
	return Config{Threshold: 0.12, Phases: []Phase{Generation, Prompt}, MinRounds: 3, MaxRounds: 56, Alpha: 0.05}
}

func TestValidate(t *testing.T) {
	require.NoError(t, Default().Validate())
	for name, breakIt := range map[string]func(*Config){
		"threshold 0 ":                     func(c *Config) { c.Threshold = 0 },
		"threshold 1 ":                     func(c *Config) { c.Threshold = 1 },
		"threshold NaN":                    func(c *Config) { c.Threshold = math.NaN() },
		"phases: needs at least one":       func(c *Config) { c.Phases = nil },
		`phases: "decode" is not a phase`:  func(c *Config) { c.Phases = []Phase{"decode"} },
		`phases: "prompt" is named twice`:  func(c *Config) { c.Phases = []Phase{Prompt, Prompt} },
		"min_rounds: 2 is too few rounds":  func(c *Config) { c.MinRounds = 2 },
		"max_rounds: 4 is out of range":    func(c *Config) { c.MinRounds, c.MaxRounds = 5, 4 },
		"max_rounds: 1001 is out of range": func(c *Config) { c.MaxRounds = 1001 },
		"alpha: 0 is":                      func(c *Config) { c.Alpha = 0 },
		"alpha: 0.3 is":                    func(c *Config) { c.Alpha = 0.3 },
		"alpha: NaN is":                    func(c *Config) { c.Alpha = math.NaN() },
	} {
		c := Default()
		breakIt(&c)
		assert.ErrorContains(t, c.Validate(), name)
		assert.Equal(t, Verdict{Outcome: Inconclusive, Resolvable: 1}, Decide(c, steady(0, 20)), name)
		assert.InDelta(t, 1, Resolvable(c, 0.01, 20), 0, name)
	}
	assert.Equal(t, PhaseVerdict{}, Verdict{}.Worst())
}

func TestResolvable(t *testing.T) {
	c := Default()
	assert.InDelta(t, 1, Resolvable(c, 0.01, 2), 0, "no look in two rounds")
	assert.InDelta(t, 1, Resolvable(c, math.NaN(), 20), 0)
	assert.InDelta(t, Resolvable(c, 0.03, 8), Resolvable(c, 0.03, 11), 0, "the last look within 11 rounds is at 8")
	assert.InDelta(t, Resolvable(c, 0.002, 8), Resolvable(c, 0, 8), 0, "the floor")
	assert.Less(t, Resolvable(c, 0.03, 20), Resolvable(c, 0.03, 8))
	assert.Less(t, Resolvable(c, 0.03, 8), Resolvable(c, 0.03, 4))
	assert.Less(t, Resolvable(c, 0.02, 8), Resolvable(c, 0.03, 8))

	v := Decide(c, noisy(rand.New(rand.NewPCG(1, 1)), 0.12, 0.12, 0.03, c.MaxRounds))
	noisier := math.Max(v.Phases[0].Spread, v.Phases[1].Spread)
	assert.InDelta(t, Resolvable(c, noisier, v.Rounds), v.Resolvable, 0, "the noisiest phase limits")
}

// A verdict that went through JSON with its evidence can be computed again, to the bit.
func TestVerdictIsRecomputedFromJSON(t *testing.T) {
	type evidence struct {
		Config  Config  `json:"config"`
		Rounds  []Round `json:"rounds"`
		Verdict Verdict `json:"verdict"`
	}
	random := rand.New(rand.NewPCG(5, 5))
	for range 50 {
		before := evidence{Config: Default(), Rounds: noisy(random, 0.1, 0.1, 0.02, Default().MaxRounds)}
		before.Verdict = Decide(before.Config, before.Rounds)
		text, err := json.Marshal(before)
		require.NoError(t, err)

		var after evidence
		require.NoError(t, json.Unmarshal(text, &after))

		assert.Equal(t, before, after)
		assert.Equal(t, after.Verdict, Decide(after.Config, after.Rounds))
	}
}

// forAll runs check on many random sets of rounds, around every interesting drop.
func forAll(t *testing.T, check func(random *rand.Rand, rounds []Round)) {
	t.Helper()
	random := rand.New(rand.NewPCG(20, 26))
	for range 1000 {
		generation, prompt := 0.3*random.Float64()-0.05, 0.3*random.Float64()-0.05
		check(random, noisy(random, generation, prompt, 0.05*random.Float64(), 1+random.IntN(60)))
	}
}

// scaled multiplies every original and every quantized throughput.
func scaled(rounds []Round, original, quantized float64) []Round {
	var out []Round
	for _, round := range rounds {
		r := Round{}
		for phase, pair := range round {
			r[phase] = Pair{Original: pair.Original * original, Quantized: pair.Quantized * quantized}
		}
		out = append(out, r)
	}
	return out
}

func TestTheUnitOfThroughputDoesNotMatter(t *testing.T) {
	forAll(t, func(random *rand.Rand, rounds []Round) {
		factor := math.Exp(3 * random.NormFloat64())
		before, after := Decide(Default(), rounds), Decide(Default(), scaled(rounds, factor, factor))

		require.Equal(t, before.Outcome, after.Outcome)
		require.Equal(t, before.Rounds, after.Rounds)
		for i := range before.Phases {
			require.InDelta(t, before.Phases[i].Drop, after.Phases[i].Drop, 1e-12)
		}
	})
}

func TestTheOrderOfThePhasesDoesNotMatter(t *testing.T) {
	turned := Default()
	turned.Phases = []Phase{Prompt, Generation}
	forAll(t, func(_ *rand.Rand, rounds []Round) {
		before, after := Decide(Default(), rounds), Decide(turned, rounds)

		require.Equal(t, before.Outcome, after.Outcome)
		require.Equal(t, before.Gate, after.Gate)
		require.Equal(t, before.Worst(), after.Worst())
		require.Equal(t, before.Phases[0], after.Phases[1])
		require.Equal(t, before.Phases[1], after.Phases[0])
	})
}

func TestAFasterCopyIsNeverRejectedWhereASlowerOneWasKept(t *testing.T) {
	kept := 0
	forAll(t, func(random *rand.Rand, rounds []Round) {
		if Decide(Default(), rounds).Outcome != Kept {
			return
		}
		kept++
		require.Equal(t, Kept, Decide(Default(), scaled(rounds, 1, 1+random.Float64())).Outcome)
	})
	assert.Greater(t, kept, 100, "the property was hardly tried")
}

func TestTheIntervalAgreesWithTheOutcome(t *testing.T) {
	seen := map[Outcome]int{}
	forAll(t, func(_ *rand.Rand, rounds []Round) {
		v := Decide(Default(), rounds)
		seen[v.Outcome]++
		requireCoherent(t, Default(), v)
	})
	for _, outcome := range []Outcome{Kept, Rejected, Inconclusive, GoOn} {
		assert.Positive(t, seen[outcome], "%s was never tried", outcome)
	}
}

// What the phases need no more is of no influence.
func TestRoundsWithoutSettledPhasesGiveTheSameVerdict(t *testing.T) {
	thinned := 0
	forAll(t, func(_ *rand.Rand, rounds []Round) {
		v := Decide(Default(), rounds)
		for _, phase := range v.Phases {
			if phase.Outcome != Kept {
				continue
			}
			for _, round := range rounds[phase.Looks[len(phase.Looks)-1].Rounds:] {
				delete(round, phase.Phase)
				thinned++
			}
		}
		require.Equal(t, v, Decide(Default(), rounds))
	})
	assert.Positive(t, thinned)
}

// requireCoherent checks what the documentation promises of outcome, interval and gate.
func requireCoherent(t *testing.T, c Config, v Verdict) {
	t.Helper()
	for _, phase := range v.Phases {
		if v.Outcome == Kept {
			require.NotNil(t, phase.Upper)
			require.Less(t, *phase.Upper, c.Threshold)
			require.Less(t, phase.Drop, c.Threshold)
		}
		if phase.Phase == v.Gate {
			require.NotNil(t, phase.Lower)
			require.GreaterOrEqual(t, *phase.Lower, c.Threshold)
		}
		if phase.Lower != nil {
			require.LessOrEqual(t, *phase.Lower, phase.Drop)
		}
		if phase.Upper != nil {
			require.LessOrEqual(t, phase.Drop, *phase.Upper)
		}
	}
	require.Equal(t, v.Outcome == Rejected, v.Gate != "")
	require.LessOrEqual(t, v.Rounds, c.MaxRounds)
}

func FuzzDecide(f *testing.F) {
	f.Add(uint8(3), 0.12, 0.05, 100.0, 90.0, 100.0, 200.0, 0.01)
	f.Add(uint8(56), 0.12, 0.05, 100.0, 88.0, 100.0, 88.0, 0.0)
	f.Add(uint8(8), 0.5, 0.25, 1e-9, 1e12, 1e12, 1e-9, 30.0)
	f.Add(uint8(4), 0.12, 0.05, math.NaN(), 0.0, math.Inf(1), -1.0, 0.1)
	f.Add(uint8(0), 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0)
	f.Fuzz(func(t *testing.T, n uint8, threshold, alpha, a, b, x, y, noise float64) {
		c := Default()
		c.Threshold, c.Alpha = threshold, alpha
		random := rand.New(rand.NewPCG(uint64(n), 1))
		var rounds []Round
		for range n {
			rounds = append(rounds, Round{
				Generation: {Original: a * math.Exp(noise*random.NormFloat64()), Quantized: b * math.Exp(noise*random.NormFloat64())},
				Prompt:     {Original: x, Quantized: y * math.Exp(noise*random.NormFloat64())},
			})
		}

		v := Decide(c, rounds)

		if c.Validate() != nil {
			require.Equal(t, Inconclusive, v.Outcome)
			return
		}
		requireCoherent(t, c, v)
		require.Equal(t, v.Outcome == GoOn, Conclude(c, rounds).Outcome != v.Outcome)
		_, err := json.Marshal(v)
		require.NoError(t, err)
	})
}

// BenchmarkDecide is the longest there is by default: 56 rounds that never decide, all looks taken.
func BenchmarkDecide(b *testing.B) {
	rounds := steady(0.12, Default().MaxRounds)
	b.ReportAllocs()
	for b.Loop() {
		if v := Decide(Default(), rounds); v.Outcome != Inconclusive {
			b.Fatal(v.Outcome)
		}
	}
}

func TestThreshold(t *testing.T) {
	require.NoError(t, ValidateThreshold(0.12))
	for _, bad := range []float64{0, 1, -0.1, 100} {
		require.Error(t, ValidateThreshold(bad), bad)
	}
	require.ErrorContains(t, ValidateThreshold(12), "write 12 % as 0.12")
}

func TestFurtherPhases(t *testing.T) {
	assert.EqualValues(t, "generation@8", AtOnce(8))
	assert.Equal(t, Generation, AtOnce(1))
	assert.EqualValues(t, "generation+4096", AtDepth(4096))
	for phase, want := range map[Phase][]any{
		"generation@8": {8, 0, true}, "generation+4096": {0, 4096, true}, Generation: {0, 0, false}, Prompt: {0, 0, false},
		"generation@1": {1, 0, false}, "generation@08": {0, 0, false}, "prompt+4096": {0, 0, false}, "generation@8+1": {0, 0, false},
	} {
		clients, depth, ok := phase.Further()
		assert.Equal(t, want, []any{clients, depth, ok}, phase)
	}
}
