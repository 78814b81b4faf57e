package web_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/model"
)

// asked is what was asked of the dispatcher.
type asked struct {
	entry  string
	models []string
	cycle  uint64
}

func adminOptions(t *testing.T, err error) (o parts, got *asked) {
	got = &asked{}
	o = options(t)
	o.Plan = func() *model.Plan { return nightly(planned("a", "F16", "Q2_K"), planned("line\nend", "F16", "Q2_K")) }
	o.Status = func() *dispatch.Status { return &dispatch.Status{Entries: scheduled("nightly")} }
	o.Run = func(entry string, models []string) error { got.entry, got.models = entry, models; return err }
	o.Cancel = func(cycle uint64) error { got.cycle = cycle; return err }
	return o, got
}

func errorOf(t *testing.T, response *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	var got map[string]any
	require.NoError(t, json.Unmarshal(response.Body.Bytes(), &got), response.Body)
	return got
}

func TestRun(t *testing.T) {
	busy := errors.New("the entry runs already")
	for name, test := range map[string]struct {
		query  string
		err    error
		status int
		kind   string
		models []string
		taken  []string // as the answer names them
	}{
		"all models":       {"entry=nightly", nil, 202, "", nil, []string{"a", "line\nend"}},
		"some models":      {"entry=nightly&model=line%0Aend", nil, 202, "", []string{"line\nend"}, []string{"line\nend"}},
		"busy":             {"entry=nightly", busy, 409, "conflict", nil, nil},
		"no entry":         {"", nil, 400, "bad_data", nil, nil},
		"unknown entry":    {"entry=weekly", nil, 404, "not_found", nil, nil},
		"unknown model":    {"entry=nightly&model=b", nil, 404, "not_found", nil, nil},
		"unreadable query": {"entry=%zz", nil, 400, "bad_data", nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			o, got := adminOptions(t, test.err)
			response := ask(handlerOf(o), "POST", "/api/v1/run?"+test.query)
			assert.Equal(t, test.status, response.Code, response.Body)
			if test.kind != "" {
				assert.Equal(t, test.kind, errorOf(t, response)["errorType"])
			}
			if test.status == 202 {
				assert.Equal(t, asked{entry: "nightly", models: test.models}, *got)
				var said struct {
					Data struct{ Models []string }
				}
				require.NoError(t, json.Unmarshal(response.Body.Bytes(), &said))
				assert.Equal(t, test.taken, said.Data.Models)
			} else if test.err == nil {
				assert.Equal(t, asked{}, *got, "nothing was begun")
			}
		})
	}
}

func TestCancel(t *testing.T) {
	idle := errors.New("the cycle does not run")
	for name, test := range map[string]struct {
		query  string
		err    error
		status int
	}{
		"runs":     {"cycle=1", nil, 202},
		"is over":  {"cycle=1", idle, 409},
		"is none":  {"cycle=2", idle, 404},
		"no cycle": {"", nil, 400},
		"a word":   {"cycle=one", nil, 400},
		"negative": {"cycle=-1", nil, 400},
	} {
		t.Run(name, func(t *testing.T) {
			o, got := adminOptions(t, test.err)
			response := ask(handlerOf(o), "POST", "/api/v1/cancel?"+test.query)
			assert.Equal(t, test.status, response.Code, response.Body)
			if test.status == 202 {
				assert.Equal(t, asked{cycle: 1}, *got)
			}
		})
	}
}

// A form on the page leads back to the page, and its refusal is a page.
func TestFormsAreAnsweredWithPages(t *testing.T) {
	o, got := adminOptions(t, nil)
	o.Mount.Prefix = "/quant"
	form := func(o parts, body string) *httptest.ResponseRecorder {
		return ask(handlerOf(o), "POST", "/quant/api/v1/run", func(r *http.Request) {
			*r = *httptest.NewRequest(http.MethodPost, r.URL.String(), strings.NewReader(body))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		})
	}
	response := form(o, url.Values{"entry": {"nightly"}}.Encode())
	assert.Equal(t, http.StatusSeeOther, response.Code)
	assert.Equal(t, "/quant/", response.Header().Get("Location"))
	assert.Equal(t, "nightly", got.entry)

	response = form(o, "entry=%3Cscript%3E")
	assert.Equal(t, http.StatusNotFound, response.Code)
	assert.Equal(t, "text/html; charset=utf-8", response.Header().Get("Content-Type"))
	assert.Contains(t, response.Body.String(), "&lt;script&gt;")
	assert.NotContains(t, response.Body.String(), "<script>")

	response = form(o, "entry="+strings.Repeat("x", 2<<20))
	assert.Equal(t, http.StatusBadRequest, response.Code)
}

// Buttons are there when they work.
func TestButtons(t *testing.T) {
	k := states()["running"]
	for _, on := range []bool{true, false} {
		o := k.options(t)
		o.Flags.AdminAPI = on
		page := ask(handlerOf(o), "GET", "/").Body.String()
		model := ask(handlerOf(o), "GET", "/model?name=llama-7b").Body.String()
		assert.Equal(t, on, strings.Contains(page, `action="/api/v1/run?entry=weekly"`))
		assert.Equal(t, on, strings.Contains(page, `action="/api/v1/cancel?cycle=7"`))
		assert.Equal(t, on, strings.Contains(model, `action="/api/v1/run?entry=nightly&amp;model=llama-7b"`))
		assert.Equal(t, on, strings.Contains(page, `method="post"`))
	}
}
