package verdict

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// trace is what scripts/record-traces writes: the same model measured again and again.
type trace struct {
	Cores   int `json:"cores"`
	Threads int `json:"threads"`
	Runs    []struct {
		Wall       float64 `json:"wall_s"`
		Prompt     float64 `json:"prompt"`
		Generation float64 `json:"generation"`
		Others     float64 `json:"others_cpu_s"`
		Steal      float64 `json:"steal_s"`
	} `json:"runs"`
}

func readTrace(t *testing.T, name string) trace {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "traces", name))
	require.NoError(t, err)
	var recorded trace
	require.NoError(t, json.Unmarshal(text, &recorded))
	require.GreaterOrEqual(t, len(recorded.Runs), 20, "too few runs in %s to fit anything to", name)
	return recorded
}

// logs of the throughputs of both phases.
func (t trace) logs() (generation, prompt []float64) {
	for _, r := range t.Runs {
		generation = append(generation, math.Log(r.Generation))
		prompt = append(prompt, math.Log(r.Prompt))
	}
	return generation, prompt
}

// resampled draws spells of consecutive runs from the trace, joined end to end: the
// stationary bootstrap of Politis & Romano (1994). It keeps what a fit would smooth away:
// odd distributions, dependence in time and between phases.
//
// Spells are √n/3 of the n runs on average, 2.1 of 40. Longer ones replay the sequences
// that happened to occur in a short trace: with spells of four, traces of 20 runs of a
// process that is harmless itself show up to 8 % false verdicts. What lasts longer is
// simulated by the other kinds of noise.
func (t trace) resampled() func(*rand.Rand) func() run {
	spell := math.Max(1, math.Sqrt(float64(len(t.Runs)))/3)
	generation, prompt := t.logs()
	return func(random *rand.Rand) func() run {
		at := random.IntN(len(t.Runs))
		return func() run {
			if random.Float64() < 1/spell {
				at = random.IntN(len(t.Runs))
			} else {
				at = (at + 1) % len(t.Runs)
			}
			return run{noise: [2]float64{generation[at], prompt[at]}, contended: t.contended(at)}
		}
	}
}

// contended says that others took more than the CPUs that the benchmark left free, with a
// tenth of one CPU allowed.
func (t trace) contended(i int) bool {
	r := t.Runs[i]
	return (r.Others+r.Steal)/r.Wall > float64(t.Cores-t.Threads)+0.1
}

// pairedTrace is what scripts/bench-verdicts records: paired rounds of a model against itself.
type pairedTrace struct {
	Threads int          `json:"threads"`
	Rounds  [][2]float64 `json:"log_ratios"` // generation and prompt
}

func readPairedTrace(t *testing.T, name string) pairedTrace {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "traces", name))
	require.NoError(t, err)
	var recorded pairedTrace
	require.NoError(t, json.Unmarshal(text, &recorded))
	require.GreaterOrEqual(t, len(recorded.Rounds), 24, "too few rounds in %s", name)
	return recorded
}

// resampled draws spells of consecutive rounds, as spells of runs are drawn. Their signs are
// drawn, too, one for each spell and phase: which of two equal files is called the copy is
// arbitrary. The first run of a round has no noise, and the second one the log ratio.
func (t pairedTrace) resampled() func(*rand.Rand) func() run {
	spell := math.Max(1, math.Sqrt(float64(len(t.Rounds)))/3)
	return func(random *rand.Rand) func() run {
		at, second := 0, false
		signs := [2]float64{}
		jump := func() {
			at = random.IntN(len(t.Rounds))
			for phase := range signs {
				signs[phase] = float64(2*random.IntN(2) - 1)
			}
		}
		jump()
		return func() run {
			if second = !second; second {
				return run{}
			}
			if random.Float64() < 1/spell {
				jump()
			} else {
				at = (at + 1) % len(t.Rounds)
			}
			round := t.Rounds[at]
			return run{noise: [2]float64{signs[0] * round[0], signs[1] * round[1]}}
		}
	}
}

// fitBursts fits a two-state process by the method of moments to the logarithms of one
// phase's throughputs under load, x, and on a quiet host.
//
// The iid variance is half the mean squared difference of neighbours on the quiet host,
// which drift does not enter. What variance v is left under load is that of the states:
// p of the runs lower by δ have v = p(1−p)δ² and the skewness
// −(1−2p)/√(p(1−p)), which together give p and δ. The states' autocorrelation from run to
// run is r = cov(x_i, x_i+1)/v, and a slow spell lasts 1/((1−p)(1−r)) runs on average.
func fitBursts(x, quiet []float64) bursts {
	iid := 0.0
	for i := range quiet[1:] {
		iid += (quiet[i+1] - quiet[i]) * (quiet[i+1] - quiet[i]) / 2
	}
	iid /= float64(len(quiet) - 1)

	second, third, lagged := 0.0, 0.0, 0.0
	center, n := mean(x), float64(len(x))
	for i := range x {
		off := x[i] - center
		second += off * off / n
		third += off * off * off / n
		if i > 0 {
			lagged += (x[i] - center) * (x[i-1] - center) / (n - 1)
		}
	}
	v := second - iid
	if v <= 0 { // as noisy when quiet: no states to tell apart
		return bursts{factor: 1, dwell: 1, sd: math.Sqrt(iid)}
	}
	skew := third / math.Pow(v, 1.5)
	p := (1 + skew/math.Sqrt(skew*skew+4)) / 2
	r := min(max(lagged/v, 0), 0.95)
	return bursts{
		slow:   p,
		factor: math.Exp(-math.Sqrt(v / (p * (1 - p)))),
		dwell:  1 / ((1 - p) * (1 - r)),
		sd:     math.Sqrt(iid),
	}
}

// fitTraces fits both phases.
func fitTraces(loaded, quiet trace) (generation, prompt bursts) {
	loadedGeneration, loadedPrompt := loaded.logs()
	quietGeneration, quietPrompt := quiet.logs()
	return fitBursts(loadedGeneration, quietGeneration), fitBursts(loadedPrompt, quietPrompt)
}

func TestFitFindsTheProcessThatMadeTheTrace(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	truth := bursts{slow: 0.3, factor: 0.4, dwell: 4, sd: 0.05}
	var loaded, quiet []float64
	next, still := truth.start(random), iid(truth.sd)(random)
	for range 200_000 {
		x, _ := next()
		loaded = append(loaded, x+7)
		quiet = append(quiet, still()+7)
	}

	fitted := fitBursts(loaded, quiet)

	assert.InDelta(t, truth.slow, fitted.slow, 0.02)
	assert.InDelta(t, truth.factor, fitted.factor, 0.02)
	assert.InDelta(t, truth.dwell, fitted.dwell, 0.2)
	assert.InDelta(t, truth.sd, fitted.sd, 0.002)
}

func TestFitOfAQuietTraceHasNoSlowState(t *testing.T) {
	calm := []float64{7, 7.1, 6.9, 7, 7.05, 6.95}
	noisy := []float64{7, 7.5, 6.5, 7, 7.4, 6.6}

	fitted := fitBursts(calm, noisy)

	assert.Zero(t, fitted.slow)
	assert.InDelta(t, 1, fitted.factor, 1e-12)
}
