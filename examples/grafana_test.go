package examples_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/collector"
	"github.com/quant-exporter/quant-exporter/internal/test/grafana"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

const dashboardFile = "grafana/quant-exporter.json"

func dashboard(t *testing.T) *grafana.Dashboard {
	t.Helper()
	d, err := grafana.Read(dashboardFile)
	require.NoError(t, err)
	return d
}

// anyDataSource is the one that is chosen on the dashboard.
var anyDataSource = grafana.DataSource{Type: "prometheus", UID: "${datasource}"}

// panelTypes are those we use. All come with Grafana, and none is deprecated.
var panelTypes = []string{"bargauge", "stat", "state-timeline", "table", "timeseries"}

func TestDashboardIsWhole(t *testing.T) {
	d := dashboard(t)
	assert.Equal(t, "quant-exporter", d.UID)
	assert.NotEmpty(t, d.Title)
	assert.Equal(t, 39, d.SchemaVersion, "Grafana 10.3 and newer")
	var ids []int
	for _, row := range d.Panels {
		if row.Type == "row" {
			ids = append(ids, row.ID)
			assert.NotEmpty(t, row.Title)
			assert.Equal(t, row.Collapsed, len(row.Panels) > 0, "only collapsed rows hold their panels: %s", row.Title)
		}
	}
	for _, p := range d.Shown() {
		ids = append(ids, p.ID)
		assert.Contains(t, panelTypes, p.Type, p.Title)
		assert.NotEmpty(t, p.Title)
		assert.NotEmpty(t, p.Description, p.Title)
		assert.NotEmpty(t, p.FieldConfig.Defaults.Unit, p.Title)
		require.NotNil(t, p.DataSource, p.Title)
		var refs []string
		for _, target := range p.Targets {
			refs = append(refs, target.RefID)
			assert.NotEqual(t, target.Instant, target.Range, "%s %s", p.Title, target.RefID)
			assert.Equal(t, p.Type == "table", target.Format == "table", p.Title)
			assert.True(t, target.Instant || p.Type == "timeseries" || p.Type == "state-timeline", "%s shows one value", p.Title)
		}
		assert.NotEmpty(t, refs, p.Title)
		assert.Len(t, slices.Compact(slices.Sorted(slices.Values(refs))), len(refs), p.Title)
	}
	assert.Len(t, slices.Compact(slices.Sorted(slices.Values(ids))), len(ids), "a number is used twice")
}

func TestDashboardNamesNoDataSource(t *testing.T) {
	text, err := os.ReadFile(dashboardFile)
	require.NoError(t, err)
	var content any
	require.NoError(t, json.Unmarshal(text, &content))
	found := 0
	var walk func(any)
	walk = func(value any) {
		switch value := value.(type) {
		case []any:
			for _, element := range value {
				walk(element)
			}
		case map[string]any:
			for key, element := range value {
				if key == "datasource" {
					found++
					assert.Equal(t, map[string]any{"type": anyDataSource.Type, "uid": anyDataSource.UID}, element)
				}
				walk(element)
			}
		}
	}
	walk(content)
	d := dashboard(t)
	want := len(d.Shown()) + len(d.Annotations.List) + len(d.Templating.List) - 1 // the data source itself has none
	for _, p := range d.Shown() {
		want += len(p.Targets)
	}
	assert.Equal(t, want, found, "something has no data source")
}

func TestDashboardPanelsDoNotOverlap(t *testing.T) {
	const columns = 24
	d := dashboard(t)
	all := d.Shown()
	for _, p := range d.Panels {
		if p.Type == "row" {
			all = append(all, p)
		}
	}
	for i, p := range all {
		at := p.GridPos
		assert.True(t, at.X >= 0 && at.Y >= 0 && at.W > 0 && at.H > 0 && at.X+at.W <= columns, "%s is off the grid: %+v", p.Title, at)
		for _, other := range all[:i] {
			o := other.GridPos
			assert.False(t, at.X < o.X+o.W && o.X < at.X+at.W && at.Y < o.Y+o.H && o.Y < at.Y+at.H, "%s lies on %s", p.Title, other.Title)
		}
	}
	for _, row := range d.Panels {
		for _, p := range row.Panels {
			assert.Greater(t, p.GridPos.Y, row.GridPos.Y, "%s is above its row", p.Title)
		}
	}
}

func TestDashboardVariables(t *testing.T) {
	d := dashboard(t)
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name)
		if v.Type == "datasource" {
			assert.JSONEq(t, `"prometheus"`, string(v.Query))
			continue
		}
		assert.Equal(t, "query", v.Type, v.Name)
		if v.Name == "job" { // all of them would be everything that Prometheus scrapes
			assert.True(t, v.Multi && !v.IncludeAll)
			assert.Empty(t, v.AllValue)
			continue
		}
		assert.True(t, v.Multi && v.IncludeAll, v.Name)
		assert.Equal(t, ".*", v.AllValue, "with all of 500 models named, queries are too long: %s", v.Name)
	}
	assert.Equal(t, []string{"datasource", "job", "instance", "model", "target"}, names)
	for _, p := range append(slices.Clone(d.Panels), d.Shown()...) {
		if p.Repeat != "" {
			assert.Contains(t, names, p.Repeat, p.Title)
			assert.Contains(t, p.Title, "$"+p.Repeat, "repeated panels are told apart by their titles")
		}
	}
}

