package a2a

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestConfigThatCannotBeUsed(t *testing.T) {
	for name, test := range map[string]struct {
		set        func(*config.A2A)
		path, want string
	}{
		"half a hash tag": {func(c *config.A2A) { c.Stream = "{}a" }, "stream", `the braces of "{}a" name no hash tag: write it as in {a2a}:events, or without braces`},
		"TLS options without TLS": {
			func(c *config.A2A) { c.URL, c.TLS.CAFile = "redis://h", "/ca" }, "tls_config",
			"it has no effect, as the url does not ask for TLS: write rediss instead of redis there",
		},
		"a user of Sentinels that are none": {
			func(c *config.A2A) { c.URL, c.SentinelUsername = "redis://h", "u" }, "sentinel_username",
			"it has no effect, as the url names no Sentinels: write redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB there",
		},
		"a password of Sentinels that are none": {
			func(c *config.A2A) { c.URL, c.SentinelPasswordFile = "redis+cluster://h", "f" }, "sentinel_password_file",
			"it has no effect, as the url names no Sentinels: write redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB there",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := config.DefaultA2A()
			test.set(&c)
			problems := Validate(c)
			require.Len(t, problems, 1)
			assert.Equal(t, test.path, problems[0].Path)
			assert.EqualError(t, problems[0].Err, test.want)
		})
	}
	assert.Empty(t, Validate(config.DefaultA2A()))
}
