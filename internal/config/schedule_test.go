package config_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	prom "github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/schedule"
)

func TestEntryReadsEveryKey(t *testing.T) {
	c := parse(t, `
threshold: 0.3
schedule:
  - name: weekly
    cron: "0 3 * * SUN"
    timezone: UTC
    models: [llama-*, team/qwen]
    targets: [Q4_K_M, q8_0]
    jitter: 10m
    overlap: queue
    starting_deadline: 2h
    timeout: 1d
    suspend: true
    run_on_start: true
    threshold: 0.2
    baseline: q8_0
    fresh_for: 7d
    benchmark:
      phases: [generation]
      prompt_tokens: 1
      generation_tokens: 2
      method: paired
      depth: [3, 4096]
      clients: [1, 8]
      rounds: {min: 4, max: 5}
      alpha: 0.1
      budget: 0
      max_disturbance: 1
      wait_idle: 90s
    engine:
      dir: /opt/llama
      env: {A: b}
      bench_args: [-ngl, 99]
      quantize_args: [--pure]
      evaluate_args: [-nr]
      sandbox: required
      sandbox_reads: [/opt/scripts]
      threads: 3
      nice: 0
      imatrix: /i.gguf
      timeouts: {quantize: 1d, benchmark: 1h30m, evaluate: 2d}
    max_memory: {host: 24GB, device: 12GB}
    quality:
      corpus: /text
      chunks: 64
      max_kl_divergence: 0.1
      min_top1_agreement: 0.8
      max_perplexity_increase: 0.2
      max_kl_divergence_p999: 3
      max_rms_dp: 0.3
    publish: {dir: /published, keep: 5}
    choose: fastest
`)
	assert.Equal(t, []config.Entry{{
		Entry: schedule.Entry{
			Name: "weekly", Cron: "0 3 * * SUN", Timezone: "UTC",
			Jitter: prom.Duration(10 * time.Minute), StartingDeadline: prom.Duration(2 * time.Hour), Suspend: true, RunOnStart: true,
		},
		Models: []string{"llama-*", "team/qwen"}, Targets: []string{"Q4_K_M", "q8_0"}, Overlap: config.Queue, Timeout: prom.Duration(24 * time.Hour),
		Settings: config.Settings{
			Threshold: 0.2, MaxMemory: config.MaxMemory{Host: 24e9, Device: 12e9}, Baseline: "Q8_0", FreshFor: prom.Duration(7 * 24 * time.Hour),
			Benchmark: config.Benchmark{
				Method: config.MethodPaired, Phases: []verdict.Phase{verdict.Generation}, PromptTokens: 1, GenerationTokens: 2, Depth: config.Depths{3, 4096}, Clients: config.Clients{1, 8},
				Rounds: config.Rounds{Min: 4, Max: 5}, Alpha: 0.1, MaxDisturbance: 1, WaitIdle: prom.Duration(90 * time.Second),
			},
			Quality: config.Quality{Corpus: "/text", Chunks: 64, MaxKLDivergence: 0.1, MinTop1Agreement: 0.8, MaxPerplexityIncrease: 0.2, MaxKLDivergenceP999: 3, MaxRMSDeltaP: 0.3},
			Publish: config.Publish{Dir: "/published", Keep: 5},
			Choose:  choice.Fastest,
		},
		Engine: config.Engine{
			Dir: "/opt/llama", Env: map[string]string{"A": "b"}, BenchArgs: []string{"-ngl", "99"}, QuantizeArgs: []string{"--pure"},
			Threads: 3, Imatrix: "/i.gguf",
			EvaluateArgs: []string{"-nr"},
			Sandbox:      config.SandboxRequired, SandboxReads: []string{"/opt/scripts"},
			Timeouts: config.Timeouts{Quantize: prom.Duration(24 * time.Hour), Benchmark: prom.Duration(90 * time.Minute), Evaluate: prom.Duration(48 * time.Hour)},
		},
		Line: 4,
	}}, c.Schedule)
	assert.InDelta(t, 0.3, c.Threshold, 0, "an entry keeps to itself")
}

// sections and entries of one file, to be put into both orders.
const (
	sections = `
threshold: 0.3
benchmark: {alpha: 0.1, phases: [prompt], rounds: {min: 4}}
engine: {env: {A: global, B: global}, bench_args: [-ngl, 99], timeouts: {quantize: 1h}}
`
	entries = `
schedule:
  - name: plain
    cron: "@daily"
    models: [a]
  - name: changed
    cron: "@daily"
    models: [b]
    threshold: 0.2
    benchmark: {rounds: {max: 10}}
    engine: {env: {B: own, C: own}, bench_args: [], timeouts: {benchmark: 3h}}
  - name: after
    cron: "@daily"
    models: [c]
    threshold:
    engine:
      env:
`
)

