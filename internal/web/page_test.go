package web_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/golden"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// now is the time in a synctest bubble.
var now = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// known is all that a page is made of.
type known struct {
	state  *store.State
	plan   *model.Plan
	status *dispatch.Status
	next   map[string]time.Time
	bus    a2a.Status
	ready  error
}

func (k known) options(t testing.TB) parts {
	o := options(t)
	if k.state != nil {
		o.State = func() *store.State { return k.state }
	}
	if k.plan != nil {
		o.Plan = func() *model.Plan { return k.plan }
	}
	if k.status != nil {
		o.Status = func() *dispatch.Status { return k.status }
	}
	o.Next = func() map[string]time.Time {
		if k.next == nil {
			return map[string]time.Time{"nightly": now.Add(3 * time.Hour), "weekly": now.Add(4 * time.Hour)}
		}
		return k.next
	}
	o.Bus = func() a2a.Status { return k.bus }
	o.Ready = func() error { return k.ready }
	return o
}

func planned(name, format string, targets ...string) model.Planned {
	return model.Planned{Model: model.Model{Name: name, Header: &gguf.Header{Format: format}}, Targets: targets}
}

func phase(name verdict.Phase, outcome verdict.Outcome, original, drop float64) verdict.PhaseVerdict {
	return verdict.PhaseVerdict{
		Phase: name, Outcome: outcome, Drop: drop, Lower: new(drop - 0.01), Upper: new(drop + 0.01),
		Original: original, Quantized: original * (1 - drop),
	}
}

// decided is a pair with the outcome of its latest measurement.
func decided(id store.PairID, standing, outcome verdict.Outcome, ago time.Duration, phases ...verdict.PhaseVerdict) *store.Pair {
	v := verdict.Verdict{Outcome: outcome, Rounds: 5, Phases: phases, Confidence: 0.925}
	for _, p := range phases {
		if outcome == verdict.Rejected && p.Outcome == verdict.Rejected {
			v.Gate = p.Phase
		}
	}
	return &store.Pair{
		PairID: id, Standing: standing, StandingSince: now.Add(-ago),
		Decided: &store.Record{Result: runner.Result{Finished: now.Add(-ago), SourceFormat: "F16", Threshold: 0.12, Verdict: &v}},
	}
}

func pairs(all ...*store.Pair) map[store.PairID]*store.Pair {
	m := map[store.PairID]*store.Pair{}
	for _, pair := range all {
		m[pair.PairID] = pair
	}
	return m
}

var engineUp = dispatch.EngineStatus{
	Checked: now.Add(-20 * time.Second), Up: true,
	Info:     runner.EngineInfo{Name: "llama.cpp", Version: "0.7.0", Build: 11669},
	Backends: "CPU", CPU: "AMD EPYC 9754",
}

func nightly(models ...model.Planned) *model.Plan {
	return &model.Plan{Entries: []model.Resolved{{
		Entry:  config.Entry{Entry: schedule.Entry{Name: "nightly"}, Models: []string{"*"}, Targets: []string{"Q2_K"}, Settings: config.Settings{Threshold: 0.12}},
		Models: models,
	}}}
}

func scheduled(names ...string) []dispatch.EntryStatus {
	var all []dispatch.EntryStatus
	for _, name := range names {
		all = append(all, dispatch.EntryStatus{Name: name})
	}
	return all
}

// hostileQuality is one of a text of that name.
func hostileQuality(text string) *runner.Evaluated {
	q := evaluated(0.33, quality.MaxKLDivergence)
	q.Corpus = text
	return q
}

// evaluated is a quality with that divergence.
func evaluated(divergence float64, exceeded ...quality.Limit) *runner.Evaluated {
	return &runner.Evaluated{
		Verdict: quality.Verdict{
			KLDivergence:       quality.Interval{Estimate: divergence, Lower: divergence * 0.9, Upper: divergence * 1.1},
			Top1Agreement:      quality.Interval{Estimate: 0.9, Lower: 0.88, Upper: 0.92},
			PerplexityIncrease: quality.Interval{Estimate: 0.04, Lower: 0.03, Upper: 0.05},
			RMSDeltaP:          quality.Interval{Estimate: 0.06, Lower: 0.05, Upper: 0.07},
			Quantiles:          []quality.Quantile{{Percent: 50, KLDivergence: divergence / 2}, {Percent: 99, KLDivergence: 8 * divergence}, {Percent: quality.P999, KLDivergence: 16 * divergence}, {Percent: 100, KLDivergence: 32 * divergence}},
			Confidence:         0.95, Exceeded: exceeded,
		},
		Limits:     quality.Limits{MaxKLDivergence: 0.05, MinTop1Agreement: 0.8},
		Perplexity: 25.87, OriginalPerplexity: 24.88, Corpus: "heldout.txt", Chunks: 8, Planned: 32, Context: 512,
	}
}

