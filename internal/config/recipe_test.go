package config_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

const mixed = `
models: {dir: /models}
schedule:
- name: n
  cron: '@daily'
  targets:
  - Q4_K_M
  - {name: Q4_mix, format: q4_k, args: [--tensor-type, "ffn_down=q6_k"], imatrix: "{file}.imatrix.gguf"}
  - name: Q3-long
    format: Q3_K_L
    args: [--hf-token, hush]
`

func TestRecipesAmongTheTargets(t *testing.T) {
	c := parse(t, mixed)
	entry := c.Schedule[0]
	assert.Equal(t, []string{"Q4_K_M", "Q4_mix", "Q3-long"}, entry.Targets)
	assert.Equal(t, config.Recipes{
		{Name: "Q4_mix", Format: "Q4_K_M", Args: []string{"--tensor-type", "ffn_down=q6_k"}, Imatrix: "{file}.imatrix.gguf"},
		{Name: "Q3-long", Format: "Q3_K_L", Args: []string{"--hf-token", "hush"}},
	}, entry.Recipes)
	assert.Equal(t, "Q4_K_M with --tensor-type ffn_down=q6_k and the importance matrix {file}.imatrix.gguf", entry.Recipes.How("q4_MIX"))
	assert.Equal(t, "Q4_mix", entry.Recipes.Canonical("q4_mix"))
	assert.Equal(t, "Q4_K_M", entry.Recipes.Canonical("q4_k"))
	assert.Equal(t, "Q3_K_L", entry.Recipes.Format("Q3-long"))
	assert.Empty(t, entry.Recipes.How("Q4_K_M"))

	shown, err := c.Redacted()
	require.NoError(t, err)
	assert.Contains(t, string(shown), "format: Q3_K_L")
	assert.NotContains(t, string(shown), "hush")
	changed, err := c.Changed()
	require.NoError(t, err)
	assert.Contains(t, string(changed), "name: Q4_mix")
}

func TestWhatIsShownOfRecipesReadsBack(t *testing.T) {
	c := parse(t, "schedule: [{name: n, cron: '@daily', targets: [Q2_K, {name: a, format: Q8_0, args: [--pure]}, {name: b, format: IQ2_XS, imatrix: /m}]}]")
	shown, err := c.Redacted()
	require.NoError(t, err)
	again := parse(t, string(shown))
	assert.Equal(t, c.Schedule[0].Targets, again.Schedule[0].Targets)
	assert.Equal(t, c.Schedule[0].Recipes, again.Schedule[0].Recipes)
}

func TestRecipesThatCannotBeUsed(t *testing.T) {
	for targets, want := range map[string]string{
		`{name: q4_k, format: Q4_K_M, args: [--pure]}`:                                     `c.yml:5: schedule[0].targets[1].name: "q4_k" is the name of a format: give the recipe one of its own, such as q4_k-mix`,
		`{name: copy, format: Q4_K_M, args: [--pure]}`:                                     `"copy" is the name of a format`,
		`{name: m.gguf, format: Q4_K_M, args: [--pure]}`:                                   `targets[1].name: "m.gguf" is the name of a file: leave .gguf off`,
		`{name: a/b, format: Q4_K_M, args: [--pure]}`:                                      `targets[1].name: "a/b" cannot be used: use 1 to 63 letters, digits, dots, dashes and underscores`,
		`{format: Q4_K_M, args: [--pure]}`:                                                 `c.yml:5: schedule[0].targets[1].name: is missing: name the recipe as pages and metrics are to call it`,
		`{name: a, args: [--pure]}`:                                                        `targets[1].format: is missing: name the format that the recipe begins with`,
		`{name: a, format: Q4_K_M}`:                                                        `targets[1].args: is missing, and so is imatrix, which makes a plain Q4_K_M`,
		`{name: a, format: Q4_K_M, args: [ffn_down=q6_k]}`:                                 `targets[1].args: begins with "ffn_down=q6_k", which llama-quantize would take for a file`,
		`{name: a, format: Q4_K_M, args: [--imatrix, x]}`:                                  `targets[1].args: --imatrix is not allowed here: use engine.imatrix, or imatrix of a recipe`,
		`{name: a, format: Q4_K_M, args: [--dry-run]}`:                                     `targets[1].args: --dry-run is not allowed here: with it the tool quantizes nothing`,
		`{name: a, format: Q4_K_M, arg: [--pure]}`:                                         `targets[1].arg: there is no such key; did you mean "args"?`,
		`{name: a, format: Q4_K_M, args: --pure}`:                                          `targets[1].args: "--pure" is not a list`,
		`{name: a, format: [], args: [--pure]}`:                                            `targets[1].format: a list is not a text`,
		`{name: a, format: Q8_0, args: [--pure]}, {name: A, format: Q8_0, args: [--pure]}`: `schedule[0].targets: "A" is named twice`,
		`{name: a, format: Q8_0, args: [--pure]}, ""`:                                      `schedule[0].targets: has a blank item`,
		`{name: a, format: Q8_0, args: [--pure]}, [Q8_0]`:                                  `schedule[0].targets[2]: a list is not a text`,
		`{name: a, format: Q8_0, args: [--pure]}, q2_k`:                                    `schedule[0].targets: "q2_k" is named twice`,
	} {
		_, err := read("c.yml", []byte("schedule:\n- name: n\n  cron: '@daily'\n  models: [m]\n  targets: [Q2_K, "+targets+"]"))
		assert.ErrorContains(t, err, want, targets)
	}
	_, err := read("c.yml", []byte("fleet: {url: 'redis://h'}\nschedule: [{name: n, cron: '@daily', on: [h100], targets: [{name: a, format: Q8_0, imatrix: m.dat}]}]"))
	require.ErrorContains(t, err, "c.yml:2: schedule[0].targets[0].imatrix: names a file of this host, and on gives the cycle to others")
	_, err = read("c.yml", []byte("schedule: [{name: n, cron: '@daily', models: [m], against: f, targets: [{name: a, format: Q8_0, args: [--pure]}]}]"))
	require.ErrorContains(t, err, "against: takes the place of targets")
	_, err = read("c.yml", []byte("schedule:\n- {name: n, cron: '@daily', models: [m], targets: [{name: a, format: Q8_0, args: [--pure]}]}\n- {name: o, cron: '@daily', models: [m], targets: [{name: a, format: Q6_K, args: [--pure]}]}"))
	require.ErrorContains(t, err, `c.yml:3: schedule[1].targets: the entry "n" in line 2 decides a of the models "m" as well`)
}
