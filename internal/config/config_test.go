package config_test

import (
	"bytes"
	"crypto/tls"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/redisconn"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// fileKeys are the keys of the file, as messages list them.
const fileKeys = "a2a, baseline, benchmark, cache, choose, engine, fleet, fresh_for, max_memory, models, publish, quality, schedule, storage, threshold, work"

// checks are the program's.
var checks = config.Checks{Engine: llamacpp.Validate, QuantizeArgs: llamacpp.CheckQuantizeArgs, A2A: a2a.Validate, Fleet: redisconn.ValidateFleet}

// read reads a text as if it were a file of this name.
func read(file string, text []byte) (*config.Config, error) { return config.Parse(file, text, checks) }

// parse reads a text that is right. The hash of the result is taken away, as it tells
// two texts of one meaning apart.
func parse(t *testing.T, text string) config.Config {
	t.Helper()
	c, err := read("c.yml", []byte(text))
	require.NoError(t, err, "%s", text)
	c.SetHash(new(config.Config))
	return *c
}

func TestFilesThatSayNothingMeanTheDefaults(t *testing.T) {
	for name, text := range map[string]string{
		"empty":          "",
		"comments":       "# nothing\n\n# here\n",
		"marker":         "---\n",
		"null":           "null\n",
		"empty section":  "engine:\n  # nice: 3\nbenchmark:\n",
		"empty values":   "engine:\n  nice:\n  env:\n  timeouts:\n    quantize:\nbenchmark:\n  phases:\nthreshold: ~\n",
		"byte order":     "\ufeffthreshold: 0.12\n",
		"windows' lines": "engine:\r\n  nice: 10\r\n",
		"no entries":     "schedule: []\n",
		"no schedule":    "schedule:\n  # - name: nightly\n",
		"no bus":         "a2a:\n  # url: redis://h\n  tls_config:\nstorage: {retention: }\n",
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, config.Default(), parse(t, text))
		})
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	c, err := read("/etc/q/c.yml", []byte(`
models: {dir: /srv/models, allow_requantize: true}
work: {dir: /var/work, copy: true}
cache: {size: 512MiB}
fresh_for: 7d
engine:
  dir: /opt/llama
  env: {CUDA_VISIBLE_DEVICES: "1", N: 2}
  bench_args: [-ngl, 99]
  quantize_args: [--pure]
  evaluate_args: [-nr]
  sandbox: off
  sandbox_reads: [/opt/scripts]
  threads: 3
  nice: 0
  imatrix: /i.gguf
  timeouts: {quantize: 1d, benchmark: 1h30m, evaluate: 2d}
quality:
  corpus: /text
  chunks: 64
  max_kl_divergence: 0.1
  min_top1_agreement: 0.8
  max_perplexity_increase: 0.2
  max_kl_divergence_p999: 3
  max_rms_dp: 0.3
max_memory: {host: 24GB, device: 12GB}
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
threshold: 0.2
baseline: q8_0
choose: best-quality
publish: {dir: /published, keep: 5}
storage: {path: /var/lib/q, retention: {age: 30d, cycles: 7}}
a2a:
  url: rediss+sentinel://h/m
  username: u
  password_file: /etc/q/password
  sentinel_username: w
  sentinel_password_file: /etc/q/sentinel
  stream: s
  max_len: 0
  tls_config: {ca: A, cert: C, key: K, server_name: n, insecure_skip_verify: true, min_version: TLS12, max_version: TLS13}
fleet:
  url: rediss+sentinel://h/m
  username: v
  password_file: /etc/q/fleet
  sentinel_username: x
  sentinel_password_file: /etc/q/watch
  tls_config: {ca: A}
  prefix: p
`))
	require.NoError(t, err)
	want := config.Default()
	want.SetHash(c)
	want.Models = config.Models{Dir: "/srv/models", AllowRequantize: true}
	want.Work = config.Work{Dir: "/var/work", Copy: true}
	want.Cache = config.Cache{Size: 512 << 20}
	want.FreshFor = model.Duration(7 * 24 * time.Hour)
	e := &want.Engine
	e.Dir, e.Env, e.BenchArgs, e.QuantizeArgs = "/opt/llama", map[string]string{"CUDA_VISIBLE_DEVICES": "1", "N": "2"}, []string{"-ngl", "99"}, []string{"--pure"}
	e.Threads, e.Nice, e.Imatrix = 3, 0, "/i.gguf"
	e.Timeouts.Quantize, e.Timeouts.Benchmark = model.Duration(24*time.Hour), model.Duration(90*time.Minute)
	e.Sandbox, e.SandboxReads = config.SandboxOff, []string{"/opt/scripts"}
	e.EvaluateArgs, e.Timeouts.Evaluate = []string{"-nr"}, model.Duration(48*time.Hour)
	want.Quality = config.Quality{Corpus: "/text", Chunks: 64, MaxKLDivergence: 0.1, MinTop1Agreement: 0.8, MaxPerplexityIncrease: 0.2, MaxKLDivergenceP999: 3, MaxRMSDeltaP: 0.3}
	b := &want.Benchmark
	b.Phases, b.PromptTokens, b.GenerationTokens, b.Depth = []verdict.Phase{verdict.Generation}, 1, 2, config.Depths{3, 4096}
	b.Clients = config.Clients{1, 8}
	b.Method = config.MethodPaired
	b.Rounds.Min, b.Rounds.Max, b.Alpha, b.Budget = 4, 5, 0.1, 0
	b.MaxDisturbance, b.WaitIdle = 1, model.Duration(90*time.Second)
	want.Threshold = 0.2
	want.Baseline = "Q8_0"
	want.Choose = choice.BestQuality
	want.MaxMemory = config.MaxMemory{Host: 24e9, Device: 12e9}
	want.Publish = config.Publish{Dir: "/published", Keep: 5}
	want.Storage = config.Storage{Path: "/var/lib/q", Retention: config.Retention{Age: model.Duration(30 * 24 * time.Hour), Cycles: 7}}
	want.A2A = config.A2A{Stream: "s", Redis: config.Redis{
		URL: "rediss+sentinel://h/m", Username: "u", PasswordFile: "/etc/q/password", SentinelUsername: "w", SentinelPasswordFile: "/etc/q/sentinel", Timeout: want.A2A.Timeout,
		TLS: promconfig.TLSConfig{CA: "A", Cert: "C", Key: "K", ServerName: "n", InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13},
	}}
	want.Fleet = config.Fleet{Prefix: "p", Redis: config.Redis{
		URL: "rediss+sentinel://h/m", Username: "v", PasswordFile: "/etc/q/fleet", SentinelUsername: "x", SentinelPasswordFile: "/etc/q/watch", Timeout: want.Fleet.Timeout,
		TLS: promconfig.TLSConfig{CA: "A"},
	}}
	assert.Equal(t, want, *c)

	defaults := config.Default()
	set := maps.Collect(c.Keys())
	for key, value := range defaults.Keys() {
		if !strings.HasPrefix(key, "schedule[]") { // see TestEntryReadsEveryKey
			assert.NotEqual(t, value, set[key], "this test sets every key: %s", key)
		}
	}
}

