package examples_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/quant-exporter/quant-exporter/collector"
	"github.com/quant-exporter/quant-exporter/internal/test/docs"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// job is what the targets' label job has to be: alerts look for it.
const job = "quant-exporter"

// What Prometheus adds to every series of a target.
var targetLabels = []string{"instance", "job"}

// rule is an alert or a recording rule.
type rule struct {
	Alert, Record, Expr, For string
	Labels, Annotations      map[string]string
}

func (r rule) name() string { return r.Alert + r.Record }

func rules(t *testing.T) []rule {
	t.Helper()
	var all []rule
	for _, file := range []string{"rules.yml", "alerts.yml"} {
		var content struct {
			Groups []struct {
				Name, Interval string
				Rules          []rule
			}
		}
		decode(t, file, &content)
		for _, group := range content.Groups {
			all = append(all, group.Rules...)
		}
	}
	require.NotEmpty(t, all)
	return all
}

// unitTest is a test of promtool's.
type unitTest struct {
	Name, Interval string
	InputSeries    []struct{ Series, Values string } `yaml:"input_series"`
	AlertRuleTest  []struct {
		EvalTime  string `yaml:"eval_time"`
		Alertname string
		ExpAlerts []any `yaml:"exp_alerts"`
	} `yaml:"alert_rule_test"`
	PromqlExprTest []struct {
		Expr       string
		EvalTime   string `yaml:"eval_time"`
		ExpSamples []any  `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

func unitTests(t *testing.T) []unitTest {
	t.Helper()
	var all []unitTest
	for _, file := range testFiles(t) {
		var content struct {
			RuleFiles          []string `yaml:"rule_files"`
			EvaluationInterval string   `yaml:"evaluation_interval"`
			GroupEvalOrder     []string `yaml:"group_eval_order"`
			Tests              []unitTest
		}
		decode(t, file, &content)
		all = append(all, content.Tests...)
	}
	return all
}

func testFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("tests/*.yml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

// decode reads a YAML file; keys that value does not have are errors.
func decode(t *testing.T, file string, value any) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(value), file)
}

func TestPromtoolAcceptsConfigurationAndRules(t *testing.T) {
	for _, args := range [][]string{
		{"check", "config", "prometheus.yml", "docker/prometheus.yml"},
		{"check", "rules", "--lint=all", "--lint-fatal", "rules.yml", "alerts.yml"},
	} {
		out, err := servers.Promtool(t, args...)
		require.NoError(t, err, out)
	}
}

func TestRulesDoAsTheirUnitTestsSay(t *testing.T) {
	for _, file := range testFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			out, err := servers.Promtool(t, "test", "rules", file)
			require.NoError(t, err, out)
		})
	}
}

func TestEveryRuleIsTestedBothWays(t *testing.T) {
	firing, silent := map[string]bool{}, map[string]bool{}
	note := func(name string, expected int) {
		firing[name] = firing[name] || expected > 0
		silent[name] = silent[name] || expected == 0
	}
	for _, test := range unitTests(t) {
		for _, alert := range test.AlertRuleTest {
			note(alert.Alertname, len(alert.ExpAlerts))
		}
		for _, query := range test.PromqlExprTest {
			note(query.Expr, len(query.ExpSamples))
		}
	}
	var names []string
	for _, r := range rules(t) {
		assert.NotContains(t, names, r.name(), "two rules have this name")
		names = append(names, r.name())
		assert.True(t, firing[r.name()], "no test expects anything of %s", r.name())
		assert.True(t, silent[r.name()], "no test expects nothing of %s", r.name())
	}
	for name := range silent {
		assert.Contains(t, names, name, "tested, and not a rule")
	}
}

func TestAlertsSayWhatPeopleNeed(t *testing.T) {
	severities := []string{"critical", "warning", "info"}
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		assert.Contains(t, severities, r.Labels["severity"], r.Alert)
		annotations := []string{"description", "runbook_url", "summary"}
		if strings.Contains(r.Annotations["summary"], "$labels.model_name") {
			annotations = []string{"description", "page_url", "runbook_url", "summary"}
		}
		assert.Equal(t, annotations, slices.Sorted(maps.Keys(r.Annotations)), r.Alert)
		for name, text := range r.Annotations {
			assert.NotEmpty(t, text, "%s of %s", name, r.Alert)
		}
		assert.Equal(t, "https://github.com/quant-exporter/quant-exporter/blob/main/docs/runbooks.md#"+strings.ToLower(r.Alert), r.Annotations["runbook_url"],
			"GitHub's anchor of the heading %q", r.Alert)
	}
}

func TestEveryAlertHasARunbook(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "runbooks.md"))
	require.NoError(t, err)
	page := string(text)
	alerts := []string{}
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		alerts = append(alerts, fmt.Sprintf("[%s](#%s)", r.Alert, strings.ToLower(r.Alert)))
		assert.Contains(t, page, fmt.Sprintf("\n| %s | %s |", alerts[len(alerts)-1], r.Labels["severity"]), "the row of the table")
		_, section, ok := strings.Cut(page, "\n### "+r.Alert+"\n")
		require.True(t, ok, "no section %s", r.Alert)
		section, _, _ = strings.Cut(section, "\n##")
		for _, part := range []string{"*What it means.*", "*What to look at.*", "*What to do.*"} {
			assert.Contains(t, section, part, r.Alert)
		}
	}
	assert.ElementsMatch(t, alerts, docs.Rows(t, "..", "alert | severity"))
}

func TestRulesNameMetricsAndLabelsThatExist(t *testing.T) {
	labels := map[string][]string{"up": targetLabels}
	for _, family := range collector.Families() {
		labels[family.Name] = append(append(slices.Clone(targetLabels), "hardware_class"), family.Labels...) // which series of a fleet have
	}
	all := rules(t)
	for _, r := range all {
		if r.Record != "" {
			labels[r.Record] = nil // used without matchers
		}
	}
	for _, r := range all {
		for _, expression := range r.expressions() {
			used := selectors(expression)
			assert.NotEmpty(t, used, "no metric is seen in %s", expression)
			for _, s := range used {
				known, ok := labels[s.metric]
				assert.True(t, ok, "%s uses %s, which does not exist", r.name(), s.metric)
				for _, label := range s.labels {
					assert.Contains(t, known, label, "%s matches a label that %s does not have", r.name(), s.metric)
				}
			}
		}
	}
}

// expressions are the rule's own and the ones in its texts.
func (r rule) expressions() []string {
	all := []string{r.Expr}
	for _, text := range r.Annotations {
		matchers := map[string]string{} // by variable
		for _, variable := range annotationVariable.FindAllStringSubmatch(text, -1) {
			matchers[variable[1]] = variable[2]
		}
		for _, query := range annotationQuery.FindAllStringSubmatch(text, -1) {
			expression := query[1]
			for name := range strings.FieldsSeq(query[2]) {
				expression = strings.Replace(expression, "%s", matchers[name], 1)
			}
			all = append(all, strings.ReplaceAll(strings.ReplaceAll(expression, `%q`, `"x"`), `\"`, `"`))
		}
	}
	return all
}

var (
	annotationQuery    = regexp.MustCompile(`query \(printf "((?:[^"\\]|\\.)*)"([^)]*)\)`)
	annotationVariable = regexp.MustCompile(`(\$\w+) := printf "([^"]*)"`)

	comments   = regexp.MustCompile(`#.*`)
	quoted     = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	durations  = regexp.MustCompile(`\[[^\]]*\]|\boffset\s+\w+`)
	groupings  = regexp.MustCompile(`\b(?:on|ignoring|by|without|group_left|group_right)\s*\([^)]*\)`)
	operators  = regexp.MustCompile(`\b(?:and|or|unless|bool|offset|group_left|group_right)\b`)
	identifier = regexp.MustCompile(`([a-zA-Z_:][\w:]*)\s*(\(|\{[^}]*\})?`)
	matcher    = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
)