// states in which people find the page.
func states() map[string]known {
	llama, qwen := "llama-7b", "team/qwen-0.5b"
	running := &dispatch.Status{
		Running: &dispatch.Running{
			Entry: "nightly", Due: now.Add(-9 * time.Minute), Started: now.Add(-8 * time.Minute),
			Cycle: 7, Model: llama, Targets: []string{"Q2_K", "Q4_K_M"}, Done: 1, Models: 3, Ratio: 0.426,
			Progress: runner.Progress{
				Model: llama, Operation: runner.OperationBenchmark, Target: "Q2_K", Stage: runner.StageQuantized,
				Detail: "round 3", Left: 200 * time.Second,
			},
		},
		Queue:   []dispatch.Waiting{{Entry: "weekly", Due: now.Add(-time.Minute), Until: now.Add(59 * time.Minute)}, {Entry: "by-hand", Due: now}},
		Entries: scheduled("nightly", "weekly"),
		Engine:  engineUp,
	}
	running.Entries[0].Running = true
	running.Entries[1].Queued = 1

	decisions := known{
		state: &store.State{
			Pairs: pairs(
				decided(store.PairID{Model: llama, Target: "Q4_K_M"}, verdict.Kept, verdict.Kept, 5*time.Hour,
					phase(verdict.Generation, verdict.Kept, 41.25, -0.382), phase(verdict.Prompt, verdict.Kept, 812, 0.031)),
				decided(store.PairID{Model: llama, Target: "Q2_K"}, verdict.Rejected, verdict.Rejected, 5*time.Hour,
					phase(verdict.Generation, verdict.Rejected, 41.25, 0.173), phase(verdict.Prompt, verdict.Kept, 812, 0.05)),
				decided(store.PairID{Model: llama, Target: "Q3_K_M"}, verdict.Rejected, verdict.Rejected, 49*time.Hour,
					phase(verdict.Generation, verdict.Inconclusive, 41.25, 0.04), phase(verdict.Prompt, verdict.Rejected, 812, 0.204)),
				decided(store.PairID{Model: qwen, Target: "Q2_K"}, verdict.Kept, verdict.Inconclusive, 90*time.Minute,
					phase(verdict.Generation, verdict.Inconclusive, 7.5, 0.117)),
				decided(store.PairID{Model: qwen, Target: "Q4_0"}, "", verdict.Inconclusive, 90*time.Second,
					phase(verdict.Generation, verdict.Inconclusive, 7.5, 0.12)),
				&store.Pair{PairID: store.PairID{Model: qwen, Target: "Q8_0"}, Failed: &store.Failed{
					Finished: now.Add(-time.Hour), Reason: runner.ReasonOutOfMemory,
					Error: "llama-bench was killed (signal 9) while it measured qwen-0.5b:\nthe host has too little memory",
				}},
				decided(store.PairID{Model: "gone", Target: "Q2_K"}, verdict.Kept, verdict.Kept, 24*time.Hour,
					phase(verdict.Generation, verdict.Kept, 0.0123, 0)),
			),
			Outbox:   store.OutboxState{Pending: 2, OldestPending: now.Add(-3 * time.Minute)},
			Counters: store.NewCounters(map[store.Counter]uint64{{Kind: store.CountDelivered}: 12}),
		},
		plan: nightly(planned(llama, "F16", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M"), planned(qwen, "BF16", "Q2_K", "Q4_0", "Q8_0")),
		status: &dispatch.Status{
			Entries: append(scheduled("nightly"), dispatch.EntryStatus{Name: "paused", Suspended: true}),
			Engine:  engineUp,
		},
		bus: a2a.Status{Configured: true, Err: "dial tcp 127.0.0.1:6379: connect: connection refused"},
	}
	damaged := decisions.state.Pairs[store.PairID{Model: llama, Target: "Q2_K"}].Decided
	damaged.Verdict.Gate, damaged.Quality = verdict.GateQuality, evaluated(0.33, quality.MaxKLDivergence)
	decisions.state.Pairs[store.PairID{Model: llama, Target: "Q4_K_M"}].Decided.Quality = evaluated(0.03)
	decisions.state.Models = map[store.ModelID]*store.Model{{Name: llama}: {ModelID: store.ModelID{Name: llama}, Choice: &store.Choice{Rule: choice.Smallest, Format: "Q4_K_M", Since: now.Add(-29 * time.Hour), Cycle: 6}}}
	decisions.plan.Entries[0].Models[0].Choose, decisions.plan.Entries[0].Choose = choice.Smallest, choice.Smallest
	passedOver := store.PairID{Model: llama, Target: "Q5_K_M"}
	decisions.state.Pairs[passedOver] = &store.Pair{PairID: passedOver, PassedOver: &store.PassedOver{Cycle: 6, Entry: "nightly", Finished: now.Add(-5 * time.Hour), For: "Q4_K_M", Choose: choice.Smallest}}
	decisions.plan.Conflicts = []model.Conflict{{Model: llama, Target: "Q2_K", First: "nightly", Second: "paused"}}
	failedAgain := decisions.state.Pairs[store.PairID{Model: llama, Target: "Q4_K_M"}]
	failedAgain.Failed = &store.Failed{Finished: now.Add(-30 * time.Second), Reason: runner.ReasonTimeout, Error: "llama-quantize ran past 6h"}
	decisions.state.Pairs[store.PairID{Model: qwen, Target: "Q2_K"}].Decided.Unconfirmed = true
	decisions.state.Pairs[store.PairID{Model: qwen, Target: "Q4_0"}].Decided.Verdict.Phases[0].Upper = nil

	return map[string]known{
		"starting":  {ready: errors.New("opening the state in data/")},
		"empty":     {status: &dispatch.Status{Engine: engineUp}},
		"no-models": {plan: nightly(), status: &dispatch.Status{Engine: engineUp, Entries: []dispatch.EntryStatus{{Name: "nightly", Problems: []string{`"*": there is no model in "/srv/models"`}}}}, next: map[string]time.Time{"nightly": now.Add(time.Hour)}},
		"first-run": {
			state:  &store.State{Outbox: store.OutboxState{}},
			plan:   nightly(planned(llama, "F16", "Q2_K"), planned(qwen, "BF16", "Q2_K")),
			status: &dispatch.Status{Entries: scheduled("nightly"), Engine: engineUp},
		},
		"running": {
			state:  &store.State{Outbox: store.OutboxState{Held: 1}},
			plan:   nightly(planned(llama, "F16", "Q2_K", "Q4_K_M")),
			status: running,
		},
		"engine-missing": {
			plan: nightly(planned(llama, "F16", "Q2_K")),
			status: &dispatch.Status{
				Entries: scheduled("nightly"),
				Engine:  dispatch.EngineStatus{Checked: now.Add(-20 * time.Second), Err: `llama-quantize is not in "/opt/llama.cpp" nor on PATH`},
			},
			bus: a2a.Status{Configured: true, Up: true},
		},
		"decisions": decisions,
	}
}

// stable is a page without what changes with the assets and with what a token stands for.
func stable(page string) string {
	page = regexp.MustCompile(`\.[0-9a-f]{12}\.`).ReplaceAllString(page, ".HASH.")
	return regexp.MustCompile(`data-token="[0-9a-f]{16}"`).ReplaceAllString(page, `data-token="TOKEN"`)
}

// statusPage is the status page of an exporter in a state.
func statusPage(t *testing.T, k known) string {
	response := ask(handlerOf(k.options(t)), "GET", "/")
	require.Equal(t, http.StatusOK, response.Code)
	assert.Equal(t, "text/html; charset=utf-8", response.Header().Get("Content-Type"))
	return stable(response.Body.String())
}

func TestStatusPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		require.Equal(t, now, time.Now().UTC())
		golden.Check(t, "status.html", statusPage(t, states()["decisions"]))
	})
}

