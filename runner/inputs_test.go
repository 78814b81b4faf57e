package runner

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func knownInputs() Inputs {
	return Inputs{
		Source:   "aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		Engine:   EngineID{Name: "llama.cpp", Version: "0.7.0", Build: 11669, Commit: "c0ffee"},
		Hardware: "AMD EPYC, 2 cores, 8 GB", Driver: "Linux 6.12.1, nvidia 550.54.14",
		Backends: "CUDA", GPU: "NVIDIA H100",
		Arguments: map[string]string{"benchmark.depth": "0", "engine.bench_args": "[-ngl 99]"},
		Decision:  map[string]string{"threshold": "0.12"},
		Corpus:    "bbbbbbbbbbbbbbbbbbbbbbbbbbbb",
	}
}

// Changes are named as people would write them.
func TestChanges(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Inputs)
		want   []Change
	}{
		{"nothing", func(*Inputs) {}, nil},
		{"build", func(i *Inputs) { i.Engine.Build, i.Engine.Version, i.Engine.Commit = 11702, "0.7.1", "bad" }, []Change{{InputEngine, "llama.cpp 11669 → 11702"}}},
		{"version", func(i *Inputs) { i.Engine.Version = "0.7.1" }, []Change{{InputEngine, "llama.cpp 0.7.0 → 0.7.1"}}},
		{"commit", func(i *Inputs) { i.Engine.Commit = "decade" }, []Change{{InputEngine, "llama.cpp c0ffee → decade"}}},
		{"build no longer told", func(i *Inputs) { i.Engine = EngineID{Name: "llama.cpp"} }, []Change{{InputEngine, "llama.cpp 11669 → unknown"}}},
		{"another engine", func(i *Inputs) { i.Engine.Name = "ik_llama.cpp" }, []Change{{InputEngine, "llama.cpp 0.7.0 (build 11669) → ik_llama.cpp 0.7.0 (build 11669)"}}},
		{"model", func(i *Inputs) { i.Source = "cccccccccccccccccccccccccccc" }, []Change{{InputSource, "model aaaaaaaaaaaa → cccccccccccc"}}},
		{"hardware", func(i *Inputs) { i.Hardware = "AMD EPYC, 4 cores, 8 GB" }, []Change{{InputHardware, "hardware AMD EPYC, 2 cores, 8 GB → AMD EPYC, 4 cores, 8 GB"}}},
		{"driver", func(i *Inputs) { i.Driver = "Linux 6.12.1" }, []Change{{InputDriver, "driver Linux 6.12.1, nvidia 550.54.14 → Linux 6.12.1"}}},
		{"GPU", func(i *Inputs) { i.GPU = "NVIDIA H200" }, []Change{{InputDriver, "GPU NVIDIA H100 → NVIDIA H200"}}},
		{"devices", func(i *Inputs) { i.Devices, i.GPU = "CUDA0: NVIDIA H200", "NVIDIA H200" }, []Change{{InputDriver, "devices none → CUDA0: NVIDIA H200"}}},
		{"backends", func(i *Inputs) { i.Backends = "CPU" }, []Change{{InputDriver, "backends CUDA → CPU"}}},
		{"before a measurement", func(i *Inputs) { i.Backends, i.GPU = "", "" }, nil},
		{"arguments", func(i *Inputs) { i.Arguments = map[string]string{"benchmark.depth": "4096", "engine.env.X": "1"} }, []Change{
			{InputArguments, "benchmark.depth 0 → 4096"}, {InputArguments, "engine.bench_args [-ngl 99] → none"}, {InputArguments, "engine.env.X none → 1"},
		}},
		{"threshold", func(i *Inputs) { i.Decision = map[string]string{"threshold": "0.15"} }, []Change{{InputDecision, "threshold 0.12 → 0.15"}}},
		{"text", func(i *Inputs) { i.Corpus = "" }, []Change{{InputCorpus, "text bbbbbbbbbbbb → none"}}},
		{"several", func(i *Inputs) { i.Engine.Build, i.Decision = 11702, nil }, []Change{{InputEngine, "llama.cpp 11669 → 11702"}, {InputDecision, "threshold 0.12 → none"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			now := knownInputs()
			test.change(&now)
			assert.Equal(t, test.want, now.Changes(knownInputs()))
			assert.Equal(t, test.want == nil, now.Same(knownInputs()))
		})
	}
}

func TestWhatIsNotToldIsNotTheSame(t *testing.T) {
	unknown := Inputs{Source: "a", Engine: EngineID{Name: "llama.cpp"}}
	assert.Empty(t, unknown.Changes(unknown))
	assert.False(t, unknown.Same(unknown), "nobody knows which build it is")
	assert.False(t, Inputs{Engine: EngineID{Build: 1}}.Same(Inputs{Engine: EngineID{Build: 1}}), "nobody knows what the model holds")
}

func TestKeysOfPartsAreAllDifferent(t *testing.T) {
	seen := map[string]bool{}
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"a", "b"}, {"ab", ""}, {"", "ab"}, {"a"}, {"1:a"}, {"a1:b"}} {
		key := keyOfParts(parts...)
		assert.Regexp(t, "^[0-9a-f]{64}$", key)
		assert.False(t, seen[key], "%q", parts)
		seen[key] = true
	}
}
