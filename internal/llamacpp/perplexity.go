package llamacpp

import (
	"cmp"
	"context"
	wire "encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/process"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/runner"
)

// PredictionsSize implements [runner.Engine]; it fails when llama-perplexity is missing.
func (e *Engine) PredictionsSize(ctx context.Context, job runner.EvaluateJob) (int64, error) {
	if _, err := e.perplexity(ctx); err != nil {
		return 0, err
	}
	return predictionsSize(job.Vocabulary, int64(job.Context), int64(job.Chunks)), nil
}

// predictionsHeader is the beginning of the file of predictions: the magic, then the
// tokens of a chunk, the tokens of the vocabulary, and the chunks, as 32-bit integers.
const predictionsHeader = 20

var predictionsMagic = []byte("_logits_")

// predictionsSize returns the size of that file: the header; the text's tokens, of 4 bytes
// each; and for each predicted token one 16-bit number a token of the vocabulary, rounded up
// to an even number of them, and four more for their scale. The predicted tokens are the
// second half of each chunk, except its last token.
//
// Source: tools/perplexity/perplexity.cpp of llama.cpp, and measured.
func predictionsSize(vocabulary, context, chunks int64) int64 {
	numbers := (vocabulary+1)/2*2 + 4
	return predictionsHeader + 4*context*chunks + 2*numbers*(context-1-context/2)*chunks
}

// Predict runs llama-perplexity's first pass; see [runner.Engine]. Whether it succeeded
// is read from the file alone.
func (e *Engine) Predict(ctx context.Context, job runner.EvaluateJob) (runner.ToolRun, error) {
	c, err := e.evaluateCommand(ctx, job, "reading the text with "+job.Model,
		"-f", job.Corpus, "--chunks", strconv.Itoa(job.Chunks), "--kl-divergence-base", job.Predictions)
	if err != nil {
		return runner.ToolRun{}, err
	}
	result, trace, err := e.run(ctx, c)
	if err != nil {
		return trace, err
	}
	if err := checkPredictions(filepath.Join(job.Dir, job.Predictions), job); err != nil {
		if disk.IsFull(job.Dir) { // which the tool does not notice
			return trace, runner.Failf(runner.ReasonNoSpace, "the disk is full: %s exited with status 0, and its predictions are not whole (%w); free some, name another folder with --work.dir, or lower quality.chunks", c.tool, err)
		}
		return trace, runner.Failf(runner.ReasonEvaluate, "%s exited with status 0 and its predictions cannot be used: %w%s", c.tool, err, lastWords(result))
	}
	return trace, nil
}

// checkPredictions returns an error unless a file of predictions is whole, of as many chunks as
// were asked for, and in the model's own vocabulary.
func checkPredictions(path string, job runner.EvaluateJob) error {
	file, info, err := disk.OpenRegular(path)
	if err != nil {
		return err
	}
	defer file.Close()
	header := make([]byte, predictionsHeader)
	if _, err := io.ReadFull(file, header); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("it read nothing of the text: is quality.corpus at least two chunks of %d tokens long?", job.Context)
		}
		return err
	}
	if string(header[:len(predictionsMagic)]) != string(predictionsMagic) {
		return fmt.Errorf("their file begins with %q, which this program does not know", header[:len(predictionsMagic)])
	}
	number := func(at int) int64 { return int64(wire.LittleEndian.Uint32(header[at:])) }
	context, vocabulary, chunks := number(8), number(12), number(16)
	switch want := predictionsSize(vocabulary, context, chunks); {
	case context != int64(job.Context):
		return fmt.Errorf("they are of chunks of %d tokens, not %d", context, job.Context)
	case job.Vocabulary > 0 && vocabulary != job.Vocabulary:
		return fmt.Errorf("they are of a vocabulary of %d tokens, and the model's has %d", vocabulary, job.Vocabulary)
	case chunks != int64(job.Chunks):
		return fmt.Errorf("the text holds %d chunks of %d tokens, and quality.chunks is %d: name a longer text, or fewer chunks", chunks, context, job.Chunks)
	case info.Size() != want:
		return fmt.Errorf("their file has %d bytes instead of %d: is the disk full?", info.Size(), want)
	}
	return nil
}

