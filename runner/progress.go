package runner

import (
	"cmp"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/text"
)

// Progress is what a cycle does at the moment.
type Progress struct {
	Model     string
	Operation Operation
	Target    string  // what is made, evaluated or measured; "" for the original
	Round     int     // while measuring: which, from 1
	Stage     Stage   // while measuring one file after the other
	Done      float64 // of this operation, 0 to 1; while measuring, up to the next look
	Detail    string  // "tensor 15/39", "round 3", "copying the model"; or what it waits for
	// Left is how long the operation is expected to take yet; 0 when unknown.
	Left time.Duration
}

// Step names the work in words, "quantizing to Q2_K", without what changes meanwhile: it
// stays the same while a copy is made, and during a round. Like [Progress.Text] it has
// nothing that a terminal would not show as itself. It is "" for the zero Progress.
func (p Progress) Step() string {
	target := cmp.Or(p.Target, "the original")
	step := string(p.Operation)
	switch p.Operation {
	case OperationWait:
		step = "waiting for " + p.Detail
	case OperationIsolate:
		step = cmp.Or(p.Detail, "preparing a working copy")
	case OperationQuantize:
		step = "quantizing to " + p.Target
	case OperationEvaluate:
		step = "evaluating " + target
	case OperationBenchmark:
		step = cmp.Or(p.Detail, step)
	case OperationPublish:
		step = "publishing"
	}
	return text.Name(step)
}

// Text is Step with what changes during it: "quantizing to Q2_K, tensor 15/39".
func (p Progress) Text() string {
	changing := ""
	switch {
	case p.Operation == OperationQuantize:
		changing = p.Detail
	case p.Stage == StageOriginal:
		changing = "measuring the original"
	case p.Stage == StageQuantized:
		changing = "measuring " + p.Target
	case p.Round > 0:
		changing = "measuring the original and the copies in turn"
	}
	if changing == "" {
		return p.Step()
	}
	return p.Step() + ", " + text.Name(changing)
}

// Remaining returns how long it is expected to take yet, in words; "" when that is unknown. While
// measuring it is the time to the next look, as nobody knows how many looks it takes.
func (p Progress) Remaining() string {
	switch {
	case p.Left <= 0:
		return ""
	case p.Operation == OperationBenchmark:
		return "next check in about " + text.Span(p.Left)
	default:
		return "about " + text.Span(p.Left) + " left"
	}
}
