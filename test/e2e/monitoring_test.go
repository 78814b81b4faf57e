package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/grafana"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// Names of models of the fleet. The first has characters that a regular expression gives
// a meaning to.
const (
	oddModel   = "chat/small-1.5b (f16)"
	plainModel = "kjv-4m-f16"
)

// fleet is a Prometheus with our rules and four targets, on which everything has
// happened that the dashboard shows.
type fleet struct {
	*servers.Prometheus
	t *testing.T
	// Addresses. The busy exporter has a fake llama.cpp, and has seen everything; the real
	// one measures with the real tools; the bare one has none; nobody listens on the last.
	busy, real, bare, dead string
	start                  time.Time
}

// startFleet returns when Prometheus has seen all of it.
func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, start: time.Now()}
	for _, address := range []*string{&f.busy, &f.real, &f.bare, &f.dead} {
		*address = fmt.Sprintf("127.0.0.1:%d", servers.FreePort(t))
	}
	nobody := fmt.Sprintf("127.0.0.1:%d", servers.FreePort(t))
	f.Prometheus = startMonitoring(t, nobody, f.busy, f.real, f.bare, f.dead)

	models := t.TempDir()
	for _, name := range []string{oddModel, plainModel} {
		path := filepath.Join(models, name+".gguf")
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		copyModel(t, path)
	}
	serve := func(address, config string, args ...string) *daemon {
		return newHost(t, config, append(args, "--model-dir", models, "--storage.path", filepath.Join(t.TempDir(), "state"), "--web.listen-address", address)...).serve()
	}
	serve(f.bare, quick+fmt.Sprintf(`schedule: [{name: odd, cron: "@yearly", run_on_start: true, models: [%q], targets: [Q8_0, Q2_K, Q4_K_M]}]`, oddModel),
		"--llamacpp.dir", t.TempDir())
	f.seen(`sum(quant_cycle_failures_total{instance="%s", reason="engine_missing"}) == 3`, f.bare)
	serve(f.real, quick+evaluated()+`schedule: [{name: all, cron: "@yearly", run_on_start: true, targets: [Q4_K_M, Q2_K]}]`)
	f.seen(`sum(quant_cycle_decision_total{instance="%s"}) == 4`, f.real)
	f.keepBusy(serve)
	return f
}

