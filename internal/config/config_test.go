package config

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/internal/workdir"
)

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
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse("c.yml", []byte(text))
			require.NoError(t, err)
			assert.Equal(t, Default(), *c)
		})
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	c, err := Parse("/etc/q/c.yml", []byte(`
models: {dir: /srv/models, allow_requantize: true}
work: {dir: /var/work, isolation: copy}
engine:
  dir: /opt/llama
  env: {CUDA_VISIBLE_DEVICES: "1", N: 2}
  bench_args: [-ngl, 99]
  quantize_args: [--pure]
  threads: 3
  nice: 0
  imatrix: /i.gguf
  timeouts: {quantize: 1d, benchmark: 1h30m}
benchmark:
  phases: [prompt]
  prompt_tokens: 1
  generation_tokens: 2
  depth: 3
  rounds: {min: 4, max: 5}
  alpha: 0.1
  budget: 0
  max_disturbance: 1
  max_repeats: 0
  wait_idle: 90s
threshold: 0.2
`))
	require.NoError(t, err)
	want := Default()
	want.Models = Models{Dir: "/srv/models", AllowRequantize: true}
	want.Work = Work{Dir: "/var/work", Isolation: workdir.Copy}
	e := &want.Engine
	e.Dir, e.Env, e.BenchArgs, e.QuantizeArgs = "/opt/llama", map[string]string{"CUDA_VISIBLE_DEVICES": "1", "N": "2"}, []string{"-ngl", "99"}, []string{"--pure"}
	e.Threads, e.Nice, e.Imatrix = 3, 0, "/i.gguf"
	e.Timeouts.Quantize, e.Timeouts.Benchmark = model.Duration(24*time.Hour), model.Duration(90*time.Minute)
	b := &want.Benchmark
	b.Phases, b.PromptTokens, b.GenerationTokens, b.Depth = []verdict.Phase{verdict.Prompt}, 1, 2, 3
	b.Rounds.Min, b.Rounds.Max, b.Alpha, b.Budget = 4, 5, 0.1, 0
	b.MaxDisturbance, b.MaxRepeats, b.WaitIdle = 1, 0, model.Duration(90*time.Second)
	want.Threshold = 0.2
	assert.Equal(t, want, *c)

	defaults := Default()
	set := maps.Collect(c.Keys())
	for key, value := range defaults.Keys() {
		assert.NotEqual(t, value, set[key], "this test sets every key: %s", key)
	}
}

func TestAliasesStandForWhatTheyName(t *testing.T) {
	c, err := Parse("c.yml", []byte("engine:\n  timeouts: {quantize: &long 7h, benchmark: *long}\n"))
	require.NoError(t, err)
	assert.Equal(t, model.Duration(7*time.Hour), c.Engine.Timeouts.Benchmark)
}

