package servers

import (
	"bytes"
	"context"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// DumpDOM opens a page in Chromium, without a window and with a profile of its own, and
// returns its document after scripts have run. Further arguments are Chromium's; with
// "--screenshot=FILE" the document is empty.
func DumpDOM(t testing.TB, url string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, Tool(t, "chromium"), append([]string{
		"--headless", "--disable-gpu",
		"--no-sandbox",            // tests may run as root, and in containers
		"--disable-dev-shm-usage", // containers have little of it
		"--disable-breakpad",      // its crash handler outlives it
		"--user-data-dir=" + t.TempDir(), "--dump-dom", url,
	}, args...)...)
	runtime.LockOSThread() // see spawn
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = attributes()
	cmd.WaitDelay = patience
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var document, diagnostics bytes.Buffer
	cmd.Stdout, cmd.Stderr = &document, &diagnostics
	if err := cmd.Run(); err != nil {
		t.Fatalf("opening %s in Chromium: %v\n%s", url, err, &diagnostics)
	}
	return document.String()
}