// What the status page says in the other states in which people find it.
func TestStatesOfTheStatusPage(t *testing.T) {
	for name, texts := range map[string][]string{
		"starting": {
			"<div role=\"status\">\n<h2>Starting</h2>\n<p class=\"message\">opening the state in data/</p>\n</div>",
			`<span class="badge idle">not checked yet</span>`, `<span class="badge idle">not configured</span> <span class="soft line">set <code>a2a.url</code>`,
			`<p class="lead soft">Nothing is running.</p>`, "<strong>Nothing is scheduled.</strong>",
		},
		"empty": {
			`<span class="badge good">up</span> llama.cpp 0.7.0 (build 11669)<span class="soft line">backends CPU</span><span class="soft line">AMD EPYC 9754</span>`,
			"<strong>Nothing is scheduled.</strong>",
		},
		"no-models": {
			"<strong>No model was found.</strong>", `<span class="soft">Next:</span><span class="due"> <bdi>nightly</bdi> <time datetime="2000-01-01T01:00:00Z" title="2000-01-01 01:00:00 UTC" data-relative>in 60 min</time></span></p>`,
			`<span class="message line">&#34;*&#34;: there is no model in &#34;/srv/models&#34;</span>`,
			`<span class="badge failed">no models</span>`, `<td role="cell" data-label="Models" class="number">0</td>`,
		},
		"first-run": {
			`Nothing is decided yet. The first run is due <time datetime="2000-01-01T03:00:00Z">2000-01-01 03:00:00 UTC</time> <span class="soft"><time datetime="2000-01-01T03:00:00Z" data-relative>in 3 h</time></span>;`,
			`<span class="badge undecided">undecided</span>`, `<span class="soft">rejected at 0.88×</span>`, `<a href="/?decision=undecided" class="undecided" data-select><b>2</b> undecided</a>`,
			`<bdi>team/qwen-0.5b</bdi></a><span class="soft line">BF16</span>`, `<span class="soft line">next <time datetime="2000-01-01T03:00:00Z"`,
		},
		"running": {
			`<strong><a href="/model?name=llama-7b"><bdi>llama-7b</bdi></a></strong> <span class="format"><bdi>Q2_K</bdi></span> <span class="format"><bdi>Q4_K_M</bdi></span>`,
			`<progress id="progress" max="100" value="42"`, `<span class="number" id="percent">42 %</span>`,
			`<span id="step">round 3, measuring Q2_K</span> <span class="soft" id="left">next check in about 3 min</span>`,
			`Model 2 of 3 of <bdi>nightly</bdi>, started <time datetime="1999-12-31T23:52:00Z"`, `<a href="/cycles/7">cycle 7</a>`,
			`<li><bdi>weekly</bdi> <span class="soft">due <time datetime="1999-12-31T23:59:00Z" title="1999-12-31 23:59:00 UTC" data-relative>60 s ago</time>, skipped if it has not started <time datetime="2000-01-01T00:59:00Z" title="2000-01-01 00:59:00 UTC" data-relative>in 59 min</time></span></li>`,
			`<li><bdi>by-hand</bdi> <span class="soft">due <time datetime="2000-01-01T00:00:00Z" title="2000-01-01 00:00:00 UTC" data-relative>now</time></span></li>`,
			"1 event is kept; set <code>a2a.url</code>", `<span class="badge measuring">measuring</span>`, `<span class="badge running">running</span>`, `<span class="badge queued">queued</span>`,
		},
		"engine-missing": {
			"<div role=\"alert\">\n<h2>llama.cpp cannot be used</h2>\n<p class=\"message\">llama-quantize is not in &#34;/opt/llama.cpp&#34; nor on PATH</p>",
			`Last checked <time datetime="1999-12-31T23:59:40Z" title="1999-12-31 23:59:40 UTC" data-relative>20 s ago</time>.`,
			`<span class="badge bad">unusable</span>`, `<span class="badge good">up</span> <span class="soft line">0 delivered, 0 pending</span>`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				page := statusPage(t, states()[name])
				for _, text := range texts {
					assert.Contains(t, page, text)
				}
				for notice, state := range map[string]string{"Starting": "starting", "llama.cpp cannot be used": "engine-missing", "Events cannot be delivered": "", "The configuration was not reloaded": ""} {
					assert.Equal(t, name == state, strings.Contains(page, notice), notice)
				}
			})
		})
	}
}

