package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/web"
)

func TestMount(t *testing.T) {
	for _, test := range []struct{ external, prefix, wantURL, wantPrefix string }{
		{"", "", "", ""},
		{"", "/", "", ""},
		{"", "quant", "", "/quant"},
		{"", "/a/b/", "", "/a/b"},
		{"https://example.org", "", "https://example.org", ""},
		{"https://example.org/", "", "https://example.org", ""},
		{"https://example.org:8443/quant/", "", "https://example.org:8443/quant", "/quant"},
		{"https://example.org/quant", "/", "https://example.org/quant", ""},
		{"http://[::1]/quant", "/other", "http://[::1]/quant", "/other"},
	} {
		mount, err := web.NewMount(test.external, test.prefix)
		require.NoError(t, err)
		assert.Equal(t, test.wantPrefix, mount.Prefix, test)
		if test.wantURL == "" {
			assert.Nil(t, mount.External)
		} else {
			assert.Equal(t, test.wantURL, mount.External.String())
		}
	}
	for _, test := range []struct{ external, prefix, want string }{
		{"example.org/quant", "", "--web.external-url"},
		{"ftp://example.org", "", "http://"},
		{"https:///quant", "", "host"},
		{"https://user:secret@example.org", "", "host and path"},
		{"https://example.org?a=b", "", "host and path"},
		{"https://example.org/%7Bx%7D", "", "path"},
		{"https://exa mple.org", "", "URL"},
		{"", "/{x}", "--web.route-prefix"},
		{"", "/a b", "--web.route-prefix"},
		{"", "/a//b", "--web.route-prefix"},
		{"", "/a/..", "--web.route-prefix"},
	} {
		_, err := web.NewMount(test.external, test.prefix)
		assert.ErrorContains(t, err, test.want, test)
	}
}

// Every link of the page leads somewhere, behind every kind of proxy.
func TestLinks(t *testing.T) {
	for name, test := range map[string]struct {
		external, prefix string
		links            string                   // what each begins with
		proxy            func(path string) string // the path that we are asked for
	}{
		"no proxy":                {"", "", "/", func(p string) string { return p }},
		"prefix":                  {"", "/quant", "/quant/", func(p string) string { return p }},
		"proxy keeps the path":    {"https://example.org/a/b", "", "/a/b/", func(p string) string { return p }},
		"proxy strips the path":   {"https://example.org/quant", "/", "/quant/", func(p string) string { return strings.TrimPrefix(p, "/quant") }},
		"proxy replaces the path": {"https://example.org/out", "/in", "/out/", func(p string) string { return strings.Replace(p, "/out", "/in", 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			mount, err := web.NewMount(test.external, test.prefix)
			require.NoError(t, err)
			o := options(t)
			o.Mount = mount
			handler := handlerOf(o)
			all := links(t, handler, mount.Prefix+"/")
			assert.GreaterOrEqual(t, len(all), 9)
			for text, link := range all {
				assert.True(t, strings.HasPrefix(link, test.links), link)
				assert.Equal(t, http.StatusOK, ask(handler, "GET", test.proxy(link)).Code, "%s: %s", text, link)
			}
		})
	}
}

func TestPrefix(t *testing.T) {
	o := options(t)
	o.Mount.Prefix = "/quant"
	handler := handlerOf(o)
	assert.Equal(t, http.StatusNotFound, ask(handler, "GET", "/metrics").Code)
	assert.Equal(t, http.StatusNotFound, ask(handler, "GET", "/quantmetrics").Code)
	assert.Equal(t, http.StatusNotFound, ask(handler, "GET", "/quant/nope").Code)
	assert.Equal(t, http.StatusOK, ask(handler, "GET", "/quant/metrics").Code)
	assert.Equal(t, http.StatusOK, ask(handler, "GET", "/quant/debug/pprof/heap").Code)

	for _, path := range []string{"/", "/quant"} {
		response := ask(handler, "GET", path)
		assert.Contains(t, []int{http.StatusFound, http.StatusMovedPermanently, http.StatusTemporaryRedirect}, response.Code, path)
		assert.Equal(t, "/quant/", response.Header().Get("Location"))
	}
}

// Whatever Mount lets through can be mounted, and stays as it is when it is read again.
func FuzzMount(f *testing.F) {
	for _, seed := range []string{"", "/", "quant", "/a/b", "//", "/{x}", "/..", "/a/../b", "https://example.org/x", "http://[::1]:1/é", "http://x/%2F"} {
		f.Add(seed, "")
		f.Add("", seed)
	}
	f.Fuzz(func(t *testing.T, externalURL, routePrefix string) {
		mount, err := web.NewMount(externalURL, routePrefix)
		if err != nil {
			assert.Regexp(t, `^--web\.(external-url|route-prefix): `, err.Error())
			return
		}
		o := options(t)
		o.Mount = mount
		assert.Equal(t, http.StatusOK, ask(handlerOf(o), "GET", mount.Prefix+"/-/healthy").Code)
		again := ""
		if mount.External != nil {
			again = mount.External.String()
		}
		same, err := web.NewMount(again, mount.Prefix+"/")
		require.NoError(t, err)
		assert.Equal(t, mount, same)
	})
}
