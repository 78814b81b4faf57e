package web_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/plan"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/web"
	"github.com/quant-exporter/quant-exporter/runner"
)

// withBaseline is a model that two entries decide: as it is, and beside a baseline.
func withBaseline() known {
	beside := model("m", "F16", "Q4_K_M")
	beside.Baseline = "Q8_0"
	return known{
		state:  &store.State{Pairs: map[store.PairID]*store.Pair{}},
		plan:   &plan.Plan{Entries: []plan.Resolved{{Entry: plan.Entry{Name: "a"}, Models: []plan.Model{model("m", "F16", "Q2_K")}}, {Entry: plan.Entry{Name: "b"}, Models: []plan.Model{beside}}}},
		status: nil,
	}
}

func TestAPairSaysWhichFormatItIsComparedWith(t *testing.T) {
	page := ask(web.New(withBaseline().options(t)), "GET", "/").Body.String()
	assert.Contains(t, page, `<bdi>Q4_K_M</bdi></span><span class="soft line nowrap">beside <bdi>Q8_0</bdi></span>`)
	assert.NotContains(t, page, "beside <bdi>F16</bdi>", "that is with the model")
}

func TestACycleSaysHowItsBaselineWasMade(t *testing.T) {
	k := withBaseline()
	o := k.options(t)
	from := story()
	result := &from.results[3][0]
	result.SourceFormat = "Q8_0"
	result.Evidence.Baseline = &runner.BaselineEvidence{Format: "Q8_0", Quantize: runner.ToolRun{Args: []string{"llama-quantize", "original.gguf", "baseline.gguf", "Q8_0"}}}
	o.Store = from
	page := ask(web.New(o), "GET", "/cycles/3").Body.String()
	assert.Contains(t, page, "the original is the model in Q8_0, made once for the cycle")
	assert.Contains(t, page, "llama-quantize original.gguf baseline.gguf Q8_0")
	assert.Contains(t, page, "quantize, original")
}
