package llamacpp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/process"
	"github.com/quant-exporter/quant-exporter/runner"
)

// server is a llama-server that has one file in memory. It listens on a UNIX socket in the
// working directory, which nobody else has, and is not safe for concurrent use.
type server struct {
	command
	client   *http.Client
	cpus     []int // that it measures on; nil leaves the choice to the system
	peer     peer
	watch    *host.Process // the peer's, once it is loaded
	process  *os.Process   // the peer's; nil if the system does not report which it is
	pauses   pauses
	stop     context.CancelCauseFunc
	ended    chan struct{}  // closed when the process is gone
	result   process.Result // valid once ended is closed, like err
	err      error
	trace    runner.ToolRun
	log      *loadLog
	prompt   time.Duration // that the prompt took by which it was warmed up
	token    time.Duration // that it took to generate one after that
	atOnce   time.Duration // that a few tokens took of all clients at once; 0 before their caches are filled
	loaded   time.Time     // and the schedule of the process then
	loadedAt host.Schedule
	busy     time.Duration // CPU time of its own bursts
	inBursts time.Duration // wall time of them
}

// errStopped is why the process of a server was ended that is not needed any more.
var errStopped = errors.New("the round is over")

// startServer starts a server, which then loads its file: see ready.
func (e *Engine) startServer(ctx context.Context, c command, cpus []int, socket string) *server {
	ctx, stop := context.WithCancelCause(ctx)
	c.confined = e.confines()
	s := &server{command: c, cpus: cpus, stop: stop, ended: make(chan struct{}), log: &loadLog{}}
	path := filepath.Join(c.dir, socket)
	s.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := dialIn(ctx, path)
			if err == nil {
				s.peer.meet(conn)
			}
			return conn, err
		},
		MaxIdleConns: 1, MaxConnsPerHost: 1, DisableCompression: true,
	}}
	e.logger.Debug("starting", "tool", c.program.path, "args", config.RedactArgs(c.args), "dir", c.dir, "cpus", cpus)
	go func() {
		defer close(s.ended)
		s.result, s.err = process.Run(ctx, process.Spec{
			Path:        c.program.path,
			Args:        c.program.args(c.args...),
			Dir:         c.dir,
			Env:         e.environmentIn(c.dir),
			Confinement: e.confinement(c.program, c.args, c.dir),
			Timeout:     c.limit,
			KillAtOnce:  true,
			StdoutLimit: outputLimit,
			OnStderr:    s.log.add,
		})
		s.trace = e.ended(c, &s.result)
		s.result.Stdout = []byte(config.HideArgs(string(s.result.Stdout), c.args))
	}()
	return s
}

// close ends the process, and returns when it is gone.
func (s *server) close() {
	s.stop(errStopped)
	<-s.ended
	s.client.CloseIdleConnections()
	s.peer.forget()
}

// pin has the process go on on its CPUs; until then it may run on others, too. One that
// is not known stays where the system has it.
func (s *server) pin() error {
	if s.process == nil {
		s.cpus = nil
	}
	if len(s.cpus) == 0 {
		return nil
	}
	if err := process.Pin(s.process.Pid, s.cpus); err != nil {
		return runner.Failf(s.reason, "%s cannot be measured on chosen CPUs while %s: %w", s.tool, s.doing, err)
	}
	return nil
}

// firstLook and lastLook bound the pauses between two looks at a server that loads.
const (
	firstLook = 5 * time.Millisecond
	lastLook  = 200 * time.Millisecond
)

// ready waits until the file is loaded.
func (s *server) ready(ctx context.Context) error {
	for pause := firstLook; ; pause = min(pause*17/16, lastLook) {
		status, err := s.health(ctx)
		switch {
		case err == nil && status == http.StatusOK:
			s.process = s.peer.process()
			s.watch = host.WatchProcess(pidOf(s.process), s.cpus)
			s.loaded, s.loadedAt = time.Now(), s.watch.Read()
			return nil
		case err == nil && status != http.StatusServiceUnavailable: // which it says while it loads
			return runner.Failf(s.reason, "%s says %d on /health while %s: it is not llama.cpp's", s.tool, status, s.doing)
		}
		timer := time.NewTimer(pause)
		select {
		case <-s.ended:
			timer.Stop()
			return s.gone(ctx)
		case <-ctx.Done():
			timer.Stop()
			return s.stopped(ctx)
		case <-timer.C:
		}
	}
}