func TestAliasesStandForWhatTheyName(t *testing.T) {
	c, err := read("c.yml", []byte("engine:\n  timeouts: {quantize: &long 7h, benchmark: *long}\n"))
	require.NoError(t, err)
	assert.Equal(t, model.Duration(7*time.Hour), c.Engine.Timeouts.Benchmark)
}

func TestMergeKeys(t *testing.T) {
	c, err := read("c.yml", []byte(`
engine: {env: &env {A: "1", B: "2"}}
schedule:
- &nightly
  name: nightly
  cron: "0 3 * * *"
  models: [a]
  benchmark: &short {prompt_tokens: 64, rounds: {max: 9}}
- <<: *nightly
  name: again
  models: [b]
  benchmark:
    <<: [{prompt_tokens: 32}, *short]
    depth: 7
  engine:
    env: {<<: *env, B: "3"}
- {name: late, <<: *nightly, models: [c], "cron": "0 5 * * *"}
`))
	require.NoError(t, err)
	require.Len(t, c.Schedule, 3)
	again, late := c.Schedule[1], c.Schedule[2]
	assert.Equal(t, "again", again.Name)
	assert.Equal(t, "0 3 * * *", again.Cron)
	assert.Equal(t, []string{"b"}, again.Models)
	assert.Equal(t, []int{32, 9, 7}, []int{again.Benchmark.PromptTokens, again.Benchmark.Rounds.Max, again.Benchmark.Depth.First()})
	assert.Equal(t, map[string]string{"A": "1", "B": "3"}, again.Engine.Env)
	assert.Equal(t, []string{"late", "0 5 * * *"}, []string{late.Name, late.Cron}, "what is not merged comes first, wherever it stands")
	assert.Equal(t, 64, late.Benchmark.PromptTokens)

	_, err = read("c.yml", []byte("engine: &e\n  <<: *e\n  nice: 3\n")) // contains itself
	require.NoError(t, err)
}

