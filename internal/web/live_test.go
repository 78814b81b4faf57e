package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/web"
	"github.com/quant-exporter/quant-exporter/runner"
)

// stage is an exporter whose status a test changes.
type stage struct {
	mu      sync.Mutex
	status  *dispatch.Status
	state   *store.State
	changes chan struct{}
	stopped atomic.Int32
}

func (s *stage) options(t testing.TB) parts {
	o := options(t)
	s.changes = make(chan struct{}, 1)
	if s.status == nil {
		s.status = &dispatch.Status{}
	}
	if s.state == nil {
		s.state = &store.State{}
	}
	o.Status = func() *dispatch.Status { s.mu.Lock(); defer s.mu.Unlock(); return s.status }
	o.State = func() *store.State { s.mu.Lock(); defer s.mu.Unlock(); return s.state }
	o.Watch = func() (<-chan struct{}, func()) { return s.changes, func() { s.stopped.Add(1) } }
	return o
}

// set changes the stage and notifies watchers.
func (s *stage) set(change func()) {
	s.mu.Lock()
	change()
	s.mu.Unlock()
	s.changes <- struct{}{}
}

// pipe is a response that is read while it is written.
type pipe struct {
	out net.Conn
	h   http.Header
}

func (p *pipe) Header() http.Header                { return p.h }
func (p *pipe) Write(b []byte) (int, error)        { return p.out.Write(b) }
func (p *pipe) WriteHeader(int)                    {}
func (p *pipe) FlushError() error                  { return nil }
func (p *pipe) SetWriteDeadline(t time.Time) error { return p.out.SetWriteDeadline(t) }

// listen opens the stream; next reads one line group of it, "" at its end.
func listen(ctx context.Context, handler http.Handler) (next func() string, done chan struct{}) {
	ours, theirs := net.Pipe()
	done = make(chan struct{})
	go func() {
		defer close(done)
		handler.ServeHTTP(&pipe{out: theirs, h: http.Header{}}, httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/live", nil))
		_ = theirs.Close()
	}()
	lines := bufio.NewScanner(ours)
	return func() string {
		var group []string
		for lines.Scan() && lines.Text() != "" {
			group = append(group, lines.Text())
		}
		if err := lines.Err(); err != nil {
			group = append(group, err.Error())
		}
		return strings.Join(group, "\n")
	}, done
}

// liveEvent is the data of an event.
type liveEvent struct {
	Token   string
	Running *struct {
		Cycle   uint64
		Step    string
		Percent int
		Model   string `json:"model_name"`
	}
	Cycles []struct {
		Cycle   uint64
		Step    string
		Percent int
	}
}

func parseEvent(t *testing.T, text string) liveEvent {
	t.Helper()
	data, ok := strings.CutPrefix(text, "event: status\ndata: ")
	require.True(t, ok, "%q", text)
	var e liveEvent
	require.NoError(t, json.Unmarshal([]byte(data), &e))
	return e
}

func TestLiveTellsWhatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{status: &dispatch.Status{}}
		ctx, cancel := context.WithCancel(t.Context())
		next, done := listen(ctx, handlerOf(s.options(t)))

		idle := parseEvent(t, next())
		assert.Nil(t, idle.Running)

		begun := time.Now()
		at := func(cycle uint64, ratio float64, detail string) *dispatch.Status {
			return &dispatch.Status{Running: &dispatch.Running{
				Entry: "nightly", Started: begun, Cycle: cycle, Model: "<script>", Models: 1, Ratio: ratio,
				Progress: runner.Progress{Operation: runner.OperationBenchmark, Detail: detail},
			}}
		}
		s.set(func() { s.status = at(7, 0.25, "round 1") })
		first := parseEvent(t, next())
		assert.NotEqual(t, idle.Token, first.Token, "a cycle began: pages are out of date")
		assert.Equal(t, 25, first.Running.Percent)
		assert.Equal(t, "round 1", first.Running.Step)
		assert.Equal(t, "<script>", first.Running.Model, "data, for which the script makes text nodes")

		s.set(func() { s.status = at(7, 0.5, "round 2") })
		second := parseEvent(t, next())
		assert.Equal(t, first.Token, second.Token, "progress alone needs no new page")
		assert.Equal(t, 50, second.Running.Percent)

		s.set(func() { s.state = &store.State{Pairs: map[store.PairID]*store.Pair{{Model: "m"}: {}}} })
		assert.NotEqual(t, second.Token, parseEvent(t, next()).Token, "there is a new result")

		quiet := time.Now()
		assert.Equal(t, ": nothing new", next(), "a sign of life")
		assert.LessOrEqual(t, time.Since(quiet), 11*time.Second)

		cancel()
		<-done
		assert.EqualValues(t, 1, s.stopped.Load(), "nobody watches any more")
	})
}

