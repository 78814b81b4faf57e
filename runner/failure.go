package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Reason says in one word why a pair could not be decided. The words are a contract:
// they are label values of quant_cycle_failures_total.
type Reason string

// The reasons, all there are.
const (
	ReasonEngineMissing Reason = "engine_missing" // a tool is not there or cannot be started
	ReasonBadModel      Reason = "bad_model"      // the model cannot be read, is cut off or is not a language model
	ReasonSourceChanged Reason = "source_changed" // the model's file changed or went away during the cycle, or its disk cannot be read
	ReasonNoSpace       Reason = "no_space"       // the working directory cannot hold the copy, or what evaluations need
	ReasonWorkDir       Reason = "work_dir"       // the working directory cannot be written to, or has gone
	ReasonHostLimit     Reason = "host_limit"     // the host has no more descriptors or processes to give
	ReasonQuantize      Reason = "quantize"       // quantizing failed or its result is not whole
	ReasonBenchmark     Reason = "benchmark"      // measuring failed or gave no usable figure
	ReasonEvaluate      Reason = "evaluate"       // a quality evaluation failed
	ReasonCrash         Reason = "crash"          // a tool died of a signal
	ReasonOutOfMemory   Reason = "out_of_memory"  // a tool was killed for, or gave up for want of, memory
	ReasonTimeout       Reason = "timeout"        // a tool ran past its deadline
	ReasonCanceled      Reason = "canceled"       // the cycle was canceled
	ReasonInterrupted   Reason = "interrupted"    // our own process was killed meanwhile
	ReasonInternal      Reason = "internal"       // a defect of this program
)

// Failure is the error of a pair, or of a whole cycle, that could not be decided.
type Failure struct {
	Reason Reason
	Err    error // says what happened and, where there is something to do, what
}

// Error returns the message of the wrapped error; the reason is shown beside it.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the wrapped error to errors.Is and errors.As.
func (f *Failure) Unwrap() error { return f.Err }

// failureJSON is a Failure as it is stored and shown.
type failureJSON struct {
	Reason Reason `json:"reason"`
	Error  string `json:"error"`
}

// MarshalJSON is part of json.Marshaler.
func (f *Failure) MarshalJSON() ([]byte, error) {
	return json.Marshal(failureJSON{f.Reason, f.Error()})
}

// UnmarshalJSON is part of json.Unmarshaler. Only the error's message is restored.
func (f *Failure) UnmarshalJSON(data []byte) error {
	var read failureJSON
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	f.Reason, f.Err = read.Reason, errors.New(read.Error)
	return nil
}

// Failf makes a Failure; format and args are as in fmt.Errorf, %w included.
func Failf(reason Reason, format string, args ...any) *Failure {
	return &Failure{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// AsFailure finds the Failure that err is or wraps and keeps err's own, longer
// message. A context that was cancelled is ReasonCanceled; whatever else carries no
// reason is a defect: ReasonInternal.
func AsFailure(err error) *Failure {
	var failure *Failure
	switch {
	case errors.As(err, &failure):
		return &Failure{Reason: failure.Reason, Err: err}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Failure{Reason: ReasonCanceled, Err: err}
	default:
		return &Failure{Reason: ReasonInternal, Err: err}
	}
}
