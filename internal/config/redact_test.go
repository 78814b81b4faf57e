package config_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestRedactedReadsBackTheSame(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "the issue's kind": "schedule: [{name: nightly, cron: '0 3 * * *'}]\na2a: {url: 'redis://127.0.0.1:6379/0'}",
		"sections and entries": sections + entries, "the shipped file": shippedText(t),
		"paths": "work: {dir: w}\nengine: {dir: d}\nschedule: [{name: n, cron: '@every 1h', models: [./a.gguf], engine: {imatrix: i}}]\na2a: {password_file: p, url: 'rediss://h', tls_config: {ca_file: ca, min_version: TLS13}}",
		"texts": "schedule: [{name: 'a: #b', cron: '@daily', models: ['*', '@x', 'null', '1']}]\nstorage: {retention: {age: 0, cycles: 0}}\nbenchmark: {budget: 90s}",
	} {
		t.Run(name, func(t *testing.T) {
			c := parse(t, text)
			shown, err := c.Redacted()
			require.NoError(t, err)
			again := parse(t, string(shown))
			assert.Equal(t, plain(c), plain(again))
		})
	}
}

// plain takes away what makes no difference: the lines, and whether what is empty is nil.
func plain(c config.Config) config.Config {
	empty := func(e *config.Engine) {
		e.Env = maps.Collect(maps.All(e.Env))
		e.BenchArgs, e.QuantizeArgs = append([]string{}, e.BenchArgs...), append([]string{}, e.QuantizeArgs...)
		e.EvaluateArgs = append([]string{}, e.EvaluateArgs...)
		e.SandboxReads = append([]string{}, e.SandboxReads...)
	}
	empty(&c.Engine)
	c.Schedule = slices.Clone(c.Schedule)
	for i := range c.Schedule {
		c.Schedule[i].Line = 0
		empty(&c.Schedule[i].Engine)
	}
	return c
}

func TestRedactedShowsEveryKey(t *testing.T) {
	c := parse(t, "schedule: [{name: nightly, cron: '@daily'}]\nstorage: {retention: {age: 365d}}\nbenchmark: {budget: 25h, wait_idle: 0}")
	text, err := c.Redacted()
	require.NoError(t, err)
	has, err := config.KeysIn(text)
	require.NoError(t, err)
	for key := range c.Keys() {
		assert.True(t, has(strings.Replace(key, "schedule[]", "schedule[0]", 1)), key)
	}
	for _, lines := range []string{
		"engine:\n  dir: \"\"\n  env: {}\n  bench_args: []\n", "    age: 365d\n", "  budget: 1d1h\n", "  wait_idle: 0s\n",
		"schedule:\n  - name: nightly\n    cron: '@daily'\n",
	} {
		assert.Contains(t, string(text), lines)
	}
}

// What differs from the defaults is all that a reader asks of a configuration first; of an
// entry that is what differs from the sections.
func TestChangedLeavesTheDefaultsOut(t *testing.T) {
	changed := func(text string) string {
		c := parse(t, text)
		shown, err := c.Changed()
		require.NoError(t, err)
		return string(shown)
	}
	assert.Equal(t, "{}\n", changed(""))
	assert.Equal(t, "{}\n", changed("threshold: 0.12\nwork: {copy: false}\nschedule: []"))
	assert.Equal(t, `models:
  dir: /srv/models
benchmark:
  rounds:
    max: 12
threshold: 0.2
schedule:
  - name: nightly
    cron: 0 3 * * *
  - name: weekly
    cron: '@weekly'
    targets:
      - Q4_K_M
      - Q8_0
    benchmark:
      rounds:
        min: 5
    threshold: 0.12
`, changed(`
models: {dir: /srv/models}
threshold: 0.2
benchmark: {rounds: {max: 12}}
schedule:
  - {name: nightly, cron: "0 3 * * *", threshold: 0.2}
  - {name: weekly, cron: "@weekly", targets: [Q4_K_M, Q8_0], threshold: 0.12, benchmark: {rounds: {min: 5}}}
`))
	assert.NotContains(t, changed(withSecrets), "hunter2")
	assert.Contains(t, changed(withSecrets), "MODE: fast")

	// It says the same as the file: read again, it is the same configuration.
	for _, text := range []string{sections + entries, shippedText(t)} {
		assert.Equal(t, plain(parse(t, text)), plain(parse(t, changed(text))))
	}
}

