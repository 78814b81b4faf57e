package runner

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/quality"
)

// Evaluated is what was found of a copy's quality.
type Evaluated struct {
	quality.Verdict
	Limits             quality.Limits `json:"limits"`
	Perplexity         float64        `json:"perplexity"` // of the copy
	OriginalPerplexity float64        `json:"original_perplexity"`
	Corpus             string         `json:"corpus"`         // base name of the text's file
	Chunks             int            `json:"chunks"`         // that all figures are of
	Planned            int            `json:"planned_chunks"` // more where every limit was clear before all were read
	Context            int            `json:"context"`
}

// Figures writes the figures on one line, and how many chunks they are of where that are not
// all.
func (e Evaluated) Figures() string {
	return e.Verdict.Figures() + e.InPart()
}

// Early reports whether the evaluation ended before all chunks were read.
func (e Evaluated) Early() bool { return e.Chunks < e.Planned }

// InPart says in how many chunks the figures are: ", in 8 of 32 chunks"; "" where they are of all.
func (e Evaluated) InPart() string {
	if !e.Early() {
		return ""
	}
	return fmt.Sprintf(", in %d of %d chunks", e.Chunks, e.Planned)
}

// QualityEvidence is all that the figures of a copy's quality rest on.
type QualityEvidence struct {
	Settings config.Quality `json:"settings"`
	Corpus   CorpusID       `json:"corpus"`
	Predict  ToolRun        `json:"predict"` // of the original; one for all targets
	// Reused is the SHA-256 of the original's predictions where an earlier cycle computed
	// them, in hexadecimal; Predict is empty then.
	Reused   string          `json:"reused_predictions,omitempty"`
	Evaluate ToolRun         `json:"evaluate"`
	Chunks   []quality.Chunk `json:"chunks"`
	// Quantiles of the divergence over the tokens of all chunks; none where the tool's
	// summary was lost and no limit needs them.
	Quantiles []quality.Quantile `json:"kl_divergence_quantiles,omitempty"`
}

// Verdict computes the figures again.
func (e *QualityEvidence) Verdict() quality.Verdict {
	return quality.Decide(e.Settings.Limits(), quality.Sample{Chunks: e.Chunks, Quantiles: e.Quantiles, Planned: e.Settings.Chunks})
}

// exceedsLimit reports whether the copy is not good enough.
func (p *pair) exceedsLimit() bool { return p.quality != nil && !p.quality.Passed() }

// chunkTokens is the number of tokens of a chunk, of which the second half is predicted: as
// many as llama-perplexity takes by itself, and as most published figures are of.
const chunkTokens = 512

// predictionsFile holds what the original predicts in so many chunks, in the working directory.
func predictionsFile(chunks int) string { return fmt.Sprintf("original-%d.predictions", chunks) }

func (c *cycle) evaluateJob(file string, chunks int) EvaluateJob {
	return EvaluateJob{
		Dir: c.dir, Model: file, Corpus: corpusFile, Predictions: predictionsFile(chunks),
		Context: chunkTokens, Chunks: chunks, Vocabulary: c.Model.Header.Vocabulary, Quantiles: c.Quality.MaxKLDivergenceP999 != 0,
	}
}

// looks returns the numbers of chunks at which an evaluation may end.
func (c *cycle) looks() []int { return quality.Looks(c.Quality.Limits(), c.Quality.Chunks) }

// evaluationSize returns what evaluating will write into the working directory. It notices in
// time that there is no text, or no tool.
func (c *cycle) evaluationSize(ctx context.Context) (int64, error) {
	size, err := CheckCorpus(c.Quality.Corpus)
	if err != nil {
		return 0, Failf(ReasonEvaluate, "quality.corpus: %w", err)
	}
	for _, chunks := range c.looks() {
		predictions, err := c.engine.PredictionsSize(ctx, c.evaluateJob(c.original, chunks))
		if err != nil {
			return 0, fmt.Errorf("preparing to evaluate quality: %w", err)
		}
		if !c.kept(c.predictionsKey(chunks)) {
			size += predictions
		}
	}
	return size, nil
}

