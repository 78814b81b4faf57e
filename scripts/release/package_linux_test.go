//go:build !race

package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/test/namespace"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// patience bounds every wait: it guards against hangs and measures nothing.
const patience = 5 * time.Minute

// host is a root of its own, into which dpkg installs: nothing of this machine is changed.
type host struct {
	t   *testing.T
	dir string
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t, filepath.Join(t.TempDir(), "root")}
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "etc", "run/lock", "srv/models"} {
		require.NoError(t, os.MkdirAll(h.path(dir), 0o755))
	}
	for file, content := range map[string]string{
		"var/lib/dpkg/status": "", "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n",
	} {
		require.NoError(t, os.WriteFile(h.path(file), []byte(content), 0o644))
	}
	gguftest.Model(gguftest.Tiny()).Write(t, h.path("srv/models/llama-8b-f16.gguf"))
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// read is the text of a file, "" where there is none.
func (h *host) read(name string) string {
	text, err := os.ReadFile(h.path(name))
	if !os.IsNotExist(err) {
		require.NoError(h.t, err)
	}
	return string(text)
}

// dpkg runs it on this root. The scripts of packages run outside of it, and know it by
// DPKG_ROOT. Without root the test runs in a user namespace.
func (h *host) dpkg(args ...string) string {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), servers.Tool(h.t, "dpkg"), append([]string{"--root=" + h.dir, "--force-script-chrootless"}, args...)...)
	// Of dpkg and of the scripts: where Debian has these, sbin holds what dpkg insists on.
	cmd.Env = []string{
		"PATH=" + filepath.Dir(servers.Tool(h.t, "systemd-sysusers")) + ":/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
		"DEBIAN_FRONTEND=noninteractive",
	}
	namespace.AsRoot(cmd)
	out, err := cmd.CombinedOutput()
	require.NoError(h.t, err, "dpkg %s: %s", args, out)
	return string(out)
}

// files are all below the root that have to do with us.
func (h *host) files() []string {
	h.t.Helper()
	var all []string
	require.NoError(h.t, filepath.WalkDir(h.dir, func(path string, _ os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, h.dir)
		if strings.Contains(name, "quant-exporter") && !strings.HasPrefix(name, "/var/lib/dpkg/info/") {
			all = append(all, name)
		}
		return err
	}))
	return all
}

// start starts the service as the installed unit says, with the paths of this root, gives f
// its address, and stops it.
func (h *host) start(f func(url string)) {
	h.t.Helper()
	unit := strings.ReplaceAll(h.read("usr/lib/systemd/system/quant-exporter.service"), "\\\n", "")
	line := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(unit)
	require.NotNil(h.t, line)
	var args []string
	for word := range strings.FieldsSeq(strings.ReplaceAll(line[1], "$LISTEN", "--web.listen-address=127.0.0.1:0")) {
		name, value, found := strings.Cut(word, "=/")
		switch {
		case found:
			word = name + "=" + h.path(value)
		case strings.HasPrefix(word, "/"):
			word = h.path(word)
		}
		args = append(args, word)
	}
	for _, dir := range []string{"var/lib/quant-exporter", "var/cache/quant-exporter"} { // StateDirectory=, CacheDirectory=
		require.NoError(h.t, os.MkdirAll(h.path(dir), 0o700))
	}
	cmd := exec.CommandContext(h.t.Context(), args[0], args[1:]...)
	cmd.Dir, cmd.Env = h.path("var/lib/quant-exporter"), []string{"PATH=/usr/bin:/bin"}
	log, err := cmd.StderrPipe()
	require.NoError(h.t, err)
	require.NoError(h.t, cmd.Start())
	stuck := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	lines := bufio.NewScanner(log)
	url, ready, asked := "", false, false // which of the first two comes first is left open
	var said strings.Builder
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if match := regexp.MustCompile(`Listening on" address=(\S+)`).FindStringSubmatch(lines.Text()); match != nil {
			url = "http://" + match[1]
		}
		ready = ready || strings.Contains(lines.Text(), "msg=ready")
		if ready && url != "" && !asked {
			asked = true
			f(url)
			require.NoError(h.t, cmd.Process.Signal(syscall.SIGTERM))
		}
	}
	require.NoError(h.t, cmd.Wait(), said.String())
	require.NotEmpty(h.t, url, said.String())
}

func get(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode, url)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(text)
}

// packages tries the packages of a release.
func packages(t *testing.T, release string) {
	t.Run("deb package", func(t *testing.T) { debPackage(t, release) })
	t.Run("rpm package", func(t *testing.T) { rpmPackage(t, release) })
}