func TestMistakesAreNamedWithLineAndKey(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []string // the lines of the error
	}{
		"unknown key at the top": {"treshold: 0.1", []string{
			"c.yml:1: treshold: there is no such key; did you mean \"threshold\"? The keys here are " + fileKeys,
		}},
		"size without a unit": {"cache: {size: 10}", []string{
			`c.yml:1: cache.size: "10" is not a size: write one such as 500MB, 10GB or 0`,
		}},
		"size below 0": {"cache:\n  size: -1GB", []string{
			"c.yml:2: cache.size: -1GB is not a size: use one such as 10GB, or 0 to keep no files",
		}},
		"fresh for less than nothing": {"fresh_for: -1d", []string{
			`c.yml:1: fresh_for: "-1d" is not a duration: write one such as 90s, 15m, 4h or 1d`,
		}},
		"keys of earlier versions": {"verify: content\na2a: {timeout: 1s}\ncache: {dir: c}\nbenchmark: {max_repeats: 0}\nwork: {isolation: link}\nquality: {context: 64}", []string{
			"c.yml:1: verify: there is no such key; the keys here are " + fileKeys,
			"c.yml:2: a2a.timeout: there is no such key; the keys here are max_len, password_file, sentinel_password_file, sentinel_username, stream, tls_config, url, username",
			"c.yml:3: cache.dir: there is no such key; the keys here are size",
			"c.yml:4: benchmark.max_repeats: there is no such key; the keys here are alpha, budget, clients, depth, generation_tokens, max_disturbance, method, phases, prompt_tokens, rounds, wait_idle",
			"c.yml:5: work.isolation: there is no such key; the keys here are copy, dir",
			"c.yml:6: quality.context: there is no such key; the keys here are chunks, corpus, max_kl_divergence, max_kl_divergence_p999, max_perplexity_increase, max_rms_dp, min_top1_agreement",
		}},
		"unknown key in a section": {"models:\n  directory: /x", []string{
			"c.yml:2: models.directory: there is no such key; the keys here are allow_requantize, dir",
		}},
		"unknown key in a section of a section": {"benchmark:\n  rounds:\n    least: 3", []string{
			"c.yml:3: benchmark.rounds.least: there is no such key; the keys here are max, min",
		}},
		"a later version's key": {"engine: {timeouts: {publish: 1h}}", []string{
			"c.yml:1: engine.timeouts.publish: there is no such key; the keys here are benchmark, evaluate, quantize",
		}},
		"keys in another case": {"Threshold: 0.1", []string{
			"c.yml:1: Threshold: there is no such key; did you mean \"threshold\"? The keys here are " + fileKeys,
		}},
		"key that is a list": {"? [a, b]\n: c", []string{
			"c.yml:1: a list: there is no such key; the keys here are " + fileKeys,
		}},
		"key with a newline": {`"a\nb": c`, []string{
			`c.yml:1: a\nb: there is no such key; the keys here are ` + fileKeys,
		}},
		"merge key": {"engine:\n  <<: 3", []string{
			`c.yml:2: engine.<<: "3" cannot be merged: name a section, as in <<: *base, or a list of them`,
		}},
		"merge keys": {"engine: &e\n  nice: 3\n  <<: [*e, 4]", []string{
			"c.yml:3: engine.<<: a list cannot be merged: name a section, as in <<: *base, or a list of them",
		}},
		"value that is merged": {"schedule:\n- &a {name: a, cron: '@daily', models: [m], jitter: long}\n- {<<: *a, name: b, models: [n]}", []string{
			`c.yml:2: schedule[0].jitter: "long" is not a duration: write one such as 90s, 15m, 4h or 1d`,
			`c.yml:2: schedule[1].jitter: "long" is not a duration: write one such as 90s, 15m, 4h or 1d`,
		}},

		"text for a whole number":     {"engine:\n  threads: many", []string{`c.yml:2: engine.threads: "many" is not a whole number`}},
		"fraction for a whole number": {"engine:\n  threads: 1.5", []string{`c.yml:2: engine.threads: "1.5" is not a whole number`}},
		"too large for any number":    {"engine:\n  threads: 99999999999999999999", []string{`c.yml:2: engine.threads: "99999999999999999999" is not a whole number`}},
		"list for a whole number":     {"engine:\n  threads: [1]", []string{"c.yml:2: engine.threads: a list is not a whole number"}},
		"text for a number":           {"threshold: 12%", []string{`c.yml:1: threshold: "12%" is not a number: write 12 % as 0.12`}},
		"text for a truth value":      {"models: {allow_requantize: maybe}", []string{`c.yml:1: models.allow_requantize: "maybe" is not true or false`}},
		"text for a list":             {"engine: {bench_args: -ngl 99}", []string{`c.yml:1: engine.bench_args: "-ngl 99" is not a list: write one such as [a, b]`}},
		"list in a list": {"engine: {bench_args: [[a]]}", []string{
			"c.yml:1: engine.bench_args: a list is not a list: write one such as [a, b] (line 1: cannot unmarshal !!seq into string)",
		}},
		"text for a map":      {"engine: {env: A=B}", []string{`c.yml:1: engine.env: "A=B" is not a section of names and texts: write one such as {NAME: text}`}},
		"list for a text":     {"models: {dir: [a]}", []string{"c.yml:1: models.dir: a list is not a text"}},
		"text for a section":  {"engine: /opt/llama", []string{`c.yml:1: engine: "/opt/llama" is not a section of keys; the keys are bench_args, dir, env, evaluate_args, imatrix, nice, quantize_args, sandbox, sandbox_reads, threads, timeouts`}},
		"list for the file":   {"- threshold: 1", []string{"c.yml:1: (the whole file): a list is not a section of keys; the keys are " + fileKeys}},
		"text for the file":   {"hello", []string{`c.yml:1: (the whole file): "hello" is not a section of keys; the keys are ` + fileKeys}},
		"duration in words":   {"benchmark:\n  budget: 5 hours", []string{`c.yml:2: benchmark.budget: "5 hours" is not a duration: write one such as 90s, 15m, 4h or 1d`}},
		"duration, no unit":   {"benchmark:\n  budget: 90", []string{`c.yml:2: benchmark.budget: "90" is not a duration: write one such as 90s, 15m, 4h or 1d`}},
		"duration, fraction":  {"benchmark:\n  budget: 1.5h", []string{`c.yml:2: benchmark.budget: "1.5h" is not a duration: write one such as 90s, 15m, 4h or 1d`}},
		"duration, below 0":   {"benchmark:\n  budget: -1h", []string{`c.yml:2: benchmark.budget: "-1h" is not a duration: write one such as 90s, 15m, 4h or 1d`}},
		"a very long value":   {"threshold: " + strings.Repeat("x", 100), []string{`c.yml:1: threshold: "` + strings.Repeat("x", 60) + `…" is not a number`}},
		"key twice":           {"threshold: 0.1\nthreshold: 0.2", []string{"c.yml:2: threshold: the key is in line 1 already: keep one"}},
		"section twice":       {"engine: {nice: 1}\nwork:\nengine: {nice: 2}", []string{"c.yml:3: engine: the key is in line 1 already: keep one"}},
		"two documents":       {"threshold: 0.1\n---\nthreshold: 0.2", []string{"c.yml:2: the file holds more than one YAML document: keep one"}},
		"no YAML":             {"engine: [", []string{"c.yml:1: this is not valid YAML: did not find expected node content"}},
		"no YAML, unknown &":  {"threshold: *t", []string{"c.yml:1: this is not valid YAML: an alias stands for nothing: a text that begins with * needs quotes"}},
		"no YAML, tab":        {"engine:\n\tnice: 1", []string{"c.yml:2: this is not valid YAML: found character that cannot start any token: a text that begins with @, %, ` or a tab needs quotes; spaces indent, not tabs"}},
		"no YAML, binary":     {"\x00\x01", []string{"c.yml:1: this is not valid YAML: control characters are not allowed"}},
		"no YAML, bytes":      {"threshold: 0.1\nwork: \xff", []string{"c.yml:2: this is not valid YAML: invalid leading UTF-8 octet"}},
		"no YAML, cron":       {"schedule:\n- name: n\n  cron: * * * * *", []string{`c.yml:3: this is not valid YAML: did not find expected alphabetic or numeric character: a text that begins with * needs quotes, as in "*"`}},
		"no YAML, @daily":     {"schedule:\n- name: n\n  cron: @daily", []string{"c.yml:3: this is not valid YAML: found character that cannot start any token: a text that begins with @, %, ` or a tab needs quotes; spaces indent, not tabs"}},
		"a tag for a text":    {"schedule:\n- name: n\n  cron: '@daily'\n  models:\n  - '*'\n  - !mtp-*", []string{`c.yml:6: schedule[0].models: "!mtp-*" is a tag of YAML and no text: a text that begins with ! needs quotes`}},
		"a tag in a list":     {"schedule:\n- name: n\n  cron: '@daily'\n  models: ['*', !mtp-*]", []string{"c.yml:3: this is not valid YAML: did not find expected ',' or ']': a text that begins with ! needs quotes, as in \"!mtp-*\""}},
		"no YAML, a glob":     {"schedule:\n- name: n\n  cron: '@daily'\n  models: [*-f16]", []string{"c.yml:4: this is not valid YAML: an alias stands for nothing: a text that begins with * needs quotes"}},
		"no YAML, the stream": {"a2a: {stream: {a2a}:events}", []string{`c.yml:1: this is not valid YAML: did not find expected ',' or '}'`}},
		"no YAML, a stream":   {"a2a:\n  stream: {a2a}:events", []string{`c.yml:1: this is not valid YAML: did not find expected key: a text that begins with { or [ needs quotes, as in "{a2a}:events"`}},
		"no YAML, colons":     {"engine: nice: 3", []string{"c.yml:1: this is not valid YAML: mapping values are not allowed in this context: is the line indented like its neighbours? A text with a colon and a space in it needs quotes"}},
		"threshold in %":      {"threshold: 12", []string{"c.yml:1: threshold: the threshold 12 is not between 0 and 1: it is a ratio, so write 12 % as 0.12"}},
		"threshold 0":         {"threshold: 0", []string{"c.yml:1: threshold: the threshold 0 is not between 0 and 1: it is a ratio, such as 0.12 for 12 %"}},
		"threshold NaN":       {"threshold: .nan", []string{"c.yml:1: threshold: the threshold NaN is not between 0 and 1: it is a ratio, such as 0.12 for 12 %"}},
		"alpha NaN":           {"benchmark: {alpha: .nan}", []string{"c.yml:1: benchmark.alpha: NaN is not a usable error rate: use 0.001 to 0.25, such as 0.05"}},
		"a further phase":     {"benchmark:\n  phases: [generation, generation@8]", []string{`c.yml:2: benchmark.phases: "generation@8" is not named here: give benchmark.clients or benchmark.depth a list`}},
		"no first client":     {"benchmark:\n  clients: [8]", []string{"c.yml:2: benchmark.clients: the list begins with 8: begin it with 1, by which copies are judged in any case, such as [1, 8]"}},
		"clients twice":       {"benchmark:\n  clients: [1, 8, 8]", []string{"c.yml:2: benchmark.clients: 8 is named twice"}},
		"too many clients":    {"benchmark:\n  clients: [1, 1000]", []string{"c.yml:2: benchmark.clients: 1000 sequences cannot be generated at once: use 2 to 256 after the 1"}},
		"clients and prompt":  {"benchmark:\n  phases: [prompt]\n  clients: [1, 8]", []string{"c.yml:3: benchmark.clients: a list has further phases of generation, which benchmark.phases leaves out: add generation to it, or give one value"}},
		"clients, no pairs":   {"benchmark:\n  method: process\n  clients: [1, 8]", []string{"c.yml:3: benchmark.clients: a list needs the paired method, and benchmark.method is process: use auto or paired, or give one value"}},
		"a depth of text":     {"benchmark:\n  depth: deep", []string{`c.yml:2: benchmark.depth: "deep" is not a whole number or a list of them`}},
		"half a depth":        {"benchmark:\n  depth: 1.5", []string{`c.yml:2: benchmark.depth: "1.5" is not a whole number or a list of them`}},
		"a depth too few":     {"benchmark:\n  depth: [0, -1]", []string{"c.yml:2: benchmark.depth: -1 tokens cannot be in the cache: use 0 to 1048576"}},
		"depths backwards":    {"benchmark:\n  depth: [4096, 0]", []string{"c.yml:2: benchmark.depth: 0 is not deeper than the first depth, 4096: begin with the lowest, which both phases have"}},
		"less than no memory": {"max_memory: {host: -1GB}", []string{`c.yml:1: max_memory.host: -1GB is not a size: use one such as 24GB, or 0 for no limit`}},
		"no phase":            {"benchmark:\n  phases: []", []string{"c.yml:2: benchmark.phases: needs at least one of generation and prompt"}},
		"unknown phase":       {"benchmark:\n  phases: [decode]", []string{`c.yml:2: benchmark.phases: "decode" is not a phase: use generation or prompt`}},
		"empty work.dir":      {"work: {dir: ''}", []string{"c.yml:1: work.dir: it is empty: name a folder, such as data/work"}},
		"empty storage.path":  {"storage:\n  path: ''", []string{"c.yml:2: storage.path: it is empty: name a folder, such as data"}},
		"retention":           {"storage:\n  retention:\n    cycles: -1", []string{"c.yml:3: storage.retention.cycles: -1 cycles cannot be kept: use 1 or more, or 0 for no bound"}},
		"bus of another kind": {"a2a:\n  url: amqp://h", []string{"c.yml:2: a2a.url: its scheme is not known here: write redis://HOST:PORT/DB, unix:///PATH?db=DB, redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB or redis+cluster://HOST:PORT,HOST:PORT (rediss with TLS)"}},
		"unknown TLS key": {"a2a:\n  tls_config:\n    ca_path: /x", []string{
			"c.yml:3: a2a.tls_config.ca_path: there is no such key; the keys here are ca, ca_file, cert, cert_file, insecure_skip_verify, key, key_file, max_version, min_version, server_name",
		}},
		"a secret manager's key": {"a2a:\n  tls_config:\n    key_ref: x", []string{
			"c.yml:3: a2a.tls_config.key_ref: there is no such key; the keys here are ca, ca_file, cert, cert_file, insecure_skip_verify, key, key_file, max_version, min_version, server_name",
		}},
		"version of TLS":      {"a2a:\n  tls_config:\n    min_version: '1.2'", []string{`c.yml:3: a2a.tls_config.min_version: "1.2" is not a version of TLS: write TLS12 or TLS13`}},
		"negative threads":    {"engine:\n  threads: -1", []string{"c.yml:2: engine.threads: -1 is below 0: use 0 for automatic, or a number of threads"}},
		"no time":             {"engine:\n  timeouts:\n    benchmark: 0s", []string{"c.yml:3: engine.timeouts.benchmark: 0s leaves no time: use a duration above 0, such as 2h"}},
		"reserved option":     {"engine:\n  bench_args:\n    - -r\n    - 5", []string{"c.yml:2: engine.bench_args: -r is not allowed here: use benchmark.rounds"}},
		"value, not its name": {"models: {dir: nice}\nengine:\n  dir: nice\n  nice: 99", []string{"c.yml:4: engine.nice: 99 is not a nice level: use 0 to 19"}},
		"a minimum above the default maximum": {"benchmark:\n  rounds: {min: 60}", []string{
			"c.yml:2: benchmark.rounds.max: 56 is out of range: use the minimum (60) to 1000",
		}},

		"several at once": {`
threshold: 12
engine:
  nice: 20
  timeouts: {quantize: never, benchmark: 0s}
  gpu: true
benchmark: {alpha: x, rounds: {min: 1}}
`, []string{
			"c.yml:2: threshold: the threshold 12 is not between 0 and 1: it is a ratio, so write 12 % as 0.12",
			"c.yml:4: engine.nice: 20 is not a nice level: use 0 to 19",
			`c.yml:5: engine.timeouts.quantize: "never" is not a duration: write one such as 90s, 15m, 4h or 1d`,
			"c.yml:5: engine.timeouts.benchmark: 0s leaves no time: use a duration above 0, such as 2h",
			"c.yml:6: engine.gpu: there is no such key; the keys here are bench_args, dir, env, evaluate_args, imatrix, nice, quantize_args, sandbox, sandbox_reads, threads, timeouts",
			`c.yml:7: benchmark.alpha: "x" is not a number`,
			"c.yml:7: benchmark.rounds.min: 1 is too few rounds for a useful interval: use 3 or more",
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

func TestVariableNamedTwice(t *testing.T) {
	_, err := read("c.yml", []byte("engine:\n  env:\n    A: 1\n    A: 2\n"))
	require.ErrorContains(t, err, "c.yml:3: engine.env: ")
	assert.ErrorContains(t, err, "already defined")
}

func TestRelativePathsAreTakenFromTheFilesFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yml")
	require.NoError(t, os.WriteFile(file, []byte(`
models: {dir: models}
work: {dir: ../work}
engine: {dir: ./bin, imatrix: /i.gguf}
storage: {path: state}
a2a: {password_file: password, tls_config: {ca_file: ca.pem, cert_file: c.pem, key_file: /k.pem}}
schedule:
  - {name: own, cron: "@daily", engine: {dir: bin2, imatrix: i.gguf}, models: [a, ./b.gguf, ../c.gguf, sub/d.gguf, /e.gguf, "!./f.gguf"]}
  - {name: inherits, cron: "@daily"}
`), 0o600))
	c, err := config.Load(file, checks)
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dir, "models"), c.Models.Dir)
	assert.Equal(t, filepath.Join(filepath.Dir(dir), "work"), c.Work.Dir)
	assert.Equal(t, filepath.Join(dir, "bin"), c.Engine.Dir)
	assert.Equal(t, "/i.gguf", c.Engine.Imatrix)
	assert.Equal(t, filepath.Join(dir, "state"), c.Storage.Path)
	assert.Equal(t, filepath.Join(dir, "password"), c.A2A.PasswordFile)
	assert.Equal(t, promconfig.TLSConfig{CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "c.pem"), KeyFile: "/k.pem"}, c.A2A.TLS)

	own, inherits := c.Schedule[0], c.Schedule[1]
	assert.Equal(t, filepath.Join(dir, "bin2"), own.Engine.Dir)
	assert.Equal(t, filepath.Join(dir, "i.gguf"), own.Engine.Imatrix)
	assert.Equal(t, []string{"a", filepath.Join(dir, "b.gguf"), filepath.Join(filepath.Dir(dir), "c.gguf"), "sub/d.gguf", "/e.gguf", "!" + filepath.Join(dir, "f.gguf")}, own.Models)
	assert.Equal(t, c.Engine, inherits.Engine)
}

