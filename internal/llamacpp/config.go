package llamacpp

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

// Validate returns the problems that only the tools' own rules show in their section of the
// configuration.
func Validate(c config.Engine) []config.Problem {
	var problems []config.Problem
	add := func(path, format string, args ...any) {
		problems = append(problems, config.Problem{Path: path, Err: fmt.Errorf(format, args...)})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		if err := checkVariable(name, c.Env[name]); err != nil {
			add("env", "%w", err)
		}
	}
	if c.Threads > 0 && hasOption(c.BenchArgs, "-t", "--threads") {
		add("threads", "it is %d and bench_args sets the threads as well: use one of them", c.Threads)
	}
	if c.Threads > 0 && hasOption(c.EvaluateArgs, "-t", "--threads") {
		add("threads", "it is %d and evaluate_args sets the threads as well: use one of them", c.Threads)
	}
	shown := config.RedactArgs(c.BenchArgs)
	for i, arg := range c.BenchArgs {
		if instead, ok := refused(arg, reservedBenchOptions); ok {
			add("bench_args", "%s is not allowed here: %s", arg, instead)
		}
		if strings.Contains(arg, ",") {
			add("bench_args", "%q: llama-bench takes a comma for several values and would measure each: give one", shown[i])
		}
	}
	for _, arg := range c.QuantizeArgs {
		if err := CheckQuantizeArgs([]string{arg}); err != nil {
			add("quantize_args", "%w", err)
		}
	}
	for _, arg := range c.EvaluateArgs {
		if instead, ok := refused(arg, reservedEvaluateOptions); ok {
			add("evaluate_args", "%s is not allowed here: %s", arg, instead)
		}
	}
	return problems
}

// CheckQuantizeArgs returns an error for the first argument that llama-quantize must not be
// given, be it by quantize_args or by a recipe.
func CheckQuantizeArgs(args []string) error {
	for _, arg := range args {
		if instead, ok := refused(arg, reservedQuantizeOptions); ok {
			return fmt.Errorf("%s is not allowed here: %s", arg, instead)
		}
	}
	return nil
}

// reservedBenchOptions are the options of llama-bench that the exporter sets, and what to do
// instead. An option that is given twice makes llama-bench measure twice.
var reservedBenchOptions = []reserved{
	{"the exporter names the model", []string{"-m", "--model", "-hf", "-hfr", "--hf-repo", "-hff", "--hf-file"}},
	{"use benchmark.prompt_tokens and benchmark.phases", []string{"-p", "--n-prompt"}},
	{"use benchmark.generation_tokens and benchmark.phases", []string{"-n", "--n-gen"}},
	{"each phase is measured by itself", []string{"-pg"}},
	{"use benchmark.depth", []string{"-d", "--n-depth"}},
	{"a prompt is measured in one batch, benchmark.prompt_tokens long", []string{"-b", "--batch-size", "-ub", "--ubatch-size"}},
	{"use benchmark.rounds", []string{"-r", "--repetitions"}},
	{"it may put the original and the copy on different devices", []string{"-fit", "--fit", "-fitt", "--fit-target", "-fitc", "--fit-ctx"}},
	{"the exporter reads the tool's JSON", []string{"-o", "--output", "-oe", "--output-err"}},
	{"with it the tool measures nothing", []string{"-h", "--help", "--version", "--list-devices"}},
}

// reservedQuantizeOptions are the options of llama-quantize that have keys of their own or
// would spoil the result.
var reservedQuantizeOptions = []reserved{
	{"use engine.imatrix, or imatrix of a recipe", []string{"--imatrix"}},
	{"use models.allow_requantize", []string{"--allow-requantize"}},
	{"the result must be one file", []string{"--keep-split"}},
	{"with it the tool quantizes nothing", []string{"-h", "--help", "--version", "--dry-run"}},
}

// reservedEvaluateOptions are the options of llama-perplexity that the exporter sets, and the
// ones that would hide or change what it reads.
var reservedEvaluateOptions = []reserved{
	{"the exporter names the model", []string{"-m", "--model", "-mu", "--model-url", "-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-dr", "--docker-repo"}},
	{"use quality.corpus", []string{"-f", "--file", "-bf", "--binary-file", "-p", "--prompt"}},
	{"use quality.chunks", []string{"--chunks"}},
	{"a chunk has 512 tokens", []string{"-c", "--ctx-size"}},
	{"the exporter keeps the original's predictions itself", []string{"--kl-divergence", "--kl-divergence-base", "--save-all-logits"}},
	{"with it the tool computes something else", []string{"--hellaswag", "--winogrande", "--multiple-choice", "--ppl-stride", "--ppl-output-type"}},
	{"the exporter reads what the tool prints", []string{"--log-disable", "--log-file", "--log-jsonl"}},
	{"with it the tool evaluates nothing", []string{"-h", "--help", "--usage", "--version", "--list-devices"}},
}

type reserved struct {
	instead string
	options []string
}

// refused reports whether an argument is a reserved option, and what to do instead.
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
