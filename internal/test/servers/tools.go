package servers

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/quant-exporter/quant-exporter/internal/test/program"
)

// packages names the Debian package of each program.
var packages = map[string]string{
	"redis-server":                 "redis-server",
	"redis-cli":                    "redis-server",
	"prometheus":                   "prometheus",
	"promtool":                     "prometheus",
	"prometheus-alertmanager":      "prometheus-alertmanager",
	"amtool":                       "prometheus-alertmanager",
	"prometheus-node-exporter":     "prometheus-node-exporter",
	"prometheus-blackbox-exporter": "prometheus-blackbox-exporter",
	"chromium":                     "chromium",
	"systemd-analyze":              "systemd",
	"systemd-sysusers":             "systemd",
	"dpkg":                         "dpkg",
	"rpm":                          "rpm",
	"mkfs.ext4":                    "e2fsprogs",
	"mkfs.xfs":                     "xfsprogs",
}

// fetched remembers, per package, the folder of its programs or why there is none: the
// script runs once per process.
var fetched sync.Map // of func() (string, error)

// Tool is the path of a program, downloaded first if need be: redis-server, redis-cli,
// prometheus, promtool, prometheus-alertmanager, amtool, prometheus-node-exporter,
// prometheus-blackbox-exporter, chromium, systemd-analyze, systemd-sysusers, dpkg, rpm,
// mkfs.ext4 or mkfs.xfs.
func Tool(t testing.TB, name string) string {
	t.Helper()
	program.NotShort(t)
	if dir := os.Getenv("TEST_TOOLS_DIR"); dir != "" {
		path, err := exec.LookPath(filepath.Join(dir, name))
		if err != nil {
			t.Fatalf("TEST_TOOLS_DIR is %s, and it holds no program %s: %v", dir, name, err)
		}
		return path
	}
	pkg, ok := packages[name]
	if !ok {
		t.Fatalf("servers.Tool(%q): this program is not in its table of Debian packages", name)
	}
	get, _ := fetched.LoadOrStore(pkg, sync.OnceValues(func() (string, error) { return fetch(pkg) }))
	dir, err := get.(func() (string, error))()
	if err != nil {
		t.Fatalf("%s is needed: %v", name, err)
	}
	return filepath.Join(dir, name)
}

// fetch is the folder with the programs of a Debian package.
func fetch(pkg string) (string, error) {
	root, err := program.Root()
	if err != nil {
		return "", err
	}
	script := filepath.Join(root, "scripts", "get-debian-tools")
	get := exec.Command(script, filepath.Join(root, ".tools", "debian"), pkg)
	var out, diagnostics bytes.Buffer
	get.Stdout, get.Stderr = &out, &diagnostics
	if err := get.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", script, pkg, err, &diagnostics)
	}
	return strings.TrimSpace(out.String()), nil
}