func TestDefaultPathsAreNotTheFiles(t *testing.T) {
	c, err := read("/etc/quant-exporter.yml", nil)
	require.NoError(t, err)
	assert.Equal(t, filepath.Join("data", "work"), c.Work.Dir, "a file that says nothing of it must not move it to /etc")
	assert.Equal(t, "data", c.Storage.Path)
	assert.Empty(t, c.Models.Dir)
	assert.Empty(t, c.Engine.Dir)
}

func TestMissingFile(t *testing.T) {
	_, err := config.Load(filepath.Join(t.TempDir(), "none.yml"), checks)
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "none.yml")
}

// shipped is the commented file that comes with the program.
var shipped = filepath.Join("..", "..", "quant-exporter.yml")

func shippedText(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(shipped)
	require.NoError(t, err)
	return string(text)
}

// commented are the keys that stand behind a # in the shipped file; comments continue
// further to the right.
var commented = regexp.MustCompile(`(?m)^( {0,4})# ([a-z_]+: )`)

func TestShippedFileShowsTheDefaults(t *testing.T) {
	text := shippedText(t)
	c := parse(t, text)
	require.Len(t, c.Schedule, 1)

	want := config.Default()
	nightly := want.NewEntry(c.Schedule[0].Line, false)
	nightly.Name, nightly.Cron = "nightly", "0 3 * * *"
	want.Schedule = []config.Entry{nightly}
	// [] and {} stand where the default is nothing.
	for _, engine := range []*config.Engine{&want.Engine, &want.Schedule[0].Engine} {
		engine.SandboxReads = []string{}
		engine.Env, engine.BenchArgs, engine.QuantizeArgs, engine.EvaluateArgs = map[string]string{}, []string{}, []string{}, []string{}
	}
	assert.Equal(t, want, c)
}

