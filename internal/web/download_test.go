package web_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDownloads(t *testing.T) {
	content := strings.Repeat("{\"kind\":\"event\"}\n", 50_000) // more than any buffer
	o := options(t)
	o.Store = &fakeStore{export: writes(content), backup: writes(content)}
	server := httptest.NewServer(handlerOf(o))
	defer server.Close()
	for _, test := range []struct{ method, path, contentType, suffix string }{
		{"GET", "/api/v1/export", "application/x-ndjson", `.ndjson"`},
		{"POST", "/api/v1/admin/backup", "application/octet-stream", `.db"`},
	} {
		request, err := http.NewRequestWithContext(t.Context(), test.method, server.URL+test.path, nil)
		require.NoError(t, err)
		response, err := server.Client().Do(request)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.Equal(t, http.StatusOK, response.StatusCode)
		assert.Equal(t, test.contentType, response.Header.Get("Content-Type"))
		assert.Regexp(t, `^attachment; filename="quant-exporter-\d{8}T\d{6}Z\.`, response.Header.Get("Content-Disposition"))
		assert.True(t, strings.HasSuffix(response.Header.Get("Content-Disposition"), test.suffix))
		assert.Equal(t, strconv.Itoa(len(content)), response.Header.Get("Content-Length"), "a client sees a part for what it is")
		assert.Equal(t, content, string(body))
	}
}

// A store that fails half way must not be answered with half of it.
func TestDownloadFails(t *testing.T) {
	half := func(w io.Writer) error {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			return err
		}
		return errors.New("page 7 is damaged")
	}
	o := options(t)
	o.Store = &fakeStore{export: half, backup: half}
	handler := handlerOf(o)
	for range 5 { // more than there may be at once: failures give their place back
		for _, response := range []*httptest.ResponseRecorder{ask(handler, "GET", "/api/v1/export"), ask(handler, "POST", "/api/v1/admin/backup")} {
			assert.Equal(t, http.StatusInternalServerError, response.Code)
			assert.Empty(t, response.Header().Get("Content-Disposition"))
			var got map[string]string
			require.NoError(t, json.Unmarshal(response.Body.Bytes(), &got))
			assert.Contains(t, got["error"], "page 7 is damaged")
		}
	}
	assert.Empty(t, entries(t, o.SpoolDir))

	o.SpoolDir = filepath.Join(t.TempDir(), "nowhere")
	response := ask(handlerOf(o), "GET", "/api/v1/export")
	assert.Equal(t, http.StatusInternalServerError, response.Code)
	assert.Contains(t, response.Body.String(), "nowhere")
}

// entries are the names of what is in a folder.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	all, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, entry := range all {
		names = append(names, entry.Name())
	}
	return names
}

// firstWrite tells when the first part of an answer goes out.
type firstWrite struct {
	http.ResponseWriter
	tell func()
	once sync.Once
}

func (w *firstWrite) Write(p []byte) (int, error) {
	w.once.Do(w.tell)
	return w.ResponseWriter.Write(p)
}

// The store must be left alone before the first byte is sent: with a slow client a read
// transaction would stay open, and the file could only grow.
func TestDownloadLeavesTheStoreBeforeItSends(t *testing.T) {
	o := options(t)
	inStore := false
	o.Store = &fakeStore{export: func(w io.Writer) error {
		inStore = true
		defer func() { inStore = false }()
		assert.Empty(t, entries(t, o.SpoolDir), "nothing is left when we are killed")
		_, err := w.Write(make([]byte, 1<<20))
		return err
	}}
	recorder := httptest.NewRecorder()
	written := false
	w := &firstWrite{ResponseWriter: recorder, tell: func() {
		written = true
		assert.False(t, inStore)
	}}
	handlerOf(o).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/export", nil))
	assert.True(t, written)
	assert.Equal(t, 1<<20, recorder.Body.Len())
}

func TestDownloadsAreBounded(t *testing.T) {
	o := options(t)
	entered, release := make(chan struct{}), make(chan struct{})
	block := func(w io.Writer) error {
		entered <- struct{}{}
		<-release
		return writes("whole")(w)
	}
	o.Store = &fakeStore{export: block, backup: block}
	handler := handlerOf(o)
	var first *httptest.ResponseRecorder
	var running sync.WaitGroup
	running.Go(func() { first = ask(handler, "GET", "/api/v1/export") })
	<-entered

	for _, second := range []*httptest.ResponseRecorder{ask(handler, "GET", "/api/v1/export"), ask(handler, "POST", "/api/v1/admin/backup")} {
		assert.Equal(t, http.StatusServiceUnavailable, second.Code)
		assert.Equal(t, "10", second.Header().Get("Retry-After"))
		assert.Contains(t, second.Body.String(), `"errorType":"unavailable"`)
	}

	close(release)
	running.Wait()
	assert.Equal(t, "whole", first.Body.String())
	go func() { <-entered }()
	assert.Equal(t, http.StatusOK, ask(handler, "POST", "/api/v1/admin/backup").Code, "there is room again")
}

// A download never takes the space that results need.
func TestDownloadsLeaveRoom(t *testing.T) {
	o := options(t)
	unused := func(io.Writer) error { assert.Fail(t, "it is made all the same"); return nil }
	o.Store = &fakeStore{bytes: 1 << 60, export: unused, backup: unused}
	handler := handlerOf(o)
	for range 2 { // a refused one takes no place
		for _, response := range []*httptest.ResponseRecorder{ask(handler, "GET", "/api/v1/export"), ask(handler, "POST", "/api/v1/admin/backup")} {
			assert.Equal(t, http.StatusServiceUnavailable, response.Code)
			assert.Contains(t, response.Body.String(), o.SpoolDir)
			assert.Contains(t, response.Body.String(), "make room")
		}
	}
}

// A page of another site cannot have exports made.
func TestExportForOtherSites(t *testing.T) {
	handler := handlerOf(options(t))
	for site, want := range map[string]int{
		"cross-site": http.StatusForbidden, "same-site": http.StatusForbidden,
		"same-origin": http.StatusOK, "none": http.StatusOK,
	} {
		assert.Equal(t, want, ask(handler, "GET", "/api/v1/export", header("Sec-Fetch-Site", site)).Code, site)
	}
	assert.Equal(t, http.StatusOK, ask(handler, "GET", "/api/v1/export").Code, "other programs send none")
}