// Evaluate compares a copy with the predictions; see [runner.Engine].
func (e *Engine) Evaluate(ctx context.Context, job runner.EvaluateJob) (runner.Evaluation, error) {
	c, err := e.evaluateCommand(ctx, job, "evaluating "+job.Model, "--kl-divergence-base", job.Predictions, "--kl-divergence")
	if err != nil {
		return runner.Evaluation{}, err
	}
	for attempt := 1; ; attempt++ {
		result, trace, err := e.run(ctx, c)
		if err != nil {
			return runner.Evaluation{Run: trace}, err
		}
		evaluation, err := parseEvaluation(string(result.Stdout), job)
		evaluation.Run = trace
		if err == nil {
			return evaluation, nil
		}
		if attempt == evaluateAttempts || !errors.Is(err, errCutOff) {
			return evaluation, e.noFigures(c, job, result, err)
		}
		e.logger.Info("the end of an evaluation's output is missing: the evaluation is repeated", "model", job.Model, "err", err)
	}
}

func (e *Engine) noFigures(c command, job runner.EvaluateJob, result process.Result, err error) error {
	said := ""
	if len(result.Tail) > 0 {
		said = lastWords(process.Result{Tail: result.Tail})
	}
	return runner.Failf(runner.ReasonEvaluate, "%s exited with status 0 and gave no usable figures for %s: %w%s", c.tool, job.Model, err, said)
}

// evaluateCommand is a run of llama-perplexity.
func (e *Engine) evaluateCommand(ctx context.Context, job runner.EvaluateJob, doing string, more ...string) (command, error) {
	tool, err := e.perplexity(ctx)
	if err != nil {
		return command{}, err
	}
	if err := checkNames(job.Model, job.Corpus, job.Predictions); err != nil {
		return command{}, err
	}
	args := append([]string{"-m", job.Model, "-c", strconv.Itoa(job.Context)}, more...)
	if threads := cmp.Or(e.cfg.Threads, e.automatic.Preparing); threads > 0 && !hasOption(e.cfg.EvaluateArgs, "-t", "--threads") {
		args = append(args, "-t", strconv.Itoa(threads))
	}
	return command{
		operation: operation{
			tool:     perplexityTool,
			doing:    doing,
			reason:   runner.ReasonEvaluate,
			limit:    time.Duration(e.cfg.Timeouts.Evaluate),
			limitKey: "engine.timeouts.evaluate",
		},
		program: tool,
		args:    append(args, e.cfg.EvaluateArgs...),
		dir:     job.Dir,
		nice:    e.cfg.Nice,
	}, nil
}

// evaluateAttempts bounds how often an evaluation runs of which the last rows are missing.
// Build 11669 exits with status 0 without the end of its output in one of sixty runs on a
// host at rest, and in 11 of 40 where a dozen processes wait for each core. Mostly that is
// the summary, which parseEvaluation can do without.
const evaluateAttempts = 8

// errCutOff is wrapped by the error of an output whose end is missing.
var errCutOff = errors.New("its output is cut off")

// evaluationStart is the head of the table of chunks.
var evaluationStart = regexp.MustCompile(`(?m)^.*\bchunk\s+PPL\s.*KL Divergence.*Same top p\s*$`)

// summaryLines are those that are read of the summary, as in
// "Mean    KLD:   0.164182 ±   0.003013". A log prefix may come first. The last one ends it.
var summaryLines = [...]summaryFigure{
	summaryLine("Mean PPL(Q)"), summaryLine("Mean PPL(base)"), summaryLine("Mean ln(PPL(Q)/PPL(base))"),
	summaryLine("Mean    KLD"), summaryLine("RMS Δp"), summaryLine("Same top p"),
}

