package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
)

// Tokens per second of the original.
const (
	promptSpeed     = 1e6
	generationSpeed = 1e5
)

// benchOptions are what the fake llama-bench looks at.
type benchOptions struct {
	model               string
	prompt, gen, depth  int
	batch, ubatch       int
	repetitions, thread int
	output              string
	progress            bool
}

func (f *fake) bench() {
	help := f.help(benchHelp, "--version", "--list-devices", "--progress", "--no-warmup", "--n-depth")
	if f.behaviour.Build == fakellama.IK {
		help += "  -w, --warmup <0|1>                        (default: 1)\n"
	}
	switch {
	case slices.Contains(f.args, "--help"):
		f.begin("help", "", "")
		fmt.Print(help)
		return
	case slices.Contains(f.args, "--version") && f.modern():
		f.begin("version", "", "")
		f.say("version: 0.7.0 (build 11669, commit fake)")
		return
	case slices.Contains(f.args, "--list-devices") && f.modern():
		f.begin("devices", "", "")
		fmt.Println("Available devices:")
		if f.behaviour.GPU {
			fmt.Println("  CUDA0: NVIDIA Fake (143167 MiB, 142634 MiB free)")
		} else {
			fmt.Println("  (none)")
		}
		return
	}
	options := f.parseBench()
	stage, format := f.stage(options.model)
	do, nth := f.begin("", stage, format)
	source, err := readModel(options.model)
	if err != nil || do == fakellama.NotLoaded {
		f.say(fmt.Sprintf("llama_model_load: error loading model: %v", err))
		f.fail(fmt.Sprintf("error: failed to load model '%s'", options.model))
	}
	f.measure(options, source, do, func(phase string) float64 { return f.factor(stage, format, phase, nth) })
}

// parseBench refuses what the real one would refuse, and what would make it measure
// more than once.
func (f *fake) parseBench() benchOptions {
	o := benchOptions{prompt: 512, gen: 128, repetitions: 5, output: "md", thread: runtime.NumCPU(), batch: 2048, ubatch: 512}
	numbers := map[string]*int{
		"-p": &o.prompt, "-n": &o.gen, "-d": &o.depth, "-r": &o.repetitions, "-t": &o.thread, "-b": &o.batch, "-ub": &o.ubatch,
	}
	seen := map[string]bool{}
	for i := 0; i < len(f.args); i++ {
		arg := f.args[i]
		if seen[arg] {
			f.fail("the fake takes no option twice: " + arg)
		}
		seen[arg] = true
		if (arg == "--progress" || arg == "--no-warmup" || arg == "-d") && !f.modern() {
			f.fail("error: invalid parameter for argument: " + arg)
		}
		if arg == "--progress" {
			o.progress = true
			continue
		}
		i++
		if i == len(f.args) {
			f.fail("error: invalid parameter for argument: " + arg)
		}
		value := f.args[i]
		switch number, ok := numbers[arg]; {
		case ok:
			parsed, err := strconv.Atoi(value)
			if err != nil {
				f.fail("error: invalid parameter for argument: " + arg)
			}
			*number = parsed
		case arg == "-m":
			o.model = value
		case arg == "-o":
			o.output = value
		}
	}
	if o.output != "json" && (o.output != "jsonl" || !f.modern()) {
		f.fail("error: invalid parameter for argument: -o")
	}
	return o
}

// copyName is how cycles name their copies: by the format.
var copyName = regexp.MustCompile(`^((?:BF|F|Q|IQ|TQ)[0-9][0-9A-Z_]*)\.gguf$`)

// stage reports whether the file is an original or a copy, also one that an earlier cycle made
// with other tools, and that is reused.
func (f *fake) stage(file string) (stage, format string) {
	name := filepath.Base(file)
	if match := copyName.FindStringSubmatch(name); match != nil {
		return "quantized", match[1]
	}
	outputs, err := fakellama.Outputs(f.home)
	if err != nil {
		f.fail(err.Error())
	}
	slices.Reverse(outputs)
	for _, output := range outputs {
		if filepath.Base(output.Path) == name {
			return "quantized", output.Format
		}
	}
	if strings.Contains(name, "quantized") {
		return "quantized", ""
	}
	return "original", ""
}

