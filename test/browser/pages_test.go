package browser_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/runner"
)

// looks are the ways in which every page is looked at.
var looks = map[string]look{
	"light":       wide,
	"dark":        {width: 1360, height: 900, dark: true},
	"medium":      {width: 1024, height: 900},
	"narrow":      narrow,
	"narrow-dark": {width: 390, height: 844, dark: true},
	"no-script":   {width: 1360, height: 900, noScript: true},
}

// serveHousehold serves a host with a history.
func serveHousehold(t *testing.T) *exporter {
	t.Helper()
	p := newPlace(t, fakellama.Behaviour{}, "gemma-3-1b-it", "llama-3.2-3b-instruct", "qwen/qwen2.5-0.5b")
	seed(t, p.state, nights, household()...)
	return p.serve(quick + `
schedule:
  - {name: nightly, cron: "0 3 * * *", timezone: UTC, models: ["*"], targets: [Q2_K, Q4_K_M], choose: smallest}
  - {name: small, cron: "0 5 * * 6", timezone: UTC, models: ["gemma*", "qwen/*"], targets: [Q8_0, Q4_0]}
`)
}

// householdPages are its pages of each kind.
var householdPages = map[string]string{"status": "/", "model": "/model?name=gemma-3-1b-it", "cycle": "/cycles/144", "changed": "/cycles/104", "cycles": "/cycles", "config": "/config"}

