package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// production adds a Q4_K_M file that exists to the place's models.
func (p *place) production() string {
	p.t.Helper()
	return gguftest.Model(gguftest.TinyQuantized()).Write(p.t, filepath.Join(p.models, "prod.gguf"))
}

func TestRunAgainstAFile(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	file := p.production()
	for _, named := range []string{"prod", file} {
		got := p.run("--output", "json", "--evidence", "--model", "m", "--against", named)
		assert.Equal(t, exitKept, got.status, got.stderr)
		assert.Equal(t, verdict.Kept, got.one(t).Decision)
		for _, text := range []string{`"source_format":"F16"`, `"target_format":"Q4_K_M"`, `"against":"prod"`, `"against.gguf"`, `"quantized_file":{"format":"Q4_K_M"`} {
			assert.Contains(t, got.stdout, text)
		}
		assert.NotContains(t, got.stdout, "llama-quantize")
	}
	assert.Contains(t, p.run("--output", "text", "--against", "prod", "--baseline", "Q8_0").stdout, "Q4_K_M: the file prod as it is.")
}

func TestAgainstTheFileOfAnEntry(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.production()
	p.configure(quick + "schedule: [{name: n, cron: '@daily', models: [m], against: prod}]\n")
	assert.Contains(t, p.run("--output", "json", "--entry", "n").stdout, `"against":"prod"`)
	got := p.run("--output", "json", "--entry", "n", "--target", "Q8_0")
	assert.Contains(t, got.stdout, `"target_format":"Q8_0"`, "flags come first")
	assert.Contains(t, got.stdout, `"against":null`)
}

// While a file cannot be read, its pair keeps its name, as it does when serving.
func TestRunNamesThePairOfADamagedFileAsBefore(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	file := p.production()
	p.configure(quick + "schedule: [{name: n, cron: '@daily', models: [m], against: prod}]\n")
	assert.Equal(t, exitKept, p.run("--output", "json", "--entry", "n").status)
	require.NoError(t, os.WriteFile(file, []byte("no GGUF"), 0o600))
	got := p.run("--output", "json", "--entry", "n")
	assert.Equal(t, exitFailed, got.status, got.stderr)
	assert.Contains(t, got.stdout, `"target_format":"Q4_K_M"`)
	got = p.run("--output", "json", "--model", "m", "--against", "prod")
	assert.Contains(t, got.stdout, `"target_format":"UNKNOWN"`, "nobody knows which file it was")
}

func TestAgainstWhatCannotBeCompared(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.add("other")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"and a target":      {[]string{"--model", "m", "--against", "prod", "--target", "Q2_K"}, "--against takes the place of --target"},
		"of two models":     {[]string{"--against", "m"}, `"m" is compared with one model, and there are 2`},
		"that is not there": {[]string{"--model", "m", "--against", "gone"}, `no file is named "gone"`},
		"that are many":     {[]string{"--model", "m", "--against", "m*"}, `"m*" is a pattern`},
		"and a choice":      {[]string{"--model", "m", "--against", "m", "--choose", "smallest"}, "--choose chooses one of several formats"},
		"in a dry run":      {[]string{"--model", "m", "--against", "m", "--dry-run"}, "--dry-run estimates copies that are to be made"},
	} {
		got := p.run(append([]string{"--no-record"}, test.args...)...)
		assert.Equal(t, exitError, got.status, name)
		assert.Contains(t, got.stderr, test.want, name)
	}
	shape := gguftest.TinyQuantized()
	shape.Vocabulary++
	gguftest.Model(shape).Write(t, filepath.Join(p.models, "prod.gguf"))
	got := p.run("--output", "json", "--model", "m", "--against", "prod")
	assert.Equal(t, exitFailed, got.status)
	assert.Equal(t, runner.ReasonBadModel, got.one(t).Reason)
	assert.Contains(t, got.one(t).Error, "has a vocabulary of 513 tokens")
}

func TestCheckOfAFile(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.production()
	p.configure("schedule: [{name: n, cron: '@daily', models: [m], against: prod, baseline: Q8_0}]")
	got := p.check()
	assert.Zero(t, got.status, got.stderr)
	assert.Contains(t, got.stdout, "\n  against  prod (Q4_K_M)\n  baseline Q8_0\n  models   m\n")

	p.configure("schedule: [{name: n, cron: '@daily', models: [m], against: gone}]")
	got = p.check()
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, `config.yml:1: schedule: against: the entry "n" names a file that cannot be used: no model in`)

	p.configure("schedule:\n- {name: n, cron: '@daily', models: [m], against: prod}\n- {name: o, cron: '@daily', models: [m], targets: [q4_k]}")
	got = p.check()
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, `config.yml:3: schedule: the entries "n" and "o" both decide Q4_K_M of "m"`)
}