// keepBusy lets the busy exporter go through everything. Nothing is due by itself, until
// the last entry is, again and again, and never comes to an end.
func (f *fleet) keepBusy(serve func(address, config string, args ...string) *daemon) {
	f.t.Helper()
	redis := servers.StartRedis(f.t, servers.RedisOptions{})
	tools := fakellama.BuildWith(f.t, fakellama.Behaviour{
		Factors: []fakellama.Factor{{Stage: "quantized", Format: "Q2_K", By: 2}},
	})
	published, unpublished := f.t.TempDir(), f.t.TempDir()
	config := func(prompt int, stuck string) string {
		return quick + evaluated() + fmt.Sprintf(`
a2a: {url: "redis://%[1]s"}
schedule:
  - {name: odd, cron: "@yearly", models: [%[2]q], targets: [Q8_0, Q2_K], choose: fastest, publish: {dir: %[4]q}}
  - {name: noisy, cron: "@yearly", models: [%[2]q], targets: [Q6_K]}
  - {name: late, cron: "@yearly", models: [%[2]q], targets: [Q5_0], benchmark: {prompt_tokens: %[6]d}, publish: {dir: %[5]q}}
  - {name: failing, cron: "@yearly", models: [%[2]q], targets: [Q4_K_M]}
  - {name: never, cron: "@yearly", suspend: true, models: [%[2]q], targets: [Q3_K_M]}
  - {name: stuck, cron: %[3]q, models: [%[2]q], targets: [Q4_1]}
`, redis.Addr, oddModel, stuck, published, unpublished, prompt)
	}
	d := serve(f.busy, config(32, "@yearly"), "--llamacpp.dir", tools, "--web.enable-admin-api")

	f.seen(`quant_cycle_failures_total{instance="%s", model_name="`+oddModel+`", reason="quantize"} == 0`, f.busy)
	f.run("odd")
	f.seen(`quant_cycle_events_published_total{instance="%s"} == 3`, f.busy)
	d.logged("run finished")
	redis.Kill()

	// A drop of about the threshold, and every other round's one side triples.
	fakellama.Set(f.t, tools, fakellama.Behaviour{Factors: []fakellama.Factor{{Stage: "quantized", By: 1.42}}, Noise: []float64{1, 1, 3, 1}})
	f.run("noisy")
	d.logged("run finished")
	fakellama.Set(f.t, tools, fakellama.Behaviour{})
	// What is not ours stands where the copy is to go; and then something else is measured.
	require.NoError(f.t, os.MkdirAll(filepath.Join(unpublished, filepath.FromSlash(oddModel)), 0o755))
	require.NoError(f.t, os.WriteFile(filepath.Join(unpublished, filepath.FromSlash(oddModel), "Q5_0"), nil, 0o600))
	f.run("late")
	d.logged("run finished")
	d.reload(config(64, "@yearly"))
	f.run("late")
	d.logged("run finished")
	f.seen(`quant_cycle_input_changes_total{instance="%s", input="arguments"} == 1`, f.busy)
	f.seen(`quant_cycle_events_pending{instance="%s"} == 1`, f.busy)
	f.seen(`sum(quant_cycle_event_publish_failures_total{instance="%s"}) > 0`, f.busy)
	f.seen(`quant_cycle_bus_up{instance="%s"} == 0`, f.busy)

	fakellama.Set(f.t, tools, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-quantize", Do: fakellama.ExitWithMessage}}})
	f.run("failing")
	d.logged("run finished")
	fakellama.Set(f.t, tools, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-bench", Do: fakellama.Hang}}})
	d.reload(config(64, "@every 1s"))
	f.seen(`quant_cycle_skipped_total{instance="%s", reason="overlap"} > 1`, f.busy)
	f.seen(`quant_cycle_progress_ratio{instance="%s"}`, f.busy)
}

// evaluated is a configuration with a limit of quality that nothing exceeds.
func evaluated() string {
	return "quality: {corpus: " + filepath.Join(shared.root, "examples", "models", "kjv-heldout.txt") + ", chunks: 10, max_kl_divergence: 100}\n"
}

// startMonitoring starts Prometheus as examples/prometheus.yml has it, except for
// addresses and times: with our rules and alerts, and these targets.
func startMonitoring(t *testing.T, alertmanager string, targets ...string) *servers.Prometheus {
	t.Helper()
	config := example(t, "prometheus.yml")
	for _, change := range [][2]string{
		{"scrape_interval: 30s", "scrape_interval: 500ms"},
		{"evaluation_interval: 30s", "evaluation_interval: 500ms"},
		{`["localhost:10180"]`, `["` + strings.Join(targets, `", "`) + `"]`},
		{"localhost:9093", alertmanager},
	} {
		require.Equal(t, 1, strings.Count(config, change[0]), change[0])
		config = strings.Replace(config, change[0], change[1], 1)
	}
	return servers.StartPrometheus(t, config, map[string]string{
		"rules.yml": example(t, "rules.yml"), "alerts.yml": example(t, "alerts.yml"),
	})
}

func example(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(shared.root, "examples", name))
	require.NoError(t, err)
	return string(text)
}

// seen waits until a query about an exporter has a result.
func (f *fleet) seen(query, address string) {
	f.t.Helper()
	f.WaitFor(fmt.Sprintf(query, address), func(v model.Vector) bool { return len(v) > 0 })
}

// run asks the busy exporter for a run of an entry.
func (f *fleet) run(entry string) {
	f.t.Helper()
	response, err := http.PostForm("http://"+f.busy+"/api/v1/run", url.Values{"entry": {entry}})
	require.NoError(f.t, err)
	defer response.Body.Close()
	require.Equal(f.t, http.StatusAccepted, response.StatusCode)
}

// step of range queries. The dashboard's annotations have to see every change, however
// the step lies to the scrapes.
const step = time.Second

// ask gives the result of a query of the dashboard: over all the time of the fleet when
// overTime, else now.
func (f *fleet) ask(d *grafana.Dashboard, expr string, choice grafana.Choice, overTime bool) model.Matrix {
	f.t.Helper()
	now := time.Now()
	times := grafana.Times{Interval: step, Rate: 4 * step, Range: now.Sub(f.start)}
	query, err := d.Interpolate(expr, choice, times)
	require.NoError(f.t, err)
	if overTime {
		return f.overTime(query, f.start, now)
	}
	var all model.Matrix
	for _, sample := range f.Query(query) {
		all = append(all, &model.SampleStream{Metric: sample.Metric, Values: []model.SamplePair{{Value: sample.Value}}})
	}
	return all
}

// overTime is a range query.
func (f *fleet) overTime(query string, start, end time.Time) model.Matrix {
	f.t.Helper()
	seconds := func(at time.Time) string { return strconv.FormatFloat(float64(at.UnixMilli())/1e3, 'f', 3, 64) }
	response, err := http.PostForm(f.URL+"/api/v1/query_range", url.Values{
		"query": {query}, "start": {seconds(start)}, "end": {seconds(end)}, "step": {step.String()},
	})
	require.NoError(f.t, err)
	defer response.Body.Close()
	var answer struct {
		Error string
		Data  struct{ Result model.Matrix }
	}
	require.NoError(f.t, json.NewDecoder(response.Body).Decode(&answer))
	require.Equal(f.t, http.StatusOK, response.StatusCode, "%s:\n%s", answer.Error, query)
	return answer.Data.Result
}

// noFleet is why the queries of a fleet find nothing; see TestDashboardOfAFleet.
const noFleet = "there is no fleet"

// noData are the queries of the dashboard that find nothing here, and why.
var noData = map[string]string{
	"Overdue entries A":         "the scheduler would have to stand still",
	"Original against itself B": "it is recorded once a model was measured for more than a day",
	"Fleet's Redis A":           noFleet,
	"Oldest waiting A":          noFleet,
	"Workers by class A":        noFleet,
	"Cycles by class A":         noFleet,
	"Cycles by class B":         noFleet,
}

// withoutFallback is the query less what it shows when there is nothing: 0 for everybody.
func withoutFallback(expr string) string { return strings.TrimSuffix(expr, " or vector(0)") }

func TestDashboard(t *testing.T) {
	t.Parallel()
	d, err := grafana.Read(filepath.Join(shared.root, "examples", "grafana", "quant-exporter.json"))
	require.NoError(t, err)
	f := startFleet(t)
	everything := grafana.Choice{"job": {"quant-exporter"}, "instance": grafana.All(), "model": grafana.All(), "target": grafana.All()}

	t.Run("variables", func(t *testing.T) {
		want := map[string][]string{
			"job":      {"quant-exporter"},
			"instance": {f.busy, f.real, f.bare},
			"model":    {oddModel, plainModel},
			"target":   {"Q2_K", "Q3_K_M", "Q4_1", "Q4_K_M", "Q5_0", "Q6_K", "Q8_0"},
		}
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			selector, label, err := v.LabelValues()
			require.NoError(t, err)
			var got []string
			for _, series := range f.ask(d, fmt.Sprintf("group by (%s) (%s)", label, selector), everything, false) {
				got = append(got, string(series.Metric[model.LabelName(label)]))
			}
			assert.ElementsMatch(t, want[v.Name], got, v.Name)
		}
	})

	t.Run("every query", func(t *testing.T) {
		empty := map[string]bool{}
		for _, p := range d.Shown() {
			for _, target := range p.Targets {
				name := p.Title + " " + target.RefID
				found := f.ask(d, withoutFallback(target.Expr), everything, target.Range)
				empty[name] = len(found) == 0
			}
		}
		for _, a := range d.Annotations.List {
			empty["annotation "+a.Name] = len(f.ask(d, a.Expr, everything, true)) == 0
		}
		for name := range empty {
			assert.Equal(t, noData[name] != "", empty[name], "%s finds nothing: %v", name, empty[name])
		}
		for name := range noData {
			assert.Contains(t, empty, name)
		}
	})

	t.Run("one model and target", func(t *testing.T) {
		row := d.Panels[len(d.Panels)-1]
		require.Equal(t, "model", row.Repeat)
		for _, chosen := range [][3]string{{f.busy, oddModel, "Q2_K"}, {f.real, oddModel, "Q2_K"}, {f.real, plainModel, "Q4_K_M"}} {
			choice := grafana.Choice{"job": {"quant-exporter"}, "instance": {chosen[0]}, "model": {chosen[1]}, "target": {chosen[2]}}
			for _, p := range row.Panels {
				for _, target := range p.Targets {
					name := p.Title + " " + target.RefID
					if noData[name] == "" && (chosen[0] == f.busy || !strings.Contains(target.Expr, "_publish")) { // the others publish nothing
						assert.NotEmpty(t, f.ask(d, target.Expr, choice, target.Range), "%s of %v", name, chosen)
					}
				}
			}
		}
	})

	t.Run("figures", func(t *testing.T) {
		of := map[string]grafana.Panel{}
		for _, p := range d.Shown() {
			of[p.Title] = p
		}
		// Not the real one: which way its measurements fall is not for a test to say.
		choice := grafana.Choice{"job": {"quant-exporter"}, "instance": {f.busy, f.bare, f.dead}, "model": {oddModel}, "target": grafana.All()}
		for title, want := range map[string]model.SampleValue{
			"Kept":            2, // Q8_0, Q5_0
			"Rejected":        1, // Q2_K
			"Inconclusive":    1, // Q6_K
			"Undecided":       6, // Q4_K_M has failed, Q3_K_M is never due, Q4_1 is at work; and three of the bare one
			"Failing models":  1, // of the bare one; the busy one's is at work
			"Overdue entries": 0,
			"Exporters down":  1,
			"Engines missing": 1,
			"Pending":         1, // Q5_0
			"Published":       3, // Q8_0, Q2_K, and that Q8_0 is chosen
		} {
			require.Contains(t, of, title)
			got := f.ask(d, of[title].Targets[0].Expr, choice, false)
			require.Len(t, got, 1, title)
			assert.InDelta(t, float64(want), float64(got[0].Values[0].Value), 0.5, title) // increase() extrapolates
		}
	})

	t.Run("tables join", func(t *testing.T) {
		for _, p := range d.Shown() {
			if p.Type == "table" {
				f.joins(t, d, p, everything)
			}
		}
	})

	t.Run("annotations mark each change once", func(t *testing.T) {
		choice := grafana.Choice{"job": {"quant-exporter"}, "instance": {f.busy}, "model": {oddModel}, "target": grafana.All()}
		for name, want := range map[string]int{
			"Kept":     2, // Q8_0, Q5_0
			"Rejected": 1, // Q2_K
			"Failures": 1, // Q4_K_M
		} {
			i := slices.IndexFunc(d.Annotations.List, func(a grafana.Annotation) bool { return a.Name == name })
			require.GreaterOrEqual(t, i, 0, name)
			marks := 0
			for _, series := range f.ask(d, d.Annotations.List[i].Expr, choice, true) {
				marks += len(series.Values)
			}
			assert.Equal(t, want, marks, name)
		}
	})
}

