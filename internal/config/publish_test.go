package config_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestPublishIsTheSectionsAndTheEntrys(t *testing.T) {
	c, err := read("/etc/q/c.yml", []byte(`
publish: {dir: out}
schedule:
  - {name: plain, cron: "@daily", models: [a]}
  - {name: own, cron: "@daily", models: [b], publish: {dir: ../other, keep: 0}}
  - {name: none, cron: "@daily", models: [c], publish: {dir: ""}}
`))
	require.NoError(t, err)
	assert.Equal(t, "/etc/q/out", c.Publish.Dir, "from the file's folder")
	assert.Equal(t, 3, c.Publish.Keep)
	assert.Equal(t, c.Publish, c.Schedule[0].Publish)
	assert.Equal(t, "/etc/other", c.Schedule[1].Publish.Dir)
	assert.Zero(t, c.Schedule[1].Publish.Keep)
	assert.False(t, c.Schedule[2].Publish.Enabled())
	assert.True(t, c.Schedule[0].Publish.Enabled())
	assert.False(t, c.Schedule[2].Publish.Enabled())
	assert.False(t, config.Default().Publish.Enabled())
}

func TestMistakesInPublish(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"fewer than none":     {"publish: {keep: -1}", "c.yml:1: publish.keep: -1 versions cannot be kept: use 1 or more, or 0 for all"},
		"in the model folder": {"models: {dir: m}\npublish: {dir: m/out}", `c.yml:2: publish.dir: "m/out" is in the model folder "m", where copies would be found as models`},
		"the model folder":    {"models: {dir: m}\npublish: {dir: m/}", "c.yml:2: publish.dir: "},
		"an entry's":          {"models: {dir: m}\nschedule: [{name: n, cron: '@daily', publish: {dir: m/out}}]", "c.yml:2: schedule[0].publish.dir: "},
		"unknown key":         {"publish: {directory: x}", "publish.directory: there is no such key"},
		"no number":           {"publish: {keep: all}", `publish.keep: "all" is not a whole number`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read("c.yml", []byte(test.text))
			require.ErrorContains(t, err, test.want)
		})
	}
	c, err := read("c.yml", []byte("models: {dir: m}\npublish: {dir: out}\nschedule: [{name: n, cron: '@daily', publish: {dir: models-2}}]"))
	require.NoError(t, err)
	require.NoError(t, c.Apart())
	c.Models.Dir = "."
	assert.EqualError(t, c.Apart(), `publish.dir: "out" is in the model folder ".", where copies would be found as models: publish elsewhere
publish.dir of the entry "n": "models-2" is in the model folder ".", where copies would be found as models: publish elsewhere`)
}
