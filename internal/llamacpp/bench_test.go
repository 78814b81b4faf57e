package llamacpp

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// recordedJob is what the recordings measured.
var recordedJob = runner.RoundJob{
	Files:            []string{"m.gguf"},
	Parameters:       []runner.Parameters{{All: 3934464}},
	Phases:           []verdict.Phase{verdict.Generation, verdict.Prompt},
	PromptTokens:     256,
	GenerationTokens: 64,
}

// recorded is a run that was asked for a job, with one thread, and took an hour.
func recorded(job runner.RoundJob) benchAsked {
	return benchAsked{RoundJob: job, threads: 1, wall: time.Hour}
}

func TestMeasureReadsRealOutput(t *testing.T) {
	got, err := recorded(recordedJob).measure([]byte(read(t, "recorded", "bench.jsonl")), true)
	require.NoError(t, err)
	require.Len(t, got.Bursts, 2)
	prompt, generation := got.Bursts[0], got.Bursts[1]
	assert.Equal(t, runner.Burst{Turn: 0, Phase: verdict.Prompt, Tokens: 256, Time: prompt.Time}, prompt)
	assert.Equal(t, runner.Burst{Turn: 1, Phase: verdict.Generation, Tokens: 64, Time: generation.Time}, generation)
	assert.InEpsilon(t, 256/prompt.Time.Seconds(), got.Throughput[verdict.Prompt], 1e-12)
	assert.InEpsilon(t, 64/generation.Time.Seconds(), got.Throughput[verdict.Generation], 1e-12)
	assert.Equal(t, 11669, got.Build)
	assert.Equal(t, "Debian", got.Commit)
	assert.Equal(t, "CPU", got.Backends)
	assert.Equal(t, "AMD EPYC", got.CPU)
	assert.Empty(t, got.GPU)
	assert.Equal(t, 1, got.Threads)
}

func TestMeasureReadsAnArrayWithDepth(t *testing.T) {
	job := recordedJob
	job.Depth = 64
	text := []byte(read(t, "recorded", "bench.json"))
	got, err := recorded(job).measure(text, false)
	require.NoError(t, err)
	assert.Len(t, got.Throughput, 2)

	_, err = recorded(recordedJob).measure(text, false)
	assert.ErrorContains(t, err, "at a depth of 64 tokens instead of 0")
}

func TestMeasureTakesTheMeanOfTheSamples(t *testing.T) {
	job := runner.RoundJob{Files: []string{"m.gguf"}, Phases: []verdict.Phase{verdict.Generation}, GenerationTokens: 100}
	got, err := recorded(job).measure([]byte(`{"model_filename": "/a/m.gguf", "n_threads": 1, "n_gen": 100, "samples_ns": [1000000000, 3000000000.0], "avg_ns": 1, "stddev_ns": 99999999999999999999}`), true)
	require.NoError(t, err)
	assert.InDelta(t, 50, got.Throughput[verdict.Generation], 1e-9)
	require.Len(t, got.Bursts, 1)
	assert.Equal(t, 2*time.Second, got.Bursts[0].Time)
	assert.Zero(t, got.Build, "a build that does not say its number")
}

func TestMeasurePassesOverForeignLines(t *testing.T) {
	rows := read(t, "recorded", "bench.jsonl")
	noisy := "[info] some wrapper\n\n" + strings.ReplaceAll(rows, "\n", "\nand a back end\n")
	_, err := recorded(recordedJob).measure([]byte(noisy), true)
	require.NoError(t, err)
}