// joins checks that Grafana's transformation "merge" makes one row of what the queries of
// a table say of one thing. It joins by the labels that all of them have; what else two
// of them have in common has to agree, which the name of a metric would not.
func (f *fleet) joins(t *testing.T, d *grafana.Dashboard, p grafana.Panel, choice grafana.Choice) {
	t.Helper()
	results := map[string]model.Matrix{}
	var key []model.LabelName
	for i, target := range p.Targets {
		found := f.ask(d, target.Expr, choice, false)
		require.NotEmpty(t, found, "%s %s", p.Title, target.RefID)
		results[target.RefID] = found
		columns := map[model.LabelName]bool{}
		for _, series := range found {
			for name := range series.Metric {
				columns[name] = true
			}
		}
		names := slices.Collect(maps.Keys(columns))
		if i == 0 {
			key = names
		}
		key = slices.DeleteFunc(key, func(name model.LabelName) bool { return !slices.Contains(names, name) })
	}
	assert.NotContains(t, key, model.LabelName(model.MetricNameLabel), p.Title)
	others := map[model.LabelName]string{} // by which query another label comes
	for ref, found := range results {
		rows := map[string]bool{}
		for _, series := range found {
			var row []string
			for _, name := range key {
				row = append(row, string(series.Metric[name]))
			}
			at := strings.Join(row, "\x00")
			assert.False(t, rows[at], "%s %s has two rows for %q", p.Title, ref, row)
			rows[at] = true
			for name := range series.Metric {
				if !slices.Contains(key, name) {
					assert.Contains(t, []string{"", ref}, others[name], "%s: %s and %s both have the label %s", p.Title, others[name], ref, name)
					others[name] = ref
				}
			}
		}
	}
}

