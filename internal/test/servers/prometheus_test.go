package servers_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

func TestPrometheusScrapesAndIsGoneAfterTheTest(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintln(w, `apples{colour="red"} 42`)
	}))
	defer target.Close()

	var url, dir string
	t.Run("running", func(t *testing.T) {
		config := fmt.Sprintf(`
global: {scrape_interval: 50ms, scrape_timeout: 50ms, evaluation_interval: 50ms}
rule_files: [rules/double.yml]
scrape_configs:
  - job_name: target
    static_configs: [{targets: [%q]}]
`, strings.TrimPrefix(target.URL, "http://"))
		rules := "groups: [{name: g, rules: [{record: apples:double, expr: 2 * apples}]}]\n"
		p := servers.StartPrometheus(t, config, map[string]string{"rules/double.yml": rules})
		url, dir = p.URL, p.Dir

		got := p.WaitFor("apples:double", func(v model.Vector) bool { return len(v) > 0 })
		require.Len(t, got, 1)
		assert.InDelta(t, 84, float64(got[0].Value), 0)
		assert.Equal(t, model.LabelValue("red"), got[0].Metric["colour"])
		assert.Empty(t, p.Query("pears"))
	})
	requireGone(t, url)
	assert.NoDirExists(t, dir)
}

func TestPromtoolFindsFault(t *testing.T) {
	out, err := servers.PromtoolCheckMetrics(t, []byte("# HELP a_total A.\n# TYPE a_total counter\na_total 1\n"))
	require.NoError(t, err, out)
	out, err = servers.PromtoolCheckMetrics(t, []byte("# TYPE a_total counter\na_total 1\n"))
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Contains(t, out, "no help text")

	out, err = servers.Promtool(t, "check", "config", filepath.Join(t.TempDir(), "none.yml"))
	require.ErrorAs(t, err, &exit)
	assert.Contains(t, out, "none.yml")
}

func TestAlertmanagerHoldsAnAlert(t *testing.T) {
	var url string
	t.Run("running", func(t *testing.T) {
		a := servers.StartAlertmanager(t, "route: {receiver: none}\nreceivers: [{name: none}]\n", nil)
		url = a.URL
		response, err := http.Post(a.URL+"/api/v2/alerts", "application/json",
			strings.NewReader(`[{"labels":{"alertname":"QuantRejected"}}]`))
		require.NoError(t, err)
		defer response.Body.Close()
		require.Equal(t, http.StatusOK, response.StatusCode)
		assert.Contains(t, get(t, a.URL+"/api/v2/alerts"), "QuantRejected")
	})
	requireGone(t, url)
}

func TestNodeExporterShowsItsProcess(t *testing.T) {
	var url string
	t.Run("running", func(t *testing.T) {
		n := servers.StartNodeExporter(t, "--collector.disable-defaults", "--collector.time")
		url = n.URL
		assert.Contains(t, get(t, n.URL+"/metrics"), "node_time_seconds")
		assert.Positive(t, n.PID)
	})
	requireGone(t, url)
}

func TestBlackboxExporterProbes(t *testing.T) {
	var url string
	t.Run("running", func(t *testing.T) {
		b := servers.StartBlackboxExporter(t, "modules: {tcp: {prober: tcp}}\n")
		url = b.URL
		target := strings.TrimPrefix(b.URL, "http://")
		assert.Contains(t, get(t, b.URL+"/probe?module=tcp&target="+target), "\nprobe_success 1\n")
	})
	requireGone(t, url)
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, string(body))
	return string(body)
}

// requireGone sees that nobody listens any more.
func requireGone(t *testing.T, url string) {
	t.Helper()
	response, err := http.Get(url)
	if err == nil {
		response.Body.Close()
	}
	require.Error(t, err)
}
