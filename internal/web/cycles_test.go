package web_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/golden"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// The answers are a contract with programs.
func TestKnownAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for state, paths := range map[string][]string{"decisions": {"models", "schedule"}, "running": {"schedule"}, "starting": {"models", "schedule", "cycles"}} {
			o := states()[state].options(t)
			o.Store = &fakeStore{}
			for _, path := range paths {
				response := ask(handlerOf(o), "GET", "/api/v1/"+path)
				require.Equal(t, http.StatusOK, response.Code)
				var indented strings.Builder
				var value any
				require.NoError(t, json.Unmarshal(response.Body.Bytes(), &value))
				encoder := json.NewEncoder(&indented)
				encoder.SetIndent("", "  ")
				require.NoError(t, encoder.Encode(value))
				golden.Check(t, state+"-"+path+".json", indented.String())
			}
		}
	})
}

// manyCycles are n cycles that have ended.
func manyCycles(n int) []store.Cycle {
	all := make([]store.Cycle, n)
	for i := range all {
		all[i] = store.Cycle{ID: uint64(i + 1), Model: "m", Targets: []string{"Q2_K"}, Ended: new(now.Add(time.Minute))}
	}
	return all
}

type cyclesAnswer struct {
	Status, ErrorType, Error string
	Data                     struct {
		Cycles     []store.Cycle
		NextBefore uint64 `json:"next_before"`
	}
}

func askCycles(t *testing.T, handler http.Handler, query string) (int, cyclesAnswer) {
	t.Helper()
	response := ask(handler, "GET", "/api/v1/cycles?"+query)
	var got cyclesAnswer
	require.NoError(t, json.Unmarshal(response.Body.Bytes(), &got), response.Body)
	return response.Code, got
}

// Following next_before shows every cycle once, newest first.
func TestCyclesPartByPart(t *testing.T) {
	o := options(t)
	o.Store = &fakeStore{cycles: manyCycles(120)}
	handler := handlerOf(o)
	for _, limit := range []int{1, 7, 119, 120, 1000} {
		var seen []uint64
		for before := uint64(0); ; {
			status, got := askCycles(t, handler, "limit="+strconv.Itoa(limit)+"&before="+strconv.FormatUint(before, 10))
			require.Equal(t, http.StatusOK, status)
			for _, cycle := range got.Data.Cycles {
				seen = append(seen, cycle.ID)
			}
			if before = got.Data.NextBefore; before == 0 {
				break
			}
		}
		assert.Len(t, seen, 120)
		assert.IsDecreasing(t, seen)
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "before=-1", "before=x"} {
		status, got := askCycles(t, handler, query)
		assert.Equal(t, http.StatusBadRequest, status, query)
		assert.Equal(t, "bad_data", got.ErrorType)
	}
}

// selected are cycles of two entries, by hand, and of two models, the newest of which runs.
func selected() *fakeStore {
	q2, q8 := store.PairID{Model: "gemma", Target: "Q2_K"}, store.PairID{Model: "gemma", Target: "Q8_0"}
	return &fakeStore{
		cycles: []store.Cycle{
			{ID: 1, Entry: "nightly", Model: "gemma", Targets: []string{"Q2_K", "Q8_0"}, Ended: new(now), Choose: choice.Smallest, Chosen: "Q2_K"},
			{ID: 2, Entry: "weekly", Model: "gemma", Targets: []string{"Q2_K"}, Ended: new(now)},
			{ID: 3, Model: "Qwen", Targets: []string{"Q2_K"}, Ended: new(now)},
			{ID: 4, Entry: "nightly", Model: "gemma", Targets: []string{"Q2_K", "Q8_0"}, Ended: new(now), PassedOver: map[string]string{"Q8_0": "Q2_K"}},
			{ID: 5, Entry: "nightly", Model: "Qwen", Targets: []string{"Q2_K"}, Undecided: []string{"Q2_K"}},
		},
		points: map[store.PairID][]store.Point{
			q2:                              {{Cycle: 1, Outcome: verdict.Kept}, {Cycle: 2, Outcome: verdict.Rejected}, {Cycle: 4, Outcome: verdict.Kept}},
			q8:                              {{Cycle: 1, Outcome: verdict.Inconclusive}},
			{Model: "Qwen", Target: "Q2_K"}: {{Cycle: 3, Reason: runner.ReasonQuantize}},
		},
	}
}

