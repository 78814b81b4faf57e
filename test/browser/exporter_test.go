package browser_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/test/program"
)

// quick measures little.
const quick = `
engine: {threads: 1}
benchmark: {prompt_tokens: 32, generation_tokens: 16, rounds: {min: 3, max: 4}, max_disturbance: 1}
`

// yearly is an entry that is not due in a test unless somebody asks for it.
const yearly = `
schedule: [{name: nightly, cron: "@yearly", targets: [Q2_K]}]
`

// place is where an exporter runs: models, tools, configuration and state of its own.
type place struct {
	t             *testing.T
	dir           string
	models, tools string
	state         string
}

func newPlace(t *testing.T, behaviour fakellama.Behaviour, models ...string) *place {
	t.Helper()
	dir := t.TempDir()
	p := &place{t: t, dir: dir, models: filepath.Join(dir, "models"), tools: fakellama.BuildWith(t, behaviour), state: filepath.Join(dir, "state")}
	require.NoError(t, os.MkdirAll(p.models, 0o755))
	for _, name := range models {
		path := filepath.Join(p.models, name+".gguf")
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		gguftest.Model(gguftest.Tiny()).Write(t, path)
	}
	return p
}

// exporter is a running one.
type exporter struct {
	url  string
	stop func() // asks it to end, and waits until it has
}

var listening = regexp.MustCompile(`Listening on" address=(\S+)`)

// serve starts an exporter and waits until it is ready.
func (p *place) serve(config string, args ...string) *exporter {
	p.t.Helper()
	file := filepath.Join(p.dir, "config.yml")
	require.NoError(p.t, os.WriteFile(file, []byte(config), 0o600))
	binary := program.Build(p.t, ".", "-race")
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, binary, append([]string{
		"--config.file", file, "--work.dir", filepath.Join(p.dir, "work"), "--storage.path", p.state, "--host.lock", filepath.Join(p.dir, "lock"),
		"--model-dir", p.models, "--llamacpp.dir", p.tools, "--web.listen-address=127.0.0.1:0",
	}, args...)...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + p.dir, program.EndsAtOnce}
	stderr, err := cmd.StderrPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, cmd.Start())

	var mu sync.Mutex
	var log strings.Builder
	addresses, ready, ended := make(chan string, 1), make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			mu.Lock()
			log.WriteString(lines.Text() + "\n")
			mu.Unlock()
			if match := listening.FindStringSubmatch(lines.Text()); match != nil {
				addresses <- match[1]
			}
			if strings.Contains(lines.Text(), "msg=ready") {
				ready <- struct{}{}
			}
		}
		assert.NoError(p.t, lines.Err(), "reading the log")
		_ = cmd.Wait()
	}()
	printed := func() string { mu.Lock(); defer mu.Unlock(); return log.String() }
	e := &exporter{stop: func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	}}
	p.t.Cleanup(func() {
		cancel()
		<-ended
		assert.NotContains(p.t, printed(), "DATA RACE")
		if p.t.Failed() {
			p.t.Log(printed())
		}
	})
	limit := time.After(patience)
	for isReady := false; !isReady || e.url == ""; { // which comes first is left open
		select {
		case address := <-addresses:
			e.url = "http://" + address
		case <-ready:
			isReady = true
		case <-ended:
			require.Fail(p.t, "the exporter ended", printed())
		case <-limit:
			require.Fail(p.t, "the exporter is not ready", printed())
		}
	}
	return e
}
