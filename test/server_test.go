package test

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/store"
)

// often is a schedule that is due at once and every second.
const often = quick + `
schedule: [{name: often, cron: "@every 1s", run_on_start: true, targets: [Q2_K]}]
`

// once is a schedule that is due at the start, and never again in a test.
const once = quick + `
schedule: [{name: once, cron: "@yearly", run_on_start: true, targets: [Q2_K]}]
`

// nobody is an address at which no server is. A free port may be that of another test's
// server the next moment.
const nobody = "127.0.0.1:1"

// patience bounds every wait: it guards against hangs and measures nothing.
const patience = 5 * time.Minute

// server is a running exporter.
type server struct {
	t   *testing.T
	url string // http://127.0.0.1:PORT
	cmd *exec.Cmd
	// ended is closed when the process is gone.
	ended chan struct{}

	mu    sync.Mutex
	lines []string // of the log so far
	more  chan struct{}
}

// serve starts the exporter on the place's models and waits until it listens. It is
// killed at the end of the test, unless that has ended it.
func (p *place) serve(args ...string) *server {
	p.t.Helper()
	s := p.serveOnly(append([]string{"--model-dir", p.models, "--llamacpp.dir", p.tools}, args...)...)
	return s
}

// serveOnly starts the exporter with these flags, a free port and the place's own.
func (p *place) serveOnly(args ...string) *server {
	p.t.Helper()
	s := p.launch(binary(p.t), args...)
	s.endsWithTest()
	s.listens()
	return s
}

// launch starts a build of the exporter, and waits for nothing. Who calls it sees that it
// is killed.
func (p *place) launch(program string, args ...string) *server {
	p.t.Helper()
	if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--web.listen-address") }) {
		args = append(args, "--web.listen-address=127.0.0.1:0")
	}
	cmd, _ := p.command(args...)
	cmd.Path, cmd.Args[0] = program, program
	return p.begin(cmd)
}

// begin starts any command of the program, and follows its log. Who calls it sees that it
// is killed.
func (p *place) begin(cmd *exec.Cmd) *server {
	p.t.Helper()
	s := &server{t: p.t, cmd: cmd, ended: make(chan struct{}), more: make(chan struct{})}
	cmd.Stderr = nil
	log, err := cmd.StderrPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, cmd.Start())
	go s.follow(log)
	return s
}

// endsWithTest has the end of the test kill the process, and look at its log.
func (s *server) endsWithTest() {
	s.t.Cleanup(func() {
		s.kill()
		if s.t.Failed() {
			s.t.Log(s.log())
		}
		assert.NotContains(s.t, s.log(), "DATA RACE")
	})
}

// listening finds the address in what the exporter logs of each of its listeners.
var listening = regexp.MustCompile(`Listening on" address=(\S+)`)

// listens waits until the server does and is ready, or has ended without.
func (s *server) listens() {
	s.t.Helper()
	if line, ok := s.logged("Listening on|quant-exporter: "); ok {
		if match := listening.FindStringSubmatch(line); match != nil {
			s.url = "http://" + match[1]
		}
	}
	s.logged("msg=ready|quant-exporter: ")
}

func (s *server) follow(log io.Reader) {
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		s.mu.Lock()
		s.lines = append(s.lines, lines.Text())
		close(s.more)
		s.more = make(chan struct{})
		s.mu.Unlock()
	}
	assert.NoError(s.t, lines.Err(), "reading the log")
	_ = s.cmd.Wait() // its status is in ProcessState
	close(s.ended)
}

func (s *server) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// logged waits for a line of the log that fits; ok is false when the process ended
// without one.
func (s *server) logged(pattern string) (line string, ok bool) {
	s.t.Helper()
	lines := s.loggedTimes(1, pattern)
	if len(lines) == 0 {
		return "", false
	}
	return lines[0], true
}

