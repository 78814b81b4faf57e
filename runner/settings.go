package runner

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// Settings are what a cycle goes by: the part of the configuration that an entry of the
// schedule may set for itself.
type Settings struct {
	Benchmark Benchmark `yaml:"benchmark"`
	// Threshold is the drop in throughput, a ratio between 0 and 1, from which on a
	// quantized copy is rejected. Default 0.12.
	Threshold float64 `yaml:"threshold"`
	// Quality is how good a copy has to be, besides. Default: not evaluated.
	Quality Quality `yaml:"quality"`
	// Baseline is the format that copies are compared with: the original of a cycle is
	// then a copy of the model in it. Default "": the model as it is.
	Baseline string `yaml:"baseline"`
	// Publish says where copies that are kept are put. Default: nowhere.
	Publish Publish `yaml:"publish"`
	// Choose is how one of the formats that are kept is chosen. Default "": none is.
	Choose choice.Rule `yaml:"choose"`
	// FreshFor is how long a kept or rejected is not measured again by the schedule while
	// its Inputs are the same. Default 0: whenever it is due.
	FreshFor model.Duration `yaml:"fresh_for"`
	// Verify says whether a file whose hash is remembered is read again. Default identity:
	// it is not.
	Verify Verify `yaml:"verify"`
}

// DefaultSettings are those of an empty configuration.
func DefaultSettings() Settings {
	return Settings{
		Benchmark: DefaultBenchmark(), Threshold: 0.12, Quality: DefaultQuality(), Publish: DefaultPublish(), Verify: VerifyIdentity,
	}
}

// Validate finds every value that cannot be used.
func (s Settings) Validate() []Problem {
	problems := slices.Concat(Below("benchmark", s.Benchmark.Validate()), Below("quality", s.Quality.Validate()), Below("publish", s.Publish.Validate()))
	if err := ValidateThreshold(s.Threshold); err != nil {
		problems = append(problems, Problem{"threshold", err})
	}
	if s.Baseline != "" && strings.TrimSpace(s.Baseline) == "" {
		problems = append(problems, Problem{"baseline", errors.New("is blank: name a format such as Q8_0, or nothing for the model as it is")})
	}
	if s.FreshFor < 0 {
		problems = append(problems, Problem{"fresh_for", fmt.Errorf("%v is no age: use a duration such as 7d, or 0 to measure whenever it is due", time.Duration(s.FreshFor))})
	}
	if s.Verify != VerifyIdentity && s.Verify != VerifyContent {
		problems = append(problems, Problem{"verify", fmt.Errorf("%q is no way to verify a file: use identity or content", s.Verify)})
	}
	if err := s.Choose.Validate(); err != nil {
		problems = append(problems, Problem{"choose", err})
	}
	if s.Choose == choice.BestQuality && !s.Quality.Enabled() {
		problems = append(problems, Problem{"choose", errors.New("best-quality needs a text to evaluate quality on: name its file as quality.corpus, or choose by another rule")})
	}
	return problems
}

// Benchmark says what is measured and how often: the section `benchmark:` of the
// configuration.
type Benchmark struct {
	// Phases to measure; every one of them has to pass. Default: both.
	Phases []verdict.Phase `yaml:"phases" json:"phases"`
	// PromptTokens are processed in one batch, GenerationTokens one at a time.
	// Default 1024 each.
	PromptTokens     int `yaml:"prompt_tokens" json:"prompt_tokens"`
	GenerationTokens int `yaml:"generation_tokens" json:"generation_tokens"`
	// Depth is the number of tokens in the KV cache before either phase. Default 0.
	Depth int `yaml:"depth" json:"depth"`

	Rounds Rounds `yaml:"rounds" json:"rounds"`
	// Alpha is the rate of wrong verdicts, each way, at a drop of exactly the
	// threshold. Default 0.05. A smaller one takes more rounds.
	Alpha float64 `yaml:"alpha" json:"alpha"`
	// Budget bounds the time spent on rounds, for one model and all its targets: no
	// round is begun that would end beyond it, and what is undecided then is
	// inconclusive. Default 4h; 0 is no bound but the number of rounds.
	Budget model.Duration `yaml:"budget" json:"budget"`

	// MaxDisturbance is the share, 0 to 1, of the CPUs meant for the measurement
	// that other processes and the hypervisor may take before a run counts as
	// contaminated and its round is repeated. Default 0.1; 1 repeats nothing.
	MaxDisturbance float64 `yaml:"max_disturbance" json:"max_disturbance"`
	// MaxRepeats bounds how often one round is repeated; contaminated after that, it
	// counts all the same. Default 3.
	MaxRepeats int `yaml:"max_repeats" json:"max_repeats"`
	// WaitIdle holds a cycle until other processes leave the host idle, for at most
	// this long; then it goes on regardless. Default 0: no waiting.
	WaitIdle model.Duration `yaml:"wait_idle" json:"wait_idle"`
}

