package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
)

// withValue are llama-quantize's options that take a value.
var withValue = []string{
	"--imatrix", "--include-weights", "--exclude-weights", "--output-tensor-type", "--token-embedding-type",
	"--tensor-type", "--tensor-type-file", "--prune-layers", "--override-kv", "--max-buffer-size",
}

// needImatrix are the tensor types that llama-quantize makes only with an importance
// matrix.
var needImatrix = []string{"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs"}

func (f *fake) quantize() {
	var flags, positional []string
	for i := 0; i < len(f.args); i++ {
		switch arg := f.args[i]; {
		case slices.Contains(withValue, arg):
			flags = append(flags, arg)
			i++
		case strings.HasPrefix(arg, "-"):
			flags = append(flags, arg)
		default:
			positional = append(positional, arg)
		}
	}
	has := func(flag string) bool { return slices.Contains(flags, flag) }
	help := f.help(quantizeHelp, "--dry-run")
	if has("--help") || len(positional) < 3 || has("--dry-run") && !f.modern() {
		f.begin("help", "", "")
		fmt.Print(help)
		os.Exit(1)
	}
	input, output, format := positional[0], positional[1], positional[2]
	fileType, ok := typeNumber(help, format)
	if !ok {
		f.begin("", "", format)
		f.fail(fmt.Sprintf("invalid ftype '%s'", format))
	}
	step := ""
	if has("--dry-run") {
		step = "dry-run"
	}

	f.say("version: 0.7.0 (build 11669, commit fake)")
	do, _ := f.begin(step, "", format)
	source, err := readModel(input)
	if err != nil {
		f.say("llama_model_quantize: failed to quantize: " + err.Error())
		f.fail(fmt.Sprintf("failed to quantize model from '%s'", input))
	}
	f.say(fmt.Sprintf("llama_model_loader: loaded meta data with %d key-value pairs and %d tensors from %s (version GGUF V3 (latest))",
		len(source.metadata), len(source.tensors), input))

	copied, warned := source, false
	copied.tensors = nil
	before, after := int64(0), int64(0)
	for i, tensor := range source.tensors {
		made := tensor
		made.kind = target(tensor, format)
		switch {
		case tensor.kind.quantized() && made.kind != tensor.kind && !has("--allow-requantize") && step == "":
			f.say(fmt.Sprintf("llama_model_quantize: failed to quantize: requantizing from type %s is disabled", tensor.kind))
			f.fail(fmt.Sprintf("failed to quantize model from '%s'", input))
		case slices.Contains(needImatrix, made.kind.String()) && !has("--imatrix") && step == "":
			f.say(" ERROR: this quantization requires an importance matrix!")
			f.say("llama_model_quantize: failed to quantize: this quantization requires an imatrix!")
			f.fail(fmt.Sprintf("failed to quantize model from '%s'", input))
		}
		warned = warned || slices.Contains(needImatrix, made.kind.String()) && !has("--imatrix")
		before, after = before+tensor.bytes(), after+made.bytes()
		copied.tensors = append(copied.tensors, made)
		f.say(tensorLine(i, len(source.tensors), tensor, made, step != ""))
	}
	f.say(fmt.Sprintf("llama_model_quantize_impl: model size  = %8.2f MiB (%.2f BPW)", mebibytes(before), source.bitsPerWeight()))
	f.say(fmt.Sprintf("llama_model_quantize_impl: quant size  = %8.2f MiB (%.2f BPW)", mebibytes(after), copied.bitsPerWeight()))
	if step != "" {
		if warned {
			f.say("llama_model_quantize_impl: WARNING: dry run completed successfully, but actually completing this quantization will require an imatrix!")
		}
		return
	}
	if !f.lieAboutCopy(do, lie{source: source, copied: copied, input: input, output: output, help: help, fileType: fileType}) {
		f.write(copied, output, format, fileType, do)
	}
	fmt.Printf("\nllama_quantize: quantize time =     3.21 ms\nllama_quantize:    total time =     3.21 ms\n")
}

func (f *fake) write(m model, output, format string, fileType uint32, do fakellama.Do) {
	m.setFileType(fileType)
	if err := m.write(output); err != nil {
		f.say("llama_model_quantize: failed to quantize: basic_ios::clear: iostream error")
		f.fail(err.Error())
	}
	path, err := filepath.Abs(output)
	if err == nil {
		err = fakellama.LogOutput(f.home, fakellama.Output{Path: path, Format: format})
	}
	if err != nil {
		f.fail(err.Error())
	}
	if do != fakellama.PartialOutput && do != fakellama.DiskFull {
		return
	}
	// The real one writes the header last: its place holds zeros until then.
	if err := truncateInHalf(output); err != nil {
		f.fail(err.Error())
	}
	if do == fakellama.DiskFull {
		f.say("llama_model_quantize: failed to quantize: basic_ios::clear: iostream error")
		f.fail("failed to quantize model")
	}
}

func truncateInHalf(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := os.Truncate(path, 0); err != nil {
		return err
	}
	return os.Truncate(path, info.Size()/2)
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

func tensorLine(i, n int, before, after tensor, dryRun bool) string {
	line := fmt.Sprintf("[%4d/%4d] %-36s - [%s], type = %6s, ", i+1, n, before.name, before.shape(), before.kind)
	switch {
	case before.kind == after.kind:
		return line + fmt.Sprintf("size = %8.3f MiB", mebibytes(before.bytes()))
	case dryRun:
		return line + fmt.Sprintf("size = %8.2f MiB -> %8.2f MiB (%s)", mebibytes(before.bytes()), mebibytes(after.bytes()), after.kind)
	default:
		return line + fmt.Sprintf("converting to %s .. size = %8.2f MiB -> %8.2f MiB", after.kind, mebibytes(before.bytes()), mebibytes(after.bytes()))
	}
}

// typeNumber finds a format's number in the help; an alias has its format's number.
func typeNumber(help, format string) (uint32, bool) {
	match := regexp.MustCompile(`(?mi)^\s*(\d+)\s+or\s+` + regexp.QuoteMeta(format) + `\s*:`).FindStringSubmatch(help)
	if match == nil {
		return 0, false
	}
	number, err := strconv.ParseUint(match[1], 10, 32)
	return uint32(number), err == nil
}