// hostile are texts that become something else wherever one is not escaped or not shown
// as what it is.
var hostile = []string{
	`<script>alert(1)</script>.gguf`,
	`"><img src=x onerror=alert(1)>`,
	`' onmouseover='alert(1)`,
	`</title></style></textarea><svg onload=alert(1)>`,
	`<!-- --!> {{.}} ]]> &lt;b&gt; &amp;`,
	`javascript:alert(1)`,
	"a\nb\r\x1b[2J\u009b31m\u202egpj\u2066\x01\x7f\u0085\u2028z",
}

// everywhere is a page on which every text that is not ours is the given one.
func everywhere(text string) known {
	id := store.PairID{Model: text, Target: text}
	pair := decided(id, verdict.Kept, verdict.Kept, time.Hour, phase(verdict.Generation, verdict.Kept, 10, 0.01))
	pair.Decided.SourceFormat = text
	pair.Failed = &store.Failed{Finished: now, Reason: runner.ReasonCrash, Error: text}
	chooses := planned(text, text, text+"2")
	chooses.Choose = choice.Smallest
	return known{
		ready: errors.New(text),
		state: &store.State{
			Pairs:  pairs(pair, &store.Pair{PairID: store.PairID{Model: text, Target: text + "2"}, PassedOver: &store.PassedOver{For: text}}),
			Models: map[store.ModelID]*store.Model{{Name: text}: {ModelID: store.ModelID{Name: text}, Choice: &store.Choice{Rule: choice.Rule(text), Format: text}}},
		},
		plan: &model.Plan{
			Entries:    []model.Resolved{{Entry: config.Entry{Entry: schedule.Entry{Name: text}, Settings: config.Settings{Threshold: 0.12}}, Models: []model.Planned{chooses}}},
			Conflicts:  []model.Conflict{{Model: text, Target: text, First: text, Second: text}},
			PassedOver: []model.Skipped{{Name: text, Path: text, Reason: text}},
		},
		status: &dispatch.Status{
			Running: &dispatch.Running{Entry: text, Model: text, Models: 1, Progress: runner.Progress{Operation: runner.OperationWait, Detail: text}},
			Queue:   []dispatch.Waiting{{Entry: text}},
			Entries: []dispatch.EntryStatus{{Name: text, Problems: []string{text}}},
			Engine:  dispatch.EngineStatus{Checked: now, Err: text},
		},
		bus: a2a.Status{Configured: true, Err: text},
	}
}

