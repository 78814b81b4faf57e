package event

import (
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Choice says which format of a model is to be served. Its figures describe the copy; they
// are null if no format is chosen, or if they were not measured.
type Choice struct {
	EventType      string      `json:"event_type"` // TypeChoice
	ModelName      string      `json:"model_name"`
	ChosenFormat   *string     `json:"chosen_format"`   // null: none is kept
	PreviousFormat *string     `json:"previous_format"` // null: none was chosen before
	Choose         choice.Rule `json:"choose"`
	MaxSizeBytes   *int64      `json:"max_size_bytes"` // of the copies that the rule chooses; null without a limit
	SourceFormat   string      `json:"source_format"`
	SizeBytes      *int64      `json:"size_bytes"`
	// The three figures were measured in Phase, the primary one.
	OriginalThroughput    *float64       `json:"original_throughput"`     // tokens per second
	QuantizedThroughput   *float64       `json:"quantized_throughput"`    // tokens per second
	ThroughputDropPercent *float64       `json:"throughput_drop_percent"` // negative when faster
	Phase                 *verdict.Phase `json:"phase"`
	KLDivergence          *float64       `json:"kl_divergence"` // mean, in nats
	Timestamp             float64        `json:"timestamp"`     // Unix seconds, fractional
	CycleVersion          string         `json:"cycle_version"`
	EventID               *string        `json:"event_id"` // null where the choice did not change
	Engine                string         `json:"engine"`
	Host                  string         `json:"host"`
	Entry                 string         `json:"entry"` // of the schedule; "" from the command line
	// HardwareClass is as in Decision.
	HardwareClass string `json:"hardware_class,omitempty"`
	// What a copy may take of the host's memory, and of each accelerator's, to be chosen; left
	// out without such a limit.
	MaxMemoryHostBytes   int64 `json:"max_memory_host_bytes,omitempty"`
	MaxMemoryDeviceBytes int64 `json:"max_memory_device_bytes,omitempty"`
}

// ChoiceInfo is the input of NewChoice.
type ChoiceInfo struct {
	Model                string
	Rule                 choice.Rule
	Previous             string  // format; "" for none
	Chosen               *Chosen // nil for none
	SourceFormat, Engine string
	At                   time.Time
}

// Chosen is the copy that was chosen. Quality is nil if it was not evaluated.
type Chosen struct {
	Format  string
	Bytes   int64
	Verdict *verdict.Verdict
	Quality *runner.Evaluated
}

// NewChoice describes a choice.
func NewChoice(c ChoiceInfo, origin Origin) Choice {
	out := Choice{
		EventType:    TypeChoice,
		ModelName:    c.Model,
		Choose:       c.Rule.By(),
		SourceFormat: c.SourceFormat,
		Timestamp:    unixSeconds(c.At),
		CycleVersion: CycleVersion,
		Engine:       c.Engine,
		Host:         origin.Host,
		Entry:        origin.Entry,

		HardwareClass: origin.Class,
	}
	limits := c.Rule.Limits()
	if limits.Size != 0 {
		out.MaxSizeBytes = &limits.Size
	}
	out.MaxMemoryHostBytes, out.MaxMemoryDeviceBytes = limits.Host, limits.Device
	if c.Previous != "" {
		out.PreviousFormat = &c.Previous
	}
	if c.Chosen == nil {
		return out
	}
	out.ChosenFormat, out.SizeBytes = &c.Chosen.Format, &c.Chosen.Bytes
	if phase, measured := c.Chosen.Verdict.Primary(); measured {
		out.OriginalThroughput, out.QuantizedThroughput = &phase.Original, &phase.Quantized
		out.ThroughputDropPercent = Percent(&phase.Drop)
		out.Phase = &phase.Phase
	}
	if q := c.Chosen.Quality; q != nil {
		out.KLDivergence = new(q.KLDivergence.Estimate)
	}
	return out
}