// hunter2 stands for every secret here.
const withSecrets = `
engine: {env: {API_TOKEN: hunter2, DB_PASS: hunter2, PGPWD: hunter2, AWS_SECRET_ACCESS_KEY: hunter2, PROXY: "http://u:hunter2@proxy:3128", CUDA_VISIBLE_DEVICES: "0"}}
a2a:
  url: rediss://user:hunter2@redis/0
  tls_config: {cert: certificate, key: hunter2}
schedule:
  - {name: n, cron: "@daily", engine: {env: {db_password: hunter2, MODE: fast}}}
`

func TestRedactedHidesSecrets(t *testing.T) {
	c := parse(t, withSecrets)
	before := parse(t, withSecrets)
	text, err := c.Redacted()
	require.NoError(t, err)
	assert.NotContains(t, string(text), "hunter2")
	for _, shown := range []string{
		"API_TOKEN: <secret>", "DB_PASS: <secret>", "PGPWD: <secret>", "AWS_SECRET_ACCESS_KEY: <secret>", "PROXY: http://u:<secret>@proxy:3128", `CUDA_VISIBLE_DEVICES: "0"`,
		"url: rediss://user:<secret>@redis/0", "key: <secret>", "cert: certificate", "db_password: <secret>", "MODE: fast",
	} {
		assert.Contains(t, string(text), shown)
	}
	assert.Equal(t, before, c, "the configuration itself keeps them")
}

// However a secret is put into a wrong place, or a wrong form.
func TestErrorsTellNoSecrets(t *testing.T) {
	for name, text := range map[string]string{
		"beside a mistake":      withSecrets + "treshold: 1\n",
		"URL of another kind":   "a2a: {url: 'http://u:hunter2@h'}",
		"URL without a scheme":  "a2a: {url: 'u:hunter2@h'}",
		"URL with a bad port":   "a2a: {url: 'redis://u:hunter2@h:x'}",
		"URL with a bad escape": "a2a: {url: 'redis://u:%hunter2@h'}",
		"URL with an open end":  "a2a: {url: 'redis://u:hunter2/hunter2@h'}",
		"URL as the section":    "a2a: redis://u:hunter2@h/0",
		"URL as a long section": "a2a: redis://u:hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2@h/0",
		"URL as a key":          "a2a: {redis://u:hunter2@h/0}",
		"URL as a list":         "a2a: {url: ['redis://u:hunter2@h']}",
		"URL as a number":       "a2a: {max_len: 'redis://u:hunter2@h'}",
		"key as a list":         "a2a: {tls_config: {key: [hunter2]}}",
		"key without its end":   "a2a: {tls_config: {key: hunter2}}",
		"key as the section":    "a2a:\n  tls_config: |\n    -----BEGIN PRIVATE KEY-----\n    hunter2\n",
		"variable as an alias":  "engine: {env: {TOKEN: *hunter2}}",
		"variable as a list":    "engine: {env: {TOKEN: [hunter2]}}",
		"variables as a list":   "engine: {env: [{TOKEN: hunter2}]}",
		"variable in binary":    "engine: {env: {TOKEN: !!binary hunter2}}",
		"text in binary":        "a2a: {username: !!binary hunter2}",
		"variable with a zero":  "engine: {env: {TOKEN: \"hunter2\\0\"}}",
		"variable cut off":      "engine: {env: {TOKEN: 'hunter2",
		"variable in an entry":  "schedule: [{name: n, cron: '@daily', engine: {env: {TOKEN: [hunter2]}}}]",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read("c.yml", []byte(text))
			require.ErrorContains(t, err, "c.yml:")
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
}