// quantileLine is a line of the summary as "99.9%   KLD:   2.654064" or "Median  KLD:   0.083422".
// Which percentages there are depends on the build.
var quantileLine = regexp.MustCompile(`(?m)(Minimum|Median|Maximum|[\d.]+%)\s+KLD\s*:\s*(\S+)\s*$`)

type summaryFigure struct {
	name string
	line *regexp.Regexp
}

func summaryLine(name string) summaryFigure {
	return summaryFigure{name, regexp.MustCompile(regexp.QuoteMeta(name) + `\s*:\s*(\S+)\s+±\s+\S+`)}
}

// parseEvaluation reads what a comparison printed: a row for each chunk, of means over
// all chunks so far,
//
//	chunk             PPL               ln(PPL(Q)/PPL(base))          KL Divergence              Δp RMS            Same top p
//	   1      27.7772 ±    4.2364       0.09142 ±    0.04116       0.17897 ±    0.01941    10.421 ±  1.553 %    70.196 ±  2.870 %
//
// and a summary, which has a digit more and takes the place of the last row. Where its end
// is lost, that row says the same, except for the quantiles.
func parseEvaluation(stdout string, job runner.EvaluateJob) (runner.Evaluation, error) {
	chunks := job.Chunks
	start := evaluationStart.FindStringIndex(stdout)
	if start == nil {
		if strings.TrimSpace(stdout) == "" {
			return runner.Evaluation{}, fmt.Errorf("%w: it printed no result", errCutOff)
		}
		return runner.Evaluation{}, fmt.Errorf("it printed no table of chunks but %q", clip(firstLine([]byte(stdout)), 80))
	}
	rest := stdout[start[1]:]
	rows, perplexity, err := parseRowsOfChunks(rest, chunks)
	if err != nil {
		return runner.Evaluation{}, err
	}
	last := rows[chunks-1]
	evaluation := runner.Evaluation{Perplexity: perplexity, OriginalPerplexity: perplexity / math.Exp(last.LogPerplexityRatio)}
	summary, whole, err := parseSummary(rest)
	if err != nil {
		return runner.Evaluation{}, err
	}
	if whole {
		evaluation.Perplexity, evaluation.OriginalPerplexity = summary[0], summary[1]
		last = quality.Chunk{LogPerplexityRatio: summary[2], KLDivergence: summary[3], SquaredDeltaP: square(summary[4] / 100), Top1Agreement: summary[5] / 100}
		if evaluation.Quantiles, err = parseQuantiles(rest); err != nil {
			return runner.Evaluation{}, err
		}
	} else if job.Quantiles {
		return runner.Evaluation{}, fmt.Errorf("%w: its summary is not whole, which has the quantiles", errCutOff)
	}
	if !nearly(last, rows[chunks-1]) {
		return runner.Evaluation{}, fmt.Errorf("its summary %+v differs from its last chunk %+v", last, rows[chunks-1])
	}
	if !(evaluation.Perplexity >= 1 && evaluation.OriginalPerplexity >= 1 && evaluation.OriginalPerplexity < largestFigure) {
		return runner.Evaluation{}, fmt.Errorf("its perplexities are %v and %v: none is below 1", evaluation.Perplexity, evaluation.OriginalPerplexity)
	}
	if err := consistent(evaluation, perplexity, last); err != nil {
		return runner.Evaluation{}, err
	}
	rows[chunks-1] = last
	evaluation.Chunks = differences(rows)
	return evaluation, nil
}