// selector is a metric in an expression, and the labels it is matched by.
type selector struct {
	metric string
	labels []string
}

// selectors finds the metrics of an expression: what is left of it without functions,
// operators and their lists of labels.
func selectors(expression string) []selector {
	for _, noise := range []*regexp.Regexp{comments, quoted, durations, groupings, operators} {
		expression = noise.ReplaceAllString(expression, " ")
	}
	var found []selector
	for _, match := range identifier.FindAllStringSubmatch(expression, -1) {
		if match[2] == "(" {
			continue
		}
		s := selector{metric: match[1]}
		for _, label := range matcher.FindAllStringSubmatch(match[2], -1) {
			s.labels = append(s.labels, label[1])
		}
		found = append(found, s)
	}
	return found
}

func TestSelectorsAreFound(t *testing.T) {
	for expression, want := range map[string][]selector{
		`up`:                               {{metric: "up"}},
		`a:b:c{x="on (y)", z!~"1|2"} > 2`:  {{"a:b:c", []string{"x", "z"}}},
		`time() - foo_seconds > 15 * 60`:   {{metric: "foo_seconds"}},
		`increase(a_total{r=~"b"}[30h])`:   {{"a_total", []string{"r"}}},
		`sum without (x) (a) offset 8d`:    {{metric: "a"}},
		`a and on (x, y) max by (z) (b)`:   {{metric: "a"}, {metric: "b"}},
		"a # of b\nunless quantile(0.5,b)": {{metric: "a"}, {metric: "b"}},
	} {
		assert.Equal(t, want, selectors(expression), expression)
	}
}