// A host with a history: the pictures of the README are of it.
func TestHousehold(t *testing.T) {
	e := serveHousehold(t)
	for name, as := range looks {
		t.Run(name, func(t *testing.T) {
			b := open(t, e.url, as)
			for page, path := range householdPages {
				b.goTo(e.url + path)
				if !as.noScript { // before the picture, for which the window grows
					b.assertStill(path, 0.01)
				}
				b.screenshot(page + "-" + name)
			}
		})
	}
	t.Run("semantics", func(t *testing.T) {
		counts := map[string]map[string]int{}
		for name, as := range map[string]look{"wide": wide, "narrow": narrow} {
			counts[name] = open(t, e.url, as).roles()
		}
		assert.Equal(t, counts["wide"]["row"], counts["narrow"]["row"], "a table stays one on a narrow screen")
		assert.Equal(t, counts["wide"]["cell"], counts["narrow"]["cell"])
		assert.Equal(t, counts["wide"]["columnheader"], counts["narrow"]["columnheader"])
		assert.Equal(t, 2, counts["narrow"]["table"])
		assert.Greater(t, counts["narrow"]["row"], 10)
	})
	t.Run("idle on a phone", func(t *testing.T) {
		b := open(t, e.url, look{width: 390, height: 844})
		gap := "(() => { const box = document.querySelector('.now .running'); return (box.getBoundingClientRect().bottom - box.lastElementChild.getBoundingClientRect().bottom) / parseFloat(getComputedStyle(document.documentElement).fontSize) })()"
		assert.Contains(t, b.text("#now"), "Nothing is running")
		assert.Less(t, value[float64](b, gap), 2.0, "the place that a run will take is not empty")
	})
	t.Run("keyboard", func(t *testing.T) {
		b := open(t, e.url, wide)
		b.do(chromedp.KeyEvent(kb.Tab))
		assert.Equal(t, "Skip to content", value[string](b, "document.activeElement.textContent"))
		assert.NotEqual(t, "none", value[string](b, "getComputedStyle(document.activeElement).outlineStyle"), "one sees where one is")
		b.do(chromedp.KeyEvent(kb.Enter))
		b.until("document.activeElement.id === 'main'")
	})
	t.Run("filter and sort", func(t *testing.T) {
		b := open(t, e.url, wide)
		b.do(chromedp.Evaluate[chromedp.Void]("window.loaded = 1; undefined"))
		b.do(chromedp.SendKeys(chromedp.CSS("#q"), "qwen q4"))
		b.until("document.querySelectorAll('#results tbody tr').length === 2") // not the results of what was typed first
		assert.NotContains(t, b.text("#results"), "gemma")
		assert.Equal(t, "?q=qwen+q4", value[string](b, "location.search"), "a reload shows the same")
		assert.Equal(t, "q", value[string](b, "document.activeElement.id"))
		b.do(chromedp.Click(chromedp.CSS(".counts a.rejected")))
		b.untilText("#results", "None of the 10 pairs of model and target matches")
		b.do(chromedp.Click(chromedp.CSS(".empty a")))
		b.until("document.querySelectorAll('#results tbody').length === 3")
		b.do(chromedp.Click(chromedp.CSS("th.speeds a")))
		b.until("document.querySelector('#results tbody').innerText.includes('qwen') && document.querySelector('th.speeds').getAttribute('aria-sort') === 'ascending'")
		assert.True(t, value[bool](b, "window.loaded === 1"), "all on the same page")
	})
	t.Run("filter without script", func(t *testing.T) {
		b := open(t, e.url, looks["no-script"])
		b.do(chromedp.SendKeys(chromedp.CSS("#q"), "gemma"))
		b.follow(".filter button")
		assert.NotContains(t, b.text("#results"), "qwen")
		assert.Contains(t, b.text("#results"), "gemma")
	})
	t.Run("cycles are selected", func(t *testing.T) {
		for _, as := range []look{wide, looks["no-script"]} {
			b := open(t, e.url+"/cycles", as)
			b.do(chromedp.SendKeys(chromedp.CSS("[name=model]"), "GEMMA"))
			b.do(chromedp.SendKeys(chromedp.CSS("[name=outcome]"), "rejected"))
			b.follow(".filter button")
			assert.NotContains(t, b.text("#list"), "qwen")
			assert.Contains(t, b.text("#list"), "gemma")
			b.follow(".filter a")
			assert.Contains(t, b.text("#list"), "qwen")
			assert.Contains(t, b.text("#list"), "chosen")
		}
	})
	t.Run("values of a chart", func(t *testing.T) {
		b := open(t, e.url+"/model?name=gemma-3-1b-it", wide)
		b.do(chromedp.ScrollIntoView(chromedp.CSS(".chart")))
		readouts := "[...document.querySelectorAll('.readout text')].filter((e) => getComputedStyle(e).visibility === 'visible').map((e) => e.textContent)"
		assert.Empty(t, value[[]string](b, readouts))
		at := value[[]float64](b, "(() => { const r = document.querySelectorAll('.readout rect')[3].getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 3] })()")
		b.do(command(input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: "mouseMoved", X: at[0], Y: at[1]}))
		b.until(readouts + ".length === 1")
		assert.Regexp(t, `cycle \d+, \d{4}-\d\d-\d\d 03:\d\d UTC: kept, \d\.\d+× \[`, value[[]string](b, readouts)[0])
		b.screenshot("model-hover")
	})
	t.Run("times here", func(t *testing.T) {
		b := open(t, e.url+"/cycles", wide)
		b.do(command(emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Asia/Tokyo"}))
		b.goTo(e.url + "/cycles")
		first := "document.querySelector('#list time')."
		utc := value[string](b, first+"textContent")
		assert.Regexp(t, ` UTC$`, utc)
		b.do(chromedp.Click(chromedp.CSS("#zone")))
		b.until(first + "textContent.endsWith(' +09')")
		assert.Equal(t, utc, value[string](b, first+"title"))
		b.goTo(e.url + "/cycles")
		assert.Regexp(t, ` \+09$`, value[string](b, first+"textContent"), "the browser remembers it")
		b.assertStill("/cycles", 0.01)
		assert.Equal(t, "Times: Asia/Tokyo", b.text("#zone"))
		b.goTo(e.url + "/model?name=gemma-3-1b-it")
		readout := "document.querySelector('.readout tspan').textContent"
		assert.Regexp(t, `^cycle \d+, \d{4}-\d\d-\d\d 12:\d\d \+09: `, value[string](b, readout), "at 03:00 UTC, in a chart, too")
		assert.Regexp(t, `^\d{4}-\d\d-\d\d$`, value[string](b, "document.querySelector('.chart [data-form]').textContent"))
		b.goTo(e.url + "/cycles/1")
		assert.Regexp(t, `^\d\d:\d\d:\d\d \+09$`, value[string](b, "document.querySelector('.rounds time').textContent"))
		b.goTo(e.url + "/cycles")
		b.do(chromedp.Click(chromedp.CSS("#zone")))
		b.until(first + "textContent === '" + utc + "'")
		b.goTo(e.url + "/model?name=gemma-3-1b-it")
		assert.Regexp(t, `\d\d UTC: `, value[string](b, readout))
		assert.Equal(t, "hidden", value[string](open(t, e.url, looks["no-script"]), "getComputedStyle(document.getElementById('zone')).visibility"))
	})
	t.Run("pruned", func(t *testing.T) {
		b := open(t, e.url, wide)
		b.expect("404")
		b.goTo(e.url + "/cycles/9999")
		assert.Contains(t, b.text("main"), "no cycle 9999")
		b.screenshot("no-cycle")
	})
	t.Run("stopped", func(t *testing.T) {
		b := open(t, e.url, wide)
		b.until("document.body.dataset.token")
		b.expect("ERR_")
		e.stop()
		b.until("!document.getElementById('offline').hidden")
		assert.Contains(t, b.text("#offline"), "does not answer")
	})
}

// roles counts what assistive programs see of the page.
func (b *tab) roles() map[string]int {
	b.t.Helper()
	counts := map[string]int{}
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		tree, err := cdp.Call(ctx, target, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		if err != nil {
			return err
		}
		for _, node := range tree.Nodes {
			if node.Role != nil && !node.Ignored {
				counts[strings.Trim(string(node.Role.Value), `"`)]++
			}
		}
		return nil
	}))
	return counts
}

