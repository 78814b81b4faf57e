package web_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// withBaseline is a model that two entries decide: as it is, and beside a baseline.
func withBaseline() known {
	beside := planned("m", "F16", "Q4_K_M")
	beside.Baseline = "Q8_0"
	return known{
		state:  &store.State{Pairs: map[store.PairID]*store.Pair{}},
		plan:   &model.Plan{Entries: []model.Resolved{{Entry: config.Entry{Entry: schedule.Entry{Name: "a"}}, Models: []model.Planned{planned("m", "F16", "Q2_K")}}, {Entry: config.Entry{Entry: schedule.Entry{Name: "b"}}, Models: []model.Planned{beside}}}},
		status: nil,
	}
}

func TestAPairSaysWhichFormatItIsComparedWith(t *testing.T) {
	page := ask(handlerOf(withBaseline().options(t)), "GET", "/").Body.String()
	assert.Contains(t, page, `<bdi>Q4_K_M</bdi></span><span class="soft line">compared with <bdi>Q8_0</bdi></span>`)
	assert.NotContains(t, page, "compared with <bdi>F16</bdi>", "that is with the model")
	assert.NotContains(t, page, "baseline F16")
}

func TestAModelSaysThatItsOriginalIsABaseline(t *testing.T) {
	k := withBaseline()
	k.plan.Entries = k.plan.Entries[1:]
	page := ask(handlerOf(k.options(t)), "GET", "/").Body.String()
	assert.Contains(t, page, `<span class="soft line">baseline Q8_0</span>`)
}

func TestPagesNameTheFileThatIsCompared(t *testing.T) {
	m := planned("m", "F16", "Q4_K_M")
	m.Against = &model.Model{Name: "served/q4"}
	id := store.PairID{Model: "m", Target: "Q4_K_M"}
	k := known{
		state: &store.State{},
		plan: &model.Plan{Entries: []model.Resolved{{
			Entry:  config.Entry{Entry: schedule.Entry{Name: "prod"}, Against: "served/q4", Targets: []string{"Q4_K_M"}, Settings: config.Settings{Baseline: "Q8_0"}},
			Models: []model.Planned{m},
		}}},
		status: &dispatch.Status{Entries: []dispatch.EntryStatus{{Name: "prod"}}},
	}
	const file = `<span class="soft line">file <bdi>served/q4</bdi></span>`
	handler := handlerOf(k.options(t))
	page := ask(handler, "GET", "/").Body.String()
	assert.Equal(t, 1, strings.Count(page, file), "of the entry")
	assert.Contains(t, page, `<span class="soft line" title="served/q4">file <bdi>q4</bdi></span>`, "of the pair, whose column is narrow")
	assert.Contains(t, page, file+`<span class="soft line">baseline <bdi>Q8_0</bdi></span>`)
	assert.Contains(t, ask(handler, "GET", "/api/v1/schedule").Body.String(), `"target_formats":["Q4_K_M"],"against":"served/q4","baseline":"Q8_0"`)

	// What was decided keeps its file, whatever is scheduled now.
	k.plan = nil
	k.state = &store.State{Pairs: map[store.PairID]*store.Pair{id: {PairID: id, Decided: &store.Record{Result: runner.Result{Against: "served/old", Verdict: &verdict.Verdict{Outcome: verdict.Kept}}}}}}
	handler = handlerOf(k.options(t))
	assert.Contains(t, ask(handler, "GET", "/").Body.String(), `title="served/old">file <bdi>old</bdi>`)
	assert.Contains(t, ask(handler, "GET", "/model?name=m").Body.String(), "file <bdi>served/old</bdi>")
}

func TestACycleSaysHowItsBaselineWasMade(t *testing.T) {
	k := withBaseline()
	o := k.options(t)
	from := cycles()
	result := &from.results[3][0]
	result.SourceFormat, result.Against = "Q8_0", "served/q4"
	result.Evidence.Against = []model.FileID{{Path: "/srv/served/q4.gguf"}}
	result.Evidence.Baseline = &runner.BaselineEvidence{Format: "Q8_0", Quantize: runner.ToolRun{Args: []string{"llama-quantize", "original.gguf", "baseline.gguf", "Q8_0"}}}
	o.Store = from
	page := ask(handlerOf(o), "GET", "/cycles/3").Body.String()
	assert.Contains(t, page, "the original is the model in Q8_0, made once for the cycle")
	assert.Contains(t, page, "llama-quantize original.gguf baseline.gguf Q8_0")
	assert.Contains(t, page, "quantize, original")
	assert.Contains(t, page, "/srv/served/q4.gguf")
	assert.Contains(t, page, `<bdi>Q2_K</bdi> <span class="soft">file <bdi>served/q4</bdi></span>`)
}