func TestEntryChangesOnlyWhatItNames(t *testing.T) {
	for name, text := range map[string]string{"sections first": sections + entries, "entries first": entries + sections} {
		t.Run(name, func(t *testing.T) {
			c := parse(t, text)
			require.Len(t, c.Schedule, 3)
			for _, i := range []int{0, 2} {
				entry := c.Schedule[i]
				assert.InDelta(t, 0.3, entry.Threshold, 0, entry.Name)
				assert.Equal(t, c.Benchmark, entry.Benchmark, entry.Name)
				assert.Equal(t, c.Engine, entry.Engine, entry.Name)
				assert.Equal(t, []string{"Q2_K"}, entry.Targets, entry.Name)
			}
			changed := c.Schedule[1]
			assert.InDelta(t, 0.2, changed.Threshold, 0)
			benchmark := c.Benchmark
			benchmark.Rounds.Max = 10
			assert.Equal(t, benchmark, changed.Benchmark)
			engine := c.Engine
			engine.Env = map[string]string{"A": "global", "B": "own", "C": "own"}
			engine.BenchArgs = []string{}
			engine.Timeouts.Benchmark = prom.Duration(3 * time.Hour)
			assert.Equal(t, engine, changed.Engine)
			assert.Equal(t, map[string]string{"A": "global", "B": "global"}, c.Engine.Env, "the section keeps its own")
		})
	}
}

