package runner

import (
	"math"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// Operation is a part of a cycle; the words are label values of
// quant_cycle_duration_seconds, but for OperationWait.
type Operation string

// The operations, in the order in which a cycle goes through them.
const (
	OperationDiscover  Operation = "discover" // before the cycle, by who starts it
	OperationWait      Operation = "wait"     // for other measurements on the host; not a part of the total
	OperationIsolate   Operation = "isolate"
	OperationQuantize  Operation = "quantize"
	OperationEvaluate  Operation = "evaluate" // only where quality is asked for
	OperationBenchmark Operation = "benchmark"
	OperationTotal     Operation = "total"
	OperationPublish   Operation = "publish" // after the cycle; not a part of the total
)

// Stage says which file of a pair a measurement is of.
type Stage string

// The stages.
const (
	StageOriginal  Stage = "original"
	StageQuantized Stage = "quantized"
)

// Result is the end of one pair in one cycle: a decision, or a failure.
type Result struct {
	Model        string `json:"model_name"`
	SourceFormat string `json:"source_format"` // of the original: the model's own, or the baseline's
	TargetFormat string `json:"target_format"`
	// Against is the name of the file that was measured in place of a copy that was made:
	// see Request. "" for a copy.
	Against string `json:"against,omitempty"`
	// Recipe is how the copy was made: "Q4_K_M with --tensor-type ffn_down=q6_k". It says so where
	// that was without the importance matrix of the recipe, which the model has none of. "" where the
	// target says it.
	Recipe string `json:"recipe,omitempty"`

	// Host is where it was found, if that is not the host that stores it.
	Host string `json:"-"`

	// Verdict is the decision and what it rests on; nil exactly when Failure is set.
	Verdict *verdict.Verdict `json:"verdict,omitempty"`
	// Quality is what the copy's predictions are worth; nil when that was not evaluated.
	Quality *Evaluated `json:"quality,omitempty"`
	// Unconfirmed says that the pair is inconclusive because a second, independent
	// set of rounds did not confirm a change of the standing decision.
	Unconfirmed bool     `json:"unconfirmed,omitempty"`
	Failure     *Failure `json:"failure,omitempty"`

	// Speeds are the ratios of the copy's speed to the original's in the rounds of the verdict, in the
	// primary phase. The key of a round is when its original was begun, in nanoseconds since 1970: all
	// copies that were measured with it have the same.
	Speeds map[int64]float64 `json:"speeds,omitempty"`

	// Memory is what original and copy took while they were measured; nil before that.
	Memory *MemoryFigures `json:"memory,omitempty"`

	// Previous is the standing decision before this cycle; "" when there was none.
	Previous  verdict.Outcome `json:"previous_decision"`
	Threshold float64         `json:"threshold"` // the drop, a ratio, from which on a copy is rejected

	Original  FileFigures `json:"original_file"`  // of a baseline: zero until it is made
	Quantized FileFigures `json:"quantized_file"` // zero until the copy is made

	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	// Durations of the operations of this pair. What targets of a ladder share
	// (isolating, making the baseline, the original's measurements, and evaluating up to this one) is counted
	// whole in each.
	Durations map[Operation]time.Duration `json:"durations_ns"`

	Evidence Evidence `json:"evidence,omitzero"`

	// Inputs are what the result depends on; nil where the cycle did not come so far.
	Inputs *Inputs `json:"inputs,omitempty"`
	// Changes are the differences from the inputs of the pair's decision before. The store
	// fills them in; nil if results are not stored.
	Changes []Change `json:"changed_inputs,omitempty"`
}

// Outcome returns the decision, or "" for a failure.
func (r Result) Outcome() verdict.Outcome {
	if r.Verdict == nil {
		return ""
	}
	return r.Verdict.Outcome
}

// Undecided returns the result of a target of a request that ends without a verdict before it
// has been begun, now.
func Undecided(req Request, target string, why *Failure) Result {
	now := time.Now()
	return Result{
		Model: req.Model.Name, SourceFormat: req.Model.OriginalFormat(req.Baseline), TargetFormat: target, Threshold: req.Threshold,
		Started: now, Finished: now, Failure: why,
	}
}

// speeds returns what Result.Speeds says of the rounds of one set.
func speeds(rounds []Round, set int, phase verdict.Phase) map[int64]float64 {
	rounds = counted(rounds, set)
	found := make(map[int64]float64, len(rounds))
	for i, compared := range Compare(rounds, set, []verdict.Phase{phase}) {
		if pair, measured := compared[phase]; measured {
			found[rounds[i].Original.Started.UnixNano()] = math.Exp(pair.LogRatio())
		}
	}
	return found
}

// Candidate returns what a choice among the kept copies of a model goes by. The result has to
// have a verdict.
func (r *Result) Candidate() choice.Candidate {
	withoutDevices := r.Inputs != nil && r.Inputs.Devices == ""
	c := choice.Candidate{Target: r.TargetFormat, Bytes: r.Quantized.Bytes, KLDivergence: divergence(r.Quality), Memory: r.Memory.taken(withoutDevices)}
	if phase, measured := r.Verdict.Primary(); measured {
		c.Drop = &choice.Figure{Estimate: phase.Drop, Lower: end(phase.Lower, -1), Upper: end(phase.Upper, +1)}
		c.Speeds = r.Speeds
		if r.Inputs != nil {
			c.Method = string(r.Inputs.Method)
		}
	}
	return c
}

// end of an interval, on that side where it is open.
func end(of *float64, side int) float64 {
	if of == nil {
		return math.Inf(side)
	}
	return *of
}

func divergence(q *Evaluated) *choice.Figure {
	if q == nil {
		return nil
	}
	return &choice.Figure{Estimate: q.KLDivergence.Estimate, Lower: q.KLDivergence.Lower, Upper: q.KLDivergence.Upper}
}

// FileFigures describe a model file, or a split set as a whole.
type FileFigures struct {
	Format        string  `json:"format"`
	Bytes         int64   `json:"bytes"`
	Parameters    int64   `json:"parameters"`
	BitsPerWeight float64 `json:"bits_per_weight"` // of the tensors as stored, metadata left out
	// FallbackShare is the share of the parameters, 0 to 1, whose rows did not fit
	// the wanted type's blocks and were stored in another, larger type.
	FallbackShare float64 `json:"fallback_share"`
}

// Evidence is everything a decision rests on: enough to compute the verdict again
// (see [Evidence.Verdict]) and to see under which conditions it was measured.
type Evidence struct {
	Model     string           `json:"model"`
	Source    []model.FileID   `json:"source"` // the model's files as they were
	Target    string           `json:"target"`
	Previous  verdict.Outcome  `json:"previous_decision,omitempty"`
	Engine    EngineInfo       `json:"engine"`
	Hardware  string           `json:"hardware"`
	Benchmark config.Benchmark `json:"benchmark"`
	Decision  verdict.Config   `json:"decision"`
	MaxMemory config.MaxMemory `json:"max_memory,omitzero"`
	Isolation string           `json:"isolation"`
	// Method is how the rounds that count were measured; "" before any. Reason says why it
	// was not the paired one, and is "" where it was asked for or none was needed.
	Method       config.Method `json:"method,omitempty"`
	MethodReason string        `json:"method_reason,omitempty"`
	// Baseline says how the original was made; nil where the model is the original.
	Baseline *BaselineEvidence `json:"baseline,omitempty"`
	// Against are the files that were measured in place of a copy that was made.
	Against  []model.FileID `json:"against,omitempty"`
	Quantize ToolRun        `json:"quantize"`
	// Reused is the SHA-256 of the copy where an earlier cycle made it, in hexadecimal;
	// Quantize then says how, and took no time.
	Reused string `json:"reused_copy,omitempty"`
	// Quality is nil when that was not evaluated.
	Quality *QualityEvidence `json:"quality,omitempty"`
	// Rounds in the order in which they ran, those that were repeated included.
	Rounds []Round `json:"rounds"`
	// Verdicts holds the verdict on each set of rounds: one, or a second one that was
	// to confirm a change of the standing decision.
	Verdicts []verdict.Verdict `json:"verdicts"`
}

// Round is one paired measurement and the conditions it was made under.
type Round struct {
	// Set is 1, or 2 for the rounds that are to confirm a change.
	Set    int           `json:"set"`
	Method config.Method `json:"method"` // paired or process
	First  Stage         `json:"first"`  // the stage that was measured, or whose server was started, first
	// Counted is false for a round that was contaminated, and repeated, and for one by another
	// method than the verdict's.
	Counted   bool   `json:"counted"`
	Original  Sample `json:"original"`
	Quantized Sample `json:"quantized"`
}

// Throughputs returns what the round measured of a phase, in tokens per second; false where the phase was
// settled by earlier rounds.
func (r Round) Throughputs(phase verdict.Phase) (original, quantized float64, measured bool) {
	original, one := r.Original.Measurement.Throughput[phase]
	quantized, other := r.Quantized.Measurement.Throughput[phase]
	return original, quantized, one || other
}

// Sample is what a round measured of one file, and what the host did meanwhile.
type Sample struct {
	Started     time.Time   `json:"started"`
	Measurement Measurement `json:"measurement"`
	// Load is absent if the system does not report it.
	Load *host.Load `json:"load,omitempty"`
}

// Verdict computes the outcome again from the evidence alone: from the samples of
// the rounds that counted, the configuration and the decision that stood before.
func (e *Evidence) Verdict() verdict.Verdict {
	first := verdict.Conclude(e.Decision, Compare(e.Rounds, 1, e.Benchmark.Measured()))
	if e.Quality != nil && !e.Quality.Verdict().Passed() {
		return rejectedByQuality(first)
	}
	if memoryFigures(e.Rounds, e.MaxMemory).Breach() != "" {
		return rejectedByMemory(first)
	}
	if !changes(e.Previous, first.Outcome) {
		return first
	}
	second := verdict.Conclude(e.Decision, Compare(e.Rounds, 2, e.Benchmark.Measured()))
	return confirm(first, second)
}

// rejectedByQuality returns the verdict on a pair whose copy exceeds a limit of quality,
// whatever its throughput is. The figures of the rounds stay.
func rejectedByQuality(v verdict.Verdict) verdict.Verdict {
	v.Outcome, v.Gate = verdict.Rejected, verdict.GateQuality
	return v
}

// changes reports whether a new outcome would take the place of another standing
// decision. The first decision of a pair replaces nothing.
func changes(standing, outcome verdict.Outcome) bool {
	decided := outcome == verdict.Kept || outcome == verdict.Rejected
	return decided && standing != "" && standing != outcome
}

// confirm returns the second verdict if it agrees with the first, and an inconclusive one if
// it does not. The figures are the second set's, or the first's if the budget left no round
// for a second.
func confirm(first, second verdict.Verdict) verdict.Verdict {
	confirmed := second
	if second.Rounds == 0 {
		confirmed = first
	}
	if second.Outcome != first.Outcome {
		confirmed.Outcome, confirmed.Gate = verdict.Inconclusive, ""
	}
	return confirmed
}