// skeleton is a document without its texts and the values of its attributes.
func skeleton(t *testing.T, document string) (tags []string, text string) {
	t.Helper()
	tokens := html.NewTokenizer(strings.NewReader(document))
	var all strings.Builder
	for {
		switch tokens.Next() {
		case html.ErrorToken:
			return tags, all.String()
		case html.TextToken:
			all.WriteString(tokens.Token().Data)
		default:
			token := tokens.Token()
			tag := []string{token.Type.String()}
			if token.Type != html.CommentToken { // whose data is its text
				tag = append(tag, token.Data)
			}
			for _, attribute := range token.Attr {
				tag = append(tag, attribute.Key)
			}
			tags = append(tags, strings.Join(tag, " "))
		}
	}
}

// hostilePages are all pages with the text everywhere; change makes another status of it.
func hostilePages(t *testing.T, text string, change func(*known)) string {
	k := everywhere(text)
	change(&k)
	o := k.options(t)
	o.Version = text
	o.CycleLog = func(uint64) (string, error) { return text, nil }
	id := store.PairID{Model: text, Target: text}
	ended := now.Add(time.Minute)
	round := runner.Round{
		Set: 1, Counted: true, First: runner.StageOriginal,
		Original:  sample(10, text),
		Quantized: sample(9, text),
	}
	o.Store = &fakeStore{
		cycles: []store.Cycle{{
			ID: 1, Model: text, Entry: text, Targets: []string{text, text + "2"}, Ended: &ended,
			Choose: choice.Rule(text), Chosen: text, ChoiceID: text, PassedOver: map[string]string{text + "2": text},
		}, {ID: 2, Model: text, Targets: []string{text}, Undecided: []string{text}}},
		results: map[uint64][]store.Record{
			1: {{
				Cycle: 1, EventID: text, Changed: true, Host: text, Result: runner.Result{
					Model: id.Model, TargetFormat: id.Target, SourceFormat: text, Threshold: 0.12,
					Verdict:  k.state.Pairs[id].Decided.Verdict,
					Quality:  hostileQuality(text),
					Original: runner.FileFigures{Format: text, Bytes: 1},
					Evidence: runner.Evidence{
						Engine: runner.EngineInfo{Name: text, Commit: text}, Hardware: text, Isolation: text,
						Benchmark: config.Benchmark{Phases: []verdict.Phase{verdict.Generation}},
						Rounds:    []runner.Round{round},
						Quantize:  runner.ToolRun{Args: []string{text, "-x"}},
						Against:   []model.FileID{{Path: text}},
						Baseline:  &runner.BaselineEvidence{Format: text, Quantize: runner.ToolRun{Args: []string{text}}},
						Quality:   &runner.QualityEvidence{Corpus: runner.CorpusID{Bytes: 3, SHA256: text}, Evaluate: runner.ToolRun{Args: []string{text}}},
					},
				},
			}},
			2: {{Cycle: 2, Result: runner.Result{Model: id.Model, TargetFormat: id.Target, Failure: runner.Failf(runner.ReasonCrash, "%s", text)}}},
		},
		points: map[store.PairID][]store.Point{id: {
			{Time: now, Cycle: 1, Outcome: verdict.Kept, Threshold: 0.12, Phases: []store.PointPhase{{Phase: verdict.Generation, Original: 10, Quantized: 9, Drop: 0.1}}},
			{Time: now, Cycle: 2, Reason: runner.ReasonCrash},
		}},
	}
	handler := handlerOf(o)
	var all strings.Builder
	for _, path := range []string{"/", "/model?name=" + url.QueryEscape(text), "/model?name=no" + url.QueryEscape(text), "/cycles", "/cycles/1", "/cycles/2", "/?q=nothing+" + url.QueryEscape(text)} {
		response := ask(handler, "GET", path)
		require.Contains(t, []int{http.StatusOK, http.StatusNotFound}, response.Code, path)
		all.WriteString(response.Body.String())
	}
	return all.String()
}