func TestMistakesInTheSchedule(t *testing.T) {
	const keys = "against, allow_requantize, baseline, benchmark, choose, cron, engine, fresh_for, jitter, max_memory, models, name, on, overlap, publish, quality, run_on_start, starting_deadline, suspend, targets, threshold, timeout, timezone"
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"no list":            {"schedule: {name: n}", []string{`c.yml:1: schedule: a section of keys is not a list of entries: begin each with a dash, as in "- name: nightly"`}},
		"entry that is text": {"schedule:\n- nightly", []string{`c.yml:2: schedule[0]: "nightly" is not a section of keys; the keys are ` + keys}},
		"entry of nothing": {"schedule:\n-", []string{
			`c.yml:2: schedule[0].name: is missing: give the entry a name, such as "nightly"`,
			`c.yml:2: schedule[0].cron: is empty: write when the entry is due, such as "0 3 * * *" or "@every 6h"`,
		}},
		"unknown key": {"schedule:\n- name: n\n  cron: '@daily'\n  target: Q2_K", []string{
			"c.yml:4: schedule[0].target: there is no such key; did you mean \"targets\"? The keys here are " + keys,
		}},
		"unknown key in a section": {"schedule:\n- name: n\n  cron: '@daily'\n  benchmark:\n    round: 3", []string{
			"c.yml:5: schedule[0].benchmark.round: there is no such key; did you mean \"rounds\"? The keys here are alpha, budget, clients, depth, generation_tokens, max_disturbance, method, phases, prompt_tokens, rounds, wait_idle",
		}},
		"section that no entry has": {"schedule:\n- name: n\n  cron: '@daily'\n  work: {dir: x}", []string{
			"c.yml:4: schedule[0].work: there is no such key; the keys here are " + keys,
		}},
		"wrong kind": {"schedule:\n- name: n\n  cron: '@daily'\n  targets: Q2_K", []string{`c.yml:4: schedule[0].targets: "Q2_K" is not a list: write one such as [a, b]`}},
		"two in one value": {"schedule:\n- name: n\n  cron: 60 24 * * *", []string{
			`c.yml:3: schedule[0].cron: "60 24 * * *": minute "60": "60" is not a minute: use 0 to 59, or * for every one`,
			`c.yml:3: schedule[0].cron: hour "24": "24" is not an hour: use 0 to 23, or * for every one`,
		}},
		"said once":      {"schedule:\n- name: [n]\n  cron: '@daily'", []string{"c.yml:2: schedule[0].name: a list is not a text"}},
		"duration":       {"schedule:\n- name: n\n  cron: '@daily'\n  jitter: 5", []string{`c.yml:4: schedule[0].jitter: "5" is not a duration: write one such as 90s, 15m, 4h or 1d`}},
		"overlap":        {"schedule:\n- name: n\n  cron: '@daily'\n  overlap: skip", []string{`c.yml:4: schedule[0].overlap: "skip" is not known: use forbid or queue`}},
		"a format twice": {"schedule:\n- name: n\n  cron: '@daily'\n  targets: [Q8_0, q8_0]", []string{`c.yml:4: schedule[0].targets: "q8_0" is named twice`}},
		"a format by two names": {"schedule:\n- name: n\n  cron: '@daily'\n  targets: [Q4_K, Q8_0, q4_k_m]", []string{
			`c.yml:4: schedule[0].targets: "Q4_K" and "q4_k_m" are the same format: name it once`,
		}},
		"no models": {"schedule:\n- name: n\n  cron: '@daily'\n  models: []", []string{`c.yml:4: schedule[0].models: is empty: name names, globs or paths of models`}},
		"choose":    {"schedule:\n- name: n\n  cron: '@daily'\n  choose: best", []string{`c.yml:4: schedule[0].choose: "best" is not a way to choose a format: use smallest, fastest or best-quality, or leave it out`}},
		"best of what": {"schedule:\n- name: n\n  cron: '@daily'\n  choose: best-quality", []string{
			"c.yml:4: schedule[0].choose: best-quality needs a text to evaluate quality on: name its file as quality.corpus, or choose by another rule",
		}},
		"threshold": {"schedule:\n- name: n\n  cron: '@daily'\n  threshold: 20", []string{"c.yml:4: schedule[0].threshold: the threshold 20 is not between 0 and 1: it is a ratio, so write 20 % as 0.2"}},
		"engine":    {"schedule:\n- name: n\n  cron: '@daily'\n  engine:\n    nice: 30", []string{"c.yml:5: schedule[0].engine.nice: 30 is not a nice level: use 0 to 19"}},
		"key twice": {"schedule:\n- name: n\n  cron: '@daily'\n  name: m", []string{"c.yml:4: schedule[0].name: the key is in line 2 already: keep one"}},
		"sections' values that do not go with the entry's": {"benchmark: {rounds: {max: 10}}\nschedule:\n- name: n\n  cron: '@daily'\n  benchmark:\n    rounds: {min: 12}", []string{
			"c.yml:6: schedule[0].benchmark.rounds.max: 10 is out of range: use the minimum (12) to 1000",
		}},
		"a section's mistake is not the entries'": {"schedule:\n- {name: n, cron: '@daily', models: [a]}\n- {name: m, cron: '@daily', models: [b]}\nengine: {nice: 99}\nthreshold: 12", []string{
			"c.yml:4: engine.nice: 99 is not a nice level: use 0 to 19",
			"c.yml:5: threshold: the threshold 12 is not between 0 and 1: it is a ratio, so write 12 % as 0.12",
		}},
		"unless they make it, too": {"threshold: 12\nschedule:\n- name: n\n  cron: '@daily'\n  threshold: 12", []string{
			"c.yml:1: threshold: the threshold 12 is not between 0 and 1: it is a ratio, so write 12 % as 0.12",
			"c.yml:5: schedule[0].threshold: the threshold 12 is not between 0 and 1: it is a ratio, so write 12 % as 0.12",
		}},
		"the same name": {"schedule:\n- name: n\n  cron: '@daily'\n  models: [a]\n- models: [b]\n  cron: '@daily'\n  name: n\n", []string{
			`c.yml:7: schedule[1].name: "n" is the name of the entry in line 2 already: use another one`,
		}},
		"the same pair": {"schedule:\n- name: n\n  cron: '@daily'\n- name: m\n  cron: '@hourly'\n  targets: [Q8_0, q2_k]\n", []string{
			`c.yml:6: schedule[1].targets: the entry "n" in line 2 decides Q2_K of the models "*" as well, and they would overwrite each other's figures: name other models or targets`,
		}},
		"the same pair by another name, reported once": {"schedule:\n- {name: n, cron: '@daily', models: [a, b], targets: [Q4_K, Q5_K]}\n- {name: m, cron: '@daily', models: [b, a], targets: [Q4_K_M, Q5_K_M]}", []string{
			`c.yml:3: schedule[1].targets: the entry "n" in line 2 decides Q4_K_M of the models "b" as well, and they would overwrite each other's figures: name other models or targets`,
		}},
		"against a file": {"schedule:\n- name: n\n  cron: '@daily'\n  models: [m]\n  targets: [Q2_K]\n  against: prod\n- name: m\n  cron: '@daily'\n  against: prod\n", []string{
			`c.yml:6: schedule[0].against: takes the place of targets, and the file has a format of its own: leave one of them out`,
			`c.yml:9: schedule[1].against: compares the file with one model: name that in models, without wildcards`,
		}},
		"against a file, and to publish": {"schedule:\n- {name: n, cron: '@daily', models: [m], against: prod, publish: {dir: /published}}", []string{
			`c.yml:2: schedule[0].publish: publishes copies that are made, and against names a file that exists: leave one of them out`,
		}},
		"against a file, and a choice": {"schedule:\n- {name: n, cron: '@daily', models: [m], against: prod, choose: fastest}", []string{
			`c.yml:2: schedule[0].choose: chooses one of several formats, and against names one file: leave one of them out`,
		}},
		"each entry it clashes with": {"schedule:\n- {name: n, cron: '@daily', models: [a]}\n- {name: m, cron: '@daily', models: [b]}\n- {name: o, cron: '@daily', models: [a, b]}", []string{
			`c.yml:4: schedule[2].targets: the entry "n" in line 2 decides Q2_K of the models "a" as well, and they would overwrite each other's figures: name other models or targets`,
			`c.yml:4: schedule[2].targets: the entry "m" in line 3 decides Q2_K of the models "b" as well, and they would overwrite each other's figures: name other models or targets`,
		}},
		"mistakes, and not what follows from them": {"schedule:\n- {name: a, cron: '@dayly'}\n- {cron: '@daily'}\n- {name: c, cron: '@daily', model: [m]}\n- {name: d, cron: '@daily', models: m}\n- {name: e, cron: '@daily', threshold: 12}\n- {name: f, cron: '@daily'}", []string{
			`c.yml:2: schedule[0].cron: "@dayly" is not known: use @yearly, @monthly, @weekly, @daily, @hourly, @every with a duration, or five fields`,
			`c.yml:3: schedule[1].name: is missing: give the entry a name, such as "nightly"`,
			"c.yml:4: schedule[2].model: there is no such key; did you mean \"models\"? The keys here are " + keys,
			`c.yml:5: schedule[3].models: "m" is not a list: write one such as [a, b]`,
			"c.yml:6: schedule[4].threshold: the threshold 12 is not between 0 and 1: it is a ratio, so write 12 % as 0.12",
		}},
		"clashes beside a section's mistake": {"threshold: 12\nschedule:\n- {name: n, cron: '@daily'}\n- {name: m, cron: '@daily'}", []string{
			"c.yml:1: threshold: the threshold 12 is not between 0 and 1: it is a ratio, so write 12 % as 0.12",
			`c.yml:4: schedule[1].targets: the entry "n" in line 3 decides Q2_K of the models "*" as well, and they would overwrite each other's figures: name other models or targets`,
		}},
		"an entry copied by an alias": {"schedule:\n- &n {name: n, cron: '@daily'}\n- *n", []string{
			`c.yml:2: schedule[1].name: "n" is the name of the entry in line 2 already: use another one`,
			`c.yml:3: schedule[1].targets: the entry "n" in line 2 decides Q2_K of the models "*" as well, and they would overwrite each other's figures: name other models or targets`,
		}},
		"no fleet": {"schedule:\n- {name: n, cron: '@daily', on: [h100]}", []string{
			"c.yml:2: schedule[0].on: there is no fleet: give its Redis as fleet.url, or leave on out to run on this host",
		}},
		"classes that are none": {"fleet: {url: 'redis://h', prefix: 'a b'}\nschedule:\n- {name: n, cron: '@daily', on: [h100, h100]}\n- {name: m, cron: '@daily', models: [m], on: ['-x']}\n- {name: o, cron: '@daily', models: [o], on: [l4], against: p, publish: {dir: /p}}", []string{
			`c.yml:1: fleet.prefix: "a b" cannot be used: use 1 to 63 letters, digits, dots, dashes and underscores, a letter or digit first`,
			`c.yml:3: schedule[0].on: "h100" is named twice`,
			`c.yml:4: schedule[1].on: "-x" cannot be used: use 1 to 63 letters, digits, dots, dashes and underscores, a letter or digit first`,
			"c.yml:5: schedule[2].publish: publishes copies that are made, and against names a file that exists: leave one of them out",
			"c.yml:5: schedule[2].against: names a file of this host, and on gives the cycle to others: leave one of them out",
			"c.yml:5: schedule[2].publish: publishes on this host, and on makes the copies on others: leave one of them out, for the entry with publish: {dir: \"\"}",
		}},
		"several at once, by line": {"schedule:\n- name: n\n  cron: '@daily'\n  threshold: 2\n  jitter: x\n- name: n\n  cron: '@daily'\n  models: [b]\n  suspend: maybe\nengine: {nice: -1}\nstorage: {cycles: 3}", []string{
			"c.yml:4: schedule[0].threshold: the threshold 2 is not between 0 and 1: it is a ratio, so write 2 % as 0.02",
			`c.yml:5: schedule[0].jitter: "x" is not a duration: write one such as 90s, 15m, 4h or 1d`,
			`c.yml:6: schedule[1].name: "n" is the name of the entry in line 2 already: use another one`,
			`c.yml:9: schedule[1].suspend: "maybe" is not true or false`,
			"c.yml:10: engine.nice: -1 is not a nice level: use 0 to 19",
			"c.yml:11: storage.cycles: there is no such key; the keys here are path, retention",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := read("c.yml", []byte(test.text))
			require.Error(t, err)
			assert.Nil(t, c)
			assert.Equal(t, test.want, strings.Split(err.Error(), "\n"))
		})
	}
}

