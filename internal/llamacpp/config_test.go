package llamacpp

import (
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

func TestDefaultConfigIsValid(t *testing.T) {
	require.Empty(t, DefaultConfig().Validate())
}

func TestConfigReadsYAMLOverItsDefaults(t *testing.T) {
	config := DefaultConfig()
	decoder := yaml.NewDecoder(strings.NewReader(`
dir: /opt/llama
env: {CUDA_VISIBLE_DEVICES: "1"}
bench_args: [-ngl, "99"]
quantize_args: [--pure]
threads: 3
imatrix: /models/imatrix.gguf
timeouts: {benchmark: 1h30m}
`))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&config))

	want := DefaultConfig()
	want.Dir = "/opt/llama"
	want.Env = map[string]string{"CUDA_VISIBLE_DEVICES": "1"}
	want.BenchArgs = []string{"-ngl", "99"}
	want.QuantizeArgs = []string{"--pure"}
	want.Threads = 3
	want.Imatrix = "/models/imatrix.gguf"
	want.Timeouts.Benchmark = model.Duration(90 * 60e9)
	assert.Equal(t, want, config)
	require.Empty(t, config.Validate())
}

func TestConfigRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change     func(*Config)
		path, want string
	}{
		"variable without name":       {func(c *Config) { c.Env = map[string]string{"": "x"} }, "env", `"" is no name`},
		"variable with equals sign":   {func(c *Config) { c.Env = map[string]string{"A=B": "x"} }, "env", `"A=B" is no name`},
		"zero byte in a value":        {func(c *Config) { c.Env = map[string]string{"A": "\x00"} }, "env", "the value of A"},
		"negative threads":            {func(c *Config) { c.Threads = -1 }, "threads", "-1 is below 0"},
		"threads twice":               {func(c *Config) { c.Threads, c.BenchArgs = 2, []string{"-t", "4"} }, "threads", "use one of them"},
		"nice too high":               {func(c *Config) { c.Nice = 20 }, "nice", "20 is no nice level"},
		"nice too low":                {func(c *Config) { c.Nice = -1 }, "nice", "-1 is no nice level"},
		"no time to quantize":         {func(c *Config) { c.Timeouts.Quantize = 0 }, "timeouts.quantize", "above 0"},
		"no time to measure":          {func(c *Config) { c.Timeouts.Benchmark = 0 }, "timeouts.benchmark", "above 0"},
		"model":                       {func(c *Config) { c.BenchArgs = []string{"-m", "x"} }, "bench_args", "-m is not allowed here"},
		"prompt":                      {func(c *Config) { c.BenchArgs = []string{"-p", "1"} }, "bench_args", "use benchmark.prompt_tokens"},
		"generation, with underscore": {func(c *Config) { c.BenchArgs = []string{"--n_gen", "1"} }, "bench_args", "use benchmark.generation_tokens"},
		"repetitions":                 {func(c *Config) { c.BenchArgs = []string{"-r", "3"} }, "bench_args", "use benchmark.rounds"},
		"output":                      {func(c *Config) { c.BenchArgs = []string{"--output", "md"} }, "bench_args", "--output is not allowed here"},
		"several values":              {func(c *Config) { c.BenchArgs = []string{"-ngl", "0,99"} }, "bench_args", `"0,99"`},
		"imatrix as argument":         {func(c *Config) { c.QuantizeArgs = []string{"--imatrix", "x"} }, "quantize_args", "use engine.imatrix"},
		"split output":                {func(c *Config) { c.QuantizeArgs = []string{"--keep-split"} }, "quantize_args", "one file"},
	} {
		t.Run(name, func(t *testing.T) {
			config := DefaultConfig()
			test.change(&config)
			problems := config.Validate()
			require.Len(t, problems, 1)
			assert.Equal(t, test.path, problems[0].Path)
			require.ErrorContains(t, problems[0].Err, test.want)
			assert.NotContains(t, problems[0].Err.Error(), "engine."+test.path, "whoever reports the problem names the key")
		})
	}
}

func TestConfigNamesAllProblems(t *testing.T) {
	config := DefaultConfig()
	config.Nice, config.Threads = 40, -3
	require.Len(t, config.Validate(), 2)
}

func TestEnvironmentIsPickedByName(t *testing.T) {
	ours := []string{
		"PATH=/bin", "HOME=/root", "LC_ALL=C", "CUDA_VISIBLE_DEVICES=0", "GGML_BACKEND_PATH=/x.so", "OMP_NUM_THREADS=3",
		"HF_TOKEN=secret", "AWS_SECRET_ACCESS_KEY=secret", "REDIS_PASSWORD=secret", "LD_PRELOAD=/evil.so", "broken",
	}
	got := Environment(ours, map[string]string{"CUDA_VISIBLE_DEVICES": "1", "MINE": "yes"})
	assert.Equal(t, []string{
		"CUDA_VISIBLE_DEVICES=1", "GGML_BACKEND_PATH=/x.so", "GGML_NO_BACKTRACE=1", "HOME=/root", "LC_ALL=C", "MINE=yes",
		"OMP_NUM_THREADS=3", "PATH=/bin",
	}, got)
	assert.Contains(t, Environment([]string{"GGML_NO_BACKTRACE=0"}, nil), "GGML_NO_BACKTRACE=0", "whoever wants a backtrace may have it")
}
