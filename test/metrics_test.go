package test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/collector"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/test/golden"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// openMetrics is what Prometheus says that it accepts.
const openMetrics = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"

// ladder has a copy that is kept, one that is rejected and one that cannot be made.
const ladder = `
schedule: [{name: ladder, cron: "@yearly", run_on_start: true, targets: [Q8_0, Q2_K, Q4_0]}]
`

func newLadder(t *testing.T) *place {
	t.Helper()
	p := newPlace(t, fakellama.Behaviour{
		Factors: []fakellama.Factor{{Stage: "quantized", Format: "Q2_K", By: 2}},
		Faults:  []fakellama.Fault{{Tool: "llama-quantize", Format: "Q4_0", Do: fakellama.ExitWithMessage}},
	})
	p.configure(quick + ladder)
	return p
}

// scrape gives the exposition and its content type.
func (s *server) scrape(accept string) (text, contentType string) {
	s.t.Helper()
	response, text := s.ask(http.DefaultClient, http.MethodGet, s.url+"/metrics", header("Accept", accept))
	require.Equal(s.t, http.StatusOK, response.StatusCode, text)
	return text, response.Header.Get("Content-Type")
}

// Parts of an exposition that differ from run to run, from host to host or from one
// release of Go to the next.
var (
	foreign   = regexp.MustCompile(`(?m)^(# (HELP|TYPE) )?(go|process)_.*\n`)
	varying   = regexp.MustCompile(`(?m)^(quant_\w+_timestamp(?:_seconds)?|quant_cycle_duration_seconds|quant_cycle_memory_bytes|quant_exporter_storage_(?:size|free)_bytes)(\{.*\})? \S+$`)
	buildInfo = regexp.MustCompile(`(?m)^quant_exporter_build_info\{.*\} 1$`)
	labelText = regexp.MustCompile(`="[^"]*"`)
	sample    = regexp.MustCompile(`(?m)^([^#\s]\S*(?:\{.*\})?) (\S+)$`)
)

// masked hides them, and digits that depend on how the processor rounds.
func masked(exposition string) string {
	text := foreign.ReplaceAllString(exposition, "")
	text = buildInfo.ReplaceAllStringFunc(text, func(line string) string { return labelText.ReplaceAllString(line, `="TEXT"`) })
	text = sample.ReplaceAllStringFunc(text, func(line string) string {
		parts := sample.FindStringSubmatch(line)
		value, err := strconv.ParseFloat(parts[2], 64)
		if err != nil {
			return line
		}
		return fmt.Sprintf("%s %.6g", parts[1], value)
	})
	return varying.ReplaceAllString(text, "$1$2 VALUE")
}

func TestMetricsAfterACycle(t *testing.T) {
	t.Parallel()
	p := newLadder(t)
	s := p.serve()
	s.mustLog("the engine is usable")
	s.mustLog("run finished")

	text, contentType := s.scrape("")
	assert.True(t, strings.HasPrefix(contentType, "text/plain; version=0.0.4"), contentType)
	golden.Check(t, "metrics.txt", masked(text))
	complaints, err := servers.PromtoolCheckMetrics(t, []byte(text))
	require.NoError(t, err, complaints)
	assert.Empty(t, complaints)
	fromText := decoded(t, text, contentType)
	for name, family := range fromText {
		assert.True(t, strings.HasSuffix(family.GetHelp(), "."), "the help of %s is a sentence: %q", name, family.GetHelp())
	}

	text, contentType = s.scrape(openMetrics)
	assert.True(t, strings.HasPrefix(contentType, "application/openmetrics-text; version=1.0.0"), contentType)
	assert.True(t, strings.HasSuffix(text, "\n# EOF\n"))
	promtoolReads(t, text)
	fromOpenMetrics := decoded(t, text, contentType)
	assert.ElementsMatch(t, slices.Collect(maps.Keys(fromText)), slices.Collect(maps.Keys(fromOpenMetrics)))
	for name, family := range fromText {
		assert.Len(t, fromOpenMetrics[name].GetMetric(), len(family.GetMetric()), name)
	}
}

// decoded are the families of an exposition, by name: each may come once.
func decoded(t *testing.T, text, contentType string) map[string]*dto.MetricFamily {
	t.Helper()
	decoder := expfmt.NewDecoder(strings.NewReader(text), expfmt.Format(contentType))
	families := map[string]*dto.MetricFamily{}
	for {
		family := &dto.MetricFamily{}
		err := decoder.Decode(family)
		if errors.Is(err, io.EOF) {
			return families
		}
		require.NoError(t, err)
		require.NotContains(t, families, family.GetName())
		families[family.GetName()] = family
	}
}

