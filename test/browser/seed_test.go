package browser_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// past is a made-up history of a model: what an exporter would have found, night by night.
type past struct {
	model, source, target string
	parameters            int64
	bits, sourceBits      float64
	generation, prompt    float64 // tokens per second of the original
	// Drops, of which each night has one; the last stays.
	generationDrop, promptDrop []float64
	noise                      float64 // of a round
	failed                     map[int]*runner.Failure
	candidates                 []string // the smallest that is kept of them is chosen
	// How good the copy is: the same each night, as the files are; nil where it is not evaluated.
	quality         *runner.Evaluated
	qualityEvidence *runner.QualityEvidence
}

// nights is how many of them are made up.
const nights = 24

// seed writes the pasts into a state as an exporter would have, with a clock of its own.
func seed(t *testing.T, dir string, nights int, pasts ...past) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	now := time.Now().Add(-time.Duration(nights) * 24 * time.Hour).Truncate(24 * time.Hour).Add(3 * time.Hour)
	s, err := store.Open(dir, store.Options{Host: "gpu-less-07", Retention: config.DefaultRetention(), Now: func() time.Time { return now }})
	require.NoError(t, err)
	for night := range nights {
		start := now
		for _, p := range pasts {
			begin := store.Cycle{Entry: "nightly", Model: p.model, Targets: []string{p.target}, Due: start, Started: now}
			if p.candidates != nil {
				begin.Choose, begin.Candidates = choice.Smallest, p.candidates
			}
			cycle, err := s.BeginCycle(begin)
			require.NoError(t, err)
			r := p.result(random, night, now, s.State().Standing(store.PairID{Model: p.model, Target: p.target}))
			now = r.Finished
			_, err = s.Commit(cycle, r)
			require.NoError(t, err)
			now = now.Add(time.Second)
			require.NoError(t, s.EndCycle(cycle, map[runner.Operation]time.Duration{runner.OperationDiscover: 40 * time.Millisecond}))
		}
		now = start.Add(24 * time.Hour)
	}
	require.NoError(t, s.Close())
}

func (p *past) result(random *rand.Rand, night int, start time.Time, standing verdict.Outcome) *runner.Result {
	original := runner.FileFigures{Format: p.source, Parameters: p.parameters, BitsPerWeight: p.sourceBits, Bytes: int64(float64(p.parameters) * p.sourceBits / 8)}
	quantized := runner.FileFigures{Format: p.target, Parameters: p.parameters, BitsPerWeight: p.bits, Bytes: int64(float64(p.parameters) * p.bits / 8)}
	r := &runner.Result{
		Model: p.model, SourceFormat: p.source, TargetFormat: p.target, Previous: standing, Threshold: 0.12,
		Original: original, Started: start,
	}
	benchmark := config.DefaultBenchmark()
	r.Evidence = runner.Evidence{
		Model: p.model, Target: p.target, Previous: standing,
		Engine:   runner.EngineInfo{Name: "llama.cpp", Version: "0.7.0", Build: 11669, Commit: "a1b2c3d", Threads: 7},
		Hardware: "AMD EPYC 9754 128-Core Processor, 8 cores", Benchmark: benchmark, Decision: benchmark.Decision(0.12), Isolation: "reflink",
	}
	if failure := p.failed[night]; failure != nil {
		r.Failure, r.Finished = failure, start.Add(20*time.Second)
		return r
	}
	r.Quantized = quantized
	r.Evidence.Quantize = runner.ToolRun{Args: []string{"llama-quantize", "original.gguf", p.target + ".gguf", p.target, "7"}, Wall: 41 * time.Second}
	r.Quality, r.Evidence.Quality = p.quality, p.qualityEvidence
	drop := func(of []float64) float64 { return of[min(night, len(of)-1)] }
	at := start.Add(time.Minute)
	var v verdict.Verdict
	for set := 1; set <= 2; set++ {
		v, at = p.measure(random, &r.Evidence, set, at, drop(p.generationDrop), drop(p.promptDrop))
		r.Evidence.Verdicts = append(r.Evidence.Verdicts, v)
		if standing == "" || v.Outcome == verdict.Inconclusive || v.Outcome == standing {
			break
		}
	}
	speed := r.Evidence
	speed.Quality = nil // whose verdict is known, and takes longer to compute than all else
	computed := speed.Verdict()
	if p.quality != nil && !p.quality.Passed() {
		computed.Outcome, computed.Gate = verdict.Rejected, verdict.GateQuality
	}
	r.Verdict, r.Finished = &computed, at
	r.Durations = map[runner.Operation]time.Duration{
		runner.OperationIsolate: 120 * time.Millisecond, runner.OperationQuantize: 41 * time.Second,
		runner.OperationBenchmark: at.Sub(start) - time.Minute, runner.OperationTotal: at.Sub(start),
	}
	return r
}

// evaluated is how good a copy is whose predictions are so far off, in nats.
func evaluated(target string, divergence float64) (*runner.Evaluated, *runner.QualityEvidence) {
	random := rand.New(rand.NewPCG(5, 6))
	evidence := &runner.QualityEvidence{
		Settings: config.Quality{Corpus: "heldout.txt", Chunks: 32, MaxKLDivergence: 0.05},
		Corpus:   runner.CorpusID{Bytes: 127_893, SHA256: "cc30195f4fa16d8ff69e84256cb91eb20a3bc1da21e38cfe992db54b12ec4b59"},
		Predict:  runner.ToolRun{Args: []string{"llama-perplexity", "-m", "original.gguf", "-f", "corpus.txt", "--kl-divergence-base", "original.predictions"}},
		Evaluate: runner.ToolRun{Args: []string{"llama-perplexity", "-m", target + ".gguf", "--kl-divergence-base", "original.predictions", "--kl-divergence"}},
	}
	for range evidence.Settings.Chunks {
		d := divergence * math.Exp(0.15*random.NormFloat64())
		evidence.Chunks = append(evidence.Chunks, quality.Chunk{
			KLDivergence: d, Top1Agreement: 1 - 0.6*math.Sqrt(d), LogPerplexityRatio: 0.7 * d,
		})
	}
	return &runner.Evaluated{
		Verdict: evidence.Verdict(), Limits: evidence.Settings.Limits(), Perplexity: 11.2 * math.Exp(0.7*divergence), OriginalPerplexity: 11.2,
		Corpus: "heldout.txt", Chunks: 32,
	}, evidence
}