func TestFirstRun(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{}, "llama-3.2-3b-instruct", "qwen/qwen2.5-0.5b")
	e := p.serve(quick + yearly)
	for _, name := range []string{"light", "narrow", "no-script"} {
		b := open(t, e.url, looks[name])
		assert.Contains(t, b.text("#results"), "Nothing is decided yet. The first run is due")
		assert.Contains(t, b.text("#results"), "llama-3.2-3b-instruct")
		b.screenshot("first-run-" + name)
	}
}

func TestEmptyAndBroken(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	e := p.serve("")
	b := open(t, e.url, wide)
	assert.Contains(t, b.text("#results"), "Nothing is scheduled.")
	b.screenshot("empty")
	b.goTo(e.url + "/cycles")
	assert.Contains(t, b.text("main"), "No cycle has started yet.")

	p = newPlace(t, fakellama.Behaviour{}, "m")
	p.tools = t.TempDir() // without any
	e = p.serve(quick + yearly + "a2a: {url: 'redis://127.0.0.1:1'}\n")
	b = open(t, e.url, wide)
	b.untilText("#notices", "llama.cpp cannot be used")
	b.untilText("#notices", "Events cannot be delivered")
	b.screenshot("broken")
	b = open(t, e.url, narrow)
	b.untilText("#notices", "Events cannot be delivered")
	b.screenshot("broken-narrow")
}

func TestRejection(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{Factors: []fakellama.Factor{{Stage: "quantized", By: 2}}}, "m")
	e := p.serve(quick + `schedule: [{name: once, cron: "@yearly", run_on_start: true, targets: [Q2_K]}]`)
	b := open(t, e.url, wide)
	b.until("document.querySelector('#results .badge.rejected')")
	assert.Contains(t, b.text("#results"), "0.62×", "the speed of the fake, half of 1.25 times the original's")
	b.untilText("#now", "Nothing is running")
	b.follow("#results td:last-child a")
	b.untilText("h1", "Cycle 1")
	assert.Contains(t, b.text("main"), "This is the first decision")
	assert.Equal(t, 4, value[int](b, "document.querySelectorAll('figure.plot').length"), "looks and rounds of two phases")
	b.screenshot("rejection")
}