func (s *server) health(ctx context.Context) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://llama-server/health", nil)
	if err != nil {
		return 0, err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(response.Body, outputLimit))
	return response.StatusCode, err
}

// gone returns the failure of a server whose process has ended.
func (s *server) gone(ctx context.Context) error {
	if s.err == nil {
		return runner.Failf(s.reason, "%s exited with status 0 while %s%s", s.tool, s.doing, lastWords(s.result))
	}
	return s.failure(ctx, s.result, s.err)
}

// lastBreath is how long to wait for the end of a server that does not answer: why it ended
// says more than that it did not answer.
const lastBreath = time.Second

// broken returns the failure of a request that has no answer.
func (s *server) broken(ctx context.Context, err error) error {
	timer := time.NewTimer(lastBreath)
	defer timer.Stop()
	select {
	case <-s.ended:
		return s.gone(ctx)
	case <-ctx.Done():
		return s.stopped(ctx)
	case <-timer.C:
		return runner.Failf(s.reason, "%s gave no answer while %s, and still runs: %w", s.tool, s.doing, err)
	}
}

// completion is what a server is asked.
type completion struct {
	Prompt      any      `json:"prompt"`            // tokens, or a list of them for each of several sequences
	Slot        *int     `json:"id_slot,omitempty"` // whose cache is used; nil: those whose prompts are most alike
	Predict     int      `json:"n_predict"`
	IgnoreEOS   bool     `json:"ignore_eos"`
	Temperature float64  `json:"temperature"`
	TopK        int      `json:"top_k"`
	Samplers    []string `json:"samplers"`
	CachePrompt bool     `json:"cache_prompt"`
	Stream      bool     `json:"stream"`
}

// timings are what a server says of an answer. The first token of a generation comes with
// the prompt: PredictedMS is the time of all others.
type timings struct {
	PromptN     *int     `json:"prompt_n"` // tokens of the prompt that were not in the cache
	PromptMS    *float64 `json:"prompt_ms"`
	PredictedN  *int     `json:"predicted_n"`
	PredictedMS *float64 `json:"predicted_ms"`
}

func inMilliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// answerLimit bounds the bytes of an answer: one of a hundred tokens has a few thousand, and there
// may be some hundreds in one.
const answerLimit = 4 << 20

// answer is what a server said of an answer, and what was seen of it from outside.
type answer struct {
	timings
	during  span          // from the request to the end of the answer; what the server timed lies within
	watched span          // holds during, and may begin before it
	became  host.Interval // of the server in the watched time
	after   host.Schedule // of the server, at the end of both spans
}

// complete has the prompt evaluated, as far as it is not in the cache, and so many tokens
// generated after it. The timings of the answer are checked.
func (s *server) complete(ctx context.Context, prompt []int32, predict int) (answer, error) {
	return s.ask(ctx, completion{Prompt: prompt, Slot: new(int), Predict: predict}, func(text []byte, wall time.Duration) (timings, error) {
		return parseTimings(text, predict, wall)
	})
}

// completeAll does the same with several prompts, all of which the server takes up at once. The
// timings belong to the prompt that took longest to generate, but for PromptN: see parseAll.
func (s *server) completeAll(ctx context.Context, prompts [][]int32, predict int) (answer, error) {
	return s.ask(ctx, completion{Prompt: prompts, Predict: predict}, func(text []byte, wall time.Duration) (timings, error) {
		return parseAll(text, len(prompts), predict, wall)
	})
}