// sample is one measurement.
func sample(throughput float64, text string) runner.Sample {
	return runner.Sample{Started: now, Measurement: runner.Measurement{
		Throughput: map[verdict.Phase]float64{verdict.Generation: throughput},
		CPU:        text, GPU: text, Backends: text, Run: runner.ToolRun{Args: []string{text}},
	}}
}

// With hostile texts all pages have the tags and attributes that they have with harmless
// ones, and the texts are on them, readable and without control characters.
func TestHostileTexts(t *testing.T) {
	for _, change := range []func(*known){
		func(*known) {},
		func(k *known) { // texts that the first page has no place for
			k.status.Running.Progress = runner.Progress{Operation: runner.OperationQuantize, Target: k.status.Running.Entry, Detail: k.status.Running.Entry}
			k.status.Engine = dispatch.EngineStatus{
				Checked: now, Up: true, Info: runner.EngineInfo{Name: "llama.cpp", Version: k.status.Running.Entry},
				Backends: k.status.Running.Entry, CPU: k.status.Running.Entry, GPU: k.status.Running.Entry,
			}
		},
	} {
		for _, text := range hostile {
			harmless := "harmless"
			if strings.Contains(text, "\n") { // of which messages are folded
				harmless = "harm\nless"
			}
			want, plain := skeleton(t, hostilePages(t, harmless, change))
			got, shown := skeleton(t, hostilePages(t, text, change))
			require.Equal(t, strings.Join(want, "\n"), strings.Join(got, "\n"), text)
			assert.True(t, utf8.ValidString(shown))
			for _, r := range shown {
				if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028') {
					assert.Failf(t, "raw control character", "%q", r)
				}
			}
			if !strings.Contains(text, "\n") {
				assert.GreaterOrEqual(t, strings.Count(shown, text), strings.Count(plain, "harmless")-quotedNames, "everything is shown as it is: %q", text)
			}
		}
	}
}

// quotedNames are places where a text is shown as Go or a shell would write it: the
// arguments of four commands, and the name that a message quotes.
const quotedNames = 5

// What the page says with colour it says in words, too.
func TestDecisionsAreWords(t *testing.T) {
	response := ask(handlerOf(states()["decisions"].options(t)), "GET", "/")
	document, err := html.Parse(response.Body)
	require.NoError(t, err)
	var badges []string
	for node := range document.Descendants() {
		for _, a := range node.Attr {
			if a.Key == "class" && strings.HasPrefix(a.Val, "badge") {
				badges = append(badges, node.FirstChild.Data)
			}
			assert.NotEqual(t, "style", a.Key, "the policy forbids it")
			assert.False(t, strings.HasPrefix(a.Key, "on"), a.Key)
		}
		assert.NotContains(t, []string{"style", "iframe", "img"}, node.Data)
		if node.Data == "script" {
			assert.Nil(t, node.FirstChild, "scripts are files of their own")
		}
	}
	for _, word := range []string{"kept", "rejected", "inconclusive", "undecided", string(runner.ReasonOutOfMemory), "down", "suspended"} {
		assert.Contains(t, badges, word)
	}
}