func TestBaselineIsTheSectionsAndTheEntrysUnderItsOneName(t *testing.T) {
	c := parse(t, "baseline: q8_0\nschedule:\n- {name: n, cron: '@daily', models: [a]}\n- {name: m, cron: '@daily', models: [b], baseline: q4_k}\n- {name: o, cron: '@daily', models: [c], baseline: ''}")
	assert.Equal(t, "Q8_0", c.Baseline)
	var got []string
	for _, entry := range c.Schedule {
		got = append(got, entry.Baseline)
	}
	assert.Equal(t, []string{"Q8_0", "Q4_K_M", ""}, got)
}

func TestWhatEntriesMayShare(t *testing.T) {
	parse(t, "schedule:\n- {name: n, cron: '@daily', models: [a]}\n- {name: m, cron: '@daily', models: [a], targets: [Q8_0]}\n- {name: o, cron: '@daily', models: [A]}")
}

// A class decides apart from others, and publishes nothing.
func TestEntriesOfOtherClassesShareModels(t *testing.T) {
	c := parse(t, "fleet: {url: 'redis://h'}\npublish: {dir: /published}\nschedule:\n- {name: n, cron: '@daily', on: [h100]}\n- {name: m, cron: '@daily', on: [l4]}\n- {name: o, cron: '@daily'}")
	assert.Equal(t, []string{"h100"}, c.Schedule[0].Classes())
	assert.False(t, c.Schedule[0].Publish.Enabled())
	assert.Equal(t, []string{""}, c.Schedule[2].Classes())
	assert.True(t, c.Schedule[2].Publish.Enabled())
}