// ask sends a request, and reads what the server says of it.
func (s *server) ask(ctx context.Context, c completion, parse func(text []byte, wall time.Duration) (timings, error)) (answer, error) {
	c.IgnoreEOS, c.TopK, c.Samplers, c.CachePrompt = true, 1, []string{"top_k"}, true
	r, err := s.post(ctx, "/completion", c)
	if err != nil {
		return answer{}, err
	}
	if r.status != http.StatusOK {
		return answer{}, s.unusable("it says %d: %s", r.status, clip(config.HideArgs(string(r.text), s.args), 240))
	}
	wall := r.during.to.Sub(r.during.from)
	t, err := parse(r.text, wall)
	if err != nil {
		return answer{}, s.unusable("%w", err)
	}
	return answer{t, r.during, r.during, host.Between(r.before, r.after), r.after}, nil
}

// reply is what a server answers.
type reply struct {
	status        int
	text          []byte
	during        span
	before, after host.Schedule // of the server
}

// post sends a request, and returns its answer. What the server computes for it counts as asked for.
func (s *server) post(ctx context.Context, path string, asked any) (reply, error) {
	body, err := json.Marshal(asked)
	if err != nil {
		return reply{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://llama-server"+path, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	before, began := s.watch.Read(), time.Now()
	response, err := s.client.Do(request)
	if err != nil {
		return reply{}, s.broken(ctx, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerLimit+1))
	wall := time.Since(began)
	after := s.watch.Read()
	s.busy += after.Running - before.Running
	s.inBursts += wall
	switch {
	case err != nil:
		return reply{}, s.broken(ctx, err)
	case len(text) > answerLimit:
		return reply{}, s.unusable("its answer has more than %d bytes", answerLimit)
	}
	return reply{response.StatusCode, text, span{began, began.Add(wall)}, before, after}, nil
}

func (s *server) unusable(format string, args ...any) error {
	return runner.Failf(s.reason, "%s gave no usable figure while %s: %w", s.tool, s.doing, fmt.Errorf(format, args...))
}

// parseAll reads the timings of so many sequences, and returns the timings of the sequence that
// took longest to generate, with the most tokens of any prompt that were not in the cache.
func parseAll(text []byte, sequences, predict int, wall time.Duration) (timings, error) {
	var all []json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return timings{}, jsonError(err, text)
	}
	if len(all) != sequences {
		return timings{}, fmt.Errorf("it answered %d prompts instead of %d", len(all), sequences)
	}
	var longest timings
	evaluated := 0
	for _, one := range all {
		t, err := parseTimings(one, predict, wall)
		if err != nil {
			return timings{}, err
		}
		evaluated = max(evaluated, *t.PromptN)
		if longest.PredictedMS == nil || *t.PredictedMS > *longest.PredictedMS {
			longest = t
		}
	}
	longest.PromptN = &evaluated
	return longest, nil
}

// parseTimings reads the timings of an answer that took so long, with so many tokens.
func parseTimings(answer []byte, predict int, wall time.Duration) (timings, error) {
	var said struct {
		Timings *timings `json:"timings"`
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return timings{}, jsonError(err, answer)
	}
	t := said.Timings
	if t == nil || t.PromptN == nil || t.PromptMS == nil || t.PredictedN == nil || t.PredictedMS == nil {
		return timings{}, errors.New("its answer has no timings with prompt_n, prompt_ms, predicted_n and predicted_ms")
	}
	limit := float64(wall+time.Millisecond) / float64(time.Millisecond)
	switch {
	case *t.PredictedN != predict:
		return timings{}, fmt.Errorf("it generated %d tokens instead of %d", *t.PredictedN, predict)
	case !(*t.PromptMS > 0), math.IsInf(*t.PromptMS, 0):
		return timings{}, fmt.Errorf("prompt_ms is %v, which is not a duration", *t.PromptMS)
	case predict > 1 && !(*t.PredictedMS > 0), math.IsInf(*t.PredictedMS, 0), *t.PredictedMS < 0:
		return timings{}, fmt.Errorf("predicted_ms is %v, which is not a duration", *t.PredictedMS)
	case *t.PromptMS+*t.PredictedMS > limit:
		return timings{}, fmt.Errorf("it says that it took %.3f ms and %.3f ms, and the answer came after %.3f ms", *t.PromptMS, *t.PredictedMS, limit)
	}
	return *t, nil
}

// idle returns the share of a CPU that the server used while others had their turn.
func (s *server) idle() float64 {
	now := s.watch.Read()
	others := time.Since(s.loaded) - s.inBursts
	if others <= 0 || now.Running == 0 {
		return 0
	}
	return max(0, float64(now.Running-s.loadedAt.Running-s.busy)/float64(others))
}

// loadLog keeps what a server prints about where it put its file. It is safe for concurrent use.
type loadLog struct {
	mu       sync.Mutex
	offload  runner.Offload
	backends []string
}

var (
	bufferLine  = regexp.MustCompile(`\b(\S+)\s+(model|KV|RS|compute|output) buffer size\s*=\s*(\d+(?:\.\d+)?) MiB`)
	offloadLine = regexp.MustCompile(`\boffloaded (\d{1,6})/(\d{1,6}) layers\b`)
	// As in "system_info: n_threads = 1 (n_threads_batch = 1) / 2 | CPU : SSE3 = 1 | AVX = 1 | CUDA : ARCHS = 900 |".
	systemLine  = regexp.MustCompile(`\bsystem_info: .*`)
	backendName = regexp.MustCompile(`\| ([A-Za-z0-9]+) : `)
)

// mostBuffers bounds what is kept of a server that never stops telling.
const mostBuffers = 256

func (l *loadLog) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Most lines are none of these. Expressions on long ones would take a CPU that is measured.
	switch {
	case strings.Contains(line, " buffer size"):
		l.addBuffer(line)
	case strings.Contains(line, "offloaded "):
		if match := offloadLine.FindStringSubmatch(line); match != nil {
			l.offload.Layers, _ = strconv.Atoi(match[1]) // six digits
			l.offload.AllLayers, _ = strconv.Atoi(match[2])
		}
	case strings.Contains(line, "system_info: "):
		if text := systemLine.FindString(line); text != "" {
			l.backends = nil
			for _, match := range backendName.FindAllStringSubmatch(text, -1) {
				l.backends = append(l.backends, match[1])
			}
		}
	}
}

