package llamacpp

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/process"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/logbook"
	"github.com/quant-exporter/quant-exporter/runner"
)

// A tool that hangs when it is asked about itself is named soon, ended, and not asked again in
// the same cycle.
func TestProbeThatHangs(t *testing.T) {
	for _, fault := range []fakellama.Fault{
		{Tool: "llama-quantize", Step: "help", Do: fakellama.Hang},
		{Tool: "llama-bench", Step: "version", Do: fakellama.Hang},
		{Tool: "llama-bench", Step: "devices", Do: fakellama.Hang},
	} {
		t.Run(fault.Tool+" "+fault.Step, func(t *testing.T) {
			cfg := config.DefaultEngine()
			cfg.Dir = fakellama.BuildWith(t, fakellama.Behaviour{Faults: []fakellama.Fault{fault}})
			var log logbook.Book // a timer writes to it
			e := New(cfg, Threads{}, log.Logger())
			e.probing = probing{quiet: 300 * time.Millisecond, limit: 3 * time.Second, devices: 3 * time.Second, again: time.Hour}

			begin := time.Now()
			_, err := e.Probe(t.Context())
			require.ErrorContains(t, err, "ran past its limit of 3s while printing its")
			assert.Equal(t, runner.ReasonTimeout, runner.AsFailure(err).Reason)
			assert.Less(t, time.Since(begin), 40*time.Second)
			assert.Contains(t, log.String(), "a tool does not answer")
			assert.Contains(t, log.String(), fault.Tool)

			asked := len(fakellama.Calls(t, cfg.Dir))
			_, again := e.Probe(t.Context())
			assert.Equal(t, err, again)
			assert.Len(t, fakellama.Calls(t, cfg.Dir), asked+askedFirst(fault), "the tool that hung is not asked again")

			e.probing.again = 0
			_, err = e.Probe(t.Context())
			require.Error(t, err)
			assert.Len(t, fakellama.Calls(t, cfg.Dir), asked+2*askedFirst(fault)+1, "it is, after a while")
		})
	}
}

// askedFirst is how many questions come before the one that hangs.
func askedFirst(fault fakellama.Fault) int {
	return map[string]int{"help": 0, "version": 2, "devices": 3}[fault.Step]
}

func TestSandboxByVersion(t *testing.T) {
	for _, test := range []struct {
		wanted  config.Sandbox
		version int
		want    string
		whole   bool
	}{
		{config.SandboxAuto, 7, "landlock 7", true},
		{config.SandboxAuto, 3, "landlock 3", true},
		{config.SandboxAuto, 2, "partial landlock 2", false},
		{config.SandboxAuto, 1, "partial landlock 1", false},
		{config.SandboxAuto, 0, "none", false},
		{config.SandboxOff, 7, "off", false},
		{config.SandboxRequired, 3, "landlock 3", true},
		{config.SandboxRequired, 2, "lets tools cut files off", false},
		{config.SandboxRequired, 0, "engine.sandbox is required", false},
	} {
		got, err := sandboxBy(test.wanted, test.version)
		if err != nil {
			assert.Equal(t, config.SandboxRequired, test.wanted)
			require.ErrorContains(t, err, test.want)
			assert.Equal(t, runner.ReasonEngineMissing, runner.AsFailure(err).Reason)
			continue
		}
		assert.Equal(t, test.want, got)
		assert.Equal(t, test.whole, runner.EngineInfo{Sandbox: got}.Confined(), "else the model is watched: %s", got)
	}
}

// A link that a tool leaves in the working folder gives the next tool nothing.
func TestPlantedLinksOpenNothing(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "id_ed25519")
	require.NoError(t, os.WriteFile(secret, []byte("PRIVATE KEY"), 0o600))
	model := filepath.Join(outside, "model.gguf")
	require.NoError(t, os.WriteFile(model, []byte("GGUF and more"), 0o600))
	for name, to := range map[string]string{
		"original.gguf": model, "x": secret, "y": outside, "z": "/", "plan.gguf": secret, "dead": filepath.Join(outside, "gone"), "null": "/dev/zero",
	} {
		require.NoError(t, os.Symlink(to, filepath.Join(dir, name)))
	}
	assert.Equal(t, []string{model}, linkedModels(dir))
	if process.Landlock() == 0 {
		return
	}
	e := New(config.DefaultEngine(), Threads{}, slog.New(slog.DiscardHandler))
	reads := e.confinement(binary{path: "/usr/bin/llama-bench"}, nil, dir).Reads
	assert.Contains(t, reads, model)
	assert.NotContains(t, reads, secret)
	assert.NotContains(t, reads, outside)
}

// 100 GB of nothing are not read to the end.
func TestAbsurdFilesAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nothing")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Truncate(file, 100<<30))
	for name, set := range map[string]func(*config.Engine){
		"engine.imatrix":       func(c *config.Engine) { c.Imatrix = file },
		"engine.quantize_args": func(c *config.Engine) { c.QuantizeArgs = []string{"--tensor-type-file", file} },
		"engine.evaluate_args": func(c *config.Engine) { c.EvaluateArgs = []string{"--grammar-file", file} },
	} {
		cfg := config.DefaultEngine()
		cfg.Dir = fakellama.Build(t)
		set(&cfg)
		_, err := New(cfg, Threads{}, slog.New(slog.DiscardHandler)).Probe(t.Context())
		require.ErrorContains(t, err, name)
		require.ErrorContains(t, err, "107374182400 bytes")
	}
}
