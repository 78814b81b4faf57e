package browser_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience bounds every wait: it guards against hangs and measures nothing.
const patience = 2 * time.Minute

// look is how a page is looked at.
type look struct {
	width, height int64
	dark          bool
	noScript      bool
}

var (
	wide   = look{width: 1360, height: 900}
	narrow = look{width: 390, height: 844}
)

// tab is one page in a browser, with cookies, storage and cache of its own.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string
	expected []string // parts of problems that a test brings about
}

// open opens a page, and collects what goes wrong on it until the test is over.
func open(t *testing.T, url string, as look) *tab {
	t.Helper()
	b := &tab{t: t}
	ctx, cancel := chromedp.NewContext(shared.browser(t), chromedp.WithNewBrowserContext(), chromedp.WithListener(b.notice))
	t.Cleanup(cancel)
	b.ctx = ctx
	require.NoError(t, chromedp.Do(ctx)) // the tab ends with the context that it began with
	scheme := "light"
	if as.dark {
		scheme = "dark"
	}
	viewport := []chromedp.EmulateViewportOption{}
	if as.width < 500 {
		viewport = append(viewport, chromedp.EmulateMobile)
	}
	b.do(
		command(network.Enable, network.EnableParams{}),
		chromedp.EmulateViewport(as.width, as.height, viewport...),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}),
		command(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}), // whichever tab is in front
		command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: as.noScript}),
		watchShifts(),
		chromedp.Navigate(url),
	)
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		assert.Empty(t, b.problems, "what the browser complains about")
	})
	return b
}

// expect says that the browser may complain about this.
func (b *tab) expect(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, part)
}

func (b *tab) notice(event any) {
	problem := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		problem = fmt.Sprintf("exception: %s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			problem = fmt.Sprintf("console.%s: %s", e.Type, e.Args[0].Value)
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			problem = fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
		}
	case *network.EventLoadingFailed:
		if !e.Canceled { // the script ends requests that a newer one replaces
			problem = "request failed: " + e.ErrorText
		}
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 {
			problem = fmt.Sprintf("%d from %s", e.Response.Status, e.Response.URL)
		}
	case *page.EventJavascriptDialogOpening:
		problem = "a dialog: " + e.Message
	}
	if problem == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, part := range b.expected {
		if strings.Contains(problem, part) {
			return
		}
	}
	b.problems = append(b.problems, problem)
}

// command makes an action of a command of the protocol.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, c, params)
		return err
	})
}

// do does what a reader would, or a test sets up.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := b.patiently()
	defer cancel()
	require.NoError(b.t, chromedp.Do(ctx, actions...))
}

// patiently bounds what would wait for ever on a page that is not as it should be.
func (b *tab) patiently() (context.Context, context.CancelFunc) {
	return context.WithTimeout(b.ctx, patience)
}

// goTo opens another page.
func (b *tab) goTo(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
}

// follow clicks what leads to another page, and waits for that.
func (b *tab) follow(selector string) {
	b.t.Helper()
	ctx, cancel := b.patiently()
	defer cancel()
	_, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector)))
	require.NoError(b.t, err)
}

// until waits for an expression to hold on the page.
func (b *tab) until(expression string) {
	b.t.Helper()
	_, err := chromedp.Run(b.ctx, chromedp.Poll[bool]("Boolean("+expression+")", chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(patience)))
	if err != nil {
		b.screenshot("failed-" + strings.ReplaceAll(b.t.Name(), "/", "-"))
		require.NoError(b.t, err, "%s, on a page that says\n%s", expression, b.text("body"))
	}
}

// untilText waits for a text to be visible in what a selector finds first.
func (b *tab) untilText(selector, text string) {
	b.t.Helper()
	b.until(fmt.Sprintf("document.querySelector(%q)?.innerText.includes(%q)", selector, text))
}

// value of an expression on the page.
func value[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	require.NoError(b.t, err)
	return v
}

// text is what a reader sees of what a selector finds first.
func (b *tab) text(selector string) string {
	b.t.Helper()
	return value[string](b, fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector))
}

// screenshot keeps a picture of the whole page, and sees that the page fits the window.
func (b *tab) screenshot(name string) {
	b.t.Helper()
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(filepath.Join(shared.output, name+".png"), picture, 0o644))
	excess := value[float64](b, "document.documentElement.scrollWidth - document.documentElement.clientWidth")
	assert.LessOrEqual(b.t, excess, 0.0, "%s scrolls sideways", name)
}
