package llamacpp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Quantize runs llama-quantize; see [runner.Engine]. A partial output is removed when
// it fails.
func (e *Engine) Quantize(ctx context.Context, job runner.QuantizeJob, report func(done, total int)) (runner.ToolRun, error) {
	c, err := e.quantizeCommand(ctx, job, false)
	if err != nil {
		return runner.ToolRun{}, err
	}
	c.onStderr = func(line string) {
		if done, total, ok := parseTensor(line); ok {
			report(done, total)
		}
	}
	output := filepath.Join(job.Dir, job.Output)
	result, trace, err := e.run(ctx, c)
	if err != nil {
		if removing := os.Remove(output); removing != nil && !errors.Is(removing, fs.ErrNotExist) {
			e.logger.Warn("could not remove what a failed quantization left", "file", output, "err", removing)
		}
		return trace, err
	}
	if info, err := os.Stat(output); err != nil || info.Size() == 0 {
		return trace, runner.Failf(runner.ReasonQuantize, "%s exited with status 0 and left no result%s", c.tool, lastWords(result))
	}
	return trace, nil
}

// QuantizeArgs returns the arguments with which Quantize would run llama-quantize; see [runner.Engine].
func (e *Engine) QuantizeArgs(ctx context.Context, job runner.QuantizeJob) ([]string, error) {
	c, err := e.quantizeCommand(ctx, job, false)
	if err != nil {
		return nil, err
	}
	return append([]string{c.tool}, config.RedactArgs(c.args)...), nil
}

// QuantizedSize asks llama-quantize --dry-run; builds without it give no size, not even
// a bound: (0, false, nil).
//
// The tool prints the sum of the tensors in MiB with two decimals. The size here is that
// sum, rounded up by half of the last digit, plus what the input's file has beyond its
// own tensors (the metadata, which is copied), plus the padding of every tensor and a
// kilobyte for metadata that the tool adds. It is never below the real size and at most
// about 20 KB above it, and is therefore called exact.
//
// A format that needs an importance matrix for this model fails here.
func (e *Engine) QuantizedSize(ctx context.Context, job runner.QuantizeJob) (bytes int64, exact bool, err error) {
	tools, err := e.tools(ctx)
	if err != nil || !tools.dryRun {
		return 0, false, err
	}
	c, err := e.quantizeCommand(ctx, job, true)
	if err != nil {
		return 0, false, err
	}
	var plan plan
	c.onStderr = plan.add
	if _, _, err := e.run(ctx, c); err != nil {
		return 0, false, err
	}
	if plan.needsImatrix {
		return 0, false, runner.Failf(runner.ReasonQuantize, "%s", imatrixAdvice(job.Format))
	}
	if !plan.complete() {
		e.logger.Debug("llama-quantize --dry-run printed no sizes", "format", job.Format)
		return 0, false, nil
	}
	input, err := inputBytes(job.Dir, job.Input)
	if err != nil {
		return 0, false, fmt.Errorf("reading the size of the model: %w", err)
	}
	imatrix, err := e.imatrix()
	if err != nil {
		return 0, false, err
	}
	return plan.bytes(input, cmp.Or(job.Imatrix, imatrix)), true, nil
}

// dryRunLimit is how long llama-quantize may take to read a header, also from a slow
// disk.
const dryRunLimit = 10 * time.Minute

