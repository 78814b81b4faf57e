package test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// lies are what tools may say or leave that exit with status 0, and what the failure says.
var lies = []struct {
	tool, step string
	do         fakellama.Do
	says       string
}{
	{"llama-quantize", "", fakellama.NoResult, "left no result"},
	{"llama-quantize", "", fakellama.Garbage, "left no result"},
	{"llama-quantize", "", fakellama.EmptyFile, "left no result"},
	{"llama-quantize", "", fakellama.PartialOutput, "not whole"},
	{"llama-quantize", "", fakellama.OtherFormat, "instead of the announced"},
	{"llama-quantize", "", fakellama.HiddenFormat, "instead of the announced"},
	{"llama-quantize", "", fakellama.TheSource, "instead of the announced"},
	{"llama-quantize", "", fakellama.LinkToTheSource, "not a regular file"},
	{"llama-quantize", "", fakellama.NameOfTheSource, ""},
	{"llama-quantize", "", fakellama.SecondName, "left a file with 2 names"},
	{"llama-quantize", "", fakellama.FewerTensors, "the tool said that it succeeded and left"},
	{"llama-quantize", "", fakellama.TensorTwice, "the tool said that it succeeded and left"},
	{"llama-quantize", "", fakellama.OtherShape, "the tool said that it succeeded and left"},
	{"llama-quantize", "", fakellama.OtherArchitecture, `architecture is "qwen3"`},
	{"llama-quantize", "", fakellama.OtherVocabulary, `tokens of the kind "plamo"`},
	{"llama-quantize", "", fakellama.MoreBehindTheEnd, "30000000 bytes behind its last tensor"},
	{"llama-quantize", "", fakellama.HoleBehindTheEnd, "1000000000000 bytes behind its last tensor"},
	{"llama-quantize", "", fakellama.Fifo, "left no result"},
	{"llama-quantize", "", fakellama.Folder, "not a regular file"},
	{"llama-quantize", "", fakellama.Device, "left no result"},

	{"llama-bench", "", fakellama.NoResult, "printed no result"},
	{"llama-bench", "", fakellama.Garbage, "it printed no JSON"},
	{"llama-bench", "", fakellama.Truncated, "cut off"},
	{"llama-bench", "", fakellama.Zero, "samples_ns holds 0"},
	{"llama-bench", "", fakellama.Negative, "samples_ns holds -1"},
	{"llama-bench", "", fakellama.NaN, "nan"},
	{"llama-bench", "", fakellama.Huge, "samples_ns holds 1e30"},
	{"llama-bench", "", fakellama.OneNanosecond, "is impossible"},
	{"llama-bench", "", fakellama.MoreThanItTook, "that it ran for"},
	{"llama-bench", "", fakellama.NoSamples, "no samples_ns"},
	{"llama-bench", "", fakellama.WrongTokens, "instead of 32"},
	{"llama-bench", "", fakellama.Twice, "more than once"},
	{"llama-bench", "", fakellama.OnePhase, "no result for the phase generation"},
	{"llama-bench", "", fakellama.OtherFile, `measured the file "another.gguf"`},
	{"llama-bench", "", fakellama.OtherParameters, "measured a file of"},
	{"llama-bench", "", fakellama.OtherBatch, "in batches of 1 and 1 tokens instead of 32"},
	{"llama-bench", "", fakellama.OtherThreads, "with 2 threads instead of 1"},
	{"llama-bench", "", fakellama.OtherDepth, "at a depth of 64 tokens instead of 0"},

	{"llama-server", "answer", fakellama.Garbage, "llama-server"},
	{"llama-server", "answer", fakellama.Truncated, "cut off"},
	{"llama-server", "answer", fakellama.NoTimings, "has no timings"},
	{"llama-server", "answer", fakellama.Zero, "is not a duration"},
	{"llama-server", "answer", fakellama.Negative, "is not a duration"},
	{"llama-server", "answer", fakellama.NaN, "llama-server"},
	{"llama-server", "answer", fakellama.Huge, "it says that it took"},
	{"llama-server", "answer", fakellama.MoreThanItTook, "it says that it took"},
	{"llama-server", "answer", fakellama.WrongTokens, "tokens instead of"},
	{"llama-server", "answer", fakellama.OtherPrompt, "evaluated"},
	{"llama-server", "answer", fakellama.AnswerWithoutEnd, "has more than"},

	{"llama-perplexity", "predict", fakellama.NoResult, "predictions"},
	{"llama-perplexity", "predict", fakellama.EmptyFile, "it read nothing of the text"},
	{"llama-perplexity", "predict", fakellama.ShortText, "it read nothing of the text"},
	{"llama-perplexity", "predict", fakellama.FewChunks, "the text holds"},
	{"llama-perplexity", "predict", fakellama.HalfPredictions, "their file has"},
	{"llama-perplexity", "predict", fakellama.OtherVocabulary, "a vocabulary of 1024 tokens, and the model's has 512"},
	{"llama-perplexity", "predict", fakellama.HoleOfPredictions, "chunks of 0 tokens"},
	{"llama-perplexity", "predict", fakellama.Fifo, "not a regular file"},
	{"llama-perplexity", "predict", fakellama.Folder, "not a regular file"},
	{"llama-perplexity", "predict", fakellama.Device, "not a regular file"},
	{"llama-perplexity", "", fakellama.NoResult, "no result"},
	{"llama-perplexity", "", fakellama.Garbage, "no table of chunks"},
	{"llama-perplexity", "", fakellama.NaN, `"nan"`},
	{"llama-perplexity", "", fakellama.FewChunks, "chunks of"},
	{"llama-perplexity", "", fakellama.NegativeDivergence, "none is below 0"},
	{"llama-perplexity", "", fakellama.PerplexityBelow1, "none is below 1"},
	{"llama-perplexity", "", fakellama.HugePerplexity, "where a figure belongs"},
	{"llama-perplexity", "", fakellama.OtherSummary, "differs from its last chunk"},
	{"llama-perplexity", "", fakellama.OtherPerplexity, "in its summary, and"},
	{"llama-perplexity", "", fakellama.OtherRatio, "the logarithm of their ratio"},
	{"llama-perplexity", "", fakellama.QuantilesOff, "the tokens have"},
	{"llama-perplexity", "", fakellama.NoQuantile, `no line "99.9%   KLD"`},
}