func TestCyclesAreSelected(t *testing.T) {
	o := options(t)
	o.Store = selected()
	handler := handlerOf(o)
	for query, want := range map[string][]uint64{
		"entry=nightly":            {5, 4, 1},
		"entry=-":                  {3},
		"entry=gone":               nil,
		"model=GEM":                {4, 2, 1},
		"model=qwen&entry=nightly": {5},
		"outcome=kept":             {4, 1},
		"outcome=inconclusive":     {1},
		"outcome=failed":           {3},
		"outcome=passed+over":      {4},
		"outcome=running":          {5},
		"outcome=kept&before=4":    {1},
		"outcome=kept&before=1":    nil,
		"outcome=rejected&model=gemma&entry=weekly&limit=1": {2},
	} {
		status, got := askCycles(t, handler, query)
		require.Equal(t, http.StatusOK, status, query)
		var ids []uint64
		for _, c := range got.Data.Cycles {
			ids = append(ids, c.ID)
		}
		assert.Equal(t, want, ids, query)
		assert.Zero(t, got.Data.NextBefore, query)
	}
	var seen []uint64
	for before := uint64(0); ; {
		_, got := askCycles(t, handler, "entry=nightly&limit=1&before="+strconv.FormatUint(before, 10))
		require.Len(t, got.Data.Cycles, 1)
		seen = append(seen, got.Data.Cycles[0].ID)
		if before = got.Data.NextBefore; before == 0 {
			break
		}
	}
	assert.Equal(t, []uint64{5, 4, 1}, seen)
	status, got := askCycles(t, handler, "outcome=good")
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Contains(t, got.Error, "give one of kept, rejected")
}

// A cycle of a fleet ends as the pair of its class of hardware did, whatever this host's did.
func TestCyclesOfAFleetAreSelectedByTheirClass(t *testing.T) {
	o := options(t)
	o.Store = &fakeStore{
		cycles: []store.Cycle{{ID: 1, Entry: "nightly", Model: "m", Class: "h100", Targets: []string{"Q2_K"}, Ended: new(now)}},
		points: map[store.PairID][]store.Point{{Model: "m", Target: "Q2_K", Class: "h100"}: {{Cycle: 1, Outcome: verdict.Kept}}},
	}
	status, got := askCycles(t, handlerOf(o), "outcome=kept")
	require.Equal(t, http.StatusOK, status)
	assert.Len(t, got.Data.Cycles, 1)
}

func TestCyclesPageIsSelected(t *testing.T) {
	o := options(t)
	from := selected()
	o.Store = from
	page := ask(handlerOf(o), "GET", "/cycles?entry=gone&model=%3Cb%3E&outcome=kept").Body.String()
	for _, text := range []string{`<option value="gone" selected>gone</option>`, `value="&lt;b&gt;"`, `<option value="kept" selected>`, "No cycle is like that", `href="/cycles">Show all`} {
		assert.Contains(t, page, text)
	}
	page = ask(handlerOf(o), "GET", "/cycles?model=gemma").Body.String()
	assert.Contains(t, page, `<bdi>Q2_K</bdi></span> <span class="badge kept">kept</span> <span class="badge chosen" title="the smallest that is kept">chosen</span>`)
	assert.NotContains(t, page, "Qwen")

	for i := range 60 {
		from.cycles = append(from.cycles, store.Cycle{ID: uint64(6 + i), Model: "gemma", Targets: []string{"Q2_K"}, Ended: new(now)})
	}
	page = ask(handlerOf(o), "GET", "/cycles?model=gemma&outcome=removed").Body.String()
	assert.Contains(t, page, "give one of")
	page = ask(handlerOf(o), "GET", "/cycles?model=gemma").Body.String()
	assert.Contains(t, page, `href="/cycles?before=16&amp;model=gemma" rel="next"`)
	page = ask(handlerOf(o), "GET", "/cycles?before=16&model=gemma").Body.String()
	assert.Contains(t, page, `href="/cycles?model=gemma">Newest`)
}