// measure makes rounds up until they decide.
func (p *past) measure(random *rand.Rand, e *runner.Evidence, set int, at time.Time, generation, prompt float64) (verdict.Verdict, time.Time) {
	var counted []verdict.Round
	for {
		load := func(throughput, drop float64) float64 {
			return throughput * (1 - drop) * math.Exp(p.noise*random.NormFloat64())
		}
		sample := func(generationDrop, promptDrop float64, others float64) runner.Sample {
			at = at.Add(19 * time.Second)
			return runner.Sample{
				Started: at,
				Measurement: runner.Measurement{
					Throughput: map[verdict.Phase]float64{verdict.Generation: load(p.generation, generationDrop), verdict.Prompt: load(p.prompt, promptDrop)},
					Backends:   "CPU", CPU: "AMD EPYC 9754 128-Core Processor", Threads: 7,
					Run: runner.ToolRun{Args: []string{"llama-bench", "-m", "model.gguf", "-p", "1024", "-n", "1024", "-r", "1", "-t", "7", "-o", "jsonl"}},
				},
				Load: &host.Load{Others: others, Steal: others / 40, Share: others / 7},
			}
		}
		round := runner.Round{Set: set, First: runner.StageOriginal, Counted: true}
		if verdict.QuantizedFirst(7, len(counted)) {
			round.First = runner.StageQuantized
		}
		others := math.Abs(random.NormFloat64()) * 0.05
		if random.IntN(9) == 0 {
			others, round.Counted = 2.3, false
		}
		round.Original, round.Quantized = sample(others/10, others/10, others), sample(generation+others/8, prompt+others/8, others)
		e.Rounds = append(e.Rounds, round)
		if !round.Counted {
			continue
		}
		counted = runner.Compare(e.Rounds, set, e.Benchmark.Phases)
		if v := verdict.Decide(e.Decision, counted); v.Outcome != verdict.GoOn {
			return v, at
		}
	}
}

// wander is a drop that moves a little from night to night, and jumps to another one.
func wander(from, to float64, jump int) []float64 {
	random := rand.New(rand.NewPCG(3, uint64(jump)))
	drops := make([]float64, nights)
	for i := range drops {
		drops[i] = from
		if i >= jump {
			drops[i] = to
		}
		drops[i] += 0.012 * random.NormFloat64()
	}
	return drops
}

// household is a plausible host: copies that are worth serving, one that no longer is, one
// that is fast and damaged, beside one that is chosen, one on the edge, and one that fails.
func household() []past {
	llama := past{model: "llama-3.2-3b-instruct", source: "F16", parameters: 3_212_749_888, sourceBits: 16, generation: 11.4, prompt: 118, noise: 0.012}
	qwen := past{model: "qwen/qwen2.5-0.5b", source: "F16", parameters: 494_032_768, sourceBits: 16, generation: 52.3, prompt: 640, noise: 0.02}
	gemma := past{model: "gemma-3-1b-it", source: "F16", parameters: 999_885_952, sourceBits: 16, generation: 33.8, prompt: 371, noise: 0.015}
	with := func(p past, target string, bits float64, generation, prompt []float64) past {
		p.target, p.bits, p.generationDrop, p.promptDrop = target, bits, generation, prompt
		return p
	}
	rated := func(p past, divergence float64, target string, bits float64, generation, prompt []float64) past {
		p.candidates = []string{"Q2_K", "Q4_K_M"}
		p.quality, p.qualityEvidence = evaluated(target, divergence)
		return with(p, target, bits, generation, prompt)
	}
	broken := with(gemma, "Q8_0", 8.5, wander(-0.8, -0.8, 0), wander(-0.02, -0.02, 0))
	broken.failed = map[int]*runner.Failure{
		11:         runner.Failf(runner.ReasonTimeout, "llama-bench ran past its deadline of 1h0m0s while it measured the original"),
		nights - 1: runner.Failf(runner.ReasonOutOfMemory, "llama-bench was killed (signal 9) while it measured Q8_0:\nthe kernel ends processes so when memory is out; the host has 15.4 GB, 0.3 GB of them free\nggml_aligned_malloc: insufficient memory (attempted to allocate 1062.51 MB)"),
	}
	return []past{
		broken,
		with(gemma, "Q2_K", 3.1, wander(-0.62, 0.19, 17), wander(0.05, 0.23, 17)),
		rated(llama, 0.31, "Q2_K", 2.9, wander(-2.1, -2.1, 0), wander(-0.11, -0.11, 0)),
		rated(llama, 0.021, "Q4_K_M", 4.9, wander(-1.55, -1.55, 0), wander(0.02, 0.02, 0)),
		with(qwen, "Q2_K", 3.3, wander(0.21, 0.2, 9), wander(0.31, 0.3, 9)),
		with(qwen, "Q4_0", 4.7, wander(-0.3, -0.31, 9), wander(0.07, 0.118, 20)),
	}
}
