package config_test

import (
	"testing"

	promconfig "github.com/prometheus/common/config"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestBusThatCannotBeUsed(t *testing.T) {
	for name, test := range map[string]struct {
		set        func(*config.A2A)
		path, want string
	}{
		"no stream": {func(c *config.A2A) { c.Stream = "" }, "stream", `it is empty: name a key, such as "{a2a}:events"`},
		"length":    {func(c *config.A2A) { c.MaxLen = -1 }, "max_len", "-1 is below 0: use a number of entries, or 0 for no bound"},
		"a certificate without its key": {
			func(c *config.A2A) { c.TLS.CertFile = "/c" }, "tls_config",
			"exactly one of key or key_file must be configured when a client certificate is configured",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := config.DefaultA2A()
			test.set(&c)
			problems := c.Validate()
			require.Len(t, problems, 1)
			assert.Equal(t, test.path, problems[0].Path)
			assert.EqualError(t, problems[0].Err, test.want)
		})
	}
	assert.Empty(t, config.DefaultA2A().Validate())
}

func TestBusRedacted(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "",
		"redis://h:6379/0":                  "redis://h:6379/0",
		"redis://:hunter2@h":                "redis://:<secret>@h",
		"rediss://user:hunter2@h:1/2":       "rediss://user:<secret>@h:1/2",
		"redis://hunter2@h":                 "redis://<secret>@h",
		"redis://u:hunter2/hunter2@h":       "redis://u:<secret>@h",
		"redis://u:hunter2 hunter2@h":       "redis://u:<secret>@h",
		"redis://u:hunter2@hunter2#@a,b":    "redis://u:<secret>@a,b",
		"unix:///s":                         "unix:///s",
		"redis+sentinel://:hunter2@a,b/m/0": "redis+sentinel://:<secret>@a,b/m/0",
	} {
		assert.Equal(t, want, config.A2A{Redis: config.Redis{URL: text}}.Redacted().URL)
	}
	c := config.A2A{Redis: config.Redis{TLS: promconfig.TLSConfig{Key: "hunter2", CertFile: "/c"}}}
	assert.Equal(t, config.A2A{Redis: config.Redis{TLS: promconfig.TLSConfig{Key: config.Secret, CertFile: "/c"}}}, c.Redacted())
	assert.Equal(t, promconfig.Secret("hunter2"), c.TLS.Key, "the original stays")
	assert.Equal(t, config.DefaultA2A(), config.DefaultA2A().Redacted())
}