func TestOneCycle(t *testing.T) {
	o := options(t)
	from := &fakeStore{
		cycles:  []store.Cycle{{ID: 7, Model: "m", Targets: []string{"Q2_K"}}},
		results: map[uint64][]store.Record{7: {{Cycle: 7, Result: runner.Result{Model: "m", TargetFormat: "Q2_K", Evidence: runner.Evidence{Hardware: "a big one"}}}}},
	}
	o.Store = from
	handler := handlerOf(o)
	response := ask(handler, "GET", "/api/v1/cycles/7")
	require.Equal(t, http.StatusOK, response.Code)
	assert.Contains(t, response.Body.String(), `"hardware":"a big one"`)

	for path, want := range map[string]string{"/api/v1/cycles/3": "retention", "/api/v1/cycles/8": "no cycle 8", "/api/v1/cycles/0": "no cycle 0"} {
		response := ask(handler, "GET", path)
		assert.Equal(t, http.StatusNotFound, response.Code)
		assert.Equal(t, "not_found", errorOf(t, response)["errorType"])
		assert.Contains(t, errorOf(t, response)["error"], want)
		page := ask(handler, "GET", strings.TrimPrefix(path, "/api/v1"))
		assert.Equal(t, http.StatusNotFound, page.Code)
		assert.Equal(t, "text/html; charset=utf-8", page.Header().Get("Content-Type"))
		assert.Contains(t, page.Body.String(), want)
	}
	assert.Equal(t, http.StatusBadRequest, ask(handler, "GET", "/api/v1/cycles/x").Code)
	assert.Equal(t, http.StatusNotFound, ask(handler, "GET", "/cycles/x").Code)

	from.err = errors.New("the file is closed")
	for _, path := range []string{"/api/v1/cycles/7", "/api/v1/cycles", "/cycles/7", "/cycles", "/cycles/3"} {
		response := ask(handler, "GET", path)
		assert.Equal(t, http.StatusInternalServerError, response.Code, path)
		assert.Contains(t, response.Body.String(), "the file is closed")
	}
	response = ask(handler, "GET", "/")
	assert.Equal(t, http.StatusOK, response.Code, "the status page needs no file")
}

// publications are one, and one that failed.
func publications() []store.Publication {
	return []store.Publication{
		{Target: "Q2_K", Time: now.Add(90 * time.Second), Dir: "/srv/published/m/Q2_K/0123456789ab", Stable: "/srv/published/m/Q2_K/stable"},
		{Target: "Q4_0", Time: now, Error: "publishing Q4_0 of \"m\" in <b>:\nno space left\x1b on device"},
	}
}