// promtoolReads gives an OpenMetrics exposition to Prometheus' own strict parser, in the
// one place where promtool has it: there, samples need timestamps.
func promtoolReads(t *testing.T, text string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "metrics.txt")
	require.NoError(t, os.WriteFile(file, []byte(sample.ReplaceAllString(text, "$1 $2 1700000000")), 0o600))
	output, err := servers.Promtool(t, "tsdb", "create-blocks-from", "openmetrics", file, filepath.Join(dir, "blocks"))
	assert.NoError(t, err, output)
}

// ofWorkers are the families that there are only once workers have done cycles; for the last one,
// two hosts of a class have to.
var ofWorkers = []string{
	"quant_cycle_worker_last_decision_timestamp_seconds", "quant_cycle_worker_last_failure_timestamp_seconds", "quant_cycle_worker_disagreement_ratio",
}

// Every family is there that the documentation names: of one model after its first cycle,
// of another one within it, and of a bus that nobody answers on.
func TestEveryFamilyIsServed(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-quantize", Calls: []int{2}, Do: fakellama.Hang}}})
	other := gguftest.Tiny() // with the same content, its copy would be the one of the first
	other.FeedForward *= 2
	gguftest.Model(other).Write(t, filepath.Join(p.models, "n.gguf"))
	good := strings.Replace(p.evaluated(), "0.05", "1, min_top1_agreement: 0.01, max_perplexity_increase: 5, max_kl_divergence_p999: 99, max_rms_dp: 1", 1)
	fleet := fmt.Sprintf("fleet: {url: redis://%s/0}\n", nobody)
	given := strings.Replace(once, "targets: [Q2_K]}]", "targets: [Q2_K]}, {name: fleet, cron: \"@yearly\", run_on_start: true, targets: [Q2_K], on: [h100]}]", 1)
	p.configure(given + good + "choose: smallest\nmax_memory: {host: 100GB}\npublish: {dir: published}\na2a: {url: redis://" + nobody + "/0}\n" + fleet)
	s := p.serve("--log.level=debug", "--web.external-url=https://example.org")
	s.mustLog("the engine is usable")
	s.mustLog("events cannot be delivered.*connection refused")
	s.loggedTimes(2, `msg=running tool=\S*llama-quantize args="\[original`) // the second one hangs
	families := s.metrics()
	for _, family := range collector.Families() {
		found := families[family.Name]
		if slices.Contains(ofWorkers, family.Name) { // see TestFleetDecidesByClass
			continue
		}
		if !assert.NotNil(t, found, family.Name) {
			continue
		}
		assert.Equal(t, family.Help, found.GetHelp())
		assert.Equal(t, family.Type, strings.ToLower(found.GetType().String()), family.Name)
	}
	s.shows(0, "quant_cycle_bus_up")
	s.shows(2, "quant_cycle_events_pending") // of the decision, and of the choice
}

// What is known in advance is there, as 0, from the moment the exporter is ready, with
// or without llama.cpp.
func TestMetricsBeforeTheFirstCycle(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + `schedule: [{name: later, cron: "@yearly", targets: [Q2_K]}]`)
	s := p.serveOnly("--model-dir", p.models, "--llamacpp.dir", filepath.Join(p.dir, "nothing"))
	s.mustLog("msg=ready")
	s.mustLog("the engine cannot be used")
	text, _ := s.scrape("")
	golden.Check(t, "metrics-before.txt", masked(text))
}

// stored are the lines of an exposition that a restart must not change.
func stored(exposition string) string {
	var kept strings.Builder
	live := regexp.MustCompile(`^quant_cycle_(running|queued|engine_|progress)`)
	for line := range strings.Lines(exposition) {
		if strings.HasPrefix(line, "quant_cycle_") && !live.MatchString(line) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func TestCountersAndFiguresSurviveStopAndKill(t *testing.T) {
	t.Parallel()
	p := newLadder(t)
	s := p.serve()
	s.mustLog("run finished")
	text, _ := s.scrape("")
	want := stored(text)
	assert.Contains(t, want, `quant_cycle_decision_total{model_name="m",result="rejected",source_format="F16",target_format="Q2_K"} 1`)

	p.configure(quick + strings.Replace(ladder, "run_on_start: true, ", "", 1))
	for _, end := range []func(){func() { assert.Zero(t, s.stop()) }, func() { s.kill() }} {
		end()
		s = p.serve()
		s.mustLog("msg=ready")
		text, _ = s.scrape("")
		assert.Equal(t, want, stored(text))
	}
}
