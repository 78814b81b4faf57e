package config

import (
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// Benchmark is the section `benchmark:`, what is measured and how often.
type Benchmark struct {
	// Method is how a round compares files. Default auto: paired, and process where files
	// do not fit into memory together or there is no llama-server that can.
	Method Method `yaml:"method" input:"argument" json:"method"`
	// Phases to measure; every one of them has to pass. Default: both.
	Phases []verdict.Phase `yaml:"phases" input:"argument" json:"phases"`
	// PromptTokens are processed in one batch, GenerationTokens one at a time.
	// Default 1024 each.
	PromptTokens     int `yaml:"prompt_tokens" input:"argument" json:"prompt_tokens"`
	GenerationTokens int `yaml:"generation_tokens" input:"argument" json:"generation_tokens"`
	// Depth is the number of tokens in the KV cache before either phase, and further depths,
	// at which generation is a phase of its own. Default 0.
	Depth Depths `yaml:"depth" input:"argument" json:"depth"`
	// Clients are numbers of sequences that are generated at once, beginning with 1; every
	// further one is a phase of its own. Default 1 only.
	Clients Clients `yaml:"clients" input:"argument" json:"clients,omitempty"`

	Rounds Rounds `yaml:"rounds" json:"rounds"`
	// Alpha is the rate of wrong verdicts, each way, at a drop of exactly the
	// threshold. Default 0.05. A smaller one takes more rounds.
	Alpha float64 `yaml:"alpha" input:"decision" json:"alpha"`
	// Budget bounds the time spent on rounds, for one model and all its targets: no
	// round is begun that would end beyond it, and what is undecided then is
	// inconclusive. Default 4h; 0 means no bound but the number of rounds.
	Budget model.Duration `yaml:"budget" input:"decision" json:"budget"`

	// MaxDisturbance is the share, 0 to 1, of the CPUs meant for the measurement
	// that other processes and the hypervisor may take before a run counts as
	// contaminated and its round is repeated, or the burst of a paired round: of time
	// that this waited for a CPU, which is subtracted, a third counts. Default 0.1; 1
	// repeats nothing.
	MaxDisturbance float64 `yaml:"max_disturbance" input:"decision" json:"max_disturbance"`
	// WaitIdle holds a cycle until other processes leave the host idle, for at most
	// this long; then it goes on regardless. Default 0: no waiting.
	WaitIdle model.Duration `yaml:"wait_idle" input:"-" json:"wait_idle"`
}

// Method is a way to measure a round.
type Method string

// The methods.
const (
	MethodAuto    Method = "auto"    // paired where that can be, else process
	MethodPaired  Method = "paired"  // all files in memory, in bursts that take turns
	MethodProcess Method = "process" // a process a file, one after the other
)

// Rounds bounds the number of paired rounds of one verdict.
type Rounds struct {
	Min int `yaml:"min" input:"decision" json:"min"` // first look; default 3, which is also the least
	Max int `yaml:"max" input:"decision" json:"max"` // last look; default 56
}

// DefaultBenchmark returns the mission's measurement: 1024 tokens in each phase.
func DefaultBenchmark() Benchmark {
	return Benchmark{
		Method:           MethodAuto,
		Phases:           []verdict.Phase{verdict.Generation, verdict.Prompt},
		PromptTokens:     1024,
		GenerationTokens: 1024,
		Depth:            Depths{0},
		Clients:          Clients{1},
		Rounds:           Rounds{Min: 3, Max: 56},
		Alpha:            0.05,
		Budget:           model.Duration(4 * time.Hour),
		MaxDisturbance:   0.1,
	}
}

// Validate finds every value that cannot be used.
func (b Benchmark) Validate() []Problem {
	var found problems
	for _, phase := range b.Phases {
		if _, _, further := phase.Further(); further {
			found.add("phases", "%q is not named here: give benchmark.clients or benchmark.depth a list", phase)
		}
	}
	base := b // whose phases are those that the key names
	base.Depth, base.Clients = nil, nil
	base.Decision(0).Check(func(field string, err error) {
		if key, ok := decisionKeys[field]; ok { // the threshold has a key of its own
			found.add(key, "%w", err)
		}
	})
	switch b.Method {
	case MethodAuto, MethodPaired, MethodProcess:
	default:
		found.add("method", "%q is not a method: use auto, paired or process", b.Method)
	}
	if b.PromptTokens < 1 || b.PromptTokens > maxTokens {
		found.add("prompt_tokens", "%d tokens cannot be measured: use 1 to %d", b.PromptTokens, maxTokens)
	}
	if b.GenerationTokens < 1 || b.GenerationTokens > maxTokens {
		found.add("generation_tokens", "%d tokens cannot be measured: use 1 to %d", b.GenerationTokens, maxTokens)
	}
	b.Depth.check(func(err error) { found.add("depth", "%w", err) })
	b.Clients.check(func(err error) { found.add("clients", "%w", err) })
	if key := b.furtherKey(); key != "" {
		if !slices.Contains(b.Phases, verdict.Generation) {
			found.add(key, "a list has further phases of generation, which benchmark.phases leaves out: add generation to it, or give one value")
		}
		if b.Method == MethodProcess {
			found.add(key, "a list needs the paired method, and benchmark.method is process: use auto or paired, or give one value")
		}
	}
	if !(b.MaxDisturbance >= 0 && b.MaxDisturbance <= 1) {
		found.add("max_disturbance", "%v is not a share: use 0 to 1, such as 0.1", b.MaxDisturbance)
	}
	return found
}

// Measured returns all phases of a round: those that the key names, then generation at each
// further depth and with each further number of clients.
func (b Benchmark) Measured() []verdict.Phase {
	all := slices.Clone(b.Phases)
	for _, depth := range b.Depth.Further() {
		all = append(all, verdict.AtDepth(depth))
	}
	for _, clients := range b.Clients.Further() {
		all = append(all, verdict.AtOnce(clients))
	}
	return all
}

// Basic returns the benchmark without further depths and clients.
func (b Benchmark) Basic() Benchmark {
	b.Depth, b.Clients = Depths{b.Depth.First()}, Clients{1}
	return b
}

// HasFurther reports whether there are phases that only the paired method measures.
func (b Benchmark) HasFurther() bool { return b.furtherKey() != "" }

// furtherKey names a key that adds phases; "" when none does.
func (b Benchmark) furtherKey() string {
	switch {
	case len(b.Clients.Further()) > 0:
		return "clients"
	case len(b.Depth.Further()) > 0:
		return "depth"
	default:
		return ""
	}
}

// decisionKeys are the keys of what a verdict depends on, by the names that it has there.
var decisionKeys = map[string]string{"phases": "phases", "min_rounds": "rounds.min", "max_rounds": "rounds.max", "alpha": "alpha"}

// maxTokens is far above any context, and keeps a slip of the keyboard from running
// for a year.
const maxTokens = 1 << 20

// Decision returns what the verdict on these measurements needs to know.
func (b Benchmark) Decision(threshold float64) verdict.Config {
	return verdict.Config{
		Threshold: threshold,
		Phases:    b.Measured(),
		MinRounds: b.Rounds.Min,
		MaxRounds: b.Rounds.Max,
		Alpha:     b.Alpha,
	}
}
