package grafana_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/grafana"
)

const small = `{
  "uid": "small",
  "panels": [
    {"id": 1, "type": "stat", "targets": [{"refId": "A", "expr": "up", "instant": true}]},
    {"id": 2, "type": "row", "collapsed": true, "panels": [{"id": 3, "type": "stat"}]},
    {"id": 4, "type": "row", "collapsed": false, "panels": []},
    {"id": 5, "type": "table", "gridPos": {"x": 1, "y": 2, "w": 3, "h": 4}}
  ],
  "templating": {"list": [
    {"name": "datasource", "type": "datasource", "query": "prometheus"},
    {"name": "model", "type": "query", "allValue": ".*", "query": {"query": "label_values(up{a=~\"$a, b\"}, model_name)"}},
    {"name": "odd", "type": "query", "query": {"query": "metrics(up)"}}
  ]}
}`

func read(t *testing.T, text string) (*grafana.Dashboard, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dashboard.json")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return grafana.Read(path)
}

func TestRead(t *testing.T) {
	d, err := read(t, small)
	require.NoError(t, err)
	var ids []int
	for _, panel := range d.Shown() {
		ids = append(ids, panel.ID)
	}
	assert.Equal(t, []int{1, 3, 5}, ids)
	assert.Equal(t, []grafana.Target{{RefID: "A", Expr: "up", Instant: true}}, d.Panels[0].Targets)
	assert.Equal(t, grafana.GridPos{X: 1, Y: 2, W: 3, H: 4}, d.Panels[3].GridPos)

	selector, label, err := d.Templating.List[1].LabelValues()
	require.NoError(t, err)
	assert.Equal(t, `up{a=~"$a, b"}`, selector)
	assert.Equal(t, "model_name", label)
	_, _, err = d.Templating.List[2].LabelValues()
	require.ErrorContains(t, err, `odd asks for "metrics(up)"`)

	_, err = read(t, `{"panels": 1}`)
	var wrong *json.UnmarshalTypeError
	require.ErrorAs(t, err, &wrong)
}

func TestInterpolate(t *testing.T) {
	d, err := read(t, small)
	require.NoError(t, err)
	times := grafana.Times{Interval: time.Second, Rate: 4 * time.Second, Range: time.Hour}
	for _, test := range []struct {
		expr   string
		chosen []string
		want   string
	}{
		{`up{m=~"$model"}`, grafana.All(), `up{m=~".*"}`},
		{`up{m=~"${model}"}`, []string{"a/b"}, `up{m=~"a/b"}`},
		{`up{m=~"$model"}`, []string{"a.1", "(b)"}, `up{m=~"(a\\.1|\\(b\\))"}`},
		{`up{m=~"$model"}`, []string{`a\b`}, `up{m=~"a\\\\b"}`},
		{`increase(x[$__range]) offset $__interval + rate(x[$__rate_interval])`, nil, `increase(x[3600000ms]) offset 1000ms + rate(x[4000ms])`},
		{`label_replace(x, "a", "$1", "b", "(.*)$")`, nil, `label_replace(x, "a", "$1", "b", "(.*)$")`},
	} {
		got, err := d.Interpolate(test.expr, grafana.Choice{"model": test.chosen}, times)
		require.NoError(t, err)
		assert.Equal(t, test.want, got)
	}

	_, err = d.Interpolate(`$nobody, $datasource, $__rat`, grafana.Choice{"model": grafana.All()}, times)
	require.ErrorContains(t, err, ": __rat, datasource, nobody")
}