// quantizeCommand is a run of llama-quantize.
func (e *Engine) quantizeCommand(ctx context.Context, job runner.QuantizeJob, dryRun bool) (command, error) {
	tools, err := e.tools(ctx)
	if err != nil {
		return command{}, err
	}
	if err := checkNames(job.Input, job.Output); err != nil {
		return command{}, err
	}
	imatrix, err := e.imatrix()
	if err != nil {
		return command{}, err
	}
	imatrix = cmp.Or(job.Imatrix, imatrix)
	if imatrix == "" && slices.Contains(needImatrix, job.Format) {
		return command{}, runner.Failf(runner.ReasonQuantize, "%s", imatrixAdvice(job.Format))
	}

	var args []string
	if dryRun {
		args = append(args, "--dry-run")
	}
	if job.AllowRequantize {
		args = append(args, "--allow-requantize")
	}
	if imatrix != "" {
		args = append(args, "--imatrix", imatrix)
	}
	args = append(args, e.cfg.QuantizeArgs...)
	args = append(args, job.Args...)
	args = append(args, job.Input, job.Output, job.Format)
	if threads := cmp.Or(e.cfg.Threads, e.automatic.Preparing); threads > 0 {
		args = append(args, strconv.Itoa(threads))
	}
	limit, limitKey := time.Duration(e.cfg.Timeouts.Quantize), "engine.timeouts.quantize"
	if dryRun && limit > dryRunLimit {
		limit, limitKey = dryRunLimit, ""
	}
	return command{
		operation: operation{
			tool:     quantizeTool,
			doing:    fmt.Sprintf("quantizing %s to %s", job.Input, job.Format),
			reason:   runner.ReasonQuantize,
			limit:    limit,
			limitKey: limitKey,
		},
		program: tools.quantize,
		args:    args,
		dir:     job.Dir,
		nice:    e.cfg.Nice,
	}, nil
}

func imatrixAdvice(format string) string {
	return format + " needs an importance matrix for this model: make one with llama-imatrix and name its file in engine.imatrix, or choose another format"
}

// "[  15/  39] blk.1.attn_output.weight - [ 256, 256, 1, 1], type = f16, converting …".
// A log prefix may come first.
var tensorLine = regexp.MustCompile(`\[\s*(\d{1,7})/\s*(\d{1,7})\]`)

// parseTensor reads how many tensors are done, and of how many.
func parseTensor(line string) (done, total int, ok bool) {
	match := tensorLine.FindStringSubmatch(line)
	if match == nil {
		return 0, 0, false
	}
	done, _ = strconv.Atoi(match[1]) // seven digits at most
	total, _ = strconv.Atoi(match[2])
	return done, total, 0 < done && done <= total
}

// "llama_model_quantize_impl: quant size  =     1.49 MiB (3.18 BPW)"; MB in older
// builds, which means the same.
var sizeLine = regexp.MustCompile(`\b(model|quant) size\s*=\s*(\d{1,12})\.(\d{1,6}) (?:MiB|MB)\b`)

// plan is what a dry run prints.
type plan struct {
	tensors      int
	model, quant mebibytes
	needsImatrix bool
}

// mebibytes is a size as it was printed.
type mebibytes struct{ value, error float64 } // error: half of the last digit

func (p *plan) add(line string) {
	if _, total, ok := parseTensor(line); ok {
		p.tensors = total
	}
	if strings.Contains(line, "will require an imatrix") {
		p.needsImatrix = true
	}
	match := sizeLine.FindStringSubmatch(line)
	if match == nil {
		return
	}
	value, err := strconv.ParseFloat(match[2]+"."+match[3], 64)
	if err != nil {
		return
	}
	size := mebibytes{value: value, error: 0.5 * math.Pow10(-len(match[3]))}
	if match[1] == "model" {
		p.model = size
	} else {
		p.quant = size
	}
}

func (p *plan) complete() bool { return p.tensors > 0 && p.model.value > 0 && p.quant.value > 0 }

// bytes returns the size of the output, given the size of the input; see [Engine.QuantizedSize].
func (p *plan) bytes(input int64, imatrix string) int64 {
	const (
		mebibyte  = 1 << 20
		alignment = 32      // of a tensor, GGUF's default; the input's own padding is in its metadata
		added     = 1 << 10 // general.file_type, general.quantization_version
	)
	tensors := (p.quant.value + p.quant.error) * mebibyte
	metadata := max(float64(input)-(p.model.value-p.model.error)*mebibyte, 0)
	size := int64(math.Ceil(tensors+metadata)) + int64(alignment*p.tensors) + added
	if imatrix != "" { // its path and the name of its data set
		size += int64(len(imatrix)) + 4*added
	}
	return size
}

// inputBytes returns the size of a model in all its files.
func inputBytes(dir, first string) (int64, error) {
	names := []string{first}
	if prefix, _, count, ok := gguf.ShardName(first); ok {
		names = nil
		for no := range count {
			names = append(names, gguf.ShardPath(prefix, no+1, count))
		}
	}
	total := int64(0)
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return 0, err
		}
		total += info.Size()
	}
	return total, nil
}
