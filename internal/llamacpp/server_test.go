package llamacpp

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/runner"
)

func TestServerArguments(t *testing.T) {
	help := read(t, "recorded", "server-help.txt")
	for args, want := range map[string]string{
		"":                               "",
		"-fa 1":                          "--flash-attn on",
		"-fa 0":                          "--flash-attn off",
		"--flash-attn auto":              "--flash-attn auto",
		"-fa on -ngl 99":                 "--flash-attn on -ngl 99",
		"--n_gpu_layers 20":              "--n-gpu-layers 20",
		"-nkvo 1":                        "--no-kv-offload",
		"-nkvo 0 -mmp 0":                 "--load-mode none",
		"-mmp 1":                         "",
		"--no-host 1 -nopo 1":            "--no-host --no-op-offload",
		"--repack 0":                     "--no-repack",
		"-dev CUDA0/CUDA1":               "--device CUDA0,CUDA1",
		"-ts 3/1":                        "--tensor-split 3,1",
		"-ot a=CPU;b=CPU":                "--override-tensor a=CPU,b=CPU",
		"-ctk q8_0 -ctv q8_0":            "-ctk q8_0 -ctv q8_0",
		"-t 3 --poll 100 --delay 5":      "-t 3",
		"-v --progress --no-warmup -t 2": "-t 2",
		"--numa distribute --prio 2":     "--numa distribute --prio 2",
		"-lm none":                       "-lm none",
	} {
		t.Run(args, func(t *testing.T) {
			got, err := serverArgs(strings.Fields(args), help)
			require.NoError(t, err)
			assert.Equal(t, want, strings.Join(got, " "))
		})
	}
	for args, want := range map[string]string{
		"-embd 1":     "llama-server does not know -embd, which is for llama-bench",
		"-nkvo maybe": "-nkvo maybe: use 0 or 1",
		"-fa":         "-fa has no value",
		"99":          `"99" is not an option`,
	} {
		t.Run(args, func(t *testing.T) {
			_, err := serverArgs(strings.Fields(args), help)
			assert.EqualError(t, err, want)
		})
	}
	_, err := serverArgs([]string{"-nkvo", "1"}, "-m --host FILE.sock")
	assert.EqualError(t, err, "llama-server does not know --no-kv-offload, which stands for -nkvo of llama-bench")
}

func TestServerIsCalledWithWhatItsBuildHas(t *testing.T) {
	found := binary{path: "/opt/llama-server"}
	s := newServerAbility(found, read(t, "recorded", "server-help.txt"), nil)
	assert.Empty(t, s.unusable)
	assert.Equal(t, "--poll 0 --cache-ram 0 --ctx-checkpoints 0 -fit off --offline --no-slots --no-webui --no-jinja -lv 4", strings.Join(s.always, " "))

	s = newServerAbility(found, "--host HOST  ip address or path of a .sock\n--poll <0...100>\n", nil)
	assert.Empty(t, s.unusable)
	assert.Equal(t, "--poll 0", strings.Join(s.always, " "))

	assert.Contains(t, newServerAbility(found, "--host HOST  ip address\n--poll N", nil).unusable, "/opt/llama-server is too old")
	assert.Contains(t, newServerAbility(found, "--host HOST  .sock", nil).unusable, "has no --poll")
	assert.Equal(t, "engine.bench_args: llama-server does not know -embd, which is for llama-bench",
		newServerAbility(found, read(t, "recorded", "server-help.txt"), []string{"-embd", "1"}).unusable)
}