func TestShippedFileHasEveryKey(t *testing.T) {
	// The examples are keys, too, and right; of two, one takes the place of the other.
	text := commented.ReplaceAllString(shippedText(t), "$1$2")
	text = strings.ReplaceAll(text, "rediss://127.0.0.1:6379/0", "rediss+sentinel://127.0.0.1:26379/main/0") // for the keys of Sentinels
	c := parse(t, regexp.MustCompile(`(?m)^    (against|on): .*\n`).ReplaceAllString(text, ""))
	assert.NotEmpty(t, c.A2A.URL)
	one := strings.Replace(text, `models: ["*"]`, "models: [m]", 1)
	parse(t, regexp.MustCompile(`(?m)^    (targets|choose|publish|on): .*\n`).ReplaceAllString(one, ""))
	fleet := parse(t, regexp.MustCompile(`(?m)^    (against|publish): .*\n`).ReplaceAllString(text, ""))
	assert.Equal(t, []string{"h100", "l4"}, fleet.Schedule[0].On)

	var tree map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &tree))
	for key := range c.Keys() {
		root, path := tree, key
		if below, ok := strings.CutPrefix(key, "schedule[]."); ok {
			root, path = tree["schedule"].([]any)[0].(map[string]any), below
		}
		_, ok := lookUp(root, path)
		assert.True(t, ok, "%s is not in the file", key)
	}
	// What is behind a # though it is a default.
	for key, value := range map[string]string{"work.dir": "data/work", "storage.path": "data"} {
		got, _ := lookUp(tree, key)
		assert.Equal(t, value, got, key)
	}
}

