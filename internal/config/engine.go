package config

import (
	"path/filepath"
	"regexp"
	"time"

	"github.com/prometheus/common/model"
)

// Engine is the section `engine:`, llama.cpp's tools.
type Engine struct {
	// Dir holds the tools; "" looks for them on PATH. --llamacpp.dir and LLAMA_CPP_DIR
	// set it too.
	Dir string `yaml:"dir,omitempty"`

	// Env is added to the tools' environment and wins over it: CUDA_VISIBLE_DEVICES,
	// GGML_BACKEND_PATH.
	Env map[string]string `yaml:"env,omitempty"`

	// BenchArgs are given to llama-bench after the exporter's own: -ngl, -t, -fa. An
	// option that decides what is measured is refused; those have keys of their own.
	BenchArgs []string `yaml:"bench_args,omitempty"`

	// QuantizeArgs are given to llama-quantize: --pure, --leave-output-tensor. Files
	// they name need absolute paths.
	QuantizeArgs []string `yaml:"quantize_args,omitempty"`

	// EvaluateArgs are given to llama-perplexity: -ngl, -nr. An option that decides what is
	// evaluated is refused; those have keys of their own.
	EvaluateArgs []string `yaml:"evaluate_args,omitempty"`

	// Threads that the tools use; 0 is automatic: physical cores − 1, and for measuring
	// on a GPU what llama-bench takes by itself.
	Threads int `yaml:"threads,omitempty"`

	// Nice is the nice level of llama-quantize and llama-perplexity, 0 to 19. Measurements
	// of throughput always run at the exporter's own: a yielding benchmark would measure its neighbours.
	Nice int `yaml:"nice"`

	// Imatrix is the file of an importance matrix, used for every quantization; "" uses
	// none. {model} in it stands for the name of a model, and {file} for the path of its file
	// without .gguf: each model has a matrix of its own then, or none where that is not there.
	Imatrix string `yaml:"imatrix,omitempty"`

	// Sandbox has the kernel confine the tools, or not; SandboxReads are further
	// files and folders, by absolute paths, that they may read then.
	Sandbox      Sandbox  `yaml:"sandbox"`
	SandboxReads []string `yaml:"sandbox_reads,omitempty"`

	Timeouts Timeouts `yaml:"timeouts"`
}

// Sandbox is when tools are confined.
type Sandbox string

// The sandboxes.
const (
	SandboxAuto     Sandbox = "auto"     // where the kernel can
	SandboxRequired Sandbox = "required" // nothing runs where it cannot
	SandboxOff      Sandbox = "off"
)

// Timeouts are the times after which a tool is taken for hung and is killed. They are
// generous: a 70-billion-parameter model on a slow disk has to fit in.
type Timeouts struct {
	Quantize  model.Duration `yaml:"quantize"`  // one quantization
	Benchmark model.Duration `yaml:"benchmark"` // one measurement of one file, all phases
	Evaluate  model.Duration `yaml:"evaluate"`  // one pass of one file over the text
}

// DefaultEngine has the tools on PATH, automatic threads, quantization at nice level 10,
// a sandbox where the kernel has one, and 6 hours for a quantization or a pass over the text, 2 for a measurement.
func DefaultEngine() Engine {
	return Engine{
		Nice:    10,
		Sandbox: SandboxAuto,
		Timeouts: Timeouts{
			Quantize:  model.Duration(6 * time.Hour),
			Benchmark: model.Duration(2 * time.Hour),
			Evaluate:  model.Duration(6 * time.Hour),
		},
	}
}

// Validate finds every value that cannot be used, but for what package llamacpp finds.
func (c Engine) Validate() []Problem {
	var found problems
	if c.Threads < 0 {
		found.add("threads", "%d is below 0: use 0 for automatic, or a number of threads", c.Threads)
	}
	if c.Nice < 0 || c.Nice > 19 {
		found.add("nice", "%d is not a nice level: use 0 to 19", c.Nice)
	}
	positive := func(path string, limit model.Duration) {
		if limit <= 0 {
			found.add(path, "%v leaves no time: use a duration above 0, such as 2h", limit)
		}
	}
	positive("timeouts.quantize", c.Timeouts.Quantize)
	positive("timeouts.benchmark", c.Timeouts.Benchmark)
	positive("timeouts.evaluate", c.Timeouts.Evaluate)
	switch c.Sandbox {
	case SandboxAuto, SandboxRequired, SandboxOff:
	default:
		found.add("sandbox", "%q is none of auto, required and off", string(c.Sandbox))
	}
	for _, path := range c.SandboxReads {
		if !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
			found.add("sandbox_reads", "%q: use the absolute path of a file or folder, and not of all", path)
		}
	}
	return found
}

// secretName finds the words by themselves where they are in others, too: a PAT (a personal
// access token, perhaps of GH) is not a PATH.
var secretName = regexp.MustCompile(`(?i)token|key|secret|pass|pwd|cred(s|ential)|auth|cookie|session|sessid|dsn|jwt|bearer|webhook|conn(ection)?_?str(ing)?(_|[0-9]|$)` +
	`|(^|_)(sas|t?otp|sid|signature|(gh|gl|ado|git|github|gitlab|azure)?pat)[0-9]*(_|$)`)

// SecretName reports whether the value of a variable of this name must not be shown.
func SecretName(name string) bool { return secretName.MatchString(name) }
