package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// mixed has a format and a recipe of it as the targets of an entry that is due at the start.
const mixed = `
schedule:
  - name: nightly
    cron: "@yearly"
    run_on_start: true
    choose: fastest
    targets: [Q4_K_M, {name: Q4_mix, format: Q4_K_M, args: [--tensor-type, "ffn_down=q6_k"]}]
`

const how = "Q4_K_M with --tensor-type ffn_down=q6_k"

func TestRunWithARecipe(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + mixed)
	got := p.check()
	assert.Zero(t, got.status, got.stderr)
	assert.Contains(t, got.stdout, "\n  targets  Q4_K_M, Q4_mix ("+how+")\n")

	// An entry's recipe can be named without the entry, in any case.
	for _, args := range [][]string{{"--entry", "nightly", "--target", "Q4_mix"}, {"--target", "q4_MIX"}} {
		got = p.run(append(args, "--output", "json", "--evidence", "--no-record", "--choose", "none")...)
		assert.Equal(t, exitKept, got.status, got.stderr)
		assert.Equal(t, verdict.Kept, got.one(t).Decision)
		for _, text := range []string{
			`"target_format":"Q4_mix"`, `"quantized_file":{"format":"Q4_K_M"`, `"recipe":"` + how + `"`,
			`"--tensor-type","ffn_down=q6_k","original.gguf","recipe-Q4_mix.gguf","Q4_K_M"`,
		} {
			assert.Contains(t, got.stdout, text)
		}
	}
	assert.Contains(t, p.run("--entry", "nightly", "--no-record").stdout, "\nQ4_mix: made as "+how+".\n")

	got = p.run("--entry", "nightly", "--dry-run")
	assert.Zero(t, got.status, got.stderr)
	assert.Contains(t, got.stdout, "\nQ4_mix, estimated as a plain Q4_K_M: it is "+how+".\n")
	assert.Contains(t, p.run("--entry", "nightly", "--dry-run", "--target", "Q4_mix", "--output", "json").stdout, `"quantized_file":{"format":"Q4_K_M"`)

	p.configure(quick + strings.ReplaceAll(mixed, "schedule:", `schedule:
  - {name: other, cron: "@yearly", models: [gone], targets: [{name: Q4_mix, format: Q4_K_M, args: [--pure]}]}`))
	got = p.run("--target", "Q4_mix")
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, `--target Q4_mix: the entries "other" and "nightly" make it in different ways: name one of them with --entry`)
	assert.Equal(t, exitKept, p.run("--entry", "nightly", "--target", "Q4_mix", "--no-record", "--choose", "none").status)
}

func TestCheckOfRecipes(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure("schedule:\n- name: n\n  cron: '@daily'\n  targets:\n  - {name: Q4_K_M, format: Q4_K_M, args: [--pure]}")
	got := p.check()
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, `config.yml:5: schedule[0].targets[0].name: "Q4_K_M" is the name of a format: give the recipe one of its own, such as Q4_K_M-mix`)

	p.configure("schedule:\n- name: n\n  cron: '@daily'\n  targets:\n  - {name: mix, format: Q9_0, args: [--pure]}")
	got = p.check()
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, `config.yml:2: schedule: entry "n": targets: "Q9_0" is not a format that this llama.cpp makes`)

	p.configure("schedule:\n- name: n\n  cron: '@daily'\n  targets: [{name: mix, format: Q4_K_M, imatrix: gone.gguf}]")
	got = p.check()
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, `config.yml:2: schedule: entry "n": targets: imatrix of mix: stat `)
}

// A mix competes with a preset: it is measured, shown and published like one, and measured
// again when it has changed.
func TestServeARecipe(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	kept := func(target string) []string {
		return []string{"model_name", "m", "target_format", target, "source_format", "F16", "result", "kept"}
	}
	served := quick + "publish: {dir: published}\nfresh_for: 7d\n" + strings.Replace(mixed, "    choose: fastest\n", "", 1)
	p.configure(served)
	s := p.serve()
	s.mustLog("run finished")
	for _, target := range []string{"Q4_K_M", "Q4_mix"} {
		s.shows(1, "quant_cycle_decision_total", kept(target)...)
	}
	_, page := s.get("/model?name=m")
	assert.Contains(t, page, "<bdi>"+how+"</bdi>")
	_, schedule := s.get("/api/v1/schedule")
	assert.Contains(t, schedule, `"target_formats":["Q4_K_M","Q4_mix"]`)
	assert.Zero(t, s.stop(), s.log())
	manifest, err := os.ReadFile(filepath.Join(p.published(), "m", "Q4_mix", "stable", "manifest.json"))
	require.NoError(t, err)
	assert.Contains(t, string(manifest), `"ffn_down=q6_k"`)

	p.configure(strings.Replace(served, "q6_k", "q5_k", 1))
	s = p.serve()
	s.mustLog("run finished")
	s.shows(2, "quant_cycle_decision_total", kept("Q4_mix")...)
	s.shows(1, "quant_cycle_decision_total", kept("Q4_K_M")...)
	s.shows(1, "quant_cycle_input_changes_total", "model_name", "m", "input", "arguments")
	assert.Zero(t, s.stop(), s.log())
}