func TestFileOfTheIssue(t *testing.T) {
	c := parse(t, `
schedule:
  - name: nightly
    cron: "0 3 * * *"
    models: ["*"]
    targets: [Q2_K]
a2a:
  url: redis://127.0.0.1:6379/0
`)
	want := config.Default()
	nightly := want.NewEntry(3, false)
	nightly.Name, nightly.Cron = "nightly", "0 3 * * *"
	want.Schedule = []config.Entry{nightly}
	want.A2A.URL = "redis://127.0.0.1:6379/0"
	assert.Equal(t, want, c)
}

func lookUp(tree any, path string) (value any, ok bool) {
	for name := range strings.SplitSeq(path, ".") {
		section, isSection := tree.(map[string]any)
		if !isSection {
			return nil, false
		}
		if tree, ok = section[name]; !ok {
			return nil, false
		}
	}
	return tree, true
}

func TestHashTellsTextsApart(t *testing.T) {
	a, err := read("a.yml", []byte("threshold: 0.1"))
	require.NoError(t, err)
	same, err := read("b.yml", []byte("threshold: 0.1"))
	require.NoError(t, err)
	other, err := read("a.yml", []byte("threshold: 0.2"))
	require.NoError(t, err)
	assert.Len(t, a.Hash(), 64)
	assert.Equal(t, a.Hash(), same.Hash())
	assert.NotEqual(t, a.Hash(), other.Hash())
	defaults := config.Default()
	assert.Empty(t, defaults.Hash())
}