// webhook is what Alertmanager posts to a receiver
// (https://prometheus.io/docs/alerting/latest/configuration/#webhook_config).
type webhook struct {
	Version, Status string
	Alerts          []struct {
		Status              string
		Labels, Annotations map[string]string
		GeneratorURL        string
	}
}

// A rejection reaches whom Alertmanager tells: the first one ever, with all that people
// need to know of it.
func TestRejectionReachesTheReceiver(t *testing.T) {
	t.Parallel()
	received := make(chan webhook, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var posted webhook
		if err := json.NewDecoder(r.Body).Decode(&posted); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		received <- posted
	}))
	t.Cleanup(receiver.Close)
	alertmanager := servers.StartAlertmanager(t, `
route: {receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 1s}
receivers: [{name: hook, webhook_configs: [{url: "`+receiver.URL+`"}]}]
`, nil)

	// The real tools, and a llama-bench by which the copy takes six times as long.
	tools := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(shared.tools, "llama-quantize"), filepath.Join(tools, "llama-quantize")))
	require.NoError(t, os.Symlink(slow(t), filepath.Join(tools, "llama-bench")))
	address := fmt.Sprintf("127.0.0.1:%d", servers.FreePort(t))
	h := newServing(t, fmt.Sprintf(`
benchmark: {prompt_tokens: 32, generation_tokens: 16, max_disturbance: 1}
engine: {env: {SLOWBENCH_REAL: %q, SLOWBENCH_MODEL: F16.gguf, SLOWBENCH_FACTOR: "6"}}
schedule: [{name: at start, cron: "@yearly", run_on_start: true, targets: [F16]}]
`, filepath.Join(shared.tools, "llama-bench")), "--llamacpp.dir", tools, "--web.listen-address", address)
	d := h.serve()
	startMonitoring(t, strings.TrimPrefix(alertmanager.URL, "http://"), address)

	limit := time.After(patience)
	for {
		var posted webhook
		select {
		case posted = <-received:
		case <-limit:
			require.Fail(t, "no rejection was received")
		}
		for _, alert := range posted.Alerts {
			if alert.Labels["alertname"] != "QuantModelRejected" {
				continue
			}
			assert.Equal(t, "firing", alert.Status)
			assert.Equal(t, map[string]string{
				"alertname": "QuantModelRejected", "severity": "warning", "job": "quant-exporter", "instance": address,
				"model_name": plainModel, "source_format": "F16", "target_format": "F16", "result": "rejected",
			}, alert.Labels)
			assert.Equal(t, plainModel+" to F16 is rejected", alert.Annotations["summary"])
			assert.Regexp(t, `^F16 of kjv-4m-f16 \(F16\) is rejected on 127\.0\.0\.1:\d+ by (generation|prompt): 0\.\d+× \[0\.\d+–0\.\d+\] the original's speed, limit 0\.88×(; (generation|prompt): 0\.\d+× \[0\.\d+–0\.\d+\] the original's speed, limit 0\.88×)?\.$`,
				alert.Annotations["description"])
			assert.Contains(t, alert.Annotations["runbook_url"], "#quantmodelrejected")
			assert.Equal(t, "http://"+address+"/model?name="+plainModel, alert.Annotations["page_url"])
			assert.Contains(t, alert.GeneratorURL, "/graph?")
			d.stop()
			return
		}
	}
}
