package config_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestEverySettingHasATagOfWhetherADecisionDependsOnIt(t *testing.T) {
	s := config.DefaultSettings()
	s.Quality.Corpus, s.MaxMemory.Host = "/text", 1
	tags := map[string][]string{}
	for key, tag := range s.InputTags() {
		tags[tag] = append(tags[tag], key)
	}
	for _, keys := range tags {
		slices.Sort(keys)
	}
	assert.Equal(t, map[string][]string{
		"argument": {"baseline", "benchmark.clients", "benchmark.depth", "benchmark.generation_tokens", "benchmark.method", "benchmark.phases", "benchmark.prompt_tokens"},
		"decision": {
			"benchmark.alpha", "benchmark.budget", "benchmark.max_disturbance", "benchmark.rounds.max", "benchmark.rounds.min", "max_memory.device", "max_memory.host",
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

func TestChoiceWithALimit(t *testing.T) {
	c, err := read("c.yml", []byte("choose: {by: fastest, max_size: 8GB}\nschedule: [{name: n, cron: '@daily'}, {name: o, cron: '@daily', models: [o], choose: smallest}, {name: p, cron: '@daily', models: [p], choose: {max_size: 500MB}}]"))
	require.NoError(t, err)
	assert.EqualValues(t, "fastest, max_size 8GB", c.Schedule[0].Choose)
	assert.EqualValues(t, "smallest", c.Schedule[1].Choose, "the plain word has no limit")
	assert.EqualValues(t, "fastest, max_size 500MB", c.Schedule[2].Choose, "the rule is that of the section above")
	c, err = read("c.yml", []byte("choose: {by: fastest, max_size: 8GB, max_memory: {host: 24GB, device: 12GiB}}\nschedule: [{name: n, cron: '@daily', choose: {max_memory: {host: 0}}}]"))
	require.NoError(t, err)
	assert.EqualValues(t, "fastest, max_size 8GB, max_memory.host 24GB, max_memory.device 12GiB", c.Choose)
	assert.EqualValues(t, "fastest, max_size 8GB, max_memory.device 12GiB", c.Schedule[0].Choose)

	for text, want := range map[string]string{
		"choose: {max_size: 8GB}":                         "c.yml:1: choose: max_size limits no choice",
		"choose: {by: best, max_size: 8GB}":               `c.yml:1: choose: "best" is not a way to choose a format`,
		"choose: {by: fastest, max_size: -1}":             "c.yml:1: choose",
		"choose: {by: fastest, size: 8GB}":                "c.yml:1: choose.size: there is no such key; the keys here are by, max_memory, max_size",
		"choose: {by: fastest, max_size: x}":              `c.yml:1: choose.max_size: "x" is not a size`,
		"choose: {max_memory: {host: 8GB}}":               "c.yml:1: choose: max_memory.host limits no choice",
		"choose: {by: fastest, max_memory: {host: x}}":    `c.yml:1: choose.max_memory.host: "x" is not a size`,
		"choose: {by: fastest, max_memory: {gpu: 8GB}}":   "c.yml:1: choose.max_memory.gpu: there is no such key; the keys here are device, host",
		"choose: {by: fastest, max_memory: {device: -1}}": `c.yml:1: choose.max_memory.device: "-1" is not a size`,
		"choose: {by: best-quality}":                      "best-quality needs a text",
	} {
		_, err := read("c.yml", []byte(text))
		assert.ErrorContains(t, err, want, text)
	}
}
