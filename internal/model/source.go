package model

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
)

// unsuited says why a whole and readable file cannot be a source: a model that generates
// text token by token, which llama.cpp quantizes and measures. It follows the file's name
// and a colon, or "it is", and says what to do where there is something; "" when the file
// can be a source.
//
// It asks for what such a model has: weights, an embedding of tokens with a tokenizer, and
// blocks from the first one on, through which attention looks back only. What the file
// says of itself, and architectures that llama.cpp knows and that do something else, give
// the reason a name. An architecture that is not known here is judged by the same
// questions, so that models which are newer than this program are found.
func unsuited(h *gguf.Header, allowRequantize bool) string {
	if what := kind(h); what != "" {
		return what
	}
	if h.Quantized && !h.Native && !allowRequantize {
		return fmt.Sprintf("quantized already (%s): give the unquantized model, or set models.allow_requantize, or allow_requantize of the entry, at a loss of quality", h.Format)
	}
	return ""
}

// What a file is if it cannot be a source.
const (
	adapter   = "a LoRA adapter, no language model: merge it into its model (llama-export-lora), and name that"
	projector = "a multimodal projector, no language model: name the model that it belongs to"
	matrix    = "an importance matrix, no language model: engine.imatrix takes its path"
	vector    = "a control vector, no language model: it steers a model that is served, and there is nothing to quantize"
	draft     = "a draft head (MTP, EAGLE or the like), which works only together with its model: name that"
	vocoder   = "a vocoder, or another part of a speech model, no language model: name the model that it belongs to"
	embedder  = "an embedding model, reranker or encoder, which generates no text: there is no generation to measure"
	translate = "a model of an encoder and a decoder, which llama-bench cannot measure: only models that generate token by token can be judged"
	diffusion = "an encoder, or a model of diffusion, whose attention goes both ways: it does not generate token by token, so there is nothing to measure"
)

// kind says what a file is, unless it is a language model that generates text token by
// token, quantized or not.
func kind(h *gguf.Header) string {
	if what := typed(h); what != "" {
		return what
	}
	for _, known := range architectures {
		if known.name.MatchString(h.Architecture) {
			return known.what
		}
	}
	return built(h)
}

// typed goes by general.type.
func typed(h *gguf.Header) string {
	switch h.Type {
	case "", "model":
		return ""
	case "adapter":
		return adapter
	case "mmproj":
		return projector
	case "imatrix":
		return matrix
	}
	return fmt.Sprintf("of the type %q, no language model", h.Type)
}

// architectures that are known not to generate text token by token, by
// general.architecture: llama.cpp's (src/llama-arch.cpp), and names that others of their
// kind have. The first that fits names the kind.
var architectures = []struct {
	name *regexp.Regexp
	what string
}{
	{regexp.MustCompile(`^(clip|mmproj|siglip2?|vit)$|[-_]mmproj$`), projector},
	{regexp.MustCompile(`^control-?vector$`), vector},
	{regexp.MustCompile(`^(eagle[0-9]*|dflash|medusa|hydra|mtp)([-_]|$)|[-_](assistant|mtp|eagle[0-9]*|draft(er)?)$`), draft},
	{regexp.MustCompile(`^(wavtokenizer|snac|mimi|encodec|dac|vocos|hifigan)([-_]|$)|[-_](vocoder|tokenizer-dec)$`), vocoder},
	{regexp.MustCompile(`(^|[-_])(modern|neo|nomic|jina|euro|xlm-?ro|ro|distil|al|de)?bert([-_]|$)|[-_]embed(ding)?[0-9]*$|encoder$`), embedder},
	{regexp.MustCompile(`^(m|u?m|flan-?)?t5$`), translate},
	{regexp.MustCompile(`^(dream|llada2?|rnd1)([-_]|$)`), diffusion},
}

// built goes by metadata and tensors, whatever the architecture is called.
func built(h *gguf.Header) string {
	has := func(prefixes ...string) bool {
		return slices.ContainsFunc(h.Tensors, func(t gguf.Tensor) bool {
			return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(t.Name, prefix) })
		})
	}
	switch {
	case len(h.Tensors) == 0:
		return "a header without tensors, no language model"
	case has("enc.blk.") && has("dec.blk."):
		return translate
	case h.Pooling > 0, has("enc.blk.", "token_types.", "cls."):
		return embedder
	case h.NextN > 0 && h.NextN >= h.Blocks, has("nextn.", "blk.0.nextn.", "d2t", "t2d", "fc.", "eagle."):
		return draft
	case h.Encodes:
		return diffusion
	case !has("token_embd.weight"):
		return "without a token embedding, no language model"
	case h.Blocks > 0 && !has("blk.0."):
		return "without the first of its blocks, a part of a model or a draft head: name the whole model"
	case h.Vocabulary == 0, h.Tokenizer == "none", h.Tokenizer == "no_vocab":
		return "without a tokenizer, no model of text: convert it with its tokenizer"
	}
	return ""
}

// quiet reports whether the file is passed over under a pattern without a word: it is still
// arriving, has yet to be brought, or is of a kind that llama.cpp does not read. Whoever
// downloads models has such files, and nothing is wrong with them. A file that is damaged
// is to be seen.
func (s *Skipped) quiet() bool {
	return s.Err == nil || errors.Is(s.Err, gguf.ErrIncomplete) || errors.Is(s.Err, gguf.ErrForeign) || errors.Is(s.Err, gguf.ErrPointer)
}
