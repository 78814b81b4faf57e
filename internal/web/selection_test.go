package web_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

var (
	rowModel  = regexp.MustCompile(`<a href="/model\?name=([^"]*)"><bdi>`)
	rowTarget = regexp.MustCompile(`data-label="Target"><span class="format"><bdi>([^<]*)<`)
)

// shown are the models and targets on a page of the status, in order.
func shown(t *testing.T, handler http.Handler, query string) (models, targets []string) {
	t.Helper()
	response := ask(handler, "GET", "/"+query)
	require.Equal(t, http.StatusOK, response.Code)
	_, results, _ := strings.Cut(response.Body.String(), `id="results"`)
	for _, match := range rowModel.FindAllStringSubmatch(results, -1) {
		name, err := url.QueryUnescape(match[1])
		require.NoError(t, err)
		models = append(models, name)
	}
	for _, match := range rowTarget.FindAllStringSubmatch(results, -1) {
		targets = append(targets, match[1])
	}
	return models, targets
}

// Nobody waits for a decision on what is suspended, or was passed over.
func TestUndecidedIsWhatSomebodyWaitsFor(t *testing.T) {
	s := states()["decisions"]
	s.status.Entries = []dispatch.EntryStatus{{Name: "nightly", Suspended: true}, {Name: "weekly", Suspended: true}}
	page := statusPage(t, s)
	assert.Contains(t, page, `class="undecided" data-select><b>0</b> undecided</a>`)
	assert.Contains(t, page, `<span class="badge suspended">suspended</span>`)
	assert.Contains(t, page, `<span class="badge passed over">passed over</span>`)
}