// parseSummary reads the figures of summaryLines; whole is false when its end is missing.
func parseSummary(text string) (figures [len(summaryLines)]float64, whole bool, err error) {
	if !summaryLines[len(summaryLines)-1].line.MatchString(text) {
		return figures, false, nil
	}
	for i, wanted := range summaryLines {
		match := wanted.line.FindStringSubmatch(text)
		if match == nil {
			return figures, false, fmt.Errorf("its summary has no line %q", wanted.name)
		}
		if figures[i], err = figure(match[1]); err != nil {
			return figures, false, err
		}
	}
	return figures, true, nil
}

// parseQuantiles reads the quantiles of the divergence, of which the summary has at least
// the one that has a limit.
func parseQuantiles(text string) ([]quality.Quantile, error) {
	percentages := map[string]float64{"Minimum": 0, "Median": 50, "Maximum": 100}
	var all []quality.Quantile
	for _, match := range quantileLine.FindAllStringSubmatch(text, -1) {
		percent, named := percentages[match[1]]
		var err error
		if !named {
			if percent, err = figure(strings.TrimSuffix(match[1], "%")); err != nil {
				return nil, err
			}
		}
		divergence, err := figure(match[2])
		if err != nil {
			return nil, err
		}
		all = append(all, quality.Quantile{Percent: percent, KLDivergence: divergence})
	}
	slices.SortFunc(all, func(a, b quality.Quantile) int { return cmp.Compare(a.Percent, b.Percent) })
	all = slices.Compact(all) // older builds print one twice
	for i := range all[:max(len(all)-1, 0)] {
		if all[i].Percent == all[i+1].Percent || all[i].KLDivergence > all[i+1].KLDivergence {
			return nil, fmt.Errorf("the quantiles of its divergence, %+v and %+v, contradict each other", all[i], all[i+1])
		}
	}
	if !slices.ContainsFunc(all, func(q quality.Quantile) bool { return q.Percent == quality.P999 }) {
		return nil, fmt.Errorf("its summary has no line %q", "99.9%   KLD")
	}
	return all, nil
}

// consistent returns an error where the figures of a summary contradict each other, or the
// perplexity of the last row. It allows for the digits that are not printed.
func consistent(e runner.Evaluation, ofRows float64, mean quality.Chunk) error {
	if math.Abs(e.Perplexity-ofRows) > 2e-4+1e-6*ofRows {
		return fmt.Errorf("the copy's perplexity is %v in its summary, and %v in its last chunk", e.Perplexity, ofRows)
	}
	if ratio := math.Log(e.Perplexity / e.OriginalPerplexity); math.Abs(ratio-mean.LogPerplexityRatio) > 1e-4 {
		return fmt.Errorf("its perplexities are %v and %v, and the logarithm of their ratio is said to be %v", e.Perplexity, e.OriginalPerplexity, mean.LogPerplexityRatio)
	}
	if n := len(e.Quantiles); n > 0 {
		least, most := e.Quantiles[0], e.Quantiles[n-1]
		if least.KLDivergence < lowestDivergence {
			return fmt.Errorf("the lowest divergence of a token is %v, and none is below 0", least.KLDivergence)
		}
		if least.Percent == 0 && mean.KLDivergence < least.KLDivergence-2e-6 || most.Percent == 100 && mean.KLDivergence > most.KLDivergence+2e-6 {
			return fmt.Errorf("the mean of its divergence is %v, and the tokens have %v to %v", mean.KLDivergence, least.KLDivergence, most.KLDivergence)
		}
	}
	return nil
}

// lowestMeanDivergence and lowestDivergence of a single token are what rounding leaves below 0: the
// predictions of the original are kept in 16 bits a token.
const (
	lowestMeanDivergence = -1e-3
	lowestDivergence     = -0.1
)

// nearly allows for the digits that are not printed.
func nearly(a, b quality.Chunk) bool {
	near := func(a, b float64) bool { return math.Abs(a-b) <= 2e-5 }
	return near(a.KLDivergence, b.KLDivergence) && near(a.LogPerplexityRatio, b.LogPerplexityRatio) &&
		near(a.Top1Agreement, b.Top1Agreement) && near(math.Sqrt(a.SquaredDeltaP), math.Sqrt(b.SquaredDeltaP))
}

