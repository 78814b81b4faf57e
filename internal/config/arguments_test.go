package config_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestSecretsInArguments(t *testing.T) {
	for _, test := range []struct{ args, want []string }{
		{nil, nil},
		{[]string{"-ngl", "99", "-fa", "1"}, []string{"-ngl", "99", "-fa", "1"}},
		{[]string{"--hf-token", "hunter2", "-t", "4"}, []string{"--hf-token", "<secret>", "-t", "4"}},
		{[]string{"-hft", "hunter2"}, []string{"-hft", "<secret>"}},
		{[]string{"--hf-token=hunter2=", "--api-key=hunter2"}, []string{"--hf-token=<secret>", "--api-key=<secret>"}},
		{[]string{"--API_KEY", "hunter2", "--password", "-hunter2"}, []string{"--API_KEY", "<secret>", "--password", "<secret>"}},
		{[]string{"--rpc", "http://u:hunter2@h"}, []string{"--rpc", "http://u:<secret>@h"}},
		{[]string{"--token-embedding-type", "q8_0", "--api-key-file", "/run/k", "--keep-split", "-ctk", "q8_0"}, []string{"--token-embedding-type", "q8_0", "--api-key-file", "/run/k", "--keep-split", "-ctk", "q8_0"}},
		{[]string{"--gh-pat", "hunter2", "--jwt=hunter2", "--db-connection-string", "hunter2", "--sas", "hunter2"}, []string{"--gh-pat", "<secret>", "--jwt=<secret>", "--db-connection-string", "<secret>", "--sas", "<secret>"}},
		{[]string{"--hf-token"}, []string{"--hf-token"}},
		{[]string{"--hf-token", ""}, []string{"--hf-token", ""}},
	} {
		before := append([]string(nil), test.args...)
		assert.Equal(t, test.want, config.RedactArgs(test.args))
		assert.Equal(t, before, test.args, "the arguments themselves stay")
	}
	assert.Equal(t, "error: invalid token <secret>", config.HideArgs("error: invalid token hunter2", []string{"--hf-token", "hunter2"}))
	assert.Equal(t, "error: invalid token <secret>", config.HideArgs("error: invalid token hunter2", []string{"--hf-token=hunter2"}))
	assert.Equal(t, "-ngl 99", config.HideArgs("-ngl 99", []string{"-ngl", "99"}))
}

func TestSecretsInArgumentsAreNotShown(t *testing.T) {
	c := parse(t, `
engine: {bench_args: [--hf-token, hunter2], quantize_args: [--api-key=hunter2], evaluate_args: [-hft, hunter2]}
schedule: [{name: n, cron: "@daily", engine: {bench_args: [--token=hunter2, -ngl, "9"]}}]
`)
	text, err := c.Redacted()
	require.NoError(t, err)
	assert.NotContains(t, string(text), "hunter2")
	assert.Contains(t, string(text), "-ngl")
	assert.Equal(t, []string{"--hf-token", "hunter2"}, c.Engine.BenchArgs)
}
