package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/schemas"
)

// rungs are the targets of these tests, of which Q2_K is over its limit of quality.
const rungs = "[Q8_0, Q4_K_M, Q3_K_M, Q2_K]"

// printedLine is any line of the output.
type printedLine struct {
	EventType     string  `json:"event_type"`
	Target        string  `json:"target_format"`
	Decision      string  `json:"decision"`
	PassedOverFor string  `json:"passed_over_for"`
	Chosen        *string `json:"chosen_format"`
	Previous      *string `json:"previous_format"`
	EventID       *string `json:"event_id"`
}

// String is what the tests compare: "QUANT_DECISION Q2_K rejected".
func (l printedLine) String() string {
	words := []string{l.EventType, l.Target, l.Decision}
	if l.PassedOverFor != "" {
		words = append(words, "by "+l.PassedOverFor)
	}
	if l.Chosen != nil {
		words = append(words, "chosen "+*l.Chosen)
	}
	if l.Previous != nil {
		words = append(words, "before "+*l.Previous)
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}

func (e ended) lines(t *testing.T) (lines []string, last printedLine) {
	t.Helper()
	for text := range strings.Lines(e.stdout) {
		schemas.Check(t, schemas.RunOutput, text)
		last = printedLine{}
		require.NoError(t, json.Unmarshal([]byte(text), &last), text)
		lines = append(lines, last.String())
	}
	require.NotEmpty(t, lines, e.stderr)
	return lines, last
}

func TestRunChooses(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + p.evaluated() + `
choose: smallest
schedule: [{name: nightly, cron: "@daily", targets: ` + rungs + `}]`)

	got := p.run("--entry", "nightly", "--output", "json")
	assert.Equal(t, exitRejected, got.status, got.stderr)
	lines, last := got.lines(t)
	assert.ElementsMatch(t, []string{
		"QUANT_DECISION Q2_K rejected", "QUANT_DECISION Q3_K_M kept",
		"QUANT_SKIPPED Q8_0 by Q3_K_M", "QUANT_SKIPPED Q4_K_M by Q3_K_M",
		"QUANT_CHOICE chosen Q3_K_M",
	}, lines)
	assert.Equal(t, event.TypeChoice, last.EventType, "it comes last")
	assert.NotNil(t, last.EventID)

	// Again: nothing changed. The choice of the cycle before comes with the decisions.
	lines, last = p.run("--entry", "nightly", "--output", "json").lines(t)
	assert.Contains(t, lines, "QUANT_DECISION Q3_K_M kept chosen Q3_K_M")
	assert.Equal(t, "QUANT_CHOICE chosen Q3_K_M before Q3_K_M", last.String())
	assert.Nil(t, last.EventID)

	// A part of the targets is measured, and the choice is among them all.
	got = p.run("--entry", "nightly", "--target", "Q8_0")
	assert.Equal(t, exitKept, got.status, got.stderr)
	assert.Contains(t, got.stdout, "\nChosen to be served: Q3_K_M, the smallest that is kept.\n")

	got = p.run("--entry", "nightly", "--no-record")
	assert.Regexp(t, `(?m)^Q8_0 .* passed over$`, got.stdout)
	assert.Contains(t, got.stdout, "Chosen to be served: Q3_K_M, the smallest that is kept.\nTargets that were passed over")
	_, last = p.run("--target", "Q2_K", "--no-record", "--output", "json").lines(t)
	assert.Equal(t, "QUANT_CHOICE", last.String(), "none is kept")

	events := p.start("events")
	assert.Regexp(t, `(?m)^\S+ +m +Q3_K_M +chosen +- +held`, events.stdout)
	assert.Equal(t, 4, strings.Count(events.stdout, "held"), "%s: three decisions and a choice", events.stdout)
}

