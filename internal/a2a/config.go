package a2a

import (
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
)

// Config is the section `a2a:` of the configuration.
type Config struct {
	// URL of Redis. Default "": there is no bus, and events stay in the store.
	URL string `yaml:"url"`
	// Username and PasswordFile, whose content is the password, take precedence over
	// those in URL. Default: A2A_USERNAME and A2A_PASSWORD in the environment.
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
	// Stream is the key of the stream. Default {a2a}:events.
	Stream string `yaml:"stream"`
	// MaxLen is about how many entries the stream keeps. Default 100000; 0 is no
	// bound.
	MaxLen int `yaml:"max_len"`
	// Timeout bounds connecting, and each command. Default 5s.
	Timeout model.Duration   `yaml:"timeout"`
	TLS     config.TLSConfig `yaml:"tls_config"`
}