func TestFailure(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-bench", Do: fakellama.SegmentationFault}}}, "m")
	e := p.serve(quick + `schedule: [{name: once, cron: "@yearly", run_on_start: true, targets: [Q2_K]}]`)
	b := open(t, e.url, wide)
	b.untilText("#results", "crash")
	assert.Contains(t, b.text("#results"), "undecided", "a failure is not a decision")
	b.untilText("#now", "Nothing is running")
	b.screenshot("failure-status")
	b.follow("#results .why a")
	b.untilText("h1", "Cycle 1")
	assert.Contains(t, b.text("pre.message"), "llama-bench")
	assert.Contains(t, b.text("pre.log"), "no decision")
	b.screenshot("failure-cycle")
}

func TestButtons(t *testing.T) {
	for _, name := range []string{"light", "no-script"} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, fakellama.Behaviour{}, "m")
			e := p.serve(quick+yearly, "--web.enable-admin-api")
			b := open(t, e.url, looks[name])
			b.follow("#schedule-part button")
			for deadline := time.Now().Add(patience); looks[name].noScript; b.goTo(e.url) { // a reader who reloads
				if b.text("#results .badge.kept") != "" {
					break
				}
				require.True(t, time.Now().Before(deadline), "the run did not come")
			}
			b.until("document.querySelector('#results .badge.kept')")
			b.screenshot("button-" + name)
		})
	}
	t.Run("cancel", func(t *testing.T) {
		p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-bench", Do: fakellama.Hang}}}, "m")
		e := p.serve(quick+yearly, "--web.enable-admin-api")
		b := open(t, e.url+"/model?name=m", wide)
		b.follow("#model button")
		b.until("document.querySelector('#now form button:enabled')")
		b.untilText("#step", "measuring")
		b.screenshot("running")
		b.follow("#now form button")
		b.untilText("#results", "canceled")
		b.untilText("#now", "Nothing is running")
	})
	t.Run("off", func(t *testing.T) {
		p := newPlace(t, fakellama.Behaviour{}, "m")
		b := open(t, p.serve(quick+yearly).url, wide)
		assert.Zero(t, value[float64](b, "document.querySelectorAll('form[method=post]').length"))
	})
}

