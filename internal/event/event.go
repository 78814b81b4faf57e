// Package event defines the objects by which quant-exporter informs other programs about
// its outcomes: the data of a QUANT_DECISION or QUANT_CHOICE event on the A2A bus, which
// is also a line of `quant-exporter run --output json`.
//
// The fields are a contract. Those of the mission (cycle version BC-180) come first,
// with their names and types; additions follow them.
package event

import (
	"math"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// The event types.
const (
	TypeDecision    = "QUANT_DECISION"
	TypeChoice      = "QUANT_CHOICE"
	TypeFailure     = "QUANT_FAILURE"
	TypeSkipped     = "QUANT_SKIPPED"
	TypeEstimate    = "QUANT_ESTIMATE"
	TypePublication = "QUANT_PUBLICATION" // never on the bus
)

// CycleVersion names the document in which the mission's fields were laid down.
const CycleVersion = "BC-180"

// Decision is one outcome of a pair. The three figures belong to Phase, the phase with the
// largest drop; the quantized throughput is the original one × (1 − drop).
type Decision struct {
	EventType             string          `json:"event_type"` // TypeDecision
	ModelName             string          `json:"model_name"`
	Decision              verdict.Outcome `json:"decision"`                // kept, rejected; inconclusive never on the bus
	OriginalThroughput    float64         `json:"original_throughput"`     // tokens per second, median of the rounds
	QuantizedThroughput   float64         `json:"quantized_throughput"`    // tokens per second
	ThroughputDropPercent float64         `json:"throughput_drop_percent"` // negative when faster
	ThresholdPercent      float64         `json:"threshold_percent"`
	SourceFormat          string          `json:"source_format"`
	TargetFormat          string          `json:"target_format"`
	Timestamp             float64         `json:"timestamp"` // Unix seconds, fractional
	CycleVersion          string          `json:"cycle_version"`

	EventID             *string          `json:"event_id"`          // null where the standing decision did not change
	PreviousDecision    *verdict.Outcome `json:"previous_decision"` // null the first time
	Phase               verdict.Phase    `json:"phase"`
	DropIntervalPercent [2]*float64      `json:"drop_interval_percent"` // low, high; an open end is null
	IntervalConfidence  float64          `json:"interval_confidence"`   // 0 to 1
	Rounds              int              `json:"rounds"`
	Engine              string           `json:"engine"`
	Host                string           `json:"host"`
	Entry               string           `json:"entry"`   // of the schedule; "" from the command line
	Gate                *verdict.Phase   `json:"gate"`    // that rejected it: a phase, quality or memory; else null
	Quality             *Quality         `json:"quality"` // null where it was not evaluated
	// ChangedInputs say what is not as it was at the decision before ("llama.cpp 11669 →
	// 11702"); empty when nothing is.
	ChangedInputs []string `json:"changed_inputs"`
	// ChosenFormat is the model's as of the last finished cycle: null where none is chosen.
	ChosenFormat *string `json:"chosen_format"`
	Against      *string `json:"against"` // name of the file that was compared in place of a copy that was made; else null
	// Method is how the rounds were measured: paired or process; null where none was.
	Method *config.Method `json:"method"`
	// HardwareClass is the class of the worker that measured, in a fleet; decisions on the
	// exporter's own host leave it out.
	HardwareClass string `json:"hardware_class,omitempty"`
	// Recipe is how the copy was made ("Q4_K_M with --tensor-type ffn_down=q6_k"); left out
	// where the target says it.
	Recipe string `json:"recipe,omitempty"`
}

// Quality is how far the copy's predictions are from the original's, with intervals (low,
// high), over a text.
type Quality struct {
	KLDivergence              float64         `json:"kl_divergence"` // mean, in nats
	KLDivergenceInterval      [2]float64      `json:"kl_divergence_interval"`
	Top1AgreementPercent      float64         `json:"top1_agreement_percent"`
	Top1AgreementInterval     [2]float64      `json:"top1_agreement_interval_percent"`
	PerplexityIncreasePercent float64         `json:"perplexity_increase_percent"`
	PerplexityInterval        [2]float64      `json:"perplexity_increase_interval_percent"`
	RMSDeltaPPercent          float64         `json:"rms_delta_p_percent"` // of the probabilities of the text's tokens
	RMSDeltaPInterval         [2]float64      `json:"rms_delta_p_interval_percent"`
	KLDivergenceP999          *float64        `json:"kl_divergence_p999"` // 99.9 % of the tokens are below it; null where it is not known
	KLDivergenceMaximum       *float64        `json:"kl_divergence_maximum"`
	Chunks                    int             `json:"chunks"`         // of the text, that all figures are of
	PlannedChunks             int             `json:"planned_chunks"` // more where every limit was clear before all were read
	OriginalPerplexity        float64         `json:"original_perplexity"`
	QuantizedPerplexity       float64         `json:"quantized_perplexity"`
	IntervalConfidence        float64         `json:"interval_confidence"`
	ExceededLimits            []quality.Limit `json:"exceeded_limits"` // by which it is rejected; empty when none is
	Limits                    quality.Limits  `json:"limits"`          // that the figures were held to, as configured; without those that are not set
}

// Failure is a pair that could not be decided.
type Failure struct {
	EventType    string        `json:"event_type"` // TypeFailure
	ModelName    string        `json:"model_name"`
	TargetFormat string        `json:"target_format"`
	Reason       runner.Reason `json:"reason"`
	Error        string        `json:"error"`
}

// Publication is what became of publishing a copy that is kept.
type Publication struct {
	EventType    string  `json:"event_type"` // TypePublication
	ModelName    string  `json:"model_name"`
	TargetFormat string  `json:"target_format"`
	Timestamp    float64 `json:"timestamp"` // Unix seconds, fractional
	Dir          *string `json:"dir"`       // of the version; null when it failed
	Stable       *string `json:"stable"`    // the link that leads to it; likewise
	Error        *string `json:"error"`     // why it failed; null when it did not
}

// NewPublication describes one: with an error, or with the paths.
func NewPublication(model, target string, at time.Time, dir, stable, failure string) Publication {
	p := Publication{EventType: TypePublication, ModelName: model, TargetFormat: target, Timestamp: unixSeconds(at)}
	if failure != "" {
		p.Error = &failure
	} else {
		p.Dir, p.Stable = &dir, &stable
	}
	return p
}

// Skipped is a pair that was passed over, because another one is chosen before it whatever
// it is.
type Skipped struct {
	EventType     string `json:"event_type"` // TypeSkipped
	ModelName     string `json:"model_name"`
	TargetFormat  string `json:"target_format"`
	Reason        string `json:"reason"` // passed_over
	PassedOverFor string `json:"passed_over_for"`
}

// NewPassedOver describes a pair that was passed over for another target.
func NewPassedOver(model, target, by string) Skipped {
	return Skipped{EventType: TypeSkipped, ModelName: model, TargetFormat: target, Reason: "passed_over", PassedOverFor: by}
}

// Origin is where a result comes from.
type Origin struct {
	Host  string
	Entry string
	// Chosen is the format of the model that is chosen; "" for none.
	Chosen string
	Class  string // of the hardware, in a fleet; "" for the exporter's own host
}

// NewDecision describes a decided result; it must not be a failure.
func NewDecision(r *runner.Result, origin Origin) Decision {
	worst := r.Verdict.Worst()
	d := Decision{
		EventType:             TypeDecision,
		ModelName:             r.Model,
		Decision:              r.Verdict.Outcome,
		OriginalThroughput:    worst.Original,
		QuantizedThroughput:   worst.Quantized,
		ThroughputDropPercent: worst.Drop * 100,
		ThresholdPercent:      ThresholdPercent(r.Threshold),
		SourceFormat:          r.SourceFormat,
		TargetFormat:          r.TargetFormat,
		Timestamp:             unixSeconds(r.Finished),
		CycleVersion:          CycleVersion,
		Phase:                 worst.Phase,
		DropIntervalPercent:   [2]*float64{Percent(worst.Lower), Percent(worst.Upper)},
		IntervalConfidence:    math.Round(r.Verdict.Confidence*1e6) / 1e6, // 0.925, where a difference is 0.9249999999999999
		Rounds:                r.Verdict.Rounds,
		Engine:                r.Evidence.Engine.String(),
		Host:                  origin.Host,
		Entry:                 origin.Entry,
		ChangedInputs:         []string{},
		HardwareClass:         origin.Class,
		Recipe:                r.Recipe,
	}
	for _, change := range r.Changes {
		d.ChangedInputs = append(d.ChangedInputs, change.Text)
	}
	if r.Previous != "" {
		d.PreviousDecision = new(r.Previous)
	}
	if r.Verdict.Outcome == verdict.Rejected {
		d.Gate = new(r.Verdict.Gate)
	}
	if r.Quality != nil {
		d.Quality = newQuality(r.Quality)
	}
	if origin.Chosen != "" {
		d.ChosenFormat = &origin.Chosen
	}
	if r.Against != "" {
		d.Against = new(r.Against)
	}
	if r.Evidence.Method != "" {
		d.Method = new(r.Evidence.Method)
	}
	return d
}

func newQuality(e *runner.Evaluated) *Quality {
	ends := func(i quality.Interval, factor float64) [2]float64 {
		return [2]float64{i.Lower * factor, i.Upper * factor}
	}
	return &Quality{
		KLDivergence:              e.KLDivergence.Estimate,
		KLDivergenceInterval:      ends(e.KLDivergence, 1),
		Top1AgreementPercent:      e.Top1Agreement.Estimate * 100,
		Top1AgreementInterval:     ends(e.Top1Agreement, 100),
		PerplexityIncreasePercent: e.PerplexityIncrease.Estimate * 100,
		PerplexityInterval:        ends(e.PerplexityIncrease, 100),
		RMSDeltaPPercent:          e.RMSDeltaP.Estimate * 100,
		RMSDeltaPInterval:         ends(e.RMSDeltaP, 100),
		KLDivergenceP999:          e.Quantile(quality.P999),
		KLDivergenceMaximum:       e.Quantile(100),
		Chunks:                    e.Chunks,
		PlannedChunks:             e.Planned,
		OriginalPerplexity:        e.OriginalPerplexity,
		QuantizedPerplexity:       e.Perplexity,
		IntervalConfidence:        e.Confidence,
		ExceededLimits:            append([]quality.Limit{}, e.Exceeded...),
		Limits:                    e.Limits,
	}
}

// NewFailure describes a result that is a failure.
func NewFailure(r *runner.Result) Failure {
	return Failure{
		EventType:    TypeFailure,
		ModelName:    r.Model,
		TargetFormat: r.TargetFormat,
		Reason:       r.Failure.Reason,
		Error:        r.Failure.Error(),
	}
}

// ThresholdPercent returns a threshold, a ratio, as a percentage: of 0.07 it is 7, where the
// plain product is 7.000000000000001. Somebody gave that figure, and looks for it.
func ThresholdPercent(ratio float64) float64 { return math.Round(ratio*1e12) / 1e10 }

// unixSeconds keeps microseconds: a float64 holds no more of today's Unix time.
func unixSeconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// Percent of an interval's end, nil when it is open. One so far out that its percentage
// is beyond every number, which JSON has no word for, is open, too.
func Percent(ratio *float64) *float64 {
	if ratio == nil || math.IsInf(*ratio*100, 0) {
		return nil
	}
	p := *ratio * 100
	return &p
}