// Rounds bounds the number of paired rounds of one verdict.
type Rounds struct {
	Min int `yaml:"min" json:"min"` // first look; default 3, which is also the least
	Max int `yaml:"max" json:"max"` // last look; default 56
}

// DefaultBenchmark is the mission's measurement: 1024 tokens in each phase.
func DefaultBenchmark() Benchmark {
	return Benchmark{
		Phases:           []verdict.Phase{verdict.Generation, verdict.Prompt},
		PromptTokens:     1024,
		GenerationTokens: 1024,
		Rounds:           Rounds{Min: 3, Max: 56},
		Alpha:            0.05,
		Budget:           model.Duration(4 * time.Hour),
		MaxDisturbance:   0.1,
		MaxRepeats:       3,
	}
}

// Problem is one invalid value, named by its path of keys below the section.
type Problem struct {
	Path string // "rounds.min"
	Err  error
}

// Below names the problems of a section by their whole paths.
func Below(section string, problems []Problem) []Problem {
	for i := range problems {
		problems[i].Path = section + "." + problems[i].Path
	}
	return problems
}

// Validate finds every value that cannot be used.
func (b Benchmark) Validate() []Problem {
	var problems []Problem
	add := func(path, format string, args ...any) {
		problems = append(problems, Problem{path, fmt.Errorf(format, args...)})
	}
	if len(b.Phases) == 0 {
		add("phases", "needs at least one of generation and prompt")
	}
	seen := map[verdict.Phase]bool{}
	for _, p := range b.Phases {
		if p != verdict.Generation && p != verdict.Prompt {
			add("phases", "%q is no phase: use generation or prompt", p)
		}
		if seen[p] {
			add("phases", "%q is named twice", p)
		}
		seen[p] = true
	}
	if b.PromptTokens < 1 || b.PromptTokens > maxTokens {
		add("prompt_tokens", "%d tokens cannot be measured: use 1 to %d", b.PromptTokens, maxTokens)
	}
	if b.GenerationTokens < 1 || b.GenerationTokens > maxTokens {
		add("generation_tokens", "%d tokens cannot be measured: use 1 to %d", b.GenerationTokens, maxTokens)
	}
	if b.Depth < 0 || b.Depth > maxTokens {
		add("depth", "%d tokens cannot be in the cache: use 0 to %d", b.Depth, maxTokens)
	}
	if b.Rounds.Min < 3 {
		add("rounds.min", "%d rounds have no useful interval: use 3 or more", b.Rounds.Min)
	}
	if b.Rounds.Max < b.Rounds.Min || b.Rounds.Max > 1000 {
		add("rounds.max", "%d is out of range: use rounds.min (%d) to 1000", b.Rounds.Max, b.Rounds.Min)
	}
	if !(b.Alpha >= 0.001 && b.Alpha <= 0.25) {
		add("alpha", "%v is no usable error rate: use 0.001 to 0.25, such as 0.05", b.Alpha)
	}
	if !(b.MaxDisturbance >= 0 && b.MaxDisturbance <= 1) {
		add("max_disturbance", "%v is no share: use 0 to 1, such as 0.1", b.MaxDisturbance)
	}
	if b.MaxRepeats < 0 {
		add("max_repeats", "a round cannot be repeated %d times: use 0 or more", b.MaxRepeats)
	}
	return problems
}

// maxTokens is far above any context, and keeps a slip of the keyboard from running
// for a year.
const maxTokens = 1 << 20

// ValidateThreshold accepts ratios between 0 and 1, both excluded.
func ValidateThreshold(t float64) error {
	if t > 0 && t < 1 {
		return nil
	}
	if t >= 1 && t < 100 {
		return fmt.Errorf("the threshold %v is not between 0 and 1: it is a ratio, so write %v %% as %v", t, t, t/100)
	}
	return fmt.Errorf("the threshold %v is not between 0 and 1: it is a ratio, such as 0.12 for 12 %%", t)
}

// Decision is what the verdict on these measurements needs to know.
func (b Benchmark) Decision(threshold float64) verdict.Config {
	return verdict.Config{
		Threshold: threshold,
		Phases:    b.Phases,
		MinRounds: b.Rounds.Min,
		MaxRounds: b.Rounds.Max,
		Alpha:     b.Alpha,
	}
}
