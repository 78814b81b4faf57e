package browser_test

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/web"
	"github.com/quant-exporter/quant-exporter/runner"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// stage serves the pages of an exporter that does what the test says.
type stage struct {
	url     string
	changes chan struct{}

	mu     sync.Mutex
	state  *store.State
	plan   *model.Plan
	status *dispatch.Status
	bus    a2a.Status
}

// newStage serves on what between answers with, given the handler of the pages.
func newStage(t *testing.T, status *dispatch.Status, between func(pages http.Handler) http.Handler) *stage {
	t.Helper()
	s := &stage{changes: make(chan struct{}, 1), state: &store.State{}, plan: &model.Plan{}, status: status}
	pages := web.New(web.Options{
		Store: stageStore{s: s}, Dispatcher: s, Scheduler: s, Bus: stageBus{s}, Exporter: s,
		Metrics: http.NotFoundHandler(),
		Flags:   web.Flags{AdminAPI: true},
		Version: "1.2.3",
		Logger:  slog.New(slog.DiscardHandler),
	})
	if between != nil {
		pages = between(pages)
	}
	server := httptest.NewServer(pages)
	t.Cleanup(func() {
		server.CloseClientConnections() // streams do not end by themselves
		server.Close()
	})
	s.url = server.URL
	return s
}

func (s *stage) Plan() *model.Plan { s.mu.Lock(); defer s.mu.Unlock(); return s.plan }

func (s *stage) Status() *dispatch.Status             { s.mu.Lock(); defer s.mu.Unlock(); return s.status }
func (s *stage) Watch() (<-chan struct{}, func())     { return s.changes, func() {} }
func (s *stage) RunNow(string, []string) error        { return nil }
func (s *stage) Cancel(uint64) error                  { return nil }
func (s *stage) CycleLog(uint64) (string, error)      { return "", nil }
func (s *stage) Next() map[string]time.Time           { return nil }
func (s *stage) Ready() error                         { return nil }
func (s *stage) Config() (string, error)              { return "", nil }
func (s *stage) ChangedConfig() (string, error)       { return "", nil }
func (s *stage) Reload(context.Context) (bool, error) { return false, nil }
func (s *stage) LastReload() (at time.Time, _ error)  { return time.Time{}, nil }

// stageStore shows the state of a stage, and holds nothing else.
type stageStore struct {
	web.Store
	s *stage
}

func (s stageStore) State() *store.State { s.s.mu.Lock(); defer s.s.mu.Unlock(); return s.s.state }

type stageBus struct{ s *stage }

func (b stageBus) Status() a2a.Status { b.s.mu.Lock(); defer b.s.mu.Unlock(); return b.s.bus }

func (s *stage) set(change func()) {
	s.mu.Lock()
	change()
	s.mu.Unlock()
	select {
	case s.changes <- struct{}{}:
	default: // it looks again already
	}
}

// running is a run that is at a part of the cycle of a model.
func running(cycle uint64, model string, ratio float64) *dispatch.Status {
	return &dispatch.Status{Running: &dispatch.Running{
		Entry: "nightly", Started: time.Now(), Cycle: cycle, Model: model, Models: 3, Ratio: ratio,
		Progress: runner.Progress{Operation: runner.OperationBenchmark},
	}}
}

// failed is a pair that failed, with a message of several lines.
func failed(model string) *store.Pair {
	return &store.Pair{
		PairID: store.PairID{Model: model, Target: "Q2_K"},
		Failed: &store.Failed{Cycle: 1, Finished: time.Now(), Reason: "crash", Error: "llama-bench crashed on " + model + "\nsignal 11"},
	}
}

// pairs are models that failed, and the plan in which they are.
func pairs(models ...string) (*store.State, *model.Plan) {
	state, entry := &store.State{Pairs: map[store.PairID]*store.Pair{}}, model.Resolved{Entry: config.Entry{Entry: schedule.Entry{Name: "nightly"}}}
	for _, name := range models {
		pair := failed(name)
		state.Pairs[pair.PairID] = pair
		entry.Models = append(entry.Models, model.Planned{Model: model.Model{Name: name, Header: &gguf.Header{Format: "F16"}}, Targets: []string{pair.Target}})
	}
	return state, &model.Plan{Entries: []model.Resolved{entry}}
}

// What the stream names while a page is on its way comes with a later one: the stream
// names it once.
func TestLivePageThatTheStreamOutruns(t *testing.T) {
	made, release := make(chan struct{}), make(chan struct{})
	pages := 0 // one after the other
	s := newStage(t, running(1, "one", 0.1), func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				inner.ServeHTTP(w, r)
				return
			}
			answer := httptest.NewRecorder()
			inner.ServeHTTP(answer, r)
			if pages++; pages == 2 { // made, and slow to arrive
				close(made)
				<-release
			}
			maps.Copy(w.Header(), answer.Header())
			w.WriteHeader(answer.Code)
			_, _ = answer.Body.WriteTo(w)
		})
	})
	b := open(t, s.url, wide)
	b.untilText("#now", "one")
	s.set(func() { s.status = running(2, "two", 0.2) })
	select {
	case <-made:
	case <-time.After(patience):
		close(release)
		require.Fail(t, "the page does not ask for a newer one")
	}
	s.set(func() { s.status = running(3, "three", 0.5) })
	b.until("document.getElementById('progress').value === 50") // the event has arrived
	close(release)
	b.untilText("#now", "three")
}