// evaluate finds the quality of copies, of as many chunks as it takes. What the original
// predicts is computed once, for all of the cycle. A pair whose copy cannot be evaluated fails
// by itself; only what concerns them all is returned.
func (c *cycle) evaluate(ctx context.Context, pairs []*pair) error {
	if !c.Quality.Enabled() || len(pairs) == 0 {
		return nil
	}
	e := &evaluating{cycle: c, began: time.Now(), before: c.evaluated}
	defer func() { c.evaluated = e.spent() }()
	for _, chunks := range c.looks() {
		e.planned += chunks * (len(pairs) + 1)
	}
	for _, chunks := range c.looks() {
		if err := e.look(ctx, pairs, chunks); err != nil {
			return err
		}
		pairs = slices.DeleteFunc(undecided(pairs), func(p *pair) bool { return p.quality != nil })
		if len(pairs) == 0 {
			break
		}
	}
	return c.sourceUnchanged(ctx)
}

// evaluating is the state of an evaluation.
type evaluating struct {
	*cycle
	began         time.Time
	before        time.Duration // spent on evaluations before
	done, planned int           // chunks, of all files and looks
}

// spent returns the time of all evaluations of the cycle so far.
func (e *evaluating) spent() time.Duration { return e.before + time.Since(e.began) }

func (e *evaluating) report(target string) {
	done := float64(e.done) / float64(e.planned)
	e.Progress(Progress{Model: e.Model.Name, Operation: OperationEvaluate, Target: target, Done: done, Left: left(time.Since(e.began), done)})
}

// look evaluates copies on so many chunks. A copy has its quality afterwards if every limit is
// clear, or if there are no more chunks.
func (e *evaluating) look(ctx context.Context, pairs []*pair, chunks int) error {
	if e.predicted[chunks] == nil {
		e.report("")
		evidence, err := e.predict(ctx, chunks)
		if err != nil {
			for _, p := range pairs {
				p.evaluating = e.spent()
			}
			return fmt.Errorf("evaluating the original: %w", e.blameSource(ctx, spaceFailure(err)))
		}
		if e.predicted == nil {
			e.predicted = map[int]*QualityEvidence{}
		}
		e.predicted[chunks] = &evidence
	}
	e.done += chunks
	for _, p := range pairs {
		e.report(p.target)
		err := e.evaluateOne(ctx, p, *e.predicted[chunks], chunks)
		p.evaluating = e.spent()
		e.done += chunks
		if err == nil {
			if err := e.filesUnchanged(ctx, []*pair{p}); err != nil {
				return err
			}
			continue
		}
		err = fmt.Errorf("evaluating %s: %w", p.target, err)
		if err := e.concernsAll(ctx, err); err != nil {
			return err
		}
		e.fail(p, err)
	}
	return nil
}

// forgetPredictions removes what evaluations needed: many gigabytes, which nothing needs any more.
func (c *cycle) forgetPredictions() error {
	if len(c.predicted) == 0 {
		return nil
	}
	names := []string{corpusFile}
	for chunks := range c.predicted {
		names = append(names, predictionsFile(chunks))
	}
	for _, name := range names {
		delete(c.brought, name)
		if err := os.Remove(filepath.Join(c.dir, name)); err != nil {
			return fmt.Errorf("removing what the evaluation needed: %w", err)
		}
	}
	return nil
}