// loggedTimes waits for the first n lines of the log that fit; there are fewer when the
// process ended without them.
func (s *server) loggedTimes(n int, pattern string) (found []string) {
	s.t.Helper()
	fits := regexp.MustCompile(pattern)
	limit := time.After(patience)
	seen, over := 0, false
	for {
		s.mu.Lock()
		for ; seen < len(s.lines) && len(found) < n; seen++ {
			if fits.MatchString(s.lines[seen]) {
				found = append(found, s.lines[seen])
			}
		}
		more := s.more
		s.mu.Unlock()
		if over || len(found) == n {
			return found
		}
		select {
		case <-more:
		case <-s.ended:
			over = true
		case <-limit:
			require.Fail(s.t, "the log has no such line", "%s\n%s", pattern, s.log())
		}
	}
}

// count is how many lines of the log fit so far.
func (s *server) count(pattern string) int {
	return len(regexp.MustCompile(`(?m)^.*(?:`+pattern+`)`).FindAllString(s.log(), -1))
}

// mustLog is logged for a line that has to come.
func (s *server) mustLog(pattern string) string {
	s.t.Helper()
	line, ok := s.logged(pattern)
	require.True(s.t, ok, "the exporter ended without logging %q:\n%s", pattern, s.log())
	return line
}

// kill is kill -9.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
}

// stop asks the process to end, as service managers do, and gives its exit status.
func (s *server) stop() int {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	return s.wait()
}

func (s *server) signal(which os.Signal) {
	s.t.Helper()
	require.NoError(s.t, s.cmd.Process.Signal(which))
}

// wait gives the exit status of a process that ends by itself.
func (s *server) wait() int {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		require.Fail(s.t, "the process does not end", s.log())
	}
	return s.cmd.ProcessState.ExitCode()
}

// get gives status and body.
func (s *server) get(path string) (status int, body string) {
	s.t.Helper()
	return s.do(http.MethodGet, path)
}

func (s *server) do(method, path string, edits ...func(*http.Request)) (status int, body string) {
	s.t.Helper()
	response, body := s.ask(http.DefaultClient, method, s.url+path, edits...)
	return response.StatusCode, body
}

// ask gives the answer to a request, which edits change before it is sent, and its body.
func (s *server) ask(client *http.Client, method, url string, edits ...func(*http.Request)) (*http.Response, string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, url, nil)
	require.NoError(s.t, err)
	for _, edit := range edits {
		edit(request)
	}
	response, err := client.Do(request)
	require.NoError(s.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return response, string(text)
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// metrics are the families that the exporter shows, by name.
func (s *server) metrics() map[string]*dto.MetricFamily {
	s.t.Helper()
	status, body := s.get("/metrics")
	require.Equal(s.t, http.StatusOK, status, body)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	require.NoError(s.t, err)
	return families
}

// value of the series whose labels include these (name, value, ...), of which there is
// to be one; ok is false when there is none.
func (s *server) value(name string, labels ...string) (value float64, ok bool) {
	s.t.Helper()
	family := s.metrics()[name]
	for _, metric := range family.GetMetric() {
		if !has(metric, labels) {
			continue
		}
		require.False(s.t, ok, "%s %v names several series", name, labels)
		value, ok = metric.GetCounter().GetValue()+metric.GetGauge().GetValue()+metric.GetUntyped().GetValue(), true
	}
	return value, ok
}

// mustHave gives the value of a series that has to be there.
func (s *server) mustHave(name string, labels ...string) float64 {
	s.t.Helper()
	value, ok := s.value(name, labels...)
	require.True(s.t, ok, "there is no %s %v", name, labels)
	return value
}

// shows says that a series is there, with this value.
func (s *server) shows(want float64, name string, labels ...string) {
	s.t.Helper()
	assert.InDelta(s.t, want, s.mustHave(name, labels...), 0, "%s %v", name, labels)
}

func has(metric *dto.Metric, labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		if !slices.ContainsFunc(metric.GetLabel(), func(l *dto.LabelPair) bool {
			return l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}) {
			return false
		}
	}
	return true
}

// opened is the place's state, once no exporter has it any more.
func (p *place) opened() *store.Store {
	p.t.Helper()
	s, err := store.OpenForReading(p.state())
	require.NoError(p.t, err)
	p.t.Cleanup(func() { assert.NoError(p.t, s.Close()) })
	return s
}