func TestMistakesAreNamedWithLineAndKey(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []string // the lines of the error
	}{
		"unknown key at the top": {"treshold: 0.1", []string{
			"c.yml:1: treshold: there is no such key; the keys here are benchmark, engine, models, threshold, work",
		}},
		"unknown key in a section": {"models:\n  directory: /x", []string{
			"c.yml:2: models.directory: there is no such key; the keys here are allow_requantize, dir",
		}},
		"unknown key in a section of a section": {"benchmark:\n  rounds:\n    least: 3", []string{
			"c.yml:3: benchmark.rounds.least: there is no such key; the keys here are max, min",
		}},
		"a later version's key": {"engine: {timeouts: {evaluate: 1h}}", []string{
			"c.yml:1: engine.timeouts.evaluate: there is no such key; the keys here are benchmark, quantize",
		}},
		"keys in another case": {"Threshold: 0.1", []string{
			"c.yml:1: Threshold: there is no such key; the keys here are benchmark, engine, models, threshold, work",
		}},
		"key that is a list": {"? [a, b]\n: c", []string{
			"c.yml:1: a list: there is no such key; the keys here are benchmark, engine, models, threshold, work",
		}},
		"key with a newline": {`"a\nb": c`, []string{
			`c.yml:1: a\nb: there is no such key; the keys here are benchmark, engine, models, threshold, work`,
		}},
		"merge key": {"engine:\n  <<: {nice: 3}", []string{
			"c.yml:2: engine.<<: there is no such key; the keys here are bench_args, dir, env, imatrix, nice, quantize_args, threads, timeouts",
		}},

		"text for a whole number":     {"engine:\n  threads: many", []string{`c.yml:2: engine.threads: "many" is not a whole number`}},
		"fraction for a whole number": {"engine:\n  threads: 1.5", []string{`c.yml:2: engine.threads: "1.5" is not a whole number`}},
		"too large for any number":    {"engine:\n  threads: 99999999999999999999", []string{`c.yml:2: engine.threads: "99999999999999999999" is not a whole number`}},
		"list for a whole number":     {"engine:\n  threads: [1]", []string{"c.yml:2: engine.threads: a list is not a whole number"}},
		"text for a number":           {"threshold: 12%", []string{`c.yml:1: threshold: "12%" is not a number`}},
		"text for a truth value":      {"models: {allow_requantize: maybe}", []string{`c.yml:1: models.allow_requantize: "maybe" is not true or false`}},
		"text for a list":             {"engine: {bench_args: -ngl 99}", []string{`c.yml:1: engine.bench_args: "-ngl 99" is not a list: write one such as [a, b]`}},
		"list in a list": {"engine: {bench_args: [[a]]}", []string{
			"c.yml:1: engine.bench_args: a list is not a list: write one such as [a, b] (line 1: cannot unmarshal !!seq into string)",
		}},
		"text for a map":      {"engine: {env: A=B}", []string{`c.yml:1: engine.env: "A=B" is not a section of names and texts: write one such as {NAME: text}`}},
		"list for a text":     {"models: {dir: [a]}", []string{"c.yml:1: models.dir: a list is not a text"}},
		"text for a section":  {"engine: /opt/llama", []string{`c.yml:1: engine: "/opt/llama" is no section of keys; the keys are bench_args, dir, env, imatrix, nice, quantize_args, threads, timeouts`}},
		"list for the file":   {"- threshold: 1", []string{"c.yml:1: (the whole file): a list is no section of keys; the keys are benchmark, engine, models, threshold, work"}},
		"text for the file":   {"hello", []string{`c.yml:1: (the whole file): "hello" is no section of keys; the keys are benchmark, engine, models, threshold, work`}},
		"duration in words":   {"benchmark:\n  budget: 5 hours", []string{`c.yml:2: benchmark.budget: "5 hours" is not a duration: write one such as 90s, 15m, 4h or 1d`}},
		"duration, no unit":   {"benchmark:\n  budget: 90", []string{`c.yml:2: benchmark.budget: "90" is not a duration: write one such as 90s, 15m, 4h or 1d`}},
		"duration, fraction":  {"benchmark:\n  budget: 1.5h", []string{`c.yml:2: benchmark.budget: "1.5h" is not a duration: write one such as 90s, 15m, 4h or 1d`}},
		"duration, below 0":   {"benchmark:\n  budget: -1h", []string{`c.yml:2: benchmark.budget: "-1h" is not a duration: write one such as 90s, 15m, 4h or 1d`}},
		"a very long value":   {"threshold: " + strings.Repeat("x", 100), []string{`c.yml:1: threshold: "` + strings.Repeat("x", 60) + `…" is not a number`}},
		"key twice":           {"threshold: 0.1\nthreshold: 0.2", []string{"c.yml:2: threshold: the key is in line 1 already: keep one"}},
		"section twice":       {"engine: {nice: 1}\nwork:\nengine: {nice: 2}", []string{"c.yml:3: engine: the key is in line 1 already: keep one"}},
		"two documents":       {"threshold: 0.1\n---\nthreshold: 0.2", []string{"c.yml:2: the file holds more than one YAML document: keep one"}},
		"no YAML":             {"engine: [", []string{"c.yml:1: this is no YAML: did not find expected node content"}},
		"no YAML, unknown &":  {"threshold: *t", []string{"c.yml: this is no YAML: unknown anchor 't' referenced"}},
		"no YAML, tab":        {"engine:\n\tnice: 1", []string{"c.yml:2: this is no YAML: found character that cannot start any token"}},
		"no YAML, binary":     {"\x00\x01", []string{"c.yml: this is no YAML: control characters are not allowed"}},
		"threshold in %":      {"threshold: 12", []string{"c.yml:1: threshold: the threshold 12 is not between 0 and 1: it is a ratio, so write 12 % as 0.12"}},
		"threshold 0":         {"threshold: 0", []string{"c.yml:1: threshold: the threshold 0 is not between 0 and 1: it is a ratio, such as 0.12 for 12 %"}},
		"threshold NaN":       {"threshold: .nan", []string{"c.yml:1: threshold: the threshold NaN is not between 0 and 1: it is a ratio, such as 0.12 for 12 %"}},
		"alpha NaN":           {"benchmark: {alpha: .nan}", []string{"c.yml:1: benchmark.alpha: NaN is no usable error rate: use 0.001 to 0.25, such as 0.05"}},
		"no phase":            {"benchmark:\n  phases: []", []string{"c.yml:2: benchmark.phases: needs at least one of generation and prompt"}},
		"unknown phase":       {"benchmark:\n  phases: [decode]", []string{`c.yml:2: benchmark.phases: "decode" is no phase: use generation or prompt`}},
		"empty work.dir":      {"work: {dir: ''}", []string{"c.yml:1: work.dir: it is empty: name a folder, such as data/work"}},
		"negative threads":    {"engine:\n  threads: -1", []string{"c.yml:2: engine.threads: -1 is below 0: use 0 for automatic, or a number of threads"}},
		"no time":             {"engine:\n  timeouts:\n    benchmark: 0s", []string{"c.yml:3: engine.timeouts.benchmark: 0s leaves no time: use a duration above 0, such as 2h"}},
		"reserved option":     {"engine:\n  bench_args:\n    - -r\n    - 5", []string{"c.yml:2: engine.bench_args: -r is not allowed here: use benchmark.rounds"}},
		"value, not its name": {"models: {dir: nice}\nengine:\n  dir: nice\n  nice: 99", []string{"c.yml:4: engine.nice: 99 is no nice level: use 0 to 19"}},
		"a minimum above the default maximum": {"benchmark:\n  rounds: {min: 60}", []string{
			"c.yml:2: benchmark.rounds.max: 56 is out of range: use rounds.min (60) to 1000",
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
			"c.yml:4: engine.nice: 20 is no nice level: use 0 to 19",
			`c.yml:5: engine.timeouts.quantize: "never" is not a duration: write one such as 90s, 15m, 4h or 1d`,
			"c.yml:5: engine.timeouts.benchmark: 0s leaves no time: use a duration above 0, such as 2h",
			"c.yml:6: engine.gpu: there is no such key; the keys here are bench_args, dir, env, imatrix, nice, quantize_args, threads, timeouts",
			`c.yml:7: benchmark.alpha: "x" is not a number`,
			"c.yml:7: benchmark.rounds.min: 1 rounds have no useful interval: use 3 or more",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse("c.yml", []byte(test.text))
			require.Error(t, err)
			assert.Nil(t, c)
			assert.Equal(t, test.want, strings.Split(err.Error(), "\n"))
		})
	}
}

