package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// line is what `run --output json` adds to a decision.
type line struct {
	event.Decision
	MethodReason  string             `json:"method_reason,omitempty"` // why the method is not paired
	OriginalFile  runner.FileFigures `json:"original_file"`
	QuantizedFile runner.FileFigures `json:"quantized_file"`
	Seconds       map[string]float64 `json:"duration_seconds"` // by operation
	Repeated      int                `json:"repeated_rounds"`
	// Resolvable is, for an inconclusive pair, the smallest drop that so many rounds on this
	// host can tell from no drop.
	Resolvable *float64         `json:"resolvable_drop_percent,omitempty"`
	Evidence   *runner.Evidence `json:"evidence,omitempty"`
}

// JSONLine writes a result as one object on a line: a decision as on the bus with additions,
// or a failure. eventID is the ID of the event that the decision raised, "" if it raised
// none. With evidence the line has everything that the decision rests on.
func JSONLine(w io.Writer, r *runner.Result, origin event.Origin, eventID string, evidence bool) error {
	if r.Failure != nil {
		return Line(w, event.NewFailure(r))
	}
	l := line{
		Decision:      event.NewDecision(r, origin),
		OriginalFile:  r.Original,
		QuantizedFile: r.Quantized,
		Seconds:       map[string]float64{},
		Repeated:      repeatedRounds(*r),
		MethodReason:  r.Evidence.MethodReason,
	}
	if eventID != "" {
		l.EventID = &eventID
	}
	for operation, d := range r.Durations {
		l.Seconds[string(operation)] = d.Round(time.Microsecond).Seconds()
	}
	if r.Verdict.Outcome == verdict.Inconclusive {
		resolvable := r.Verdict.Resolvable * 100
		l.Resolvable = &resolvable
	}
	if evidence {
		l.Evidence = &r.Evidence
	}
	return Line(w, l)
}

// Line writes an object on a line, in one piece, and leaves <, > and & as they are: nothing here becomes
// part of a web page.
func Line(w io.Writer, object any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(object); err != nil {
		return fmt.Errorf("encoding a result: %w", err)
	}
	_, err := w.Write(text.Bytes())
	return err
}
