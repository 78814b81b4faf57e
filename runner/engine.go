package runner

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// Engine quantizes models and measures them. Its methods block until the work is
// done, the context is cancelled or a deadline of the engine's own has passed; when
// they return, no process that they started is left. An error that is or wraps a
// *Failure says why in the contract's terms; any other counts as ReasonInternal.
//
// One Engine serves one cycle at a time.
type Engine interface {
	// Probe says what the engine is and which formats it makes. It is asked once at
	// the start of every cycle, so that a tool that was exchanged, or has appeared
	// since, is noticed.
	Probe(ctx context.Context) (EngineInfo, error)

	// QuantizedSize says how many bytes Quantize would write for the job. exact is
	// false when the engine can only give an upper bound.
	QuantizedSize(ctx context.Context, job QuantizeJob) (bytes int64, exact bool, err error)

	// Quantize writes job.Output. report is called from one goroutine with the
	// tensors done so far and in all. When it returns nil the tool has said that it
	// succeeded; whether the file is whole is the caller's to check.
	Quantize(ctx context.Context, job QuantizeJob, report func(done, total int)) (ToolRun, error)

	// QuantizeArgs is the argument list that Quantize would run the tool with, the tool's
	// name first.
	QuantizeArgs(ctx context.Context, job QuantizeJob) ([]string, error)

	// FreeDeviceMemory returns how many bytes the accelerators that get all of a model have
	// free; 0 where there are none, or where that is not known.
	FreeDeviceMemory(ctx context.Context) (int64, error)

	// Round measures the files of the job and gives one FileRound for each. A file that
	// cannot be measured has its error there, and the others their figures. An error of the
	// round as a whole is a *Unpaired where the paired method cannot measure these files. report
	// is called from one goroutine, with the file that is being measured, as an index of
	// job.Files, or −1 where they take turns, and with how much of the round is done, 0 to 1.
	Round(ctx context.Context, job RoundJob, report func(file int, done float64)) ([]FileRound, error)

	// PredictionsSize says how many bytes Predict writes. It fails when the engine cannot
	// evaluate quality.
	PredictionsSize(ctx context.Context, job EvaluateJob) (int64, error)

	// Predict writes what the model predicts in the corpus to job.Predictions. When it
	// returns nil that file is whole.
	Predict(ctx context.Context, job EvaluateJob) (ToolRun, error)

	// Evaluate compares the model's predictions with those that Predict wrote. The trace
	// is filled in on failure, too.
	Evaluate(ctx context.Context, job EvaluateJob) (Evaluation, error)
}

// EngineInfo describes an engine.
type EngineInfo struct {
	Name    string   `json:"name"`              // "llama.cpp"
	Version string   `json:"version,omitempty"` // as the tool prints it
	Build   int      `json:"build,omitempty"`   // llama.cpp's build number; 0 when the tool does not say
	Commit  string   `json:"commit,omitempty"`
	Formats []Format `json:"-"`                 // what it can quantize to, as the tool lists it
	Imatrix bool     `json:"imatrix,omitempty"` // quantizes with an importance matrix
	// Matrices is the path of the importance matrix of each model, with a placeholder: see
	// matrixOf. "" where all have the same or none.
	Matrices string `json:"-"`
	// Files are those that settings name, by absolute paths: the matrix as "imatrix", others
	// by a key that begins with the setting's. What they hold is a part of the Inputs.
	Files map[string]string `json:"-"`
	// Devices are the accelerators it would compute on, as far as it lists them: "CUDA0:
	// NVIDIA H100"; "" where it lists none.
	Devices string `json:"-"`
	// Arguments are the engine's settings that its results depend on, by their keys, and
	// without secrets: a part of the Inputs.
	Arguments map[string]string `json:"-"`
	// Attempt names the settings, and their values, that decide whether a tool can do its
	// work, and change nothing in what it makes or measures: timeouts and confinement.
	Attempt string `json:"-"`
	// Threads that a measurement uses; 0 leaves it to the tool.
	Threads int `json:"threads,omitempty"`
	// Sandbox says how its tools are confined: "landlock 7" with the version of the kernel's
	// interface, "none" where the kernel has none, "off" where the configuration says so.
	Sandbox string `json:"sandbox,omitempty"`
	// Unpaired says why it cannot measure in pairs, whatever the files; "" when it can.
	Unpaired string `json:"unpaired,omitempty"`
}

// Confined reports whether the kernel keeps the tools from writing outside their folder.
func (i EngineInfo) Confined() bool { return strings.HasPrefix(i.Sandbox, "landlock ") }

// String names the engine as people would: "llama.cpp 0.7.0 (build 11669)".
func (i EngineInfo) String() string {
	text := i.Name
	if i.Version != "" {
		text += " " + i.Version
	}
	if i.Build > 0 && !strings.Contains(i.Version, strconv.Itoa(i.Build)) {
		text += fmt.Sprintf(" (build %d)", i.Build)
	}
	return text
}

// Format is one quantization format that an engine can make.
type Format struct {
	Name         string // the tool's own spelling: "Q2_K"
	Alias        string // the format that Name stands for ("Q4_K" is "Q4_K_M"); "" when it is one itself
	NeedsImatrix bool   // useless without an importance matrix: refused without one
}