// The deb package is installed, started, upgraded, started, removed, installed again and
// purged. What a person wrote into the configuration stays until the purge, and so does the
// state, although the newer package has another default.
func debPackage(t *testing.T, first string) {
	const configuration = "etc/quant-exporter/quant-exporter.yml"
	deb := func(dir, version string) string {
		return filepath.Join(dir, fmt.Sprintf("quant-exporter_%s_%s.deb", version, here().arch))
	}
	second := released(t, "0.1.1", func(dir string) {
		file := filepath.Join(dir, "quant-exporter.yml")
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, append(text, "# newer\n"...), 0o644))
	})
	h := newHost(t)

	said := h.dpkg("--install", deb(first, "0.1.0"))
	assert.Contains(t, said, "systemctl enable --now quant-exporter")
	assert.Contains(t, h.read("etc/passwd"), "\nquant-exporter:")
	assert.Contains(t, h.dpkg("--status", "quant-exporter"), "\nVersion: 0.1.0\n")
	shipped, err := os.ReadFile("../../quant-exporter.yml")
	require.NoError(t, err)
	assert.Equal(t, string(shipped), h.read(configuration))
	for _, file := range []string{"usr/share/man/man1/quant-exporter.1.gz", "usr/share/doc/quant-exporter/copyright", "usr/share/doc/quant-exporter/examples/alerts.yml"} {
		assert.FileExists(t, h.path(file))
	}
	h.verifyUnit()
	h.start(func(url string) {
		assert.Contains(t, get(t, url+"/metrics"), `version="0.1.0"`)
		assert.Contains(t, get(t, url+"/"), "llama-8b-f16")
	})
	assert.FileExists(t, h.path("var/lib/quant-exporter/state.db"))

	edited := strings.Replace(string(shipped), "threshold: 0.12 ", "threshold: 0.25 ", 1)
	require.NotEqual(t, string(shipped), edited)
	require.NoError(t, os.WriteFile(h.path(configuration), []byte(edited), 0o644))
	// apt asks what to do with a file that both changed; --force-confdef is what somebody
	// gets who only presses return.
	said = h.dpkg("--force-confdef", "--install", deb(second, "0.1.1"))
	assert.NotContains(t, said, "enable --now", "it has been installed before")
	assert.Equal(t, edited, h.read(configuration))
	assert.Equal(t, string(shipped)+"# newer\n", h.read(configuration+".dpkg-dist"))
	h.start(func(url string) {
		assert.Contains(t, get(t, url+"/metrics"), `version="0.1.1"`)
		assert.Contains(t, get(t, url+"/config"), "threshold: 0.25")
	})

	h.dpkg("--remove", "quant-exporter")
	for _, file := range h.files() {
		assert.Regexp(t, `^/(etc|var/lib|var/cache|run/lock)/`, file)
	}
	assert.Equal(t, edited, h.read(configuration))
	assert.FileExists(t, h.path("var/lib/quant-exporter/state.db"))

	h.dpkg("--install", deb(second, "0.1.1"))
	assert.Equal(t, edited, h.read(configuration))
	h.start(func(url string) { assert.Contains(t, get(t, url+"/config"), "threshold: 0.25") })

	h.dpkg("--purge", "quant-exporter")
	assert.Equal(t, []string{"/run/lock/quant-exporter.lock"}, h.files(), "a file in memory, which others may hold")
	assert.NotContains(t, h.read("var/lib/dpkg/status"), "Package: quant-exporter")
	assert.Contains(t, h.read("etc/passwd"), "\nquant-exporter:", "nobody else gets its number")
}

// verifyUnit has systemd read the installed unit, with the program where it is here.
func (h *host) verifyUnit() {
	h.t.Helper()
	unit := h.read("usr/lib/systemd/system/quant-exporter.service")
	assert.Contains(h.t, unit, "\nUser=quant-exporter\n")
	assert.NotContains(h.t, unit, "\nDynamicUser=")
	file := filepath.Join(h.t.TempDir(), "quant-exporter.service")
	unit = strings.Replace(unit, "/usr/bin/quant-exporter ", h.path("usr/bin/quant-exporter")+" ", 1)
	require.NoError(h.t, os.WriteFile(file, []byte(unit), 0o600))
	out, err := exec.CommandContext(h.t.Context(), servers.Tool(h.t, "systemd-analyze"), "verify", file).CombinedOutput()
	require.NoError(h.t, err, "%s", out)
	assert.Empty(h.t, string(out))
}

// The rpm package holds the same files as the deb package, and keeps an edited configuration.
func rpmPackage(t *testing.T, dir string) {
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), servers.Tool(t, name), args...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	architecture := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[here().arch]
	rpm := filepath.Join(dir, fmt.Sprintf("quant-exporter-0.1.0-1.%s.rpm", architecture))
	h := newHost(t)
	h.dpkg("--install", filepath.Join(dir, fmt.Sprintf("quant-exporter_0.1.0_%s.deb", here().arch)))
	for line := range strings.Lines(h.dpkg("--listfiles", "quant-exporter")) {
		if file := strings.TrimSpace(line); strings.Contains(file, "quant-exporter/") || strings.HasSuffix(file, "/quant-exporter") {
			if info, err := os.Stat(h.path(file)); err == nil && !info.IsDir() {
				assert.Contains(t, run("rpm", "-qpl", rpm), file+"\n")
			}
		}
	}
	assert.Equal(t, "/etc/quant-exporter/quant-exporter.yml\n", run("rpm", "-qp", "--configfiles", rpm))
	const configNoReplace = "11 " // RPMFILE_CONFIG and RPMFILE_NOREPLACE, in hexadecimal
	assert.Contains(t, run("rpm", "-qp", "--queryformat", `[%{FILEFLAGS:hex} %{FILENAMES}\n]`, rpm), configNoReplace+"/etc/quant-exporter/quant-exporter.yml\n")
	assert.Contains(t, run("rpm", "-qp", "--scripts", rpm), "systemd-sysusers quant-exporter.conf")
}