// The words of decisions have one color everywhere on the dashboard.
func TestDashboardColorsDecisions(t *testing.T) {
	d := dashboard(t)
	var seen []string
	for _, p := range d.Shown() {
		mappings := slices.Clone(p.FieldConfig.Defaults.Mappings)
		for _, override := range p.FieldConfig.Overrides {
			for _, property := range override.Properties {
				if property.ID == "mappings" {
					var more []grafana.Mapping
					require.NoError(t, json.Unmarshal(property.Value, &more))
					mappings = append(mappings, more...)
				}
			}
		}
		for _, mapping := range mappings {
			if mapping.Options["1"].Text != string(verdict.Kept) {
				continue
			}
			seen = append(seen, p.Title)
			assert.Equal(t, "undecided", mapping.Options["0"].Text)
			for value, want := range map[string][2]string{
				"1": {string(verdict.Kept), "green"}, "2": {string(verdict.Inconclusive), "orange"}, "3": {string(verdict.Rejected), "red"},
			} {
				assert.Equal(t, want, [2]string{mapping.Options[value].Text, mapping.Options[value].Color}, p.Title)
			}
		}
	}
	assert.Equal(t, []string{"Models and targets", "Decisions over time"}, seen)
}

// dashboardExpressions are all that the dashboard asks, with every variable at All.
func dashboardExpressions(t *testing.T) []string {
	t.Helper()
	d := dashboard(t)
	var raw []string
	for _, p := range d.Shown() {
		for _, target := range p.Targets {
			raw = append(raw, target.Expr)
		}
	}
	for _, a := range d.Annotations.List {
		raw = append(raw, a.Expr)
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			selector, _, err := v.LabelValues()
			require.NoError(t, err)
			raw = append(raw, selector)
		}
	}
	choice := grafana.Choice{"job": {job}, "instance": grafana.All(), "model": grafana.All(), "target": grafana.All()}
	var all []string
	for _, expr := range raw {
		expr, err := d.Interpolate(expr, choice, grafana.Times{Interval: time.Minute, Rate: time.Minute, Range: time.Hour})
		require.NoError(t, err, "%s", expr)
		all = append(all, expr)
	}
	return all
}

func TestDashboardNamesMetricsAndLabelsThatExist(t *testing.T) {
	labels := map[string][]string{
		"up": targetLabels, "quant_exporter_build_info": targetLabels, "ALERTS": {"alertname", "alertstate", "instance"},
		"process_resident_memory_bytes": targetLabels, "process_cpu_seconds_total": targetLabels,
	}
	for _, family := range collector.Families() {
		labels[family.Name] = append(slices.Clone(targetLabels), family.Labels...)
	}
	for _, r := range rules(t) {
		if r.Record != "" {
			labels[r.Record] = labels["quant_cycle_throughput_tokens_per_second"]
		}
	}
	for _, expr := range dashboardExpressions(t) {
		for _, s := range selectors(expr) {
			if s.metric == "Inf" {
				continue
			}
			known, ok := labels[s.metric]
			assert.True(t, ok, "%s does not exist:\n%s", s.metric, expr)
			for _, label := range s.labels {
				assert.Contains(t, known, label, "%s is matched by a label that it does not have:\n%s", s.metric, expr)
			}
		}
	}
}

// notShown are metrics that neither the dashboard nor a rule uses, and why.
var notShown = map[string]string{
	"quant_cycle_last_run_timestamp": "the same as quant_cycle_last_run_timestamp_seconds, under its first name",
}

func TestEveryMetricIsShownOrAlertedOn(t *testing.T) {
	used := map[string]bool{}
	expressions := dashboardExpressions(t)
	for _, r := range rules(t) {
		expressions = append(expressions, r.expressions()...)
	}
	for _, expr := range expressions {
		for _, s := range selectors(expr) {
			used[s.metric] = true
		}
	}
	for _, family := range collector.Families() {
		_, listed := notShown[family.Name]
		assert.NotEqual(t, used[family.Name], listed, "%s: used %v, listed as not shown %v", family.Name, used[family.Name], listed)
	}
}

// The alerts that the dashboard names in its descriptions exist.
func TestDashboardNamesAlertsThatExist(t *testing.T) {
	var names []string
	for _, r := range rules(t) {
		names = append(names, r.Alert)
	}
	named := 0
	for _, p := range dashboard(t).Shown() {
		for _, word := range strings.FieldsFunc(p.Description, func(r rune) bool { return r == ' ' || r == '.' || r == ',' }) {
			if strings.HasPrefix(word, "Quant") {
				named++
				assert.Contains(t, names, word, p.Title)
			}
		}
	}
	assert.Positive(t, named)
}
