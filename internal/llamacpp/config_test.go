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
		"variable without name":       {func(c *Config) { c.Env = map[string]string{"": "x"} }, "env", `"" cannot name`},
		"variable with equals sign":   {func(c *Config) { c.Env = map[string]string{"A=B": "x"} }, "env", `"A=B" cannot name`},
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
		"LLAMA_ARG_MODEL_URL=http://localhost/other.gguf", "LLAMA_ARG_N_CPU_MOE=", "LLAMA_ARG_LOG_JSONL=1", "LLAMA_LOG_FILE=/x", "LLAMA_CPP_DIR=/tools",
		"GGML_OF_TOMORROW=1", "CUDA_INJECTION64_PATH=/evil.so", "VK_INSTANCE_LAYERS=x",
	}
	got := Environment(ours, map[string]string{"CUDA_VISIBLE_DEVICES": "1", "MINE": "yes"})
	assert.Equal(t, []string{
		"CUDA_VISIBLE_DEVICES=1", "GGML_BACKEND_PATH=/x.so", "GGML_NO_BACKTRACE=1", "HOME=/root", "LC_ALL=C", "MINE=yes",
		"OMP_NUM_THREADS=3", "PATH=/bin",
	}, got)
	assert.Equal(t, []string{"GGML_OF_TOMORROW", "LLAMA_ARG_LOG_JSONL", "LLAMA_ARG_MODEL_URL", "LLAMA_ARG_N_CPU_MOE", "LLAMA_LOG_FILE"}, Withheld(ours))
	assert.Contains(t, Environment([]string{"GGML_NO_BACKTRACE=0"}, nil), "GGML_NO_BACKTRACE=0", "whoever wants a backtrace may have it")
}

func TestNoVariableTakesAToolOver(t *testing.T) {
	for _, name := range []string{
		"LLAMA_ARG_MODEL", "LLAMA_ARG_MODEL_URL", "llama_arg_hf_repo", "LLAMA_LOG_FILE", "LLAMA_CACHE", "HF_TOKEN", "HF_ENDPOINT", "MODEL_ENDPOINT",
		"LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "BASH_ENV", "CUDA_INJECTION64_PATH", "VK_INSTANCE_LAYERS", "GLIBC_TUNABLES",
	} {
		config := DefaultConfig()
		config.Env = map[string]string{name: "x"}
		require.Len(t, config.Validate(), 1, name)
		assert.ErrorContains(t, config.Validate()[0].Err, name)
		assert.NotContains(t, Environment([]string{name + "=x"}, config.Env), name+"=x", "it is left out even where nobody validated")
	}
	config := DefaultConfig()
	config.Env = map[string]string{"CUDA_VISIBLE_DEVICES": "0", "GGML_OF_TOMORROW": "1", "LD_LIBRARY_PATH": "/opt/lib", "MY_WRAPPER": "x"}
	assert.Empty(t, config.Validate(), "who configures a variable by name may")
}

func TestTheSameToolsNamedInAnotherWayAreTheSameInputs(t *testing.T) {
	arguments := func(environment ...string) map[string]string {
		return (&Engine{environment: Environment(environment, nil)}).arguments()
	}
	byVariable := arguments("PATH=/bin", "LLAMA_CPP_DIR=/opt/llama.cpp", "CUDA_VISIBLE_DEVICES=1")
	assert.Equal(t, byVariable, arguments("PATH=/usr/bin:/opt/llama.cpp", "CUDA_VISIBLE_DEVICES=1"))
	assert.Equal(t, map[string]string{"env.CUDA_VISIBLE_DEVICES": "1", "env.GGML_NO_BACKTRACE": "1"}, byVariable)
}

func TestSecretsAreKnownByTheirNames(t *testing.T) {
	for _, name := range []string{"HF_TOKEN", "API_KEY", "GITHUB_PAT", "PAT", "SESSION_ID", "COOKIE", "SENTRY_DSN", "DB_PASSWORD"} {
		assert.True(t, SecretName(name), name)
	}
	for _, name := range []string{"PATH", "GGML_BACKEND_PATH", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "PATTERN"} {
		assert.False(t, SecretName(name), name)
	}
}