// What is served is measured on schedule. When the file goes, that is a failure of the
// pair that it made, also after a restart.
func TestServeMeasuresAFile(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	file := p.production()
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	p.configure(quick + `schedule: [{name: prod, cron: "@yearly", run_on_start: true, models: [m], against: prod}]`)
	s := p.serve()
	s.mustLog("run finished")
	pair := []string{"model_name", "m", "target_format", "Q4_K_M", "source_format", "F16"}
	s.shows(1, "quant_cycle_decision_total", append(pair, "result", "kept")...)
	s.shows(0, "quant_cycle_decision_total", append(pair, "result", "rejected")...)
	s.shows(float64(len(before)), "quant_cycle_model_size_bytes", "model_name", "m", "format", "Q4_K_M")
	_, page := s.get("/")
	assert.Contains(t, page, "file <bdi>prod</bdi>")
	_, schedule := s.get("/api/v1/schedule")
	assert.Contains(t, schedule, `"target_formats":["Q4_K_M"],"against":"prod"`)
	assert.Zero(t, s.stop(), s.log())
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, before, after)

	require.NoError(t, os.Remove(file))
	s = p.serve()
	s.mustLog("run finished")
	s.shows(1, "quant_cycle_failures_total", "model_name", "m", "reason", "bad_model")
	s.shows(1, "quant_cycle_last_decision", append(pair, "result", "kept")...)
	_, models := s.get("/api/v1/models")
	assert.Contains(t, models, `"reason":"bad_model","error":"no model in`)
	assert.NotContains(t, models, "UNKNOWN")
	assert.Zero(t, s.stop(), s.log())
}

// Two files whose headers say the same format are two pairs.
func TestServeMeasuresFilesOfOneFormat(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.production()
	gguftest.Model(gguftest.TinyQuantized()).Write(t, filepath.Join(p.models, "m-UD-Q4_K_XL.gguf"))
	p.configure(quick + `
schedule:
  - {name: prod, cron: "@yearly", run_on_start: true, models: [m], against: prod}
  - {name: dynamic, cron: "@yearly", run_on_start: true, models: [m], against: m-UD-Q4_K_XL}`)
	got := p.check()
	assert.Zero(t, got.status, got.stderr)
	assert.Contains(t, got.stdout, "\n  against  m-UD-Q4_K_XL (m-UD-Q4_K_XL.gguf)\n")
	for _, args := range [][]string{{"--entry", "prod"}, {"--model", "m", "--against", "prod"}} {
		got = p.run(append(args, "--output", "json", "--no-record")...)
		assert.Equal(t, exitKept, got.status, got.stderr)
		assert.Contains(t, got.stdout, `"target_format":"prod.gguf"`)
		assert.Contains(t, got.stdout, `"quantized_file":{"format":"Q4_K_M"`)
	}

	s := p.serve()
	s.mustLog(`run finished.* entry=prod`)
	s.mustLog(`run finished.* entry=dynamic`)
	for _, target := range []string{"prod.gguf", "m-UD-Q4_K_XL.gguf"} {
		s.shows(1, "quant_cycle_decision_total", "model_name", "m", "target_format", target, "source_format", "F16", "result", "kept")
		s.shows(1, "quant_cycle_last_decision", "model_name", "m", "target_format", target, "source_format", "F16", "result", "kept")
	}
	for _, path := range []string{"/", "/model?name=m"} {
		_, page := s.get(path)
		assert.Contains(t, page, "<bdi>m-UD-Q4_K_XL.gguf</bdi>", path)
	}
	assert.Zero(t, s.stop(), s.log())
}

// A file that the fake llama-quantize made before, on another path.
func TestAgainstAFileBesideTheModelsFolder(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	made := filepath.Join(p.dir, "served.gguf")
	out, err := exec.Command(filepath.Join(p.tools, "llama-quantize"), p.model, made, "Q4_K_M", "1").CombinedOutput()
	require.NoError(t, err, "%s", out)
	p.configure(quick + "schedule: [{name: n, cron: '@daily', models: [m], against: ./served.gguf}]\n")
	got := p.run("--output", "json", "--entry", "n")
	assert.Equal(t, exitKept, got.status, got.stderr)
	assert.Contains(t, got.stdout, `"target_format":"Q4_K_M"`)
	assert.Contains(t, got.stdout, `served"`)
}