// A configuration that was refused is on the page until one is taken, and the stream says
// that there is something new.
func TestReloadError(t *testing.T) {
	o := states()["first-run"].options(t)
	var failure error
	o.ReloadError = func() (time.Time, error) { return now, failure }
	handler := handlerOf(o)
	before := ask(handler, "GET", "/").Body.String()
	assert.NotContains(t, before, "was not reloaded")

	failure = errors.New("q.yml:5: <schedule>: no such key\x1b")
	after := ask(handler, "GET", "/").Body.String()
	assert.Contains(t, after, "The configuration was not reloaded")
	assert.Contains(t, after, `q.yml:5: &lt;schedule&gt;: no such key\x1b`)
	assert.Contains(t, after, "2000-01-01 00:00:00 UTC")
	assert.NotEqual(t, token.FindString(before), token.FindString(after))
}

var token = regexp.MustCompile(`data-token="[^"]*"`)

// A pair that was stopped is shown as that, and is none of the failed ones.
func TestPassedOverIsListed(t *testing.T) {
	k := states()["decisions"]
	for i := range 201 {
		k.plan.PassedOver = append(k.plan.PassedOver, model.Skipped{Name: fmt.Sprint("mtp-", i), Reason: "a draft head"})
	}
	page := statusPage(t, k)
	assert.Contains(t, page, "201 in the model folder")
	assert.Contains(t, page, `<li><bdi>mtp-199</bdi> <span class="soft message line">a draft head</span></li>`)
	assert.NotContains(t, page, "mtp-200")
	assert.Contains(t, page, "and more")
}

func TestStoppedIsNotFailed(t *testing.T) {
	k := states()["first-run"]
	stopped := func(target string, reason runner.Reason) *store.Pair {
		return &store.Pair{PairID: store.PairID{Model: "llama-7b", Target: target}, Failed: &store.Failed{Finished: now, Reason: reason, Error: "it ended"}}
	}
	k.plan = nightly(planned("llama-7b", "F16", "Q2_K", "Q3_K_M", "Q4_0"))
	k.state = &store.State{Pairs: pairs(stopped("Q2_K", runner.ReasonCanceled), stopped("Q3_K_M", runner.ReasonInterrupted), stopped("Q4_0", runner.ReasonCrash))}
	handler := handlerOf(k.options(t))
	_, targets := shown(t, handler, "?decision=failed")
	assert.Equal(t, []string{"Q4_0"}, targets)
	page := ask(handler, "GET", "/").Body.String()
	assert.Contains(t, page, "<b>1</b> failed")
	assert.Contains(t, page, `<span class="badge canceled">canceled</span>`)
	assert.Contains(t, page, `<span class="badge interrupted">interrupted</span>`)
	assert.Contains(t, page, `<span class="badge failed">crash</span>`)
}

// What nobody schedules any more and was never decided is not on the page; its model has
// one all the same, to which the list of cycles leads.
func TestForgottenPairs(t *testing.T) {
	k := states()["first-run"]
	typo := store.PairID{Model: "removed", Target: "Q2_KK"}
	k.state = &store.State{Pairs: pairs(&store.Pair{PairID: typo, Failed: &store.Failed{Finished: now, Reason: runner.ReasonQuantize, Error: "no such format"}})}
	handler := handlerOf(k.options(t))
	models, _ := shown(t, handler, "")
	assert.Equal(t, []string{"llama-7b", "team/qwen-0.5b"}, models)
	assert.Contains(t, ask(handler, "GET", "/").Body.String(), "<b>2</b> all")
	assert.Contains(t, ask(handler, "GET", "/model?name=removed").Body.String(), "no such format")
}

// A message of one long line is folded like one of many, and whole on the page of the model.
func TestLongLinesAreFolded(t *testing.T) {
	k := states()["first-run"]
	message := "llama-quantize knows no Q2_KK; it knows" + strings.Repeat(" Q2_K", 100) + "\nthe end"
	k.state = &store.State{Pairs: pairs(&store.Pair{PairID: store.PairID{Model: "llama-7b", Target: "Q2_K"}, Failed: &store.Failed{Finished: now, Reason: runner.ReasonQuantize, Error: message}})}
	handler := handlerOf(k.options(t))
	page := ask(handler, "GET", "/").Body.String()
	assert.Regexp(t, `<summary class="message">llama-quantize knows no Q2_KK;[^<]{100,220} …</summary><span class="message">… Q2_K[^<]*\nthe end</span>`, page)
	assert.Contains(t, ask(handler, "GET", "/model?name=llama-7b").Body.String(), message)
}

func TestByHand(t *testing.T) {
	k := states()["running"]
	assert.NotContains(t, ask(handlerOf(k.options(t)), "GET", "/").Body.String(), "started by hand")
	k.status.Running.ByHand = true
	assert.Contains(t, ask(handlerOf(k.options(t)), "GET", "/").Body.String(), "of <bdi>nightly</bdi>, started by hand")
}