// cycles is a store with one cycle of every end.
func cycles() *fakeStore {
	asked := verdict.Config{Threshold: 0.12, Phases: []verdict.Phase{verdict.Generation, verdict.Prompt}, MinRounds: 3, MaxRounds: 6, Alpha: 0.05}
	benchmark := config.DefaultBenchmark()
	round := func(original, quantized float64, counted bool, first runner.Stage) runner.Round {
		sample := func(throughput float64, model string) runner.Sample {
			return runner.Sample{Started: now, Load: &host.Load{Others: 0.25, Steal: 0.01}, Measurement: runner.Measurement{
				Throughput: map[verdict.Phase]float64{verdict.Generation: throughput, verdict.Prompt: throughput * 20},
				Backends:   "CPU", CPU: "a CPU", Threads: 3, Run: runner.ToolRun{Args: []string{"llama-bench", "-m", model}},
			}}
		}
		return runner.Round{Set: 1, First: first, Counted: counted, Original: sample(original, "F16.gguf"), Quantized: sample(quantized, "Q2_K.gguf")}
	}
	settled := round(10, 8, true, runner.StageQuantized)
	delete(settled.Original.Measurement.Throughput, verdict.Generation)
	delete(settled.Quantized.Measurement.Throughput, verdict.Generation)
	rounds := []runner.Round{
		round(10, 8.0, true, runner.StageOriginal), round(10.1, 7.9, true, runner.StageQuantized),
		round(7, 7.1, false, runner.StageOriginal), round(10, 8.1, true, runner.StageOriginal), settled,
	}
	evidence := runner.Evidence{
		Model: "m", Target: "Q2_K", Engine: runner.EngineInfo{Name: "llama.cpp", Version: "0.7.0", Build: 11669, Commit: "abc"},
		Hardware: "a CPU, 4 cores", Benchmark: benchmark, Decision: asked, Isolation: "reflink",
		Quantize: runner.ToolRun{Args: []string{"llama-quantize", "it's here.gguf", "Q2_K.gguf", "Q2_K"}}, Rounds: rounds,
	}
	v := evidence.Verdict()
	evidence.Verdicts = []verdict.Verdict{v}
	evidence.Quality = &runner.QualityEvidence{
		Corpus:   runner.CorpusID{Bytes: 127_893, SHA256: "c0ffee"},
		Predict:  runner.ToolRun{Args: []string{"llama-perplexity", "-m", "it's here.gguf", "-f", "corpus.txt"}},
		Evaluate: runner.ToolRun{Args: []string{"llama-perplexity", "-m", "Q2_K.gguf", "--kl-divergence"}},
	}
	id := store.PairID{Model: "m", Target: "Q2_K"}
	failed := store.PairID{Model: "m", Target: "Q4_0"}
	figures := runner.FileFigures{Format: "F16", Bytes: 2_000_000_000, Parameters: 1_000_000_000, BitsPerWeight: 16}
	changes := []runner.Change{{Input: runner.InputEngine, Text: "llama.cpp 11650 → 11669"}, {Input: runner.InputArguments, Text: "engine.env.GGML_X none → <1>"}}
	point := store.Point{Time: now, Cycle: 3, Outcome: v.Outcome, Changed: true, Threshold: 0.12, Bytes: 5e8, Changes: changes}
	for _, p := range v.Phases {
		point.Phases = append(point.Phases, store.PointPhase{Phase: p.Phase, Original: p.Original, Quantized: p.Quantized, Drop: p.Drop, Lower: p.Lower, Upper: p.Upper})
	}
	return &fakeStore{
		cycles: []store.Cycle{
			{ID: 3, Entry: "nightly", Model: "m", Targets: []string{"Q2_K", "Q4_0"}, Due: now, Started: now, Ended: new(now.Add(90 * time.Second)), Published: publications()},
			{ID: 4, Model: "m", Targets: []string{"Q2_K"}, Undecided: []string{"Q2_K"}, Started: now},
		},
		results: map[uint64][]store.Record{3: {
			{
				Cycle: 3, Entry: "nightly", Host: "here", Changed: true, EventID: "E1",
				Result: runner.Result{
					Model: id.Model, TargetFormat: id.Target, SourceFormat: "F16", Verdict: &v, Previous: verdict.Kept,
					Threshold: 0.12, Original: figures, Quantized: runner.FileFigures{Format: "Q2_K", Bytes: 5e8, Parameters: 1_000_000_000, BitsPerWeight: 4, FallbackShare: 0.25},
					Quality: evaluated(0.06, quality.MaxKLDivergence), Changes: changes,
					Inputs:    &runner.Inputs{Source: "5eed", Driver: "Linux 6.12.1, nvidia 550.54.14"},
					Durations: map[runner.Operation]time.Duration{runner.OperationQuantize: 41 * time.Second, runner.OperationTotal: 90 * time.Second}, Evidence: evidence,
				},
			},
			{Cycle: 3, Result: runner.Result{
				Model: failed.Model, TargetFormat: failed.Target, SourceFormat: "F16", Threshold: 0.12, Original: figures,
				Failure: runner.Failf(runner.ReasonCrash, "llama-quantize crashed\nsignal 11"),
			}},
		}},
		points: map[store.PairID][]store.Point{
			id:     {{Time: now.Add(-24 * time.Hour), Cycle: 1, Outcome: verdict.Kept, Changed: true, Threshold: 0.12, Phases: []store.PointPhase{{Phase: verdict.Generation, Original: 10, Quantized: 30, Drop: -2}}}, point},
			failed: {{Time: now, Cycle: 3, Reason: runner.ReasonCrash, Threshold: 0.12}},
		},
	}
}