func TestThresholdAsText(t *testing.T) {
	for _, text := range []string{"0.12", "1e-3", "0.999"} {
		_, err := config.ParseThreshold("X", text)
		require.NoError(t, err, text)
	}
	for text, want := range map[string]string{
		"":     `X: "" is not a number: write a ratio between 0 and 1, such as 0.12`,
		"12%":  `X: "12%" is not a number: write 12 % as 0.12`,
		"0,12": `X: "0,12" is not a number: write a ratio between 0 and 1, such as 0.12`,
		"12":   "X: the threshold 12 is not between 0 and 1: it is a ratio, so write 12 % as 0.12",
		"1":    "X: the threshold 1 is not between 0 and 1: it is a ratio, so write 1 % as 0.01",
		"0":    "X: the threshold 0 is not between 0 and 1: it is a ratio, such as 0.12 for 12 %",
		"-0.1": "X: the threshold -0.1 is not between 0 and 1: it is a ratio, such as 0.12 for 12 %",
		"NaN":  "X: the threshold NaN is not between 0 and 1: it is a ratio, such as 0.12 for 12 %",
		"inf":  "X: the threshold +Inf is not between 0 and 1: it is a ratio, such as 0.12 for 12 %",
	} {
		_, err := config.ParseThreshold("X", text)
		assert.EqualError(t, err, want, text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(shippedText(f)))
	for _, seed := range []string{
		"", "threshold: 0.2", "engine: {env: {A: b}, bench_args: [-ngl, 99]}", "engine: &e {timeouts: *e}", "a: &a [*a]",
		"benchmark: {phases: [prompt], rounds: {min: 3, max: 4}, budget: 4h}", "---\n---\n", "- 1", "? [a]\n: b", "engine: [", "\x00",
		"engine: !!binary aGVsbG8=", "<<: *x", "threshold: !!str 0.1", "\"a\\nb\": c", "work: {dir: \"\"}",
		"schedule: [{name: n, cron: '@daily'}]", "schedule: [{name: n, cron: '@every 1h', engine: {env: {A: b}}}]\nengine: {env: {C: d}}",
		"schedule: &s [*s]", "schedule: [*a]", "schedule: &a\n- &e {name: n, cron: '0 3 * * *', models: [./x], threshold: 0.5}\n- *e", "schedule: [null, 1, [], {}]",
		"schedule: {name: n}", "storage: {retention: {age: 1d, cycles: 3}}", "a2a: {url: 'redis+sentinel://a,b/m', stream: s, tls_config: {ca: x}}",
		"a2a: {url: 'rediss://h', tls_config: {min_version: TLS12, cert: c, key: k}}", "a2a: {tls_config: &t {tls_config: *t}}", "\xff\xfe( 00", "threshold: 'x",
		"choose: {by: fastest, max_size: 8GB, max_memory: {host: 24GB, device: 12GiB}}",
		"schedule: [{name: n, cron: '@daily', targets: [Q4_K_M, {name: mix, format: Q4_K_M, args: [--tensor-type, a=b], imatrix: x}, {name: m2, format: Q8_0, imatrix: '{file}.x'}]}]",
	} {
		f.Add([]byte(seed))
	}
	place := regexp.MustCompile(`^c\.yml:[1-9]\d*: .`)
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := read("c.yml", text)
		if err != nil {
			last, lines := 0, len(text)+1 // of UTF-16
			if utf8.Valid(text) {
				lines = 1 + bytes.Count(text, []byte("\n")) + bytes.Count(text, []byte("\r")) +
					bytes.Count(text, []byte("\u0085")) + bytes.Count(text, []byte("\u2028")) + bytes.Count(text, []byte("\u2029"))
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				require.Regexp(t, place, line, "every line of the message says where")
				number, _, _ := strings.Cut(strings.TrimPrefix(line, "c.yml:"), ":")
				n, err := strconv.Atoi(number)
				require.NoError(t, err)
				assert.GreaterOrEqual(t, n, last, "the lines are in order")
				assert.LessOrEqual(t, n, lines)
				last = n
			}
			return
		}
		assert.Empty(t, c.Problems(checks))
		for i := range c.Schedule {
			assert.Empty(t, c.Schedule[i].Problems(c, checks))
		}
		// What was read can be written down and read again.
		again, err := yaml.Marshal(c)
		require.NoError(t, err)
		_, err = read("c.yml", again)
		require.NoError(t, err, "%s", again)
	})
}