func square(x float64) float64 { return x * x }

// parseRowsOfChunks reads the cumulative rows, which are as many as there are chunks, and
// the copy's perplexity in the last one.
func parseRowsOfChunks(text string, chunks int) (rows []quality.Chunk, perplexity float64, err error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			if len(rows) > 0 {
				break // the end of the table
			}
			continue
		}
		number, err := strconv.Atoi(fields[0])
		if err != nil {
			continue // what a back end or a wrapper printed
		}
		if len(fields) != 18 || fields[2] != "±" || fields[17] != "%" {
			if !strings.HasSuffix(line, "\n") {
				break // cut off
			}
			return nil, 0, fmt.Errorf("it printed the row %q, which this program cannot read", clip(strings.TrimSpace(line), 160))
		}
		if number != len(rows)+1 {
			return nil, 0, fmt.Errorf("it printed the row of chunk %d after %d rows", number, len(rows))
		}
		var row [5]float64 // as printed, from left to right
		for i, at := range []int{1, 4, 7, 10, 14} {
			if row[i], err = figure(fields[at]); err != nil {
				return nil, 0, fmt.Errorf("chunk %d: %w", number, err)
			}
		}
		if row[0] < 1 {
			return nil, 0, fmt.Errorf("chunk %d: the copy's perplexity is %v, and none is below 1", number, row[0])
		}
		if row[2] < lowestMeanDivergence {
			return nil, 0, fmt.Errorf("chunk %d: the divergence is %v, and none is below 0", number, row[2])
		}
		if row[3] < 0 || row[3] > 100 {
			return nil, 0, fmt.Errorf("chunk %d: the probability of a token differs by %v %%", number, row[3])
		}
		if row[4] < 0 || row[4] > 100 {
			return nil, 0, fmt.Errorf("chunk %d: original and copy agree on the most likely token in %v %%", number, row[4])
		}
		perplexity = row[0]
		rows = append(rows, quality.Chunk{LogPerplexityRatio: row[1], KLDivergence: row[2], SquaredDeltaP: square(row[3] / 100), Top1Agreement: row[4] / 100})
	}
	if len(rows) > chunks {
		return nil, 0, fmt.Errorf("it printed %d chunks instead of %d", len(rows), chunks)
	}
	if len(rows) < chunks {
		return nil, 0, fmt.Errorf("%w: it holds %d chunks of %d", errCutOff, len(rows), chunks)
	}
	return rows, perplexity, nil
}

// largestFigure is beyond all that an evaluation finds.
const largestFigure = 1e12

// figure reads a number that can be one.
func figure(text string) (float64, error) {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(value) || math.Abs(value) > largestFigure {
		return 0, fmt.Errorf("it printed %q where a figure belongs", clip(text, 40))
	}
	return value, nil
}

// differences turns means over the first n chunks into the figures of each. What was cut
// off in printing is multiplied by n: at chunk 32 up to 0.0003 of a divergence. It
// cancels out in the mean over all, and makes the intervals wider, not narrower.
func differences(means []quality.Chunk) []quality.Chunk {
	chunks := make([]quality.Chunk, len(means))
	var before quality.Chunk
	for i, now := range means {
		n := float64(i + 1)
		single := func(now, before float64) float64 { // without the noise of binary fractions
			return math.Round((now*n-before*(n-1))*1e9) / 1e9
		}
		chunks[i] = quality.Chunk{
			KLDivergence:       single(now.KLDivergence, before.KLDivergence),
			Top1Agreement:      single(now.Top1Agreement, before.Top1Agreement),
			LogPerplexityRatio: single(now.LogPerplexityRatio, before.LogPerplexityRatio),
			SquaredDeltaP:      single(now.SquaredDeltaP, before.SquaredDeltaP),
		}
		before = now
	}
	return chunks
}
