// Package browser_test looks at the pages of the built exporter in a real browser,
// headless Chromium: with the fake llama.cpp, with states made up for the purpose, and
// with the real llama.cpp for a cycle that is followed to its decision.
//
// Every test fails on an error in the browser's console, on a request that fails, and on
// a page that is wider than the window. Screenshots are left in test-output/browser of
// the module, or in the folder that BROWSERTEST_OUTPUT names.
package browser_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/program"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// kit is what all tests share. They run one after another.
type kit struct {
	root   string // of the repository
	output string // folder of the screenshots

	chromium context.Context // nil until the first test needs it
	quit     func()          // ends it, and waits until it has ended
}

var shared kit

func TestMain(m *testing.M) {
	status := 1
	if err := shared.prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "preparing the browser tests:", err)
	} else {
		status = m.Run()
		shared.quit()
	}
	os.Exit(status)
}

func (k *kit) prepare() (err error) {
	k.quit = func() {}
	if k.root, err = program.Root(); err != nil {
		return err
	}
	if k.output = os.Getenv("BROWSERTEST_OUTPUT"); k.output == "" {
		k.output = filepath.Join(k.root, "test-output", "browser")
	}
	return os.MkdirAll(k.output, 0o755)
}

// llamaCpp is the folder of the real tools.
func (k *kit) llamaCpp(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("LLAMA_CPP_DIR"); dir != "" {
		return dir
	}
	get := exec.Command(filepath.Join(k.root, "scripts", "get-llama-cpp"), filepath.Join(k.root, ".tools", "llama.cpp"))
	get.Stderr = os.Stderr
	out, err := get.Output()
	if err != nil {
		t.Fatalf("getting llama.cpp's tools: %v", err)
	}
	return string(out[:len(out)-1])
}

// browser is the Chromium of all tests, without a window: to start one takes longer than most
// of what is looked at in it.
func (k *kit) browser(t *testing.T) context.Context {
	t.Helper()
	if k.chromium != nil {
		return k.chromium
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(servers.Tool(t, "chromium")),
		chromedp.NoSandbox,                           // tests may run as root, and in containers
		chromedp.Flag("disable-dev-shm-usage", true), // containers have little of it
		chromedp.Flag("hide-scrollbars", true),
		chromedp.WSURLReadTimeout(patience),
	)
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	k.quit = func() { cancel(); end() }
	require.NoError(t, chromedp.Do(ctx)) // the browser ends with the context that it began with
	k.chromium = ctx
	return ctx
}