func TestUnknownIsolationListsTheKnown(t *testing.T) {
	_, err := Parse("c.yml", []byte("work:\n  isolation: clone\n"))
	require.ErrorContains(t, err, "c.yml:2: work.isolation: ")
	for _, mode := range []workdir.Mode{workdir.Auto, workdir.Reflink, workdir.Link, workdir.Symlink, workdir.Copy} {
		assert.ErrorContains(t, err, string(mode))
	}
}

func TestVariableNamedTwice(t *testing.T) {
	_, err := Parse("c.yml", []byte("engine:\n  env:\n    A: 1\n    A: 2\n"))
	require.ErrorContains(t, err, "c.yml:3: engine.env: ")
	assert.ErrorContains(t, err, "already defined")
}

func TestRelativePathsAreTakenFromTheFilesFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yml")
	require.NoError(t, os.WriteFile(file, []byte("models: {dir: models}\nwork: {dir: ../work}\nengine: {dir: ./bin, imatrix: /i.gguf}\n"), 0o600))
	c, err := Load(file)
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dir, "models"), c.Models.Dir)
	assert.Equal(t, filepath.Join(filepath.Dir(dir), "work"), c.Work.Dir)
	assert.Equal(t, filepath.Join(dir, "bin"), c.Engine.Dir)
	assert.Equal(t, "/i.gguf", c.Engine.Imatrix)
}