// Whatever a tool says or leaves that claims success: it is a failure with a reason, and nothing of
// it stays. The next cycle, with a tool that is mended, decides.
func TestLiesAreNoDecisions(t *testing.T) {
	var mu sync.Mutex
	held, all := map[string]int{}, map[string]int{}
	t.Cleanup(func() { // after the subtests
		for _, tool := range slices.Sorted(maps.Keys(all)) {
			t.Logf("%-16s %2d of %2d lies held", tool, held[tool], all[tool])
		}
	})
	for _, lie := range lies {
		all[lie.tool]++
		t.Run(strings.TrimSpace(fmt.Sprintf("%s %s %s", lie.tool, lie.step, lie.do)), func(t *testing.T) {
			t.Parallel()
			behaviour := fakellama.Behaviour{Server: lie.tool == "llama-server"}
			p := newPlace(t, behaviour)
			reason := runner.ReasonBenchmark
			switch lie.tool {
			case "llama-quantize":
				reason = runner.ReasonQuantize
			case "llama-perplexity":
				reason = runner.ReasonEvaluate
				p.configure(quick + strings.Replace(p.evaluated(), "0.05", "1", 1))
			}
			honest := behaviour
			behaviour.Faults = []fakellama.Fault{{Tool: lie.tool, Step: lie.step, Do: lie.do}}
			fakellama.Set(t, p.tools, behaviour)
			p.requireFailed(p.run("--output", "json"), reason, lie.says)

			if lie.tool == "llama-quantize" || lie.step == "predict" { // whose files are kept for later cycles
				fakellama.Set(t, p.tools, honest)
				got := p.run("--output", "json")
				assert.Equal(t, exitKept, got.status, got.stderr)
				assert.Equal(t, verdict.Kept, got.one(t).Decision)
				p.nothingLeft()
			}
			if !t.Failed() {
				mu.Lock()
				defer mu.Unlock()
				held[lie.tool]++
			}
		})
	}
}