func TestPagesOfWhatWas(t *testing.T) {
	for name, path := range map[string]string{"cycle": "/cycles/3", "cycles": "/cycles", "model": "/model?name=m", "message": "/cycles/9"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := publications()
				k := known{
					state: &store.State{Pairs: pairs(
						&store.Pair{PairID: store.PairID{Model: "m", Target: "Q2_K"}, Published: &all[0]},
						&store.Pair{PairID: store.PairID{Model: "m", Target: "Q4_0"}, Published: &all[0], Unpublished: &all[1]},
					)},
					plan: nightly(planned("m", "F16", "Q2_K", "Q4_0")),
				}
				o := k.options(t)
				o.Store = cycles()
				o.CycleLog = func(uint64) (string, error) {
					return "level=INFO msg=one\nlevel=ERROR msg=two\x1b\n", nil
				}
				response := ask(handlerOf(o), "GET", path)
				golden.Check(t, name+".html", stable(response.Body.String()))
			})
		})
	}
}

// Of a cycle that runs there are no results, and its log may be gone.
func TestPageOfARunningCycle(t *testing.T) {
	o := options(t)
	o.Store = cycles()
	o.CycleLog = func(uint64) (string, error) { return "", errors.New("the log is gone") }
	page := ask(handlerOf(o), "GET", "/cycles/4").Body.String()
	for _, text := range []string{
		`<h1>Cycle 4 <small><a href="/model?name=m"><bdi>m</bdi></a></small></h1>`, `<dt>Entry</dt><dd><span class="soft">command line</span></dd>`,
		`<dt>Undecided</dt><dd><span class="format"><bdi>Q2_K</bdi></span> </dd>`, `<p class="soft">the log is gone</p>`, "<noscript>Reload the page",
	} {
		assert.Contains(t, page, text)
	}
	for _, text := range []string{"<dt>Due</dt>", "<dt>Ended</dt>", "Evidence as JSON", "<h2 id=\"published\">", `id="progress"`} {
		assert.NotContains(t, page, text)
	}
}