func TestHostileNames(t *testing.T) {
	names := []string{`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, "new\nline", "\u202egpj", "{{.}}", "-m", "a&b=c#d?e%41"}
	p := newPlace(t, fakellama.Behaviour{}, names...)
	e := p.serve(quick+`schedule: [{name: "<script>alert(2)</script>", cron: "@yearly", run_on_start: true, targets: [Q2_K]}]`, "--web.enable-admin-api")
	b := open(t, e.url, wide)
	b.until("document.querySelectorAll('#results .badge.kept').length === " + strconv.Itoa(len(names)))
	b.untilText("#now", "Nothing is running")
	b.screenshot("hostile")
	pages := value[[]string](b, "[...document.querySelectorAll('#results a[href*=model], #results td:last-child a')].map(a => a.href)")
	assert.Len(t, pages, 2*len(names))
	for _, page := range append(pages, e.url+"/cycles", e.url+"/?q=%3Cscript%3Ealert(3)%3C/script%3E") {
		b.goTo(page)
		assert.Equal(t, 1, value[int](b, "document.scripts.length"), page)
		assert.Zero(t, value[float64](b, "document.images.length"), page)
		assert.NotContains(t, b.text("h1"), "No such", page)
	}
	// By its button a model with a line end is found, too.
	b.goTo(e.url + "/model?name=new%0Aline")
	b.follow("#model button")
	b.until("document.querySelector('#now')")
	b.untilText("#now", "Nothing is running")
}

// The page of a crowd: 500 models.
func TestFiveHundredModels(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	random := rand.New(rand.NewPCG(5, 6))
	var crowd []past
	typical := household()[2]
	for i := range 500 {
		one := typical
		one.model = fmt.Sprintf("family-%02d/model-%03d-instruct", i%12, i)
		one.generation *= 1 + random.Float64()
		one.failed = nil
		switch {
		case i%17 == 0:
			one.generationDrop = []float64{0.25}
		case i%5 == 0:
			one.generationDrop = []float64{-0.4}
		}
		crowd = append(crowd, one)
	}
	seed(t, p.state, 1, crowd...)
	e := p.serve(quick + yearly)
	for name, as := range map[string]look{"light": wide, "narrow": narrow} {
		t.Run(name, func(t *testing.T) {
			b := open(t, e.url, as)
			b.untilText("#results", "500 all")
			t.Logf("%.0f kB sent, %.0f kB of HTML, %.0f ms to the response, %.0f ms until loaded, %.0f elements",
				value[float64](b, "performance.getEntriesByType('navigation')[0].encodedBodySize/1000"),
				value[float64](b, "performance.getEntriesByType('navigation')[0].decodedBodySize/1000"),
				value[float64](b, "performance.getEntriesByType('navigation')[0].responseEnd"),
				value[float64](b, "performance.getEntriesByType('navigation')[0].loadEventEnd"),
				value[float64](b, "document.querySelectorAll('*').length"))
			assert.Less(t, value[float64](b, "performance.getEntriesByType('navigation')[0].encodedBodySize"), 300_000.0)
			b.do(chromedp.SendKeys(chromedp.CSS("#q"), "model-017"))
			b.until("document.querySelectorAll('#results tbody').length === 1")
			b.goTo(e.url + "/?sort=decision")
			picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(shared.output, "crowd-"+name+".png"), picture, 0o644))
			assert.Contains(t, b.text("#results tbody"), "rejected", "what needs attention is first")
		})
	}
}

// A real cycle of llama.cpp is followed to its decision, without a reload, and its pages are
// looked at in every way. With PICTURES=long these have a past, like the ones in the README:
// see `make pictures`.
func TestLiveProgressToTheDecision(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	p.tools = shared.llamaCpp(t)
	p.models = filepath.Join(shared.root, "examples", "models")
	cycles, settings := 1, "rounds: {min: 3, max: 4}"
	if os.Getenv("PICTURES") == "long" {
		cycles, settings = 4, "budget: 45s"
	}
	e := p.serve(fmt.Sprintf(`
benchmark: {prompt_tokens: 128, generation_tokens: 128, %s, max_disturbance: 1}
quality: {corpus: %s, max_kl_divergence: 0.05}
schedule: [{name: nightly, cron: "0 3 * * *", timezone: UTC, models: [kjv-4m-f16], targets: [Q8_0, Q4_K_M, Q2_K], choose: smallest}]
`, settings, filepath.Join(p.models, "kjv-heldout.txt")), "--web.enable-admin-api")
	b := open(t, e.url, wide)
	b.untilText("#now", "llama.cpp")
	b.do(chromedp.Evaluate[chromedp.Void](`
		window.loaded = 1; window.steps = new Set(); window.percents = new Set();
		new MutationObserver(() => {
			const step = document.getElementById("step");
			if (step) { steps.add(step.textContent); percents.add(document.getElementById("progress").value); }
		}).observe(document.body, {subtree: true, childList: true, characterData: true});
		undefined`))
	presser := open(t, e.url, wide) // one who presses the button, while the other one looks on
	for cycle := 1; cycle <= cycles; cycle++ {
		presser.goTo(e.url)
		presser.follow("#schedule-part button")
		b.until(fmt.Sprintf("[...steps].join().includes('measuring') && document.querySelector('#now a[href$=\"/cycles/%d\"]')", cycle))
		b.screenshot("live")
		b.until("document.querySelector('#results .badge.kept, #results .badge.rejected, #results .badge.inconclusive') && document.querySelector('#now').innerText.includes('Nothing is running')")
	}
	assert.True(t, value[bool](b, "window.loaded === 1"), "without a reload")
	assert.Greater(t, value[float64](b, "percents.size"), 2.0, "progress was seen to progress")
	assert.Contains(t, value[string](b, "[...steps].join()"), "round")
	for name, as := range map[string]look{"1400": {width: 1400, height: 900}, "1024": {width: 1024, height: 900}, "390": narrow, "dark": {width: 1400, height: 900, dark: true}} {
		b := open(t, e.url, as)
		for page, path := range map[string]string{"status": "/", "model": "/model?name=kjv-4m-f16", "cycle": fmt.Sprintf("/cycles/%d", cycles), "cycles": "/cycles", "config": "/config"} {
			b.goTo(e.url + path)
			b.assertStill(path, 0.01)
			b.screenshot("real-" + page + "-" + name)
		}
	}
	b.follow("#results td:last-child a")
	b.untilText("h1", fmt.Sprintf("Cycle %d", cycles))
	b.do(chromedp.Evaluate[chromedp.Void]("for (const d of document.querySelectorAll('details')) d.open = true; undefined"))
	assert.Contains(t, b.text("main"), "llama-server")
	b.screenshot("live-cycle")
}

// Between a phone and a large screen nothing is cut off either, however long names and
// messages are.
func TestWindowWidths(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	long := household()[0]
	long.model = "a-family-of-models/with-a-name-that-does-not-end-70b-instruct-0107-" + strings.Repeat("x", 60)
	long.failed = map[int]*runner.Failure{1: runner.Failf(runner.ReasonQuantize, "llama-quantize ended with status 1: %s %s\n%s",
		strings.Repeat("a message of many words, ", 20), "/srv/"+strings.Repeat("path", 60), strings.Repeat("x", 400))}
	decided := long
	decided.target, decided.failed, decided.generation, decided.prompt = "Q4_K_M", nil, 1234, 123456
	edge := decided
	edge.target, edge.generationDrop, edge.promptDrop, edge.noise = "Q4_0", []float64{0.12}, []float64{0.12}, 0.05
	seed(t, p.state, 2, append(household(), long, decided, edge)...)
	e := p.serve(quick + `
schedule: [{name: nightly, cron: "0 3 * * *", timezone: UTC, models: ["*"], targets: [Q2_K, Q4_K_M]}]
`)
	for _, width := range []int64{390, 760, 800, 950, 1024, 1190, 1200, 1285, 1340, 1360, 1450} {
		t.Run(strconv.FormatInt(width, 10), func(t *testing.T) {
			b := open(t, e.url, look{width: width, height: 900})
			b.untilText("#results", "llama-quantize ended")
			b.untilText("#results", "inconclusive") // the longest decision
			b.do(chromedp.Evaluate[chromedp.Void]("for (const d of document.querySelectorAll('.why details')) d.open = true; undefined"))
			assert.Empty(t, value[[]string](b, `[...document.querySelectorAll("body *")]
				.filter((e) => !e.closest(".unseen, .skip, thead") && (e.getBoundingClientRect().right > innerWidth + 0.5 || e.matches(".table") && e.scrollWidth > e.clientWidth))
				.map((e) => e.tagName + "." + e.getAttribute("class") + " " + Math.round(e.getBoundingClientRect().right) + " " + e.scrollWidth + ": " + e.textContent.slice(0, 60))`),
				"what is wider than the window, or than its card")
			assert.Empty(t, value[[]string](b, `[...document.querySelectorAll("td *, th *")]
				.filter((e) => !e.closest(".unseen") && getComputedStyle(e.closest("thead, tbody")).position !== "absolute" && e.getBoundingClientRect().right > e.closest("td, th").getBoundingClientRect().right + 0.5)
				.map((e) => e.tagName + "." + e.getAttribute("class") + " " + Math.round(e.getBoundingClientRect().right) + ": " + e.textContent.slice(0, 60))`),
				"what is wider than its column")
			b.screenshot("width-" + strconv.FormatInt(width, 10))
		})
	}
}