func TestDefaultPathsAreNotTheFiles(t *testing.T) {
	c, err := Parse("/etc/quant-exporter.yml", nil)
	require.NoError(t, err)
	assert.Equal(t, filepath.Join("data", "work"), c.Work.Dir, "a file that says nothing of it must not move it to /etc")
	assert.Empty(t, c.Models.Dir)
	assert.Empty(t, c.Engine.Dir)
}

func TestMissingFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yml"))
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "none.yml")
}

// shipped is the commented file that comes with the program.
var shipped = filepath.Join("..", "..", "quant-exporter.yml")

func TestShippedFileShowsTheDefaults(t *testing.T) {
	text, err := os.ReadFile(shipped)
	require.NoError(t, err)
	c, err := Parse("quant-exporter.yml", text)
	require.NoError(t, err)

	var tree any
	require.NoError(t, yaml.Unmarshal(text, &tree))
	defaults := Default()
	want := maps.Collect(defaults.Keys())
	for key, value := range c.Keys() {
		if _, ok := lookUp(tree, key); !ok { // it is there as a comment
			name := key[strings.LastIndex(key, ".")+1:]
			assert.Regexp(t, `(?m)^\s*# `+regexp.QuoteMeta(name)+`: `, string(text), "%s is not in the file", key)
			continue
		}
		if list, ok := value.([]string); ok && len(list) == 0 { // [] where the default is nothing
			value = []string(nil)
		}
		if m, ok := value.(map[string]string); ok && len(m) == 0 {
			value = map[string]string(nil)
		}
		assert.Equal(t, want[key], value, key)
	}
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

func TestThresholdAsText(t *testing.T) {
	for _, text := range []string{"0.12", "1e-3", "0.999"} {
		_, err := ParseThreshold("X", text)
		require.NoError(t, err, text)
	}
	for text, want := range map[string]string{
		"":     `X: "" is not a number: write a ratio between 0 and 1, such as 0.12`,
		"12%":  `X: "12%" is not a number: write a ratio between 0 and 1, such as 0.12`,
		"0,12": `X: "0,12" is not a number: write a ratio between 0 and 1, such as 0.12`,
		"12":   "X: the threshold 12 is not between 0 and 1: it is a ratio, so write 12 % as 0.12",
		"1":    "X: the threshold 1 is not between 0 and 1: it is a ratio, so write 1 % as 0.01",
		"0":    "X: the threshold 0 is not between 0 and 1: it is a ratio, such as 0.12 for 12 %",
		"-0.1": "X: the threshold -0.1 is not between 0 and 1: it is a ratio, such as 0.12 for 12 %",
		"NaN":  "X: the threshold NaN is not between 0 and 1: it is a ratio, such as 0.12 for 12 %",
		"inf":  "X: the threshold +Inf is not between 0 and 1: it is a ratio, such as 0.12 for 12 %",
	} {
		_, err := ParseThreshold("X", text)
		assert.EqualError(t, err, want, text)
	}
}

func FuzzParse(f *testing.F) {
	text, err := os.ReadFile(shipped)
	require.NoError(f, err)
	f.Add(text)
	for _, seed := range []string{
		"", "threshold: 0.2", "engine: {env: {A: b}, bench_args: [-ngl, 99]}", "engine: &e {timeouts: *e}", "a: &a [*a]",
		"benchmark: {phases: [prompt], rounds: {min: 3, max: 4}, budget: 4h}", "---\n---\n", "- 1", "? [a]\n: b", "engine: [", "\x00",
		"engine: !!binary aGVsbG8=", "<<: *x", "threshold: !!str 0.1", "\"a\\nb\": c", "work: {dir: \"\"}",
	} {
		f.Add([]byte(seed))
	}
	place := regexp.MustCompile(`^c\.yml:(\d+: )?`)
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("c.yml", text)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				assert.Regexp(t, place, line, "every line of the message says where")
			}
			return
		}
		assert.Empty(t, c.problems())
		// What was read means the same when it is written down and read again.
		again, err := yaml.Marshal(c)
		require.NoError(t, err)
		_, err = Parse(string(filepath.Separator)+"c.yml", again)
		require.NoError(t, err, "%s", again)
	})
}

func TestKeysAreInTheOrderOfTheFile(t *testing.T) {
	c := Default()
	var keys []string
	for key := range c.Keys() {
		keys = append(keys, key)
		if key == "work.isolation" {
			break
		}
	}
	assert.Equal(t, []string{"models.dir", "models.allow_requantize", "work.dir", "work.isolation"}, keys)
}
