package redisconn

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

// What the configuration names comes before the environment, and that before the URL.
func TestCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("from file\r\n"), 0o600))
	both := config.Redis{Username: "config", PasswordFile: file}
	environment := Secrets{Username: "environment", Password: "from environment"}
	url := Endpoint{Username: "url", Password: "from url"}
	for _, c := range []struct {
		cfg                config.Redis
		secrets            Secrets
		endpoint           Endpoint
		username, password string
	}{
		{config.Redis{}, Secrets{}, Endpoint{}, "", ""},
		{config.Redis{}, Secrets{}, url, "url", "from url"},
		{config.Redis{}, environment, url, "environment", "from environment"},
		{both, environment, url, "config", "from file"},
		{config.Redis{PasswordFile: file}, Secrets{}, url, "url", "from file"},
		{config.Redis{Username: "config"}, environment, url, "config", "from environment"},
	} {
		username, password, err := credentials("a2a", c.cfg, c.secrets, c.endpoint)(t.Context())
		require.NoError(t, err)
		assert.Equal(t, c.username, username)
		assert.Equal(t, c.password, password)
	}
}
