package runner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// trainedContext returns the tokens of context that the model was made for; 0 where that is not
// known.
func (c *cycle) trainedContext() int64 {
	if c.Model.Header == nil {
		return 0
	}
	return c.Model.Header.Context
}

// withinContext compares the tokens that are measured with the context that the model was
// made for. A model that looks positions up in a table has none for tokens beyond it, and
// the tools crash: that is an error. Where positions are computed, as by rotation, the tools
// go on at the same speed, and what they do is not what the model is for: that is logged.
func (c *cycle) withinContext() error {
	context := c.trainedContext()
	if context == 0 {
		return nil
	}
	var beyond []string
	tell := func(keys string, tokens int) {
		if int64(tokens) > context {
			beyond = append(beyond, fmt.Sprintf("%s is %d", keys, tokens))
		}
	}
	b := c.Benchmark
	depth := ""
	if b.Depth.First() > 0 {
		depth = " with benchmark.depth"
	}
	if slices.Contains(b.Phases, verdict.Prompt) {
		tell("benchmark.prompt_tokens"+depth, b.PromptTokens+b.Depth.First())
	}
	if slices.Contains(b.Phases, verdict.Generation) {
		tell("benchmark.generation_tokens"+depth, b.GenerationTokens+b.Depth.First())
	}
	for _, depth := range b.Depth.Further() {
		tell("benchmark.depth with its burst", depth+burstTokens)
	}
	table := c.Model.Header.Tensor("position_embd.weight") != nil
	if table && c.Quality.Enabled() {
		tell("a chunk of quality.corpus", chunkTokens)
	}
	switch asked := strings.Join(beyond, ", and "); {
	case asked == "":
	case table:
		return Failf(ReasonBenchmark, "the model has a context of %d tokens, and no positions beyond it, and %s: ask for no more than it has", context, asked)
	default:
		c.Logger.Warn("more tokens are measured than the model was made for: the figures do not show its real use", "model", c.Model.Name, "context_length", context, "asked", asked)
	}
	return nil
}