func TestMeasureRefuses(t *testing.T) {
	rows := read(t, "recorded", "bench.jsonl")
	first, second, _ := strings.Cut(rows, "\n")
	array := read(t, "recorded", "bench.json")
	sample := func(value string) string {
		return first + "\n" + strings.Replace(second, "[ 24398760 ]", "["+value+"]", 1)
	}
	for name, test := range map[string]struct {
		text  string
		array bool
		want  string
	}{
		"nothing":             {"  \n", false, "printed no result"},
		"garbage":             {"<html>502</html>\nmore", false, `no JSON but "<html>502</html>"`},
		"garbage for array":   {"<html>502</html>", true, `no JSON but "<html>502</html>"`},
		"one phase missing":   {first, false, "no result for the phase generation"},
		"phase twice":         {rows + second, false, "phase generation more than once"},
		"cut off in a line":   {rows[:len(rows)-100], false, "cut off after"},
		"cut off in an array": {array[:len(array)/2], true, "cut off after"},
		"array without end":   {strings.TrimSuffix(strings.TrimSpace(array), "]"), true, "cut off after"},
		"wrong tokens":        {strings.ReplaceAll(rows, `"n_gen": 64`, `"n_gen": 32`), false, "with 32 tokens instead of 64"},
		"both phases at once": {strings.ReplaceAll(rows, `"n_gen": 0`, `"n_gen": 64`), false, "fits no phase"},
		"zero":                {sample("0"), false, "samples_ns holds 0"},
		"negative":            {sample("-5"), false, "samples_ns holds -5"},
		"huge":                {sample("1e30"), false, "samples_ns holds 1e30"},
		"beyond any float":    {sample("1e999"), false, "samples_ns holds 1e999"},
		"longer than it had":  {sample("3600000000001"), false, "samples_ns holds 3600000000001"},
		"impossibly fast":     {sample("0.5"), false, "samples_ns holds 0.5"},
		"all of it longer":    {sample("3599999999999"), false, "come to 1h0m0.073675559s, and it ran for 1h0m0s"},
		"two of them longer":  {sample("3599999999999, 3599999999999"), false, "come to 7200.000 s, and it ran for 1h0m0s"},
		"faster than any":     {sample("1"), false, "64 tokens in 1ns is impossible"},
		"another file":        {strings.Replace(rows, "m.gguf", "/b/n.gguf", 1), false, `it measured the file "/b/n.gguf" instead of m.gguf`},
		"another model":       {strings.Replace(rows, "3934464", "3000000", 1), false, "a file of 3000000 parameters, and m.gguf has 3934464"},
		"a larger model":      {strings.Replace(rows, "3934464", "3934465", 1), false, "parameters, and m.gguf has 3934464"},
		"smaller batches":     {strings.Replace(rows, `"n_ubatch": 256`, `"n_ubatch": 128`, 1), false, "in batches of 256 and 128 tokens instead of 256"},
		"more threads":        {strings.Replace(rows, `"n_threads": 1`, `"n_threads": 2`, 1), false, "with 2 threads instead of 1"},
		"not a number":        {sample("nan"), false, "JSON is damaged"},
		"text":                {sample(`"soon"`), false, "cannot be read"},
		"an object":           {sample(`{}`), false, "field samples_ns"},
		"no samples":          {sample(""), false, "no samples_ns"},
		"null":                {sample("null"), false, "samples_ns"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := recorded(recordedJob).measure([]byte(test.text), !test.array)
			assert.ErrorContains(t, err, test.want)
		})
	}
}

func TestMeasureRefusesMoreThanATrillionTokensPerSecond(t *testing.T) {
	job := runner.RoundJob{Files: []string{"m.gguf"}, Phases: []verdict.Phase{verdict.Prompt}, PromptTokens: 4096}
	_, err := recorded(job).measure([]byte(`{"model_filename": "m.gguf", "n_threads": 1, "n_batch": 4096, "n_ubatch": 4096, "n_prompt": 4096, "samples_ns": [4]}`), true)
	assert.ErrorContains(t, err, "4096 tokens in 4ns is impossible")
}

// Builds of before 2025 count what they load.
func TestMeasureTakesTheParametersOfOldBuilds(t *testing.T) {
	rows := []byte(read(t, "recorded", "bench.jsonl"))
	for count, want := range map[runner.Parameters]bool{
		{All: 3934464}: true, {All: 3934464 - 262144, Tied: 262144}: true, {All: 4000000}: true,
		{All: 3934464 - 262144, Tied: 200000}: false, {All: 5000000}: false, {All: 1}: false,
	} {
		job := recordedJob
		job.Parameters = []runner.Parameters{count}
		_, err := recorded(job).measure(rows, true)
		assert.Equal(t, want, err == nil, "%+v: %v", count, err)
	}
}

func TestMeasureRefusesAPhaseThatWasNotAskedFor(t *testing.T) {
	job := recordedJob
	job.Phases = []verdict.Phase{verdict.Generation}
	_, err := recorded(job).measure([]byte(read(t, "recorded", "bench.jsonl")), true)
	assert.ErrorContains(t, err, "measured the phase prompt, which was not asked for")
}

func TestBenchProgressRises(t *testing.T) {
	var progress benchProgress
	var steps []float64
	for line := range strings.Lines(read(t, "recorded", "bench-progress.txt")) {
		if progress.add(line) {
			steps = append(steps, progress.done)
		}
	}
	assert.Equal(t, []float64{0.025, 0.25, 0.5, 0.525, 0.65}, steps)
	assert.False(t, progress.add("llama-bench: benchmark 1/2: prompt run 1/1"), "back to an earlier test")
	assert.False(t, progress.add("llama-bench: benchmark 3/2: prompt run 1/1"))
}

func FuzzMeasure(f *testing.F) {
	f.Add([]byte(read(f, "recorded", "bench.jsonl")), true)
	f.Add([]byte(read(f, "recorded", "bench.json")), false)
	f.Add([]byte(`{"n_gen": 64, "samples_ns": [1e18, 1]}`), true)
	f.Add([]byte(`{"n_gen": 64, "samples_ns": [nan]}`), true)
	f.Add([]byte("[\n{}"), false)
	f.Add([]byte(`{"model_filename": "m.gguf", "model_n_params": 3934464, "n_batch": 256, "n_ubatch": 256, "n_threads": 1, "n_gen": 64, "samples_ns": [1e-999]}`), true)
	f.Fuzz(func(t *testing.T, text []byte, jsonl bool) {
		got, err := recorded(recordedJob).measure(text, jsonl)
		if err != nil {
			return
		}
		for _, phase := range recordedJob.Phases {
			v := got.Throughput[phase]
			require.Greater(t, v, 0.0)
			require.LessOrEqual(t, v, maxThroughput)
			require.False(t, math.IsNaN(v))
		}
	})
}