// Every process takes more than a kilobyte.
func TestRunChoosesNoCopyThatTakesTooMuchMemory(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	for limit, want := range map[string]string{"1KB": "QUANT_CHOICE", "100GB": "QUANT_CHOICE chosen Q4_K_M"} {
		p.configure(quick + "choose: {by: smallest, max_memory: {host: " + limit + "}}\n")
		got := p.run("--target", "Q8_0", "--target", "Q4_K_M", "--output", "json", "--no-record")
		_, last := got.lines(t)
		assert.Equal(t, want, last.String(), "%s%s", limit, got.stderr)
		assert.Equal(t, limit == "1KB", strings.Contains(got.stdout, `"target_format":"Q8_0"`) && !strings.Contains(got.stdout, "QUANT_SKIPPED"), "the search goes on beyond the limit")
	}
}

func TestRunChoosesByTheFlag(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{Factors: []fakellama.Factor{{Stage: "quantized", Format: "Q4_K_M", By: 0.5}}})
	p.configure(quick + "choose: smallest\n")
	targets := []string{"--target", "Q8_0", "--target", "Q4_K_M", "--output", "json"}
	lines, _ := p.run(append(targets, "--choose", "fastest")...).lines(t)
	assert.ElementsMatch(t, []string{"QUANT_DECISION Q8_0 kept", "QUANT_DECISION Q4_K_M kept", "QUANT_CHOICE chosen Q4_K_M"}, lines)
	lines, _ = p.run(append(targets, "--choose", "none")...).lines(t)
	assert.ElementsMatch(t, []string{"QUANT_DECISION Q8_0 kept", "QUANT_DECISION Q4_K_M kept"}, lines)
	got := p.run(append(targets, "--choose", "best-quality")...)
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, "--choose best-quality: best-quality needs a text to evaluate quality on")
}

// From the schedule to the metrics and the bus' events.
func TestServeChooses(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + p.evaluated() + `
schedule: [{name: nightly, cron: "@yearly", run_on_start: true, choose: best-quality, targets: ` + rungs + `}]`)
	s := p.serve()
	s.mustLog("targets are skipped: another one is chosen before them")
	s.mustLog("run finished")
	text, _ := s.scrape("")
	for _, line := range []string{
		`quant_cycle_chosen_info{format="Q8_0",model_name="m"} 1`,
		`quant_cycle_skipped_total{entry="nightly",reason="passed_over"} 2`,
		`quant_cycle_decision_total{model_name="m",result="kept",source_format="F16",target_format="Q8_0"} 1`,
		`quant_cycle_decision_total{model_name="m",result="kept",source_format="F16",target_format="Q4_K_M"} 0`,
		`quant_cycle_rejections_total{gate="quality",model_name="m",target_format="Q2_K"} 1`,
	} {
		assert.Contains(t, text, line+"\n")
	}
	var answer struct {
		Data struct {
			Events []store.Event `json:"events"`
		} `json:"data"`
	}
	_, body := s.ask(http.DefaultClient, http.MethodGet, s.url+"/api/v1/events")
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	var types []string
	for _, e := range answer.Data.Events {
		types = append(types, fmt.Sprintf("%s %s", e.Type, e.Target))
	}
	assert.ElementsMatch(t, []string{"QUANT_DECISION Q2_K", "QUANT_DECISION Q8_0", "QUANT_CHOICE "}, types)
}

func TestCheckSaysHowAFormatIsChosen(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(`
schedule:
  - {name: one, cron: "@daily", targets: [Q2_K, Q8_0], choose: smallest}
`)
	assert.Contains(t, p.check().stdout, "\n  targets  Q2_K, Q8_0\n  choose   smallest\n")
	p.configure(`
schedule:
  - {name: one, cron: "@daily", targets: [Q2_K], choose: smallest}
  - {name: two, cron: "@daily", targets: [Q8_0], choose: fastest}
`)
	got := p.check()
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, `config.yml:4: schedule: the entries "one" and "two" both choose a format of "m"`)
}