// A state whose counters alone are new, as one failed attempt to publish makes it, is no
// reason to ask for the page again; all that pages show is.
func TestLiveTokenIsOfWhatIsShown(t *testing.T) {
	id := store.PairID{Model: "m", Target: "Q2_K"}
	before := &store.State{
		Pairs:  map[store.PairID]*store.Pair{id: {PairID: id}},
		Models: map[store.ModelID]*store.Model{{Name: "m"}: {ModelID: store.ModelID{Name: "m"}}},
	}
	s := &stage{status: &dispatch.Status{}, state: before}
	handler := handlerOf(s.options(t))
	token := func(change func(next *store.State)) string {
		next := *before
		next.Pairs, next.Models = maps.Clone(next.Pairs), maps.Clone(next.Models)
		change(&next)
		s.state = &next
		return parseEvent(t, strings.TrimSpace(ask(handler, "GET", "/api/v1/live", goneAway).Body.String())).Token
	}
	same := func(*store.State) {}
	for name, change := range map[string]func(*store.State){
		"a failed attempt to publish": func(next *store.State) {
			next.Counters = store.NewCounters(map[store.Counter]uint64{{Kind: store.CountDeliveryFailure, By: "timeout"}: 7})
		},
		"a skipped run": func(next *store.State) {
			next.Counters = store.NewCounters(map[store.Counter]uint64{{Kind: store.CountSkipped, Entry: "nightly", By: string(store.SkipOverlap)}: 1})
		},
	} {
		assert.Equal(t, token(same), token(change), name)
	}
	for name, change := range map[string]func(*store.State){
		"a decision": func(next *store.State) { next.Pairs[id] = &store.Pair{PairID: id} },
		"a pair":     func(next *store.State) { next.Pairs[store.PairID{Model: "n"}] = &store.Pair{} },
		"a model": func(next *store.State) {
			next.Models[store.ModelID{Name: "m"}] = &store.Model{ModelID: store.ModelID{Name: "m"}}
		},
		"a cycle":         func(next *store.State) { next.Running = []*store.Cycle{{ID: 1}} },
		"a pending event": func(next *store.State) { next.Outbox.Pending = 1 },
		"a delivered event": func(next *store.State) {
			next.Counters = store.NewCounters(map[store.Counter]uint64{{Kind: store.CountDelivered}: 1})
		},
	} {
		assert.NotEqual(t, token(same), token(change), name)
	}
}

// However often something changes, a stream has few events a second.
func TestLiveIsNotFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{status: &dispatch.Status{}}
		ctx, cancel := context.WithCancel(t.Context())
		next, done := listen(ctx, handlerOf(s.options(t)))
		next()
		stopChanging := make(chan struct{})
		go func() {
			for n := 1; ; n++ {
				select {
				case <-stopChanging:
					return
				case <-time.After(time.Millisecond):
					s.mu.Lock()
					s.status = &dispatch.Status{Running: &dispatch.Running{Cycle: uint64(n)}}
					s.mu.Unlock()
					select {
					case s.changes <- struct{}{}:
					default:
					}
				}
			}
		}()
		began := time.Now()
		for range 8 {
			next()
		}
		assert.GreaterOrEqual(t, time.Since(began), 2*time.Second)
		close(stopChanging)
		cancel()
		<-done
	})
}

func TestLiveHasRoomForSoMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := handlerOf((&stage{status: &dispatch.Status{}}).options(t))
		ctx, cancel := context.WithCancel(t.Context())
		var streams []chan struct{}
		for range 64 {
			next, done := listen(ctx, handler)
			next()
			streams = append(streams, done)
		}
		response := ask(handler, "GET", "/api/v1/live")
		assert.Equal(t, http.StatusServiceUnavailable, response.Code)
		assert.Equal(t, "30", response.Header().Get("Retry-After"))
		cancel()
		for _, done := range streams {
			<-done
		}
		assert.Equal(t, http.StatusOK, ask(handler, "GET", "/api/v1/live", goneAway).Code, "they gave their places back")
	})
}

// A client that does not read is not waited for.
func TestLiveGivesUpOnAClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, done := listen(t.Context(), handlerOf((&stage{status: &dispatch.Status{}}).options(t)))
		began := time.Now()
		<-done
		assert.LessOrEqual(t, time.Since(began), 30*time.Second)
	})
}

// The server's end ends the streams, so that they do not hold it up.
func TestLiveEndsWithTheServer(t *testing.T) {
	ready, done := make(chan []net.Addr, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log strings.Builder
	go func() {
		done <- web.Serve(ctx, web.ServeOptions{
			Handler: handlerOf((&stage{status: &dispatch.Status{}}).options(t)), Flags: flagsOf("", "127.0.0.1:0"),
			Logger: slog.New(slog.NewTextHandler(&log, nil)), Ready: func(a []net.Addr) { ready <- a },
		})
	}()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+(<-ready)[0].String()+"/api/v1/live", nil)
	require.NoError(t, err)
	response, err := client(nil).Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	assert.Equal(t, "text/event-stream; charset=utf-8", response.Header.Get("Content-Type"))
	lines := bufio.NewScanner(response.Body)
	require.True(t, lines.Scan())
	assert.Equal(t, "event: status", lines.Text())
	cancel()
	require.NoError(t, <-done)
	assert.NotContains(t, log.String(), "cut off", "the stream ended by itself")
	for lines.Scan() {
		continue
	}
	assert.NoError(t, lines.Err(), "its end is a whole one")
}

func TestPagesNameTheTokenOfTheStream(t *testing.T) {
	s := &stage{status: &dispatch.Status{}}
	o := s.options(t)
	o.Ready = func() error { return errors.New("not yet") }
	handler := handlerOf(o)
	token := parseEvent(t, strings.TrimSpace(ask(handler, "GET", "/api/v1/live", goneAway).Body.String())).Token
	for _, path := range []string{"/", "/cycles", "/cycles/1"} {
		assert.Contains(t, ask(handler, "GET", path).Body.String(), `data-token="`+token+`"`, path)
	}
}
