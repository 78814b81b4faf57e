package llamacpp

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/quant-exporter/quant-exporter/runner"
)

// Config is the engine section of the configuration.
type Config struct {
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
	// none.
	Imatrix string `yaml:"imatrix,omitempty"`

	Timeouts Timeouts `yaml:"timeouts"`
}

// Timeouts are the times after which a tool is taken for hung and is killed. They are
// generous: a 70-billion-parameter model on a slow disk has to fit in.
type Timeouts struct {
	Quantize  model.Duration `yaml:"quantize"`  // one quantization
	Benchmark model.Duration `yaml:"benchmark"` // one measurement of one file, all phases
	Evaluate  model.Duration `yaml:"evaluate"`  // one pass of one file over the text
}

// DefaultConfig has the tools on PATH, automatic threads, quantization at nice level 10,
// and 6 hours for a quantization or a pass over the text, 2 for a measurement.
func DefaultConfig() Config {
	return Config{
		Nice: 10,
		Timeouts: Timeouts{
			Quantize:  model.Duration(6 * time.Hour),
			Benchmark: model.Duration(2 * time.Hour),
			Evaluate:  model.Duration(6 * time.Hour),
		},
	}
}

// Validate finds every value that cannot be used.
func (c Config) Validate() []runner.Problem {
	var problems []runner.Problem
	add := func(path, format string, args ...any) {
		problems = append(problems, runner.Problem{Path: path, Err: fmt.Errorf(format, args...)})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		if err := checkVariable(name, c.Env[name]); err != nil {
			add("env", "%w", err)
		}
	}
	if c.Threads < 0 {
		add("threads", "%d is below 0: use 0 for automatic, or a number of threads", c.Threads)
	}
	if c.Threads > 0 && hasOption(c.BenchArgs, "-t", "--threads") {
		add("threads", "it is %d and bench_args sets the threads as well: use one of them", c.Threads)
	}
	if c.Threads > 0 && hasOption(c.EvaluateArgs, "-t", "--threads") {
		add("threads", "it is %d and evaluate_args sets the threads as well: use one of them", c.Threads)
	}
	if c.Nice < 0 || c.Nice > 19 {
		add("nice", "%d is no nice level: use 0 to 19", c.Nice)
	}
	positive := func(path string, limit model.Duration) {
		if limit <= 0 {
			add(path, "%v leaves no time: use a duration above 0, such as 2h", limit)
		}
	}
	positive("timeouts.quantize", c.Timeouts.Quantize)
	positive("timeouts.benchmark", c.Timeouts.Benchmark)
	positive("timeouts.evaluate", c.Timeouts.Evaluate)
	for _, arg := range c.BenchArgs {
		if instead, ok := refused(arg, reservedBenchOptions); ok {
			add("bench_args", "%s is not allowed here: %s", arg, instead)
		}
		if strings.Contains(arg, ",") {
			add("bench_args", "%q: llama-bench takes a comma for several values and would measure each: give one", arg)
		}
	}
	for _, arg := range c.QuantizeArgs {
		if instead, ok := refused(arg, reservedQuantizeOptions); ok {
			add("quantize_args", "%s is not allowed here: %s", arg, instead)
		}
	}
	for _, arg := range c.EvaluateArgs {
		if instead, ok := refused(arg, reservedEvaluateOptions); ok {
			add("evaluate_args", "%s is not allowed here: %s", arg, instead)
		}
	}
	return problems
}

// reservedBenchOptions are those of llama-bench that the exporter sets, and what to do
// instead. Given twice, an option of llama-bench makes it measure twice.
var reservedBenchOptions = []reserved{
	{"the exporter names the model", []string{"-m", "--model", "-hf", "-hfr", "--hf-repo", "-hff", "--hf-file"}},
	{"use benchmark.prompt_tokens and benchmark.phases", []string{"-p", "--n-prompt"}},
	{"use benchmark.generation_tokens and benchmark.phases", []string{"-n", "--n-gen"}},
	{"each phase is measured by itself", []string{"-pg"}},
	{"use benchmark.depth", []string{"-d", "--n-depth"}},
	{"a prompt is measured in one batch, benchmark.prompt_tokens long", []string{"-b", "--batch-size", "-ub", "--ubatch-size"}},
	{"use benchmark.rounds", []string{"-r", "--repetitions"}},
	{"the exporter reads the tool's JSON", []string{"-o", "--output", "-oe", "--output-err"}},
	{"with it the tool measures nothing", []string{"-h", "--help", "--version", "--list-devices"}},
}

// reservedQuantizeOptions are those of llama-quantize that have keys of their own or
// would spoil the result.
var reservedQuantizeOptions = []reserved{
	{"use engine.imatrix", []string{"--imatrix"}},
	{"use models.allow_requantize", []string{"--allow-requantize"}},
	{"the result must be one file", []string{"--keep-split"}},
	{"with it the tool quantizes nothing", []string{"-h", "--help", "--version", "--dry-run"}},
}

// reservedEvaluateOptions are those of llama-perplexity that the exporter sets, and those
// that would hide or change what it reads.
var reservedEvaluateOptions = []reserved{
	{"the exporter names the model", []string{"-m", "--model", "-mu", "--model-url", "-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-dr", "--docker-repo"}},
	{"use quality.corpus", []string{"-f", "--file", "-bf", "--binary-file", "-p", "--prompt"}},
	{"use quality.chunks", []string{"--chunks"}},
	{"use quality.context", []string{"-c", "--ctx-size"}},
	{"the exporter keeps the original's predictions itself", []string{"--kl-divergence", "--kl-divergence-base", "--save-all-logits"}},
	{"with it the tool computes something else", []string{"--hellaswag", "--winogrande", "--multiple-choice", "--ppl-stride", "--ppl-output-type"}},
	{"the exporter reads what the tool prints", []string{"--log-disable", "--log-file", "--log-jsonl"}},
	{"with it the tool evaluates nothing", []string{"-h", "--help", "--usage", "--version", "--list-devices"}},
}

type reserved struct {
	instead string
	options []string
}

// refused says whether an argument is a reserved option, and what to do instead.
func refused(arg string, table []reserved) (instead string, ok bool) {
	for _, entry := range table {
		if slices.Contains(entry.options, canonical(arg)) {
			return entry.instead, true
		}
	}
	return "", false
}

// canonical spells a long option with hyphens, as the tools do before they compare.
func canonical(arg string) string {
	if strings.HasPrefix(arg, "--") {
		return strings.ReplaceAll(arg, "_", "-")
	}
	return arg
}

func hasOption(args []string, names ...string) bool {
	_, ok := option(args, names...)
	return ok
}

// option finds the value that follows the last use of an option.
func option(args []string, names ...string) (value string, ok bool) {
	for i, arg := range args {
		if slices.Contains(names, canonical(arg)) {
			value, ok = "", true
			if i+1 < len(args) {
				value = args[i+1]
			}
		}
	}
	return value, ok
}