func (l *loadLog) addBuffer(line string) {
	match := bufferLine.FindStringSubmatch(line)
	if match == nil || len(l.offload.Buffers) == mostBuffers {
		return
	}
	mebibytes, err := strconv.ParseFloat(match[3], 64)
	if err == nil && mebibytes < 1<<40 {
		l.offload.Buffers = append(l.offload.Buffers, runner.Buffer{
			Device: clip(match[1], 60), On: clip(deviceOf(match[1]), 60), Use: match[2], Bytes: int64(mebibytes * (1 << 20)),
		})
	}
}

// onCPU reports whether the server computes on CPUs only, as far as it has said.
func (l *loadLog) onCPU() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.backends) > 0 && !slices.ContainsFunc(l.backends, func(name string) bool { return name != "CPU" && name != "BLAS" })
}

// where says what the server printed of its places so far; nil when it printed nothing.
func (l *loadLog) where() *runner.Offload {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.offload.AllLayers == 0 && len(l.offload.Buffers) == 0 {
		return nil
	}
	found := l.offload
	found.Buffers = append([]runner.Buffer(nil), l.offload.Buffers...)
	return &found
}

// cacheBytes returns what the cache takes, on all devices; 0 when the tool does not say.
func (l *loadLog) cacheBytes() (bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.offload.Buffers {
		if b.IsCache() {
			bytes += b.Bytes
		}
	}
	return bytes
}

// named returns the back ends that are not the CPU's, or that one, as llama-bench names them.
func (l *loadLog) named() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	others := slices.DeleteFunc(slices.Clone(l.backends), func(name string) bool { return name == "CPU" })
	if len(others) == 0 {
		return strings.Join(l.backends, ",")
	}
	return strings.Join(others, ",")
}
