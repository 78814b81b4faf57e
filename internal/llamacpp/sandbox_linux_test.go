package llamacpp_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/process"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/runner"
)

func TestProbeSaysHowToolsAreConfined(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	for sandbox, confined := range map[config.Sandbox]bool{config.SandboxAuto: process.Landlock() > 0, config.SandboxOff: false} {
		p.config.Sandbox = sandbox
		info, err := p.engine().Probe(t.Context())
		require.NoError(t, err)
		assert.Equal(t, confined, info.Confined(), info.Sandbox)
		assert.NotEmpty(t, info.Sandbox)
	}
	p.config.Sandbox = config.SandboxRequired
	info, err := p.engine().Probe(t.Context())
	if process.Landlock() > 0 {
		require.NoError(t, err)
		assert.True(t, info.Confined())
	} else {
		requireFailure(t, err, runner.ReasonEngineMissing, "engine.sandbox is required")
	}
}

// A wrapper script that runs a tool from elsewhere is refused with the key that lets it.
func TestRefusalOfTheSandboxNamesTheKey(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{})
	wrappers := t.TempDir()
	for _, tool := range fakellama.Tools {
		script := "#!/bin/sh\nexec '" + filepath.Join(p.tools, tool) + "' \"$@\"\n"
		require.NoError(t, os.WriteFile(filepath.Join(wrappers, tool), []byte(script), 0o755))
	}
	p.config.Dir = wrappers
	_, err := p.engine().Probe(t.Context())
	if process.Landlock() == 0 { // nothing is refused
		require.NoError(t, err)
		return
	}
	requireFailure(t, err, runner.ReasonEngineMissing, "name the folders that it must read as engine.sandbox_reads")

	p.config.SandboxReads = []string{p.tools}
	_, err = p.engine().Probe(t.Context())
	require.NoError(t, err)
}
