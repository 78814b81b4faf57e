package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// Settings are what a cycle goes by, and what an entry of the schedule may set for itself.
//
// The tag input of each says how a decision depends on it: as an argument, on which files and
// figures depend; by the decision alone, which is made from the figures; or, with "-", not at
// all: where a text lies, what is waited for, and what is done with decisions.
type Settings struct {
	Benchmark Benchmark `yaml:"benchmark"`
	// Threshold is the drop in throughput, a ratio between 0 and 1, from which on a
	// quantized copy is rejected. Default 0.12.
	Threshold float64 `yaml:"threshold" input:"decision"`
	// MaxMemory is how much memory a copy may take. Default: no limit.
	MaxMemory MaxMemory `yaml:"max_memory"`
	// Quality is how good a copy has to be, besides. Default: not evaluated.
	Quality Quality `yaml:"quality"`
	// Baseline is the format that copies are compared with: the original of a cycle is
	// then a copy of the model in it. Default "": the model as it is.
	Baseline string `yaml:"baseline" input:"argument"`
	// Recipes make the targets of an entry that are no formats.
	Recipes Recipes `yaml:"-" json:",omitempty"`
	// Publish says where copies that are kept are put. Default: nowhere.
	Publish Publish `yaml:"publish"`
	// Choose is how one of the formats that are kept is chosen. Default "": none is.
	Choose choice.Rule `yaml:"choose" input:"-"`
	// FreshFor is how long a kept or rejected is not measured again by the schedule while
	// its Inputs are the same. Default 0: whenever it is due.
	FreshFor model.Duration `yaml:"fresh_for" input:"-"`
}

// DefaultSettings returns the settings of an empty configuration.
func DefaultSettings() Settings {
	return Settings{
		Benchmark: DefaultBenchmark(), Threshold: 0.12, Quality: DefaultQuality(), Publish: DefaultPublish(),
	}
}

// Validate finds every value that cannot be used.
func (s Settings) Validate() []Problem {
	found := problems(slices.Concat(below("benchmark", s.Benchmark.Validate()), below("quality", s.Quality.Validate()), below("publish", s.Publish.Validate()), below("max_memory", s.MaxMemory.Validate())))
	if err := verdict.ValidateThreshold(s.Threshold); err != nil {
		found.add("threshold", "%w", err)
	}
	if s.Baseline != "" && strings.TrimSpace(s.Baseline) == "" {
		found.add("baseline", "is blank: name a format such as Q8_0, or nothing for the model as it is")
	}
	if s.FreshFor < 0 {
		found.add("fresh_for", "%v is not an age: use a duration such as 7d, or 0 to measure whenever it is due", time.Duration(s.FreshFor))
	}
	if err := s.Choose.Validate(); err != nil {
		found.add("choose", "%w", err)
	}
	if s.Choose.By() == choice.BestQuality && !s.Quality.Enabled() {
		found.add("choose", "best-quality needs a text to evaluate quality on: name its file as quality.corpus, or choose by another rule")
	}
	return found
}

// Inputs returns the settings that a decision depends on, by their keys: the arguments of a
// measurement, and what only the decision uses. If quality is not evaluated, its settings are
// left out, and so are limits of memory if there are none.
func (s Settings) Inputs() (arguments, decision map[string]string) {
	arguments, decision = map[string]string{}, map[string]string{}
	inputs("", reflect.ValueOf(s), func(key, tag, value string) {
		switch {
		case strings.HasPrefix(key, "quality.") && !s.Quality.Enabled():
		case strings.HasPrefix(key, "max_memory.") && !s.MaxMemory.Any():
		case tag == "argument":
			arguments[key] = value
		case tag == "decision":
			decision[key] = value
		}
	})
	return arguments, decision
}

// inputs gives every setting with its tag.
func inputs(prefix string, section reflect.Value, each func(key, tag, value string)) {
	for field, value := range section.Fields() {
		if field.Tag.Get("yaml") == "-" { // each target has its own
			continue
		}
		key := prefix + field.Tag.Get("yaml")
		if value.Kind() == reflect.Struct {
			inputs(key+".", value, each)
			continue
		}
		each(key, field.Tag.Get("input"), fmt.Sprint(value.Interface()))
	}
}