func TestKeysAreInTheOrderOfTheFile(t *testing.T) {
	c := config.Default()
	var keys []string
	for key := range c.Keys() {
		keys = append(keys, key)
		if key == "storage.path" {
			break
		}
	}
	assert.Equal(t, []string{"models.dir", "models.allow_requantize", "work.dir", "work.copy", "cache.size", "storage.path"}, keys)
}

func TestKeysOfAnEntryCome(t *testing.T) {
	c := config.Default()
	got := map[string]any{}
	for key, value := range c.Keys() {
		if name, ok := strings.CutPrefix(key, "schedule[]."); ok {
			got[name] = value
		}
	}
	assert.Equal(t, map[string]any{
		"name": "", "cron": "", "timezone": "", "models": []string{"*"}, "targets": []string{"Q2_K"},
		"jitter": model.Duration(0), "overlap": config.Forbid, "starting_deadline": model.Duration(time.Hour), "timeout": model.Duration(0),
		"suspend": false, "run_on_start": false, "on": []string(nil), "against": "", "allow_requantize": false,
		"threshold": config.Inherited("threshold"), "benchmark": config.Inherited("benchmark"), "engine": config.Inherited("engine"), "quality": config.Inherited("quality"), "publish": config.Inherited("publish"),
		"choose": config.Inherited("choose"), "baseline": config.Inherited("baseline"),
		"fresh_for": config.Inherited("fresh_for"), "max_memory": config.Inherited("max_memory"),
	}, got)
}

func TestBaselineValidate(t *testing.T) {
	s := config.DefaultSettings()
	assert.Empty(t, s.Validate())
	s.Baseline = "Q8_0"
	assert.Empty(t, s.Validate(), "the engine knows whether it makes that")
	s.Baseline = " "
	problems := s.Validate()
	require.Len(t, problems, 1)
	assert.Equal(t, "baseline", problems[0].Path)
}

func TestFilesBeyondAllNeedAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yml")
	require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte("# comment\n"), 3<<20), 0o600))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := config.Load(file, checks)
	runtime.ReadMemStats(&after)
	require.ErrorContains(t, err, "has more than 1048576 bytes")
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(10<<20))

	require.NoError(t, os.WriteFile(file, []byte("schedule:\n"+strings.Repeat("- {name: n, cron: '@daily'}\n", 2_001)), 0o600))
	_, err = config.Load(file, checks)
	require.ErrorContains(t, err, "c.yml:2: schedule: has 2001 entries, more than 2000")
}
