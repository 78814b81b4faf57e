package config_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestDefaultEngineIsValid(t *testing.T) {
	require.Empty(t, config.DefaultEngine().Validate())
}

func TestEngineThatCannotBeUsed(t *testing.T) {
	for name, test := range map[string]struct {
		change     func(*config.Engine)
		path, want string
	}{
		"negative threads":    {func(c *config.Engine) { c.Threads = -1 }, "threads", "-1 is below 0"},
		"nice too high":       {func(c *config.Engine) { c.Nice = 20 }, "nice", "20 is not a nice level"},
		"nice too low":        {func(c *config.Engine) { c.Nice = -1 }, "nice", "-1 is not a nice level"},
		"no time to quantize": {func(c *config.Engine) { c.Timeouts.Quantize = 0 }, "timeouts.quantize", "above 0"},
		"no time to measure":  {func(c *config.Engine) { c.Timeouts.Benchmark = 0 }, "timeouts.benchmark", "above 0"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config.DefaultEngine()
			test.change(&cfg)
			problems := cfg.Validate()
			require.Len(t, problems, 1)
			assert.Equal(t, test.path, problems[0].Path)
			require.ErrorContains(t, problems[0].Err, test.want)
			assert.NotContains(t, problems[0].Err.Error(), "engine."+test.path, "whoever reports the problem names the key")
		})
	}
}

func TestSecretsAreKnownByTheirNames(t *testing.T) {
	for _, name := range []string{
		"HF_TOKEN", "API_KEY", "GITHUB_PAT", "PAT", "SESSION_ID", "COOKIE", "SENTRY_DSN", "DB_PASSWORD",
		"GOOGLE_CREDS", "MY_JWT", "BEARER", "AZURE_SAS", "CONNECTION_STRING", "DB_CONNSTR", "SLACK_WEBHOOK_URL", "OTP", "TOTP", "CONNECT_SID", "PHPSESSID", "GHPAT", "GH_PAT1",
	} {
		assert.True(t, config.SecretName(name), name)
	}
	for _, name := range []string{
		"PATH", "GGML_BACKEND_PATH", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "PATTERN",
		"GGML_CUDA_COMPAT", "OTPAUSE", "SIDE", "SASL", "INSIDE", "ROCM_PATH", "MY_PATCH", "PATIENCE",
	} {
		assert.False(t, config.SecretName(name), name)
	}
}