// factor multiplies the durations of a run.
func (f *fake) factor(stage, format, phase string, nth int) float64 {
	by := 1.0
	if stage == "quantized" {
		by = 0.8
	}
	for _, factor := range f.behaviour.Factors {
		if matches(factor.Stage, stage) && matches(factor.Format, format) && matches(factor.Phase, phase) {
			by *= factor.By
		}
	}
	if n := len(f.behaviour.Noise); n > 0 {
		by *= f.behaviour.Noise[(nth-1)%n]
	}
	return by
}

// test is one phase of a run.
type test struct {
	phase       string
	prompt, gen int
	perSecond   float64
}

// duration is how long the phase takes.
func (t test) duration(factor float64) time.Duration {
	return time.Duration(float64(t.prompt+t.gen) / t.perSecond * 1e9 * factor)
}

func (f *fake) measure(o benchOptions, m model, do fakellama.Do, factor func(phase string) float64) {
	var tests []test
	if o.prompt > 0 {
		tests = append(tests, test{"prompt", o.prompt, 0, promptSpeed})
	}
	if o.gen > 0 {
		tests = append(tests, test{"generation", 0, o.gen, generationSpeed})
	}
	var rows []string
	for i, t := range tests {
		say := func(what string) {
			if o.progress {
				f.say(fmt.Sprintf("llama-bench: benchmark %d/%d: %s", i+1, len(tests), what))
			}
		}
		say("starting")
		say("warmup " + t.phase + " run")
		say(t.phase + " run 1/1")
		factor := factor(t.phase)
		time.Sleep(t.duration(factor)) // nothing takes longer than the run
		row := row(o, m, t, do, factor)
		rows = append(rows, row)
		if do == fakellama.Twice {
			rows = append(rows, row)
		}
		if do == fakellama.StopAfterFirst || do == fakellama.OnePhase {
			break
		}
	}
	text := strings.Join(rows, "\n") + "\n"
	if o.output == "json" {
		text = "[\n  " + strings.Join(rows, ",\n  ")
		if do != fakellama.StopAfterFirst { // as the real one, which stops where it fails
			text += "\n]\n"
		}
	}
	if do == fakellama.Truncated {
		text = text[:len(text)*2/3]
	}
	fmt.Print(text)
	if do == fakellama.StopAfterFirst {
		f.fail(fmt.Sprintf("error: failed to create context with model '%s'", o.model))
	}
}

// row is a result as llama-bench prints it, with the fields that matter here.
func row(o benchOptions, m model, t test, do fakellama.Do, factor float64) string {
	sample := figure(do, strconv.FormatInt(int64(t.duration(factor)), 10))
	file, parameters := o.model, m.parameters()
	switch do {
	case fakellama.WrongTokens:
		t.prompt, t.gen = t.prompt/2, t.gen/2
	case fakellama.OneNanosecond:
		sample = "1"
	case fakellama.MoreThanItTook:
		sample = strconv.FormatInt(int64(time.Hour), 10)
	case fakellama.OtherFile:
		file = "another.gguf"
	case fakellama.OtherParameters:
		parameters /= 2
	case fakellama.OtherBatch:
		o.batch, o.ubatch = 1, 1
	case fakellama.OtherThreads:
		o.thread++
	case fakellama.OtherDepth:
		o.depth += 64
	}
	samples := fmt.Sprintf(`"samples_ns": [ %s ],`, strings.Join(slices.Repeat([]string{sample}, o.repetitions), ", "))
	if do == fakellama.NoSamples {
		samples = ""
	}
	return fmt.Sprintf(`{"build_commit": "fake", "build_number": 11669, "cpu_info": "Fake CPU", "gpu_info": "", "backends": "CPU", `+
		`"model_filename": %q, "model_type": "llama ?B", "model_size": %d, "model_n_params": %d, "n_batch": %d, "n_ubatch": %d, "n_threads": %d, `+
		`"n_prompt": %d, "n_gen": %d, "n_depth": %d, "test_time": "2026-11-23T14:27:01Z", "avg_ns": %s, "stddev_ns": 9223372036854775808, %s`+
		`"samples_ts": [ %g ]}`,
		file, m.bytes(), parameters, o.batch, o.ubatch, o.thread,
		t.prompt, t.gen, o.depth, sample, samples, t.perSecond/factor)
}

// figure is a number as a tool prints it, or what a fault makes of it.
func figure(do fakellama.Do, number string) string {
	switch do {
	case fakellama.Zero:
		return "0"
	case fakellama.Negative:
		return "-1"
	case fakellama.NaN:
		return "nan"
	case fakellama.Huge:
		return "1e30"
	default:
		return number
	}
}
