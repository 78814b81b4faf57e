package llamacpp

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
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

	// Threads that the tools use; 0 is automatic: physical cores − 1, and for measuring
	// on a GPU what llama-bench takes by itself.
	Threads int `yaml:"threads,omitempty"`

	// Nice is the nice level of llama-quantize, 0 to 19. Measurements always run at the
	// exporter's own: a yielding benchmark would measure its neighbours.
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
	Evaluate  model.Duration `yaml:"evaluate"`  // one quality evaluation
}

// DefaultConfig has the tools on PATH, automatic threads, quantization at nice level 10,
// and 6 hours for a quantization, 2 for a measurement, 12 for an evaluation.
func DefaultConfig() Config {
	return Config{
		Nice: 10,
		Timeouts: Timeouts{
			Quantize:  model.Duration(6 * time.Hour),
			Benchmark: model.Duration(2 * time.Hour),
			Evaluate:  model.Duration(12 * time.Hour),
		},
	}
}

// Validate returns all that is wrong with the section, joined.
func (c Config) Validate() error {
	var problems []error
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf(format, args...))
	}
	for name := range c.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			problem("engine.env: %q is no name of an environment variable", name)
		}
	}
	if c.Threads < 0 {
		problem("engine.threads: %d is below 0 (0 is automatic)", c.Threads)
	}
	if c.Threads > 0 && hasOption(c.BenchArgs, "-t", "--threads") {
		problem("engine.threads is %d and engine.bench_args sets the threads as well: use one of them", c.Threads)
	}
	if c.Nice < 0 || c.Nice > 19 {
		problem("engine.nice: %d is not between 0 and 19", c.Nice)
	}
	for _, limit := range []struct {
		key   string
		value model.Duration
	}{
		{"quantize", c.Timeouts.Quantize},
		{"benchmark", c.Timeouts.Benchmark},
		{"evaluate", c.Timeouts.Evaluate},
	} {
		if limit.value <= 0 {
			problem("engine.timeouts.%s: %v is not above 0", limit.key, limit.value)
		}
	}
	problems = append(problems, refuse("engine.bench_args", c.BenchArgs, reservedBenchOptions)...)
	problems = append(problems, refuse("engine.quantize_args", c.QuantizeArgs, reservedQuantizeOptions)...)
	for _, arg := range c.BenchArgs {
		if strings.Contains(arg, ",") {
			problem("engine.bench_args: %q: llama-bench takes a comma for several values and would measure each; give one", arg)
		}
	}
	return errors.Join(problems...)
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

type reserved struct {
	instead string
	options []string
}

func refuse(key string, args []string, table []reserved) []error {
	var problems []error
	for _, arg := range args {
		for _, entry := range table {
			if slices.Contains(entry.options, canonical(arg)) {
				problems = append(problems, fmt.Errorf("%s: %s is not allowed here: %s", key, arg, entry.instead))
			}
		}
	}
	return problems
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