func TestTimings(t *testing.T) {
	answer := func(timings string) []byte { return []byte(`{"content": "x", "timings": ` + timings + `}`) }
	good := `{"cache_n": 5, "prompt_n": 1, "prompt_ms": 2.5, "predicted_n": 33, "predicted_ms": 64.5}`
	got, err := parseTimings(answer(good), 33, time.Second)
	require.NoError(t, err)
	assert.InDelta(t, 64.5, *got.PredictedMS, 1e-12)

	with := func(field, value string) []byte {
		parts := strings.Split(good, ", ")
		for i, part := range parts {
			if name, _, _ := strings.Cut(part, ":"); strings.Contains(name, field) {
				parts[i] = `"` + field + `": ` + value
				if i == len(parts)-1 {
					parts[i] += "}"
				}
			}
		}
		return answer(strings.Join(parts, ", "))
	}
	for name, test := range map[string]struct {
		answer []byte
		want   string
	}{
		"no JSON":               {[]byte("<html>"), "JSON is damaged"},
		"cut off":               {answer(good)[:40], "cut off after"},
		"no timings":            {[]byte(`{"content": "x"}`), "no timings"},
		"null":                  {answer("null"), "no timings"},
		"a part is missing":     {answer(`{"prompt_n": 1}`), "no timings"},
		"other tokens":          {with("predicted_n", "32"), "generated 32 tokens instead of 33"},
		"no time":               {with("predicted_ms", "0"), "predicted_ms is 0"},
		"negative":              {with("predicted_ms", "-3"), "predicted_ms is -3"},
		"not a number":          {with("predicted_ms", "NaN"), "JSON is damaged"},
		"beyond any float":      {with("predicted_ms", "1e999"), "a number 1e999 where"},
		"no time of the prompt": {with("prompt_ms", "0"), "prompt_ms is 0"},
		"longer than it took":   {with("predicted_ms", "1001"), "the answer came after"},
		"text":                  {with("predicted_ms", `"soon"`), "a string where a number"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseTimings(test.answer, 33, time.Second)
			assert.ErrorContains(t, err, test.want)
		})
	}
	_, err = parseTimings(answer(`{"prompt_n": 64, "prompt_ms": 2.5, "predicted_n": 1, "predicted_ms": 0}`), 1, time.Second)
	require.NoError(t, err, "one token comes with the prompt, and takes no time of its own")
}

func TestTimingsOfSeveralAtOnce(t *testing.T) {
	one := func(promptN int, predictedMS float64) string {
		return fmt.Sprintf(`{"timings": {"prompt_n": %d, "prompt_ms": 2.5, "predicted_n": 33, "predicted_ms": %v}}`, promptN, predictedMS)
	}
	got, err := parseAll([]byte("["+one(1, 60)+","+one(512, 50)+","+one(1, 55)+"]"), 3, 33, time.Second)
	require.NoError(t, err)
	assert.InDelta(t, 60, *got.PredictedMS, 1e-12, "the one that took longest")
	assert.Equal(t, 512, *got.PromptN, "the one of which the least was in the cache")
	_, err = parseAll([]byte("["+one(1, 60)+"]"), 3, 33, time.Second)
	require.ErrorContains(t, err, "it answered 1 prompts instead of 3")
}

func FuzzTimings(f *testing.F) {
	f.Add([]byte(`{"timings": {"prompt_n": 1, "prompt_ms": 2.5, "predicted_n": 33, "predicted_ms": 64.5}}`))
	f.Add([]byte(`{"timings": {"prompt_n": 1, "prompt_ms": 1e308, "predicted_n": 33, "predicted_ms": 1e308}}`))
	f.Add([]byte(`{"timings": null}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		got, err := parseTimings(answer, 33, time.Second)
		if err != nil {
			return
		}
		for _, v := range []float64{*got.PromptMS, *got.PredictedMS} {
			require.Greater(t, v, 0.0)
			require.False(t, math.IsInf(v, 0) || math.IsNaN(v))
		}
	})
}

func TestLoadLogTellsWhereAFileIs(t *testing.T) {
	var log loadLog
	for line := range strings.Lines(read(t, "recorded", "server-load.txt")) {
		log.add(strings.TrimSpace(line))
	}
	assert.Equal(t, "CPU", log.named())
	assert.Equal(t, &runner.Offload{Buffers: []runner.Buffer{
		{Device: "CPU_Mapped", Use: "model", Bytes: 7874805},
		{Device: "CPU", Use: "output", Bytes: 0},
		{Device: "CPU", Use: "KV", Bytes: 5 << 20},
		{Device: "CPU", Use: "compute", Bytes: 17343447},
	}}, log.where())

	var gpu loadLog
	assert.Nil(t, gpu.where(), "a server that tells nothing")
	for _, line := range []string{
		"system_info: n_threads = 8 (n_threads_batch = 8) / 16 | CUDA : ARCHS = 900 | USE_GRAPHS = 1 | CPU : SSE3 = 1 | AVX = 1 |",
		"load_tensors: offloaded 33/33 layers to GPU",
		"load_tensors:        CUDA0 model buffer size =  4095.05 MiB",
		"llama_kv_cache:      CUDA0 KV buffer size =   512.00 MiB",
	} {
		gpu.add(line)
	}
	assert.Equal(t, "CUDA", gpu.named())
	assert.Equal(t, 33, gpu.where().Layers)
	assert.Equal(t, "CUDA0", gpu.where().Buffers[1].Device)
	for range 10_000 {
		gpu.add("x: CUDA0 KV buffer size = 1.00 MiB")
	}
	assert.Len(t, gpu.where().Buffers, mostBuffers)
}