func TestFilterAndSort(t *testing.T) {
	handler := handlerOf(states()["decisions"].options(t))
	for query, want := range map[string][]string{
		"":                                  {"Q2_K", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q2_K", "Q4_0", "Q8_0"},
		"?q=qwen":                           {"Q2_K", "Q4_0", "Q8_0"},
		"?q=QWEN+q4":                        {"Q4_0"},
		"?q=bf16":                           {"Q8_0"},
		"?q=nothing":                        nil,
		"?decision=rejected":                {"Q2_K", "Q3_K_M"},
		"?decision=failed":                  {"Q4_K_M", "Q8_0"},
		"?decision=undecided":               {"Q8_0"}, // Q5_K_M was passed over, and nobody waits for it
		"?decision=kept&q=llama":            {"Q4_K_M"},
		"?decision=%3Cscript%3E":            {"Q2_K", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q2_K", "Q4_0", "Q8_0"},
		"?sort=nothing&decision=kept":       {"Q2_K", "Q4_K_M", "Q2_K"},
		"?sort=speed&decision=rejected":     {"Q3_K_M", "Q2_K"},
		"?sort=time&q=llama":                {"Q4_K_M", "Q2_K", "Q5_K_M", "Q3_K_M"}, // Q5_K_M was passed over
		"?sort=decision&q=qwen":             {"Q8_0", "Q4_0", "Q2_K"},
		"?sort=decision&q=q5":               {"Q5_K_M"},
		"?sort=decision&decision=undecided": {"Q8_0"},
	} {
		_, targets := shown(t, handler, query)
		assert.Equal(t, want, targets, query)
	}
	models, _ := shown(t, handler, "?sort=time")
	assert.Equal(t, []string{"llama-7b", "team/qwen-0.5b", "llama-7b", "gone", "llama-7b"}, models, "a model is named again where others come between")
	assert.Contains(t, ask(handler, "GET", "/?q=nothing").Body.String(), "None of the 8 pairs of model and target matches")
}

// The links of the page keep the rest of what was selected.
func TestLinksOfASelection(t *testing.T) {
	page := ask(handlerOf(states()["decisions"].options(t)), "GET", "/?q=llama&sort=speed&decision=kept").Body.String()
	assert.Contains(t, page, `href="/?decision=rejected&amp;q=llama&amp;sort=speed"`)
	assert.Contains(t, page, `href="/?decision=kept&amp;q=llama&amp;sort=time"`)
	assert.Contains(t, page, `href="/?decision=kept&amp;q=llama" data-select>Model`)
	assert.Contains(t, page, `aria-sort="ascending"><a href="/?decision=kept&amp;q=llama&amp;sort=speed"`)
	assert.Contains(t, page, `name="sort" value="speed"`, "the form keeps it, too")
	assert.Contains(t, page, `value="llama"`)
}

// crowd is an exporter of many models, each with a history.
func crowd(t testing.TB, n int) (parts, *fakeStore) {
	from := &fakeStore{points: map[store.PairID][]store.Point{}}
	all := map[store.PairID]*store.Pair{}
	p := nightly()
	for i := range n {
		id := store.PairID{Model: fmt.Sprintf("family-%d/model-%03d-instruct", i%7, i), Target: "Q2_K"}
		pair := decided(id, verdict.Kept, verdict.Kept, time.Hour,
			phase(verdict.Generation, verdict.Kept, 10+float64(i), -0.3), phase(verdict.Prompt, verdict.Kept, 100+float64(i), 0.03))
		pair.Decided.Cycle = uint64(i + 1)
		pair.Decided.Quantized.Bytes, pair.Decided.Original.Bytes = 4e8, 2e9
		all[id] = pair
		for k := range 20 {
			drop := -0.3 + 0.01*float64(k%5)
			from.points[id] = append(from.points[id], store.Point{
				Time: now.Add(time.Duration(k-20) * 24 * time.Hour), Cycle: uint64(k), Outcome: verdict.Kept, Threshold: 0.12, Changed: k == 0,
				Phases: []store.PointPhase{{Phase: verdict.Generation, Drop: drop, Lower: new(drop - 0.05), Upper: new(drop + 0.04)}},
			})
		}
		p.Entries[0].Models = append(p.Entries[0].Models, planned(id.Model, "F16", "Q2_K"))
	}
	o := known{state: &store.State{Pairs: all}, plan: p, status: &dispatch.Status{Entries: scheduled("nightly")}}.options(t)
	o.Store = from
	return o, from
}

// Histories are read when there is something new, and not for every page.
func TestHistoriesAreReadOnce(t *testing.T) {
	o, from := crowd(t, 500)
	handler := handlerOf(o)
	first := ask(handler, "GET", "/").Body.String()
	assert.Equal(t, 500, from.histories)
	assert.Equal(t, 500, strings.Count(first, `class="spark"`))
	assert.Equal(t, strings.Count(first, "\n"), strings.Count(ask(handler, "GET", "/").Body.String(), "\n"))
	assert.Equal(t, 500, from.histories, "nothing is new")

	state := o.State()
	for _, pair := range state.Pairs {
		pair.Decided.Cycle += 1000
		break
	}
	ask(handler, "GET", "/")
	assert.Equal(t, 501, from.histories, "one pair has a new result")
	ask(handler, "GET", "/?q=family-1")
	assert.Equal(t, 501, from.histories)
}

// slowStore says when it is read first, and waits with the answer.
type slowStore struct {
	*fakeStore
	entered, release chan struct{}
	first            atomic.Bool
}

func (s *slowStore) History(id store.PairID, _ int) ([]store.Point, error) {
	if s.first.CompareAndSwap(false, true) {
		close(s.entered)
		<-s.release
	}
	return s.points[id], nil
}

// The first page after a start reads a lot: others do not wait for it.
func TestHistoriesAreReadOutsideOfTheLock(t *testing.T) {
	o, from := crowd(t, 2)
	slow := &slowStore{fakeStore: from, entered: make(chan struct{}), release: make(chan struct{})}
	o.Store = slow
	handler := handlerOf(o)
	first := make(chan string)
	go func() { first <- ask(handler, "GET", "/").Body.String() }()
	<-slow.entered
	second := make(chan string, 1)
	go func() { second <- ask(handler, "GET", "/").Body.String() }()
	select {
	case page := <-second:
		assert.Equal(t, 2, strings.Count(page, `class="spark"`))
	case <-time.After(time.Minute):
		assert.Fail(t, "the second page waits for the first")
	}
	close(slow.release)
	assert.Equal(t, 2, strings.Count(<-first, `class="spark"`))
}

// A page is as large as it is useful: limits that a change should not pass unnoticed.
func TestSizeOfAPageOf500Models(t *testing.T) {
	o, _ := crowd(t, 500)
	handler := handlerOf(o)
	plain := ask(handler, "GET", "/")
	packed := ask(handler, "GET", "/", header("Accept-Encoding", "br, gzip"))
	t.Logf("%d bytes, %d compressed", plain.Body.Len(), packed.Body.Len())
	assert.Less(t, plain.Body.Len(), 1_700_000)
	assert.Less(t, packed.Body.Len(), 150_000)
	assert.Equal(t, "gzip", packed.Header().Get("Content-Encoding"))
	assert.Equal(t, "Accept-Encoding", packed.Header().Get("Vary"))
	unpacked := unpack(t, packed)
	assert.Len(t, unpacked, plain.Body.Len())
	assert.Empty(t, ask(handler, "GET", "/", header("Accept-Encoding", "gzip;q=0")).Header().Get("Content-Encoding"))
}

func unpack(t *testing.T, response *httptest.ResponseRecorder) string {
	t.Helper()
	r, err := gzip.NewReader(response.Body)
	require.NoError(t, err)
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(text)
}

func FuzzSelection(f *testing.F) {
	for _, seed := range []string{"", "q=a", "decision=kept&sort=speed", "q=%zz", "q=<script>&decision=<script>&sort=<script>", "q=a&q=b;c"} {
		f.Add(seed)
	}
	handler := handlerOf(states()["decisions"].options(f))
	f.Fuzz(func(t *testing.T, query string) {
		response := ask(handler, "GET", "/", func(r *http.Request) { r.URL.RawQuery = query })
		assert.Equal(t, http.StatusOK, response.Code)
		assert.NotContains(t, response.Body.String(), "<script>")
	})
}

func BenchmarkPage(b *testing.B) {
	o, _ := crowd(b, 500)
	handler := handlerOf(o)
	ask(handler, "GET", "/")
	b.ReportAllocs()
	for b.Loop() {
		ask(handler, "GET", "/", header("Accept-Encoding", "gzip"))
	}
}
