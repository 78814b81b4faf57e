package runner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
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
	Corpus             string         `json:"corpus"` // base name of the text's file
	Chunks             int            `json:"chunks"`
	Context            int            `json:"context"`
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

// CorpusID says which text it was.
type CorpusID struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // in hexadecimal
}

// Verdict computes the figures again.
func (e *QualityEvidence) Verdict() quality.Verdict {
	return quality.Decide(e.Settings.Limits(), quality.Sample{Chunks: e.Chunks, Quantiles: e.Quantiles})
}

// exceedsLimit reports whether the copy is not good enough.
func (p *pair) exceedsLimit() bool { return p.quality != nil && !p.quality.Passed() }

// chunkTokens is the number of tokens of a chunk, of which the second half is predicted: as
// many as llama-perplexity takes by itself, and as most published figures are of.
const chunkTokens = 512

// Names in the working directory.
const (
	corpusFile      = "corpus.txt"
	predictionsFile = "original.predictions"
)

func (c *cycle) evaluateJob(file string) EvaluateJob {
	return EvaluateJob{
		Dir: c.dir, Model: file, Corpus: corpusFile, Predictions: predictionsFile,
		Context: chunkTokens, Chunks: c.Quality.Chunks, Quantiles: c.Quality.MaxKLDivergenceP999 != 0,
	}
}

// evaluationSize is what evaluating will write into the working directory. It notices in
// time that there is no text, or no tool.
func (c *cycle) evaluationSize(ctx context.Context) (int64, error) {
	corpus, err := os.Stat(c.Quality.Corpus)
	if err == nil && !corpus.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", c.Quality.Corpus)
	}
	if err != nil {
		return 0, Failf(ReasonEvaluate, "quality.corpus: %w: name the file of a text", err)
	}
	predictions, err := c.engine.PredictionsSize(ctx, c.Model.Header.Vocabulary, c.evaluateJob(c.original))
	if err != nil {
		return 0, fmt.Errorf("preparing to evaluate quality: %w", err)
	}
	if c.kept(c.predictionsKey()) {
		predictions = 0
	}
	return corpus.Size() + predictions, nil
}

// evaluate finds the quality of copies. What the original predicts is computed once, for
// all of the cycle. A pair whose copy cannot be evaluated fails by itself; only what
// concerns them all is returned.
func (c *cycle) evaluate(ctx context.Context, pairs []*pair) error {
	if !c.Quality.Enabled() || len(pairs) == 0 {
		return nil
	}
	begin, before := time.Now(), c.evaluated
	defer func() { c.evaluated = before + time.Since(begin) }()
	report := func(pass int, target string) {
		done := float64(pass) / float64(len(pairs)+1)
		c.Progress(Progress{Model: c.Model.Name, Operation: OperationEvaluate, Target: target, Done: done, Left: left(time.Since(begin), done)})
	}
	if c.predicted == nil {
		report(0, "")
		evidence, err := c.predict(ctx)
		if err != nil {
			for _, p := range pairs {
				p.evaluating = time.Since(begin)
			}
			return fmt.Errorf("evaluating the original: %w", c.blameSource(spaceFailure(err)))
		}
		c.predicted = &evidence
	}
	for i, p := range pairs {
		report(i+1, p.target)
		err := c.evaluateOne(ctx, p, *c.predicted)
		p.evaluating = before + time.Since(begin)
		if err == nil {
			continue
		}
		err = fmt.Errorf("evaluating %s: %w", p.target, err)
		if err := c.concernsAll(ctx, err); err != nil {
			return err
		}
		c.fail(p, err)
	}
	return c.sourceUnchanged()
}

// forgetPredictions removes what evaluations needed: many gigabytes, of no use any more.
func (c *cycle) forgetPredictions() error {
	if c.predicted == nil {
		return nil
	}
	for _, name := range []string{corpusFile, predictionsFile} {
		if err := os.Remove(filepath.Join(c.dir, name)); err != nil {
			return fmt.Errorf("removing what the evaluation needed: %w", err)
		}
	}
	return nil
}

