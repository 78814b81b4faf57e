package verdict

import (
	"math"
	"math/rand/v2"
)

// run is one simulated measurement of one stage: what noise adds to the logarithm of its
// throughput, phase by phase, and whether a look at the host's load would have shown why.
type run struct {
	noise     [2]float64
	contended bool
}

// noiseKind is one kind of noise. start begins a new cycle; each call of what it returns
// is the next run.
type noiseKind struct {
	name    string
	quiet   bool // no more than 3 % from run to run, without outliers
	start   func(*rand.Rand) func() run
	certain bool // so noisy to a t test that no verdict may be wrong, let alone 5 %
	repeats int  // how often, at most, a contended round is measured again
}

// perPhase makes a noise that both phases have independently: the worst case for a
// rejection by either.
func perPhase(start func(*rand.Rand) func() float64) func(*rand.Rand) func() run {
	return func(random *rand.Rand) func() run {
		generation, prompt := start(random), start(random)
		return func() run { return run{noise: [2]float64{generation(), prompt()}} }
	}
}

// iid is normal and independent from run to run.
func iid(sd float64) func(*rand.Rand) func() float64 {
	return func(random *rand.Rand) func() float64 {
		return func() float64 { return sd * random.NormFloat64() }
	}
}

// walking is a random walk with iid noise on top.
func walking(step, sd float64) func(*rand.Rand) func() float64 {
	return func(random *rand.Rand) func() float64 {
		level := 0.0
		return func() float64 {
			level += step * random.NormFloat64()
			return level + sd*random.NormFloat64()
		}
	}
}

// lasting is noise that lasts for about a run, as a neighbour's does: a process of
// first order with this correlation from run to run, and sd in all.
func lasting(correlation, sd float64) func(*rand.Rand) func() float64 {
	return func(random *rand.Rand) func() float64 {
		level := sd * random.NormFloat64()
		return func() float64 {
			now := level
			level = correlation*level + math.Sqrt(1-correlation*correlation)*sd*random.NormFloat64()
			return now
		}
	}
}

// trending changes by a constant factor from run to run, as a CPU that heats up does.
func trending(factor, sd float64) func(*rand.Rand) func() float64 {
	return func(random *rand.Rand) func() float64 {
		level := 0.0
		return func() float64 {
			level += math.Log(factor)
			return level + sd*random.NormFloat64()
		}
	}
}

// ladder spreads the two runs of a round as the last of five targets sees them: four
// other runs lie between.
func ladder(start func(*rand.Rand) func() float64) func(*rand.Rand) func() float64 {
	return func(random *rand.Rand) func() float64 {
		next, second := start(random), false
		return func() float64 {
			if second {
				for range 4 {
					next()
				}
			}
			second = !second
			return next()
		}
	}
}

// outlying is iid, but that now and then a run loses 20 to 45 %.
func outlying(probability, sd float64) func(*rand.Rand) func() float64 {
	return func(random *rand.Rand) func() float64 {
		return func() float64 {
			noise := sd * random.NormFloat64()
			if random.Float64() < probability {
				noise += math.Log(0.55 + 0.25*random.Float64())
			}
			return noise
		}
	}
}

// shifted is iid, but that now and then an execution is another one: for as long as it lives
// it is 5 to 15 % slower or faster than the file is, as some pairs of fresh servers are.
func shifted(probability, sd float64) func(*rand.Rand) func() float64 {
	return func(random *rand.Rand) func() float64 {
		return func() float64 {
			noise := sd * random.NormFloat64()
			if random.Float64() < probability {
				shift := math.Log(1 + 0.05 + 0.10*random.Float64())
				if random.Float64() < 0.5 {
					shift = -shift
				}
				noise += shift
			}
			return noise
		}
	}
}

// wholeRun gives both phases of a run the same noise.
func wholeRun(start func(*rand.Rand) func() float64) func(*rand.Rand) func() run {
	return func(random *rand.Rand) func() run {
		next := start(random)
		return func() run { noise := next(); return run{noise: [2]float64{noise, noise}} }
	}
}

// bursts is a two-state process: runs are fast or slow, states last for a while.
type bursts struct {
	slow   float64 // fraction of runs in the slow state
	factor float64 // throughput in the slow state, of that in the fast one
	dwell  float64 // mean length of a slow spell in runs, at least 1/(1 − slow)
	sd     float64 // iid noise on top
}

// chance per run of leaving the slow state and of entering it.
func (b bursts) transitions() (leave, enter float64) {
	if b.slow <= 0 {
		return 1, 0
	}
	leave = 1 / b.dwell
	return leave, leave * b.slow / (1 - b.slow)
}

func (b bursts) start(random *rand.Rand) func() (noise float64, slow bool) {
	leave, enter := b.transitions()
	slow := random.Float64() < b.slow
	return func() (float64, bool) {
		was := slow
		if slow {
			slow = random.Float64() >= leave
		} else {
			slow = random.Float64() < enter
		}
		noise := b.sd * random.NormFloat64()
		if was {
			noise += math.Log(b.factor)
		}
		return noise, was
	}
}

// bursty gives each phase bursts of its own, independent of the other's.
func bursty(generation, prompt bursts) func(*rand.Rand) func() run {
	return func(random *rand.Rand) func() run {
		first, second := generation.start(random), prompt.start(random)
		return func() run {
			x, slowX := first()
			y, slowY := second()
			return run{noise: [2]float64{x, y}, contended: slowX || slowY}
		}
	}
}
