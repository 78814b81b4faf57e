package runner

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"gonum.org/v1/gonum/stat"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/studentt"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// paired is a round of generation whose bursts took so long.
func paired(original, quantized []Burst) Round {
	return Round{
		Set: 1, Method: config.MethodPaired, Counted: true,
		Original:  Sample{Measurement: Measurement{Bursts: original, Throughput: Throughputs(original)}},
		Quantized: Sample{Measurement: Measurement{Bursts: quantized, Throughput: Throughputs(quantized)}},
	}
}

func compareGeneration(rounds ...Round) []verdict.Pair {
	var pairs []verdict.Pair
	for _, round := range Compare(rounds, 1, []verdict.Phase{verdict.Generation}) {
		pairs = append(pairs, round[verdict.Generation])
	}
	return pairs
}

func TestRatioIsTheMedianOverTheTurns(t *testing.T) {
	original, quantized := []Burst{}, []Burst{}
	add := func(turn int, of, to time.Duration, repeated bool) {
		burst := Burst{Turn: turn, Phase: verdict.Generation, Depth: 100, Tokens: 32, Time: of, Repeated: repeated}
		original = append(original, burst)
		burst.Time = to
		quantized = append(quantized, burst)
	}
	ratio := func() float64 { return compareGeneration(paired(original, quantized))[0].Ratio }
	assert.Zero(t, ratio(), "no turn")
	add(0, time.Second, time.Hour, true)
	add(0, time.Second, 2*time.Second, false)
	add(1, time.Second, 4*time.Second, false)
	add(2, time.Second, time.Hour, false)
	assert.InEpsilon(t, 0.25, ratio(), 1e-12)
	add(3, time.Second, time.Second, false)
	assert.InEpsilon(t, math.Sqrt(0.5*0.25), ratio(), 1e-12)
	alone := compareGeneration(paired(original[:3], quantized))
	assert.InEpsilon(t, math.Sqrt(0.5*0.25), alone[0].Ratio, 1e-12, "turns in which one of the two is missing count for neither")

	all := paired(original, quantized)
	assert.Zero(t, Compare([]Round{all}, 1, []verdict.Phase{verdict.Prompt})[0][verdict.Prompt].Ratio)
	assert.InEpsilon(t, 32, compareGeneration(all)[0].Original, 1e-12)
	all.Method = config.MethodProcess
	assert.Zero(t, compareGeneration(all)[0].Ratio)
	all.Set = 2
	assert.Empty(t, compareGeneration(all))
	all.Set, all.Counted = 1, false
	assert.Empty(t, compareGeneration(all))
}

// atDepths makes round n of a cycle: the copy is faster by log where half of the tokens are generated,
// and by less the deeper the cache is. disturb returns what a burst took longer by, as a factor.
func atDepths(n int, log float64, disturb func(turn, file int) float64) Round {
	const perToken = -0.0004
	var files [2][]Burst
	for turn, depth := range burstStarts(1024, burstTokens, 3, leastBursts, n) {
		gain := log + perToken*(float64(depth)-(1024-burstTokens)/2.0)
		for file, seconds := range []float64{1, math.Exp(-gain)} {
			files[file] = append(files[file], Burst{
				Turn: turn, Phase: verdict.Generation, Depth: depth, Tokens: burstTokens,
				Time: time.Duration(seconds * disturb(turn, file) * float64(time.Second)),
			})
		}
	}
	return paired(files[0], files[1])
}

func TestDisturbedTurnsDoNotMoveARound(t *testing.T) {
	var rounds []Round
	for n := range 4 {
		rounds = append(rounds, atDepths(n, 0.3, func(turn, file int) float64 {
			if n != 1 && turn < 3 && file == 0 { // the deepest ones, so that the others alone have another median
				return 1.6
			}
			return 1
		}))
	}
	for n, pair := range compareGeneration(rounds...) {
		assert.InDelta(t, 0.3, math.Log(pair.Ratio), 0.001, "round %d", n)
	}
	for n := range rounds {
		assert.InDelta(t, 0.3, math.Log(compareGeneration(rounds[n])[0].Ratio), 0.001, "round %d alone", n)
	}
}

// Rounds share the slope over depth. If that made them alike, a test would take their likeness for
// certainty, and err more often than it says.
func TestRoundsWithACommonSlopeAreIndependent(t *testing.T) {
	const sets, alpha = 4000, 0.05
	random := rand.New(rand.NewPCG(1, 2))
	for _, count := range []int{3, 4, 8} {
		wrong := 0
		for range sets {
			rounds, logs := make([]Round, count), make([]float64, count)
			for n := range rounds {
				execution := 0.005 * random.NormFloat64()
				rounds[n] = atDepths(n, execution, func(int, int) float64 {
					factor := math.Exp(0.01 * random.NormFloat64())
					if random.Float64() < 0.12 { // a virtual machine that gets half of a core for a while
						factor *= 1.55
					}
					return factor
				})
			}
			for n, pair := range compareGeneration(rounds...) {
				logs[n] = math.Log(pair.Ratio)
			}
			mean, deviation := stat.MeanStdDev(logs, nil)
			if math.Abs(mean) > studentt.Upper(alpha/2, float64(count-1))*deviation/math.Sqrt(float64(count)) {
				wrong++
			}
		}
		t.Logf("%d rounds: %.2f %% of %d sets beyond the limits of %.0f %% (simulated)", count, 100*float64(wrong)/sets, sets, 100*alpha)
		assert.LessOrEqual(t, float64(wrong)/sets, alpha+3*math.Sqrt(alpha*(1-alpha)/sets), "%d rounds", count)
	}
}
