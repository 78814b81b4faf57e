package llamacpp

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestDefaultConfigIsValid(t *testing.T) {
	require.Empty(t, Validate(config.DefaultEngine()))
}

func TestConfigRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change     func(*config.Engine)
		path, want string
	}{
		"variable without name":       {func(c *config.Engine) { c.Env = map[string]string{"": "x"} }, "env", `"" cannot name`},
		"variable with equals sign":   {func(c *config.Engine) { c.Env = map[string]string{"A=B": "x"} }, "env", `"A=B" cannot name`},
		"zero byte in a value":        {func(c *config.Engine) { c.Env = map[string]string{"A": "\x00"} }, "env", "the value of A"},
		"threads twice":               {func(c *config.Engine) { c.Threads, c.BenchArgs = 2, []string{"-t", "4"} }, "threads", "use one of them"},
		"model":                       {func(c *config.Engine) { c.BenchArgs = []string{"-m", "x"} }, "bench_args", "-m is not allowed here"},
		"prompt":                      {func(c *config.Engine) { c.BenchArgs = []string{"-p", "1"} }, "bench_args", "use benchmark.prompt_tokens"},
		"generation, with underscore": {func(c *config.Engine) { c.BenchArgs = []string{"--n_gen", "1"} }, "bench_args", "use benchmark.generation_tokens"},
		"repetitions":                 {func(c *config.Engine) { c.BenchArgs = []string{"-r", "3"} }, "bench_args", "use benchmark.rounds"},
		"output":                      {func(c *config.Engine) { c.BenchArgs = []string{"--output", "md"} }, "bench_args", "--output is not allowed here"},
		"several values":              {func(c *config.Engine) { c.BenchArgs = []string{"-ngl", "0,99"} }, "bench_args", `"0,99"`},
		"imatrix as argument":         {func(c *config.Engine) { c.QuantizeArgs = []string{"--imatrix", "x"} }, "quantize_args", "use engine.imatrix"},
		"split output":                {func(c *config.Engine) { c.QuantizeArgs = []string{"--keep-split"} }, "quantize_args", "one file"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config.DefaultEngine()
			test.change(&cfg)
			problems := Validate(cfg)
			require.Len(t, problems, 1)
			assert.Equal(t, test.path, problems[0].Path)
			require.ErrorContains(t, problems[0].Err, test.want)
			assert.NotContains(t, problems[0].Err.Error(), "engine."+test.path, "whoever reports the problem names the key")
		})
	}
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

func TestProblemsShowNoSecret(t *testing.T) {
	cfg := config.DefaultEngine()
	cfg.BenchArgs = []string{"--hf-token", "a,hunter2", "--api-key=b,hunter2"}
	problems := Validate(cfg)
	require.Len(t, problems, 2)
	for _, problem := range problems {
		assert.NotContains(t, problem.Err.Error(), "hunter2")
		assert.Contains(t, problem.Err.Error(), "takes a comma")
	}
}

func TestNoVariableTakesAToolOver(t *testing.T) {
	for _, name := range []string{
		"LLAMA_ARG_MODEL", "LLAMA_ARG_MODEL_URL", "llama_arg_hf_repo", "LLAMA_LOG_FILE", "LLAMA_CACHE", "HF_TOKEN", "HF_ENDPOINT", "MODEL_ENDPOINT",
		"LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "BASH_ENV", "CUDA_INJECTION64_PATH", "VK_INSTANCE_LAYERS", "GLIBC_TUNABLES",
		"LD_TRACE_LOADED_OBJECTS", "LD_SHOW_AUXV", "LD_BIND_NOT", "ld_debug_output", "DYLD_PRINT_LIBRARIES", "HSA_TOOLS_LIB", "OMP_TOOL_LIBRARIES", "OMP_DISPLAY_ENV",
		"OPENSSL_CONF", "ROCP_TOOL_LIB", "VK_IMPLICIT_LAYER_PATH", "VK_ADD_IMPLICIT_LAYER_PATH", "XPTI_SUBSCRIBERS", "ZE_ENABLE_TRACING_LAYER", "MALLOC_TRACE",
	} {
		cfg := config.DefaultEngine()
		cfg.Env = map[string]string{name: "x"}
		require.Len(t, Validate(cfg), 1, name)
		assert.ErrorContains(t, Validate(cfg)[0].Err, name)
		assert.NotContains(t, Environment([]string{name + "=x"}, cfg.Env), name+"=x", "it is left out even where nobody validated")
	}
	cfg := config.DefaultEngine()
	cfg.Env = map[string]string{"CUDA_VISIBLE_DEVICES": "0", "GGML_OF_TOMORROW": "1", "LD_LIBRARY_PATH": "/opt/lib", "DYLD_LIBRARY_PATH": "/opt/lib", "OMP_PLACES": "cores", "MY_WRAPPER": "x"}
	assert.Empty(t, Validate(cfg), "who configures a variable by name may")
}

func TestTheSameToolsNamedInAnotherWayAreTheSameInputs(t *testing.T) {
	arguments := func(environment ...string) map[string]string {
		return (&Engine{environment: Environment(environment, nil)}).arguments()
	}
	byVariable := arguments("PATH=/bin", "LLAMA_CPP_DIR=/opt/llama.cpp", "CUDA_VISIBLE_DEVICES=1")
	assert.Equal(t, byVariable, arguments("PATH=/usr/bin:/opt/llama.cpp", "CUDA_VISIBLE_DEVICES=1"))
	assert.Equal(t, map[string]string{"env.CUDA_VISIBLE_DEVICES": "1", "env.GGML_NO_BACKTRACE": "1"}, byVariable)
}
