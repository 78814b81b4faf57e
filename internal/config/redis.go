package config

import (
	"time"

	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
)

// Redis is what the sections `a2a:` and `fleet:` share: a server, and how to log in to it.
type Redis struct {
	// URL of Redis; see package redisconn for its forms. It may hold a password, so it is a
	// secret: print [Redis.Redacted] only. Default "": there is none.
	URL string `yaml:"url"`
	// Username and PasswordFile, whose content is the password, take precedence over
	// those in URL. Default: A2A_USERNAME and A2A_PASSWORD in the environment, and
	// FLEET_USERNAME and FLEET_PASSWORD.
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
	// SentinelUsername and SentinelPasswordFile log in to the Sentinels themselves, which
	// do not use the credentials of Redis. Default: A2A_SENTINEL_USERNAME and
	// A2A_SENTINEL_PASSWORD in the environment, and the same with FLEET.
	SentinelUsername     string `yaml:"sentinel_username"`
	SentinelPasswordFile string `yaml:"sentinel_password_file"`
	// Timeout bounds connecting, and each command: 5s, which is for tests alone to change.
	Timeout model.Duration `yaml:"-"`
	// TLS says how a server reached by a URL with "rediss" proves itself, and how we
	// do. Default: by the certificates the system trusts, and not at all.
	TLS config.TLSConfig `yaml:"tls_config"`
}

// defaultRedis has no server.
func defaultRedis() Redis { return Redis{Timeout: model.Duration(5 * time.Second)} }

// Validate finds every value that cannot be used, but for what package redisconn finds.
func (c Redis) Validate() []Problem {
	var found problems
	if err := c.TLS.Validate(); err != nil {
		found.add("tls_config", "%w", err)
	}
	return found
}

// Redacted returns the settings with their secrets replaced by [Secret]; an unset one stays
// empty.
func (c Redis) Redacted() Redis {
	c.URL = RedactURL(c.URL)
	if c.TLS.Key != "" {
		c.TLS.Key = Secret
	}
	return c
}