// A test that feeds series the exporter does not have tests nothing.
func TestUnitTestsFeedSeriesAsTheyAre(t *testing.T) {
	want := map[string][]string{"up": targetLabels}
	for _, family := range collector.Families() {
		want[family.Name] = slices.Sorted(slices.Values(append(slices.Clone(targetLabels), family.Labels...)))
	}
	for _, test := range unitTests(t) {
		for _, input := range test.InputSeries {
			labels := series(t, input.Series)
			name := labels[model.MetricNameLabel]
			delete(labels, model.MetricNameLabel)
			if !slices.Contains(want[name], "hardware_class") { // which series of a fleet have besides
				delete(labels, "hardware_class")
			}
			assert.Equal(t, want[name], slices.Sorted(maps.Keys(labels)), "%s: %s", test.Name, input.Series)
		}
	}
}

// series reads the notation of a series, as in the text format.
func series(t *testing.T, notation string) map[string]string {
	t.Helper()
	name, rest, _ := strings.Cut(strings.TrimSuffix(notation, "}"), "{")
	labels := map[string]string{model.MetricNameLabel: name}
	for _, match := range regexp.MustCompile(`(\w+)=("(?:[^"\\]|\\.)*")`).FindAllStringSubmatch(rest, -1) {
		labels[match[1]] = match[2]
	}
	return labels
}

// prometheusConfig is as much of a prometheus.yml as ours have.
type prometheusConfig struct {
	Global        map[string]string
	ScrapeConfigs []struct {
		JobName       string                       `yaml:"job_name"`
		StaticConfigs []struct{ Targets []string } `yaml:"static_configs"`
	} `yaml:"scrape_configs"`
	RuleFiles []string `yaml:"rule_files"`
	Alerting  any
}

func TestPrometheusScrapesTheJobOfTheAlerts(t *testing.T) {
	for file, target := range map[string]string{"prometheus.yml": "localhost", "docker/prometheus.yml": "exporter"} {
		var c prometheusConfig
		decode(t, file, &c)
		require.Len(t, c.ScrapeConfigs, 1, file)
		assert.Equal(t, job, c.ScrapeConfigs[0].JobName, file)
		assert.Equal(t, []string{fmt.Sprintf("%s:%d", target, port)}, c.ScrapeConfigs[0].StaticConfigs[0].Targets, file)
	}
	var c prometheusConfig
	decode(t, "prometheus.yml", &c)
	assert.Equal(t, []string{"rules.yml", "alerts.yml"}, c.RuleFiles)

	for _, r := range rules(t) {
		for _, match := range regexp.MustCompile(`job="([^"]*)"`).FindAllStringSubmatch(r.Expr, -1) {
			assert.Equal(t, job, match[1], r.name())
		}
	}
}