// predict brings the text in and computes what the original predicts.
func (c *cycle) predict(ctx context.Context) (QualityEvidence, error) {
	evidence := QualityEvidence{Settings: c.Quality}
	var err error
	if evidence.Corpus, err = copyCorpus(c.Quality.Corpus, filepath.Join(c.dir, corpusFile)); err != nil {
		return evidence, err
	}
	if evidence.Corpus.SHA256 != c.inputs.Corpus {
		return evidence, Failf(ReasonEvaluate, "quality.corpus: %s changed during the cycle", c.Quality.Corpus)
	}
	key := c.predictionsKey()
	if evidence.Reused = c.reuse(ctx, key, predictionsFile); evidence.Reused != "" {
		return evidence, nil
	}
	if evidence.Predict, err = c.engine.Predict(ctx, c.evaluateJob(c.original)); err == nil {
		c.keep(ctx, key, predictionsFile)
	}
	return evidence, err
}

// copyCorpus copies the text, so that what is evaluated on is what the hash says.
func copyCorpus(from, to string) (id CorpusID, err error) {
	source, err := os.Open(from)
	if err != nil {
		return id, Failf(ReasonEvaluate, "quality.corpus: %w", err)
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return id, err
	}
	defer func() {
		if closing := target.Close(); err == nil {
			err = closing
		}
	}()
	hash := sha256.New()
	if id.Bytes, err = io.Copy(io.MultiWriter(target, hash), source); err != nil {
		return id, fmt.Errorf("copying %s into the working directory: %w", from, err)
	}
	id.SHA256 = hex.EncodeToString(hash.Sum(nil))
	return id, nil
}

func (c *cycle) evaluateOne(ctx context.Context, p *pair, evidence QualityEvidence) error {
	found, err := c.engine.Evaluate(ctx, c.evaluateJob(p.file))
	if err != nil {
		return err
	}
	if len(found.Chunks) != c.Quality.Chunks {
		return Failf(ReasonEvaluate, "the engine evaluated %d chunks instead of %d", len(found.Chunks), c.Quality.Chunks)
	}
	if err := quality.Check(c.Quality.Limits(), found.Sample); err != nil {
		return Failf(ReasonEvaluate, "the engine gave figures of no use: %w", err)
	}
	if err := c.implausible(p, found); err != nil {
		return err
	}
	evidence.Evaluate, evidence.Chunks, evidence.Quantiles = found.Run, found.Chunks, found.Quantiles
	p.evidence = &evidence
	p.quality = &Evaluated{
		Verdict: evidence.Verdict(), Limits: c.Quality.Limits(),
		Perplexity: found.Perplexity, OriginalPerplexity: found.OriginalPerplexity,
		Corpus: filepath.Base(c.Quality.Corpus), Chunks: c.Quality.Chunks, Context: chunkTokens,
	}
	return nil
}

// implausible reports figures that a working model and a lossy copy of it cannot have.
// They are those of a file of which a part was never downloaded: where weights are zeros,
// original and copy predict every token alike.
func (c *cycle) implausible(p *pair, found Evaluation) error {
	// A model that knows nothing has the size of its vocabulary as its perplexity.
	if vocabulary := float64(c.Model.Header.Vocabulary); vocabulary > 0 && found.OriginalPerplexity >= vocabulary/2 {
		return Failf(ReasonBadModel, "the original predicts nothing: its perplexity is %.1f, and its vocabulary has %.0f tokens; the file is damaged, or parts of it were never downloaded: download it again",
			found.OriginalPerplexity, vocabulary)
	}
	if p.format.Name == c.sourceFormat() || !gguf.Lossy(p.format.Name) {
		return nil
	}
	if !slices.ContainsFunc(found.Chunks, func(chunk quality.Chunk) bool { return chunk.KLDivergence != 0 }) {
		return Failf(ReasonBadModel, "%s predicts exactly what the original does, which no lossy format can: the file of the original is damaged, or parts of it were never downloaded, or the copy was not used", p.target)
	}
	return nil
}