func TestPairsAreInOrder(t *testing.T) {
	response := ask(handlerOf(states()["decisions"].options(t)), "GET", "/")
	rows := regexp.MustCompile(`<th role="rowheader" scope="rowgroup" rowspan="\d"><a [^>]*><bdi>(.*?)</bdi>`).FindAllStringSubmatch(response.Body.String(), -1)
	var names []string
	for _, row := range rows {
		names = append(names, row[1])
	}
	assert.Equal(t, []string{"gone", "llama-7b", "team/qwen-0.5b"}, names)
	assert.Contains(t, response.Body.String(), "not scheduled", "what is known of a model that went away stays visible")
}

// A copy that could not be published is shown beside its decision, and by the API.
func TestUnpublished(t *testing.T) {
	all := publications()
	pair := decided(store.PairID{Model: "m", Target: "Q2_K"}, verdict.Kept, verdict.Kept, time.Hour)
	pair.Published, pair.Unpublished = &all[0], &all[1]
	k := known{state: &store.State{Pairs: pairs(pair)}, plan: nightly(planned("m", "F16", "Q2_K"))}
	handler := handlerOf(k.options(t))
	assert.Contains(t, ask(handler, "GET", "/").Body.String(), "could not be published")
	api := ask(handler, "GET", "/api/v1/models").Body.String()
	assert.Contains(t, api, `"stable":"/srv/published/m/Q2_K/stable"`)
	assert.Contains(t, api, `"unpublished":{"target_format":"Q4_0"`)
	pair.Unpublished = nil
	assert.NotContains(t, ask(handler, "GET", "/").Body.String(), "could not be published")
}

// A dashboard does not know the classes of a fleet: its link leads to the first one.
func TestModelOfAnyClass(t *testing.T) {
	handler := handlerOf(known{
		state: &store.State{Pairs: pairs(
			decided(store.PairID{Model: "a & b", Target: "Q2_K", Class: "l4"}, verdict.Kept, verdict.Kept, time.Hour, phase(verdict.Generation, verdict.Kept, 40, 0.01)),
			decided(store.PairID{Model: "a & b", Target: "Q2_K", Class: "h100"}, verdict.Kept, verdict.Kept, time.Hour, phase(verdict.Generation, verdict.Kept, 40, 0.01)),
		)},
		plan: nightly(),
	}.options(t))
	answer := ask(handler, "GET", "/model?name=a+%26+b")
	assert.Equal(t, http.StatusFound, answer.Code)
	assert.Equal(t, "/model?class=h100&name=a+%26+b", answer.Header().Get("Location"))
	assert.Equal(t, http.StatusOK, ask(handler, "GET", answer.Header().Get("Location")).Code)
	assert.Equal(t, http.StatusNotFound, ask(handler, "GET", "/model?name=a+%26+b&class=a100").Code)
	assert.Equal(t, http.StatusNotFound, ask(handler, "GET", "/model?name=c").Code)
}

// While nothing runs, the page says how the last cycle ended.
func TestResultsOfTheLastCycle(t *testing.T) {
	state := &store.State{Pairs: map[store.PairID]*store.Pair{}, Models: map[store.ModelID]*store.Model{}}
	for i, target := range []string{"Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "Q5_0", "Q6_K"} {
		id := store.PairID{Model: "m", Target: target}
		outcome := verdict.Kept
		if i == 0 {
			outcome = verdict.Rejected
		}
		state.Pairs[id] = decided(id, outcome, outcome, time.Hour, phase(verdict.Generation, outcome, 40, 0.01))
		state.Pairs[id].Decided.Cycle = 7
	}
	before := state.Pairs[store.PairID{Model: "m", Target: "Q6_K"}]
	before.Decided.Cycle = 6
	state.Models[store.ModelID{Name: "m"}] = &store.Model{LastRun: now.Add(-time.Hour), Latest: store.PairID{Model: "m", Target: "Q2_K"}}
	page := statusPage(t, known{state: state, plan: nightly(planned("m", "F16", "Q2_K"))})
	assert.Contains(t, page, `<span class="ended"><span class="format"><bdi>Q2_K</bdi></span> <span class="badge rejected">rejected</span> <span class="format"><bdi>Q3_K_M</bdi></span> <span class="badge kept">kept</span>`)
	assert.Contains(t, page, `<span class="soft">and 1 more</span></span></p>`)
}
