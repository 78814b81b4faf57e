package browser_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/dispatch"
)

// onEveryPage runs a script before the scripts of each page that is opened from now on.
func onEveryPage(script string) chromedp.Action[chromedp.Void] {
	return command(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
}

// watchShifts has every page note what moves on it.
func watchShifts() chromedp.Action[chromedp.Void] {
	return onEveryPage(`
		window.shift = 0; window.shifted = [];
		new PerformanceObserver((list) => {
			const place = (r) => [r.x, r.y, r.width, r.height].map(Math.round).join(" ");
			for (const e of list.getEntries()) {
				shift += e.value;
				shifted.push(e.value + ":", ...e.sources.map((s) => (s.node?.textContent || s.node?.nodeName || "").trim().slice(0, 40) + " from " + place(s.previousRect) + " to " + place(s.currentRect)));
			}
		}).observe({type: "layout-shift", buffered: true});`)
}

// assertStill fails when more of the page moved by itself since it was opened than a
// limit, in the measure of Cumulative Layout Shift.
func (b *tab) assertStill(what string, limit float64) {
	b.t.Helper()
	b.painted()
	if value[float64](b, "shift") >= limit {
		assert.Fail(b.t, what+" moves while it is read", "%v", value[[]string](b, "shifted"))
	}
}

// painted waits until what is on the page now is on the screen, and what was seen of that
// is known.
func (b *tab) painted() {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](`new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(resolve, 0))))`,
		func(p *runtime.EvaluateParams) { p.AwaitPromise = new(true) }))
}

// A page that arrives bit by bit, as it does on a slow network or in a browser that has
// little time, stands still while it is read: nothing depends on what is yet to come.
func TestPagesStandStillWhileTheyArrive(t *testing.T) {
	behind, err := url.Parse(serveHousehold(t).url)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(behind)
	shown := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/shown":
			select {
			case shown <- struct{}{}:
			default:
			}
			w.WriteHeader(http.StatusNoContent)
		case r.Header.Get("Sec-Fetch-Dest") == "document":
			inPieces(t, w, behind.JoinPath(r.URL.Path).String()+"?"+r.URL.RawQuery, shown)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		server.CloseClientConnections() // streams do not end by themselves
		server.Close()
	})
	for name, as := range map[string]look{"wide": wide, "narrow": narrow} {
		t.Run(name, func(t *testing.T) {
			b := open(t, "about:blank", as)
			b.do(onEveryPage(`
				new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => fetch("/shown"), 0)))
					.observe(document, {subtree: true, childList: true});`))
			for _, path := range householdPages {
				b.goTo(server.URL + path)
				b.assertStill(path, 0.001)
			}
		})
	}
}

// So does a page that changes: a run that begins, goes from model to model and ends has its
// place, and the words that come and go have theirs.
func TestLivePageStandsStill(t *testing.T) {
	for name, as := range map[string]look{"wide": wide, "narrow": narrow} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, &dispatch.Status{}, nil)
			s.state, s.plan = pairs("one", "two", "three")
			b := open(t, s.url, as)
			then := func(status *dispatch.Status, text string) {
				t.Helper()
				s.set(func() { s.status = status })
				b.untilText("#now", text)
			}
			then(running(1, "one", 0.2), "cycle 1")
			between := running(0, "", 0)
			between.Running.Done = 1
			then(between, "Between two cycles")
			assert.True(t, value[bool](b, "document.querySelector('#now button').disabled"), "there is no cycle to cancel")
			second := running(2, "two", 0.2)
			second.Running.Targets = []string{"Q2_K"}
			then(second, "cycle 2")
			b.untilText("#results", "measuring")
			then(&dispatch.Status{}, "Nothing is running")
			b.assertStill("the page of a run", 0.01)
		})
	}
}

// pieces begin with what a reader sees as one thing.
var pieces = regexp.MustCompile(`\n<(?:tr role|section|h[123]|p|dl|div|figure|footer)\b`)

// inPieces answers with a page, each piece once the one before is shown.
func inPieces(t *testing.T, w http.ResponseWriter, of string, shown <-chan struct{}) {
	answer, err := http.Get(of)
	if !assert.NoError(t, err) {
		return
	}
	defer answer.Body.Close()
	html, err := io.ReadAll(answer.Body)
	assert.NoError(t, err)
	w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	begin := 0
	for _, cut := range append(pieces.FindAllIndex(html, -1), []int{len(html)}) {
		_, _ = w.Write(html[begin:cut[0]])
		begin = cut[0]
		if !assert.NoError(t, http.NewResponseController(w).Flush()) {
			return
		}
		if begin < len(html) {
			select {
			case <-shown:
			case <-time.After(patience):
				assert.Fail(t, "what arrived is not shown", "%s", html[:begin])
				return
			}
		}
	}
}
