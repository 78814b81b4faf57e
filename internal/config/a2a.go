package config

import (
	"strings"
	"time"

	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
)

// A2A is the section `a2a:`, the bus on which events are delivered.
type A2A struct {
	// URL of Redis; see package a2a for its forms. It may hold a password, so it is a
	// secret: print [A2A.Redacted] only. Default "": there is no bus, and events stay in
	// the store.
	URL string `yaml:"url"`
	// Username and PasswordFile, whose content is the password, take precedence over
	// those in URL. Default: A2A_USERNAME and A2A_PASSWORD in the environment.
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
	// SentinelUsername and SentinelPasswordFile log in to the Sentinels themselves, which
	// do not use the credentials of Redis. Default: A2A_SENTINEL_USERNAME and
	// A2A_SENTINEL_PASSWORD in the environment.
	SentinelUsername     string `yaml:"sentinel_username"`
	SentinelPasswordFile string `yaml:"sentinel_password_file"`
	// Stream is the key of the stream. Default {a2a}:events.
	Stream string `yaml:"stream"`
	// MaxLen is about how many entries the stream keeps. Default 100000; 0 means no
	// bound.
	MaxLen int `yaml:"max_len"`
	// Timeout bounds connecting, and each command: 5s, which is for tests alone to change.
	Timeout model.Duration `yaml:"-"`
	// TLS says how a server reached by a URL with "rediss" proves itself, and how we
	// do. Default: by the certificates the system trusts, and not at all.
	TLS config.TLSConfig `yaml:"tls_config"`
}

// DefaultA2A has no bus.
func DefaultA2A() A2A {
	return A2A{Stream: "{a2a}:events", MaxLen: 100_000, Timeout: model.Duration(5 * time.Second)}
}

// Validate finds every value that cannot be used, but for what package a2a finds.
func (c A2A) Validate() []Problem {
	var found problems
	if c.Stream == "" {
		found.add("stream", "it is empty: name a key, such as %q", DefaultA2A().Stream)
	}
	if c.MaxLen < 0 {
		found.add("max_len", "%d is below 0: use a number of entries, or 0 for no bound", c.MaxLen)
	}
	if err := c.TLS.Validate(); err != nil {
		found.add("tls_config", "%w", err)
	}
	return found
}

// Secret stands in for what must not be shown.
const Secret = "<secret>"

// Redacted returns the section with its secrets replaced by [Secret]; an unset one stays
// empty.
func (c A2A) Redacted() A2A {
	c.URL = RedactURL(c.URL)
	if c.TLS.Key != "" {
		c.TLS.Key = Secret
	}
	return c
}

// RedactURL hides the credentials in a URL, also in a malformed one: what may belong to
// a password is hidden, if need be with more. A text that is not a URL stays as it is.
func RedactURL(text string) string {
	scheme, rest, found := strings.Cut(text, "://")
	at := strings.LastIndex(rest, "@") // an unescaped password may hold any of ":/?#@"
	if !found || at < 0 {
		return text
	}
	// Without a colon it may be a password all the same: some clients read it so.
	shown := Secret
	if user, _, both := strings.Cut(rest[:at], ":"); both {
		shown = user + ":" + Secret
	}
	return scheme + "://" + shown + rest[at:]
}