// What the reader has in hand stays there when the page changes.
func TestLiveKeepsThePlaceOfTheReader(t *testing.T) {
	entries := []dispatch.EntryStatus{{Name: "nightly"}, {Name: "weekly"}}
	idle := func(names ...string) *dispatch.Status {
		status := &dispatch.Status{Entries: entries}
		for _, name := range names {
			status.Entries = append([]dispatch.EntryStatus{{Name: name}}, status.Entries...)
		}
		return status
	}
	const button, summary = `button[aria-label="Run weekly now"]`, `#results tbody:last-of-type summary`
	for name, focused := range map[string]string{"button": button, "summary": summary} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, idle(), nil)
			s.state, s.plan = pairs("m")
			b := open(t, s.url, wide)
			b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("#results details").open = true; document.querySelector('` + focused + `').focus(); undefined`))
			s.set(func() { s.state, s.plan = pairs("a", "m") }) // a row above
			b.until("document.querySelectorAll('#results details').length === 2")
			s.set(func() { s.status = idle("daily") })
			b.untilText("#schedule-part", "daily")
			assert.True(t, value[bool](b, `document.activeElement === document.querySelector('`+focused+`')`))
			assert.Equal(t, []bool{false, true}, value[[]bool](b, "[...document.querySelectorAll('#results details')].map(d => d.open)"))
		})
	}
}

// Screen readers read a notice when it comes, and not again when the page changes
// elsewhere or time passes.
func TestLiveNoticesAreReadOnce(t *testing.T) {
	broken := func(queue ...dispatch.Waiting) *dispatch.Status {
		return &dispatch.Status{Engine: dispatch.EngineStatus{Checked: time.Now(), Err: "llama-bench: not found"}, Queue: queue}
	}
	s := newStage(t, broken(), nil)
	b := open(t, s.url, wide)
	assert.Equal(t, 1, value[int](b, "document.querySelectorAll('[role=alert]').length"))
	b.do(chromedp.Evaluate[chromedp.Void](`
		window.alerts = 0;
		window.notice = document.querySelector("[role=alert]");
		new MutationObserver((all) => { alerts += all.length; }).observe(notice, {subtree: true, childList: true, characterData: true, attributes: true});
		undefined`))
	s.set(func() {
		s.bus = a2a.Status{Configured: true, Err: "connection refused"}
		s.status = broken(dispatch.Waiting{Entry: "weekly", Due: time.Now()})
	})
	b.untilText("#now", "weekly")
	b.untilText("#notices", "connection refused")
	assert.True(t, value[bool](b, "notice.isConnected"), "it is the same one")
	assert.Zero(t, value[float64](b, "alerts"))
	assert.Zero(t, value[float64](b, "document.querySelectorAll('[role=alert] time, [role=status] time').length"), "times change by themselves")
}

// However often a refused stream is looked at, there is one next time.
func TestLiveRefusedStreamHasOneTimer(t *testing.T) {
	refused := make(chan struct{}, 10)
	s := newStage(t, &dispatch.Status{}, func(pages http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/api/v1/live" {
				w.WriteHeader(http.StatusServiceUnavailable)
				refused <- struct{}{}
				return
			}
			pages.ServeHTTP(w, r)
		})
	})
	again := func() {
		t.Helper()
		select {
		case <-refused:
		case <-time.After(patience):
			require.Fail(t, "the stream is not looked at again")
		}
	}
	b := open(t, "about:blank", wide)
	b.expect("503")
	// The page's timers of half a minute, which the test lets pass.
	b.do(onEveryPage(`
		window.timers = new Map();
		const {setTimeout: set, clearTimeout: clear} = window;
		window.setTimeout = (f, delay) => {
			const id = set(() => { if (delay !== 30000) f(); }, delay);
			if (delay === 30000) timers.set(id, f);
			return id;
		};
		window.clearTimeout = (id) => { timers.delete(id); clear(id); };`))
	b.goTo(s.url)
	for range 3 {
		again()
		b.until("timers.size === 1")
		b.do(chromedp.Evaluate[chromedp.Void](`document.dispatchEvent(new Event("visibilitychange")); undefined`))
	}
	again()
	b.until("timers.size === 1")
	b.do(chromedp.Evaluate[chromedp.Void](`const [[id, f]] = timers; timers.delete(id); f(); undefined`))
	again()
	b.until("timers.size === 1")
}
