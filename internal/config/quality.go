package config

import (
	"github.com/quant-exporter/quant-exporter/internal/quality"
)

// Quality is the section `quality:`, how good a copy has to be, and on which text.
type Quality struct {
	// Corpus is the file of a text that the model was not trained on. Default "": quality
	// is not evaluated.
	Corpus string `yaml:"corpus" input:"-" json:"corpus"`
	// Chunks of the text, from its beginning, are read. Default 32; 10 to 1000.
	Chunks int `yaml:"chunks" input:"decision" json:"chunks"`

	// The limits; 0 is none. Without any, quality is evaluated and rejects nothing. They hold on the far end of the interval: see package quality.
	MaxKLDivergence       float64 `yaml:"max_kl_divergence" input:"decision" json:"max_kl_divergence"`             // mean, in nats
	MinTop1Agreement      float64 `yaml:"min_top1_agreement" input:"decision" json:"min_top1_agreement"`           // ratio
	MaxPerplexityIncrease float64 `yaml:"max_perplexity_increase" input:"decision" json:"max_perplexity_increase"` // ratio
	MaxKLDivergenceP999   float64 `yaml:"max_kl_divergence_p999" input:"decision" json:"max_kl_divergence_p999"`   // of tokens, in nats
	MaxRMSDeltaP          float64 `yaml:"max_rms_dp" input:"decision" json:"max_rms_dp"`                           // ratio
}

// DefaultQuality evaluates nothing.
func DefaultQuality() Quality { return Quality{Chunks: 32} }

// Enabled reports whether quality is evaluated.
func (q Quality) Enabled() bool { return q.Corpus != "" }

// Limits that a copy is held to.
func (q Quality) Limits() quality.Limits {
	return quality.Limits{
		MaxKLDivergence: q.MaxKLDivergence, MinTop1Agreement: q.MinTop1Agreement, MaxPerplexityIncrease: q.MaxPerplexityIncrease,
		MaxKLDivergenceP999: q.MaxKLDivergenceP999, MaxRMSDeltaP: q.MaxRMSDeltaP,
	}
}

// Validate finds every value that cannot be used.
func (q Quality) Validate() []Problem {
	var found problems
	if !q.Enabled() && q.Limits().Any() {
		found.add("corpus", "a limit is set and there is no text to evaluate it on: name the file of a text, such as one that llama-perplexity is used with")
	}
	if q.Chunks < quality.FewestChunks || q.Chunks > maxChunks {
		found.add("chunks", "%d chunks cannot be evaluated: use %d to %d", q.Chunks, quality.FewestChunks, maxChunks)
	}
	if !(q.MaxKLDivergence >= 0 && q.MaxKLDivergence <= 100) {
		found.add("max_kl_divergence", "%v is not a divergence: use one above 0, such as 0.05, or 0 for no limit", q.MaxKLDivergence)
	}
	if !(q.MinTop1Agreement >= 0 && q.MinTop1Agreement <= 1) {
		found.add("min_top1_agreement", "%v is not a ratio: use 0 to 1, such as 0.9 for 90 %%, or 0 for no limit", q.MinTop1Agreement)
	}
	if !(q.MaxPerplexityIncrease >= 0 && q.MaxPerplexityIncrease <= 100) {
		found.add("max_perplexity_increase", "%v is not a ratio: use one above 0, such as 0.05 for 5 %%, or 0 for no limit", q.MaxPerplexityIncrease)
	}
	if !(q.MaxKLDivergenceP999 >= 0 && q.MaxKLDivergenceP999 <= 100) {
		found.add("max_kl_divergence_p999", "%v is not a divergence: use one above 0, such as 1, or 0 for no limit", q.MaxKLDivergenceP999)
	}
	if !(q.MaxRMSDeltaP >= 0 && q.MaxRMSDeltaP <= 1) {
		found.add("max_rms_dp", "%v is not a ratio: use 0 to 1, such as 0.05 for 5 %%, or 0 for no limit", q.MaxRMSDeltaP)
	}
	return found
}

// maxChunks bounds what is kept of each cycle.
const maxChunks = 1000