// One of a model's formats is chosen, and others are passed over for it.
func TestChoicePages(t *testing.T) {
	at := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	pair := &store.Pair{PairID: store.PairID{Model: "m", Target: "Q8_0"}, PassedOver: &store.PassedOver{Cycle: 5, For: "Q4_0", Choose: choice.Smallest}}
	state := &store.State{
		Pairs:  pairs(pair, decided(store.PairID{Model: "m", Target: "Q4_0"}, verdict.Kept, verdict.Kept, time.Hour)),
		Models: map[store.ModelID]*store.Model{{Name: "m"}: {ModelID: store.ModelID{Name: "m"}, Choice: &store.Choice{Rule: choice.Smallest, Format: "Q4_0", Since: at, Cycle: 5}}},
	}
	scheduled := planned("m", "F16", "Q4_0", "Q8_0")
	scheduled.Choose = choice.Smallest
	cycle := store.Cycle{
		ID: 5, Model: "m", Targets: []string{"Q4_0", "Q8_0"}, Started: at, Ended: &at,
		Choose: choice.Smallest, Chosen: "Q4_0", ChoiceID: "E2", PassedOver: map[string]string{"Q8_0": "Q4_0"},
	}
	page := func(path string, p *model.Plan) string {
		o := known{state: state, plan: p}.options(t)
		o.Store = &fakeStore{cycles: []store.Cycle{cycle}}
		response := ask(handlerOf(o), "GET", path)
		require.Equal(t, http.StatusOK, response.Code)
		return response.Body.String()
	}
	const badge = `<span class="badge chosen" title="the smallest that is kept">chosen</span>`
	for path, texts := range map[string][]string{
		"/":             {`<bdi>Q4_0</bdi>`, badge, `passed over for <bdi>Q4_0</bdi>, <a href="/cycles/5">cycle 5</a>`},
		"/model?name=m": {`<bdi>Q4_0</bdi></span>, the smallest that is kept, since <time`, badge, `Passed over for <bdi>Q4_0</bdi> in <a href="/cycles/5">cycle 5</a>`},
		"/cycles":       {`<bdi>Q8_0</bdi></span> <span class="badge passed over">passed over</span>`},
		"/cycles/5":     {`<bdi>Q4_0</bdi></span>, the smallest that is kept<span class="soft line">the choice changed; event <code>E2</code>`, `<bdi>Q8_0</bdi></span> for <bdi>Q4_0</bdi>`},
	} {
		for _, text := range texts {
			assert.Contains(t, page(path, nightly(scheduled)), text, path)
		}
	}
	// What is not scheduled shows what was chosen of it; what chooses no more does not.
	assert.Contains(t, page("/model?name=m", nightly()), badge)
	scheduled.Choose = choice.None
	assert.NotContains(t, page("/model?name=m", nightly(scheduled)), "the smallest")

	state.Models[store.ModelID{Name: "m"}].Choice.Format, cycle.Chosen, cycle.ChoiceID = "", "", ""
	scheduled.Choose = choice.Smallest
	assert.Contains(t, page("/model?name=m", nightly(scheduled)), "none, because none is kept, since")
	assert.Contains(t, page("/cycles/5", nightly(scheduled)), "<dd>none, because none is kept</dd>")
	cycle.Ended = nil
	assert.NotContains(t, page("/cycles/5", nightly(scheduled)), "<dt>Chosen</dt>", "not before its end")
}

// The page says what stood before a decision, or that nothing did.
func TestFirstDecision(t *testing.T) {
	o := options(t)
	from := cycles()
	o.Store = from
	assert.Contains(t, ask(handlerOf(o), "GET", "/cycles/3").Body.String(), "The standing decision changed from kept")
	from.results[3][0].Previous = ""
	page := ask(handlerOf(o), "GET", "/cycles/3").Body.String()
	assert.Contains(t, page, "This is the first decision; event <code>E1</code>")
	assert.NotContains(t, page, "The standing decision changed")
}

// Cycles that were stopped are not called failed.
func TestStoppedCycles(t *testing.T) {
	for _, reason := range []runner.Reason{runner.ReasonCanceled, runner.ReasonInterrupted} {
		o := options(t)
		from := cycles()
		from.results[3][1].Failure.Reason = reason
		from.cycles[0].Published = nil // one of which did fail
		from.points[store.PairID{Model: "m", Target: "Q4_0"}][0].Reason = reason
		o.Store = from
		o.Plan = func() *model.Plan { return nightly(planned("m", "F16", "Q2_K", "Q4_0")) }
		badge := fmt.Sprintf(`<span class="badge %[1]s">%[1]s</span>`, reason)
		for path, times := range map[string]int{"/cycles": 1, "/cycles/3": 2, "/model?name=m": 1} { // a cycle has a summary
			page := ask(handlerOf(o), "GET", path).Body.String()
			assert.Equal(t, times, strings.Count(page, badge), path)
			assert.NotContains(t, page, "badge failed", path)
		}
	}
}

// Of a log that is too long a page shows the end.
func TestLongLog(t *testing.T) {
	o := options(t)
	o.CycleLog = func(uint64) (string, error) {
		return strings.Repeat("a line of the log\n", 100_000) + "the last one\n", nil
	}
	page := ask(handlerOf(o), "GET", "/cycles/1").Body.String()
	assert.Less(t, len(page), 300<<10)
	assert.Contains(t, page, "the last one")
	assert.Contains(t, page, "Only the end of this long log is shown.")
}
