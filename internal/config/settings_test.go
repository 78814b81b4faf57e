package config_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestEverySettingHasATagOfWhetherADecisionDependsOnIt(t *testing.T) {
	s := config.DefaultSettings()
	s.Quality.Corpus = "/text"
	tags := map[string][]string{}
	for key, tag := range s.InputTags() {
		tags[tag] = append(tags[tag], key)
	}
	for _, keys := range tags {
		slices.Sort(keys)
	}
	assert.Equal(t, map[string][]string{
		"argument": {"baseline", "benchmark.depth", "benchmark.generation_tokens", "benchmark.method", "benchmark.phases", "benchmark.prompt_tokens"},
		"decision": {
			"benchmark.alpha", "benchmark.budget", "benchmark.max_disturbance", "benchmark.rounds.max", "benchmark.rounds.min",
			"quality.chunks", "quality.max_kl_divergence", "quality.max_kl_divergence_p999", "quality.max_perplexity_increase", "quality.max_rms_dp", "quality.min_top1_agreement",
			"threshold",
		},
		"-": {"benchmark.wait_idle", "choose", "fresh_for", "publish.dir", "publish.keep", "quality.corpus"},
	}, tags)

	arguments, decision := s.Inputs()
	assert.Equal(t, tags["argument"], slices.Sorted(maps.Keys(arguments)))
	assert.Equal(t, tags["decision"], slices.Sorted(maps.Keys(decision)))
	assert.Equal(t, "[generation prompt]", arguments["benchmark.phases"])
	assert.Equal(t, "4h", decision["benchmark.budget"])

	_, decision = config.DefaultSettings().Inputs()
	assert.NotContains(t, decision, "quality.chunks", "it is not evaluated")
}
