package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/quant-exporter/quant-exporter/internal/choice"
)

// Settings are what a cycle goes by, and what an entry of the schedule may set for itself.
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
	found := problems(slices.Concat(below("benchmark", s.Benchmark.Validate()), below("quality", s.Quality.Validate()), below("publish", s.Publish.Validate())))
	if err := ValidateThreshold(s.Threshold); err != nil {
		found.add("threshold", "%w", err)
	}
	if s.Baseline != "" && strings.TrimSpace(s.Baseline) == "" {
		found.add("baseline", "is blank: name a format such as Q8_0, or nothing for the model as it is")
	}
	if s.FreshFor < 0 {
		found.add("fresh_for", "%v is no age: use a duration such as 7d, or 0 to measure whenever it is due", time.Duration(s.FreshFor))
	}
	if s.Verify != VerifyIdentity && s.Verify != VerifyContent {
		found.add("verify", "%q is no way to verify a file: use identity or content", s.Verify)
	}
	if err := s.Choose.Validate(); err != nil {
		found.add("choose", "%w", err)
	}
	if s.Quality.Enabled() && !s.Quality.Limits().Any() && s.Choose != choice.BestQuality {
		found.add("quality.corpus", "no limit is set, so nothing could be rejected: set max_kl_divergence, min_top1_agreement or max_perplexity_increase")
	}
	if s.Choose == choice.BestQuality && !s.Quality.Enabled() {
		found.add("choose", "best-quality needs a text to evaluate quality on: name its file as quality.corpus, or choose by another rule")
	}
	return found
}

// Verify says how far the memory of hashes is trusted.
type Verify string

// The ways.
const (
	VerifyIdentity Verify = "identity" // a file with the same inode, size and time holds the same
	VerifyContent  Verify = "content"  // each file is read again
)

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
