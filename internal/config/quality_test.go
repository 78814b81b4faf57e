package config_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestQualityIsTheSectionsAndTheEntrys(t *testing.T) {
	c, err := read("/etc/q/c.yml", []byte(`
quality: {corpus: text.txt, max_kl_divergence: 0.05, chunks: 64}
schedule:
  - {name: plain, cron: "@daily", models: [a]}
  - name: own
    cron: "@daily"
    models: [b]
    quality: {corpus: ../other.txt, max_kl_divergence: 0, min_top1_agreement: 0.9}
`))
	require.NoError(t, err)
	assert.Equal(t, "/etc/q/text.txt", c.Quality.Corpus, "from the file's folder")
	assert.Equal(t, c.Quality, c.Schedule[0].Quality)
	own := c.Schedule[1].Quality
	assert.Equal(t, "/etc/other.txt", own.Corpus)
	assert.Equal(t, 64, own.Chunks)
	assert.Zero(t, own.MaxKLDivergence)
	assert.InDelta(t, 0.9, own.MinTop1Agreement, 0)
	assert.True(t, c.Schedule[0].Quality.Enabled())
	assert.False(t, config.Default().Quality.Enabled())
}

// Quality without a limit gives figures, and one can choose by it.
func TestQualityNeedsNoLimit(t *testing.T) {
	c, err := read("c.yml", []byte("quality: {corpus: x}\nchoose: best-quality\nschedule: [{name: n, cron: '@daily'}, {name: m, cron: '@daily', models: [m], targets: [Q8_0], choose: '', suspend: true, quality: {corpus: y, max_kl_divergence: 1}}]"))
	require.NoError(t, err)
	assert.Equal(t, "x", c.Schedule[0].Quality.Corpus)
	c, err = read("c.yml", []byte("quality: {corpus: x}\nchoose: best-quality\nschedule:\n- name: n\n  cron: '@daily'\n  choose: smallest"))
	require.NoError(t, err)
	assert.True(t, c.Schedule[0].Quality.Enabled())
	assert.False(t, c.Schedule[0].Quality.Limits().Any())
}

func TestAnEmptyCorpusSwitchesTheQualityOfAnEntryOff(t *testing.T) {
	const sections = "quality: {corpus: x, max_kl_divergence: 0.05, min_top1_agreement: 0.9, max_perplexity_increase: 0.1, max_kl_divergence_p999: 2, max_rms_dp: 0.1}\nschedule:\n"
	c, err := read("c.yml", []byte(sections+"- {name: off, cron: '@daily', models: [a], quality: {corpus: ''}}\n- {name: on, cron: '@daily', models: [b], quality: {corpus: }}"))
	require.NoError(t, err)
	assert.False(t, c.Schedule[0].Quality.Enabled())
	assert.False(t, c.Schedule[0].Quality.Limits().Any())
	assert.Equal(t, c.Quality, c.Schedule[1].Quality)
	_, err = read("c.yml", []byte(sections+"- {name: off, cron: '@daily', quality: {corpus: '', max_kl_divergence: 0.1}}"))
	require.ErrorContains(t, err, "c.yml:3: schedule[0].quality.corpus: a limit is set and there is no text")
}

func TestMistakesInQuality(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"no text":            {"quality:\n  max_kl_divergence: 0.05", "quality.corpus: a limit is set and there is no text"},
		"limit out of range": {"quality:\n  corpus: x\n  min_top1_agreement: 90", "c.yml:3: quality.min_top1_agreement: 90 is not a ratio"},
		"unknown key":        {"quality: {max_kld: 0.1}", "quality.max_kld: there is no such key"},
		"entry without text": {"schedule: [{name: n, cron: '@daily', quality: {max_kl_divergence: 0.1}}]", "schedule[0].quality.corpus: a limit is set"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read("c.yml", []byte(test.text))
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestQualityValidate(t *testing.T) {
	valid := config.Quality{Corpus: "x", Chunks: 32, MaxKLDivergence: 0.05}
	assert.Empty(t, valid.Validate())
	assert.Empty(t, config.DefaultQuality().Validate())
	for name, test := range map[string]struct {
		change func(*config.Quality)
		path   string
		want   string
	}{
		"no text":              {func(q *config.Quality) { q.Corpus = "" }, "corpus", "no text"},
		"too few chunks":       {func(q *config.Quality) { q.Chunks = 9 }, "chunks", "10 to 1000"},
		"too many chunks":      {func(q *config.Quality) { q.Chunks = 1001 }, "chunks", "10 to 1000"},
		"negative divergence":  {func(q *config.Quality) { q.MaxKLDivergence = -1 }, "max_kl_divergence", "not a divergence"},
		"divergence of nan":    {func(q *config.Quality) { q.MaxKLDivergence = math.NaN() }, "max_kl_divergence", "not a divergence"},
		"agreement in percent": {func(q *config.Quality) { q.MinTop1Agreement = 90 }, "min_top1_agreement", "0.9 for 90 %"},
		"quantile below 0":     {func(q *config.Quality) { q.MaxKLDivergenceP999 = -1 }, "max_kl_divergence_p999", "not a divergence"},
		"RMS Δp of nan":        {func(q *config.Quality) { q.MaxRMSDeltaP = math.NaN() }, "max_rms_dp", "not a ratio"},
		"RMS Δp in percent":    {func(q *config.Quality) { q.MaxRMSDeltaP = 5 }, "max_rms_dp", "use 0 to 1"},
		"increase below 0":     {func(q *config.Quality) { q.MaxPerplexityIncrease = -0.1 }, "max_perplexity_increase", "not a ratio"},
	} {
		t.Run(name, func(t *testing.T) {
			q := valid
			test.change(&q)
			problems := q.Validate()
			require.Len(t, problems, 1)
			assert.Equal(t, test.path, problems[0].Path)
			assert.ErrorContains(t, problems[0].Err, test.want)
		})
	}
}