// QuantizeJob names a quantization. All files lie in Dir and are named by their
// plain base names, which are safe on any command line.
type QuantizeJob struct {
	Dir             string
	Input           string // the (first) file of the original
	Output          string
	Format          string   // one of EngineInfo.Formats, aliases resolved
	Imatrix         string   // absolute path of the model's own importance matrix; "" for the engine's, or none
	Args            []string // of the copy's recipe, besides the engine's own; none for a plain format
	AllowRequantize bool
}

// Unpaired is the error of a round that cannot be measured by the paired method, through no
// fault of a file: it can still be measured by a process a file.
type Unpaired struct {
	Err error // says why
}

// Error returns the message of the wrapped error.
func (u *Unpaired) Error() string { return u.Err.Error() }

// Unwrap returns the wrapped error to errors.Is and errors.As.
func (u *Unpaired) Unwrap() error { return u.Err }

// EvaluateJob names an evaluation of one file's quality. All files lie in Dir and are
// named by their plain base names.
type EvaluateJob struct {
	Dir         string
	Model       string // the (first) file of the model
	Corpus      string // the text; only Predict reads it
	Predictions string // of the original: Predict writes it, Evaluate reads it
	Context     int    // tokens of a chunk, of which the second half is predicted
	Chunks      int    // of the text, from its beginning
	Vocabulary  int64  // tokens that the model knows; 0 where that is not known
	Quantiles   bool   // Evaluate fails without the quantiles of the divergence
}

// Evaluation is what an engine found of a copy's quality.
type Evaluation struct {
	Perplexity         float64 // of the copy, over all chunks
	OriginalPerplexity float64 // of the original, over the same
	quality.Sample             // as many chunks as the job says, in the order of the text
	Run                ToolRun
}

// Measurement is what one round found of one file.
type Measurement struct {
	// Throughput in tokens per second, per phase of the job: its tokens over their time, of
	// the bursts that count. Each is finite and above zero.
	Throughput map[verdict.Phase]float64 `json:"throughput"`
	// Bursts are what was timed, in the order of the round. A process of its own has one
	// of each phase.
	Bursts []Burst `json:"bursts"`

	Build    int    `json:"build,omitempty"`
	Commit   string `json:"commit,omitempty"`
	Backends string `json:"backends,omitempty"`
	CPU      string `json:"cpu,omitempty"`
	GPU      string `json:"gpu,omitempty"`
	Threads  int    `json:"threads,omitempty"`
	// CPUs are the logical CPUs that it was measured on; none where the system chose.
	CPUs []int `json:"cpus,omitempty"`
	// Offload is what of the file was on which device, as far as the tool reports it.
	Offload *Offload `json:"offload,omitempty"`
	// Memory is what the file took.
	Memory Memory `json:"memory,omitzero"`
	// Idle is the share of one CPU, 0 to 1 or more, that a server used while it had nothing to
	// do and another was measured: above a few percent it disturbed the others.
	Idle float64 `json:"idle_ratio,omitempty"`

	Run ToolRun `json:"run"`
}

// NoticeableIdle is the share of a CPU from which on a server that has nothing to do counts as
// one that disturbs the others.
const NoticeableIdle = 0.05

// Offload is where a file's weights and caches were put.
type Offload struct {
	Layers    int      `json:"layers"`     // on devices other than the CPU
	AllLayers int      `json:"all_layers"` // that there are; 0 when the tool does not say
	Buffers   []Buffer `json:"buffers,omitempty"`
}

// places names the accelerators that hold a part of the file, with the size of the cache on each.
func (o *Offload) places() string {
	if o == nil {
		return "the host"
	}
	caches := map[string]int64{}
	for _, b := range o.Buffers {
		switch {
		case b.On == "":
		case b.IsCache():
			caches[b.On] += b.Bytes
		case b.Use == "model":
			caches[b.On] += 0
		}
	}
	if o.Layers == 0 && len(caches) == 0 {
		return "the host"
	}
	parts := []string{fmt.Sprintf("%d of %d layers on devices", o.Layers, o.AllLayers)}
	for _, device := range slices.Sorted(maps.Keys(caches)) {
		parts = append(parts, fmt.Sprintf("%s with a cache of %d bytes", device, caches[device]))
	}
	return strings.Join(parts, ", ")
}

// Buffer is memory that was taken for one use on one device.
type Buffer struct {
	Device string `json:"device"`       // as the tool names it: "CUDA0", "CPU_Mapped"
	On     string `json:"on,omitempty"` // the accelerator that gives it; "" for the host
	Use    string `json:"use"`          // "model", "KV", "RS", "compute", "output"
	Bytes  int64  `json:"bytes"`
}

// IsCache reports whether the buffer holds what was computed of earlier tokens: keys and values of
// attention, or the state of a recurrent model.
func (b Buffer) IsCache() bool { return b.Use == "KV" || b.Use == "RS" }

// ToolRun is the trace of one child process.
type ToolRun struct {
	Args    []string      `json:"args"` // argument list, the tool's name first
	Wall    time.Duration `json:"wall_ns"`
	CPUTime time.Duration `json:"cpu_ns"` // user and system time of the process and its waited-for children
}