func TestAgainstTakesThePlaceOfTargets(t *testing.T) {
	c, err := read("/etc/q/c.yml", []byte("schedule:\n- {name: n, cron: '@daily', models: [m], against: prod/m-q4}\n- {name: o, cron: '@daily', models: [m], against: ../prod/m.gguf}\n- {name: p, cron: '@daily', models: [m]}"))
	require.NoError(t, err)
	entries := c.Schedule
	assert.Equal(t, "prod/m-q4", entries[0].Against, "a name")
	assert.Equal(t, "/etc/prod/m.gguf", entries[1].Against, "a path, from the file's folder")
	assert.Empty(t, entries[0].Targets, "not those that an entry has by default")
	assert.Equal(t, []string{"Q2_K"}, entries[2].Targets)

	chosen := parse(t, "choose: smallest\npublish: {dir: /published}\nschedule: [{name: n, cron: '@daily', models: [m], against: prod}, {name: o, cron: '@daily', models: [m]}]")
	assert.Equal(t, choice.None, chosen.Schedule[0].Choose, "of one file there is nothing to choose")
	assert.Equal(t, choice.Smallest, chosen.Schedule[1].Choose)
	assert.False(t, chosen.Schedule[0].Publish.Enabled(), "it is served already")
	assert.True(t, chosen.Schedule[1].Publish.Enabled())
}

func BenchmarkParseThousandEntries(b *testing.B) {
	var text strings.Builder
	text.WriteString("schedule:\n")
	for i := range 1000 {
		fmt.Fprintf(&text, "  - name: entry-%d\n    cron: \"%d 3 * * *\"\n    models: [model-%d]\n    benchmark: {rounds: {max: 10}}\n", i, i%60, i)
	}
	for b.Loop() {
		c, err := read("c.yml", []byte(text.String()))
		require.NoError(b, err)
		require.Len(b, c.Schedule, 1000)
	}
}
