package servers_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

func TestChromiumRunsTheScriptsOfAPage(t *testing.T) {
	assert.Contains(t, servers.DumpDOM(t, "about:blank"), "<body></body>")

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, err := io.WriteString(w, `<!doctype html><p id="p"></p><script>document.getElementById("p").textContent = 6 * 7</script>`)
		assert.NoError(t, err)
	}))
	defer server.Close()
	assert.Contains(t, servers.DumpDOM(t, server.URL), `<p id="p">42</p>`)
}