// predict computes what the original predicts in so many chunks of the text, which is brought
// in the first time.
func (c *cycle) predict(ctx context.Context, chunks int) (QualityEvidence, error) {
	evidence := QualityEvidence{Settings: c.Quality}
	var err error
	if c.corpus == (CorpusID{}) {
		if c.corpus, err = copyCorpus(c.Quality.Corpus, filepath.Join(c.dir, corpusFile)); err != nil {
			return evidence, err
		}
	}
	if c.brought[corpusFile] == nil {
		if err := c.bring(corpusFile, c.corpus.SHA256); err != nil {
			return evidence, err
		}
	}
	evidence.Corpus = c.corpus
	if evidence.Corpus.SHA256 != c.inputs.Corpus {
		return evidence, Failf(ReasonEvaluate, "quality.corpus: %s changed during the cycle", c.Quality.Corpus)
	}
	key, file := c.predictionsKey(chunks), predictionsFile(chunks)
	if evidence.Reused = c.reuse(ctx, key, file); evidence.Reused != "" {
		return evidence, c.bring(file, evidence.Reused)
	}
	if evidence.Predict, err = c.engine.Predict(ctx, c.evaluateJob(c.original, chunks)); err != nil {
		return evidence, err
	}
	if err := c.filesUnchanged(ctx, nil); err != nil {
		return evidence, err
	}
	c.keep(ctx, key, file)
	return evidence, c.bring(file, "")
}

// evaluateOne evaluates a copy on so many chunks. It has no quality yet if these are not all,
// and not every limit is clear.
func (c *cycle) evaluateOne(ctx context.Context, p *pair, evidence QualityEvidence, chunks int) error {
	found, err := c.engine.Evaluate(ctx, c.evaluateJob(p.file, chunks))
	if err != nil {
		return err
	}
	if len(found.Chunks) != chunks {
		return Failf(ReasonEvaluate, "the engine evaluated %d chunks instead of %d", len(found.Chunks), chunks)
	}
	found.Planned = c.Quality.Chunks
	if err := quality.Check(c.Quality.Limits(), found.Sample); err != nil {
		return Failf(ReasonEvaluate, "the engine gave figures that cannot be used: %w", err)
	}
	if err := c.implausible(p, found); err != nil {
		return err
	}
	evidence.Evaluate, evidence.Chunks, evidence.Quantiles = found.Run, found.Chunks, found.Quantiles
	v := evidence.Verdict()
	if chunks < c.Quality.Chunks && !v.Clear(c.Quality.Limits()) {
		return nil
	}
	p.evidence = &evidence
	p.quality = &Evaluated{
		Verdict: v, Limits: c.Quality.Limits(),
		Perplexity: found.Perplexity, OriginalPerplexity: found.OriginalPerplexity,
		Corpus: filepath.Base(c.Quality.Corpus), Chunks: chunks, Planned: c.Quality.Chunks, Context: chunkTokens,
	}
	return nil
}

// implausible reports figures that a working model and a lossy copy of it cannot have.
// They come from a file that was downloaded only in part: where weights are zeros, original
// and copy predict every token alike.
func (c *cycle) implausible(p *pair, found Evaluation) error {
	// A model that knows nothing has the size of its vocabulary as its perplexity.
	if vocabulary := float64(c.Model.Header.Vocabulary); vocabulary > 0 && found.OriginalPerplexity >= vocabulary/2 {
		return Failf(ReasonBadModel, "the original predicts nothing: its perplexity is %.1f, and its vocabulary has %.0f tokens; the file is damaged, or parts of it were never downloaded: download it again",
			found.OriginalPerplexity, vocabulary)
	}
	format := p.format.Name
	if c.Against != nil {
		format, _ = c.Against.Header.FileFormat()
	}
	if format == "" || format == c.sourceFormat() || !gguf.Lossy(format) {
		return nil
	}
	if !slices.ContainsFunc(found.Chunks, func(chunk quality.Chunk) bool { return chunk.KLDivergence != 0 }) {
		return Failf(ReasonBadModel, "%s predicts exactly what the original does, which no lossy format can: the file of the original is damaged, or parts of it were never downloaded, or the copy was not used", p.target)
	}
	return nil
}
