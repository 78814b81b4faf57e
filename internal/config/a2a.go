package config

import "strings"

// A2A is the section `a2a:`, the bus on which events are delivered.
type A2A struct {
	Redis `yaml:",inline"`
	// Stream is the key of the stream. Default {a2a}:events.
	Stream string `yaml:"stream"`
	// MaxLen is about how many entries the stream keeps. Default 100000; 0 means no
	// bound.
	MaxLen int `yaml:"max_len"`
}

// DefaultA2A has no bus.
func DefaultA2A() A2A {
	return A2A{Redis: defaultRedis(), Stream: "{a2a}:events", MaxLen: 100_000}
}

// Validate finds every value that cannot be used, but for what package a2a finds.
func (c A2A) Validate() []Problem {
	found := problems(c.Redis.Validate())
	if c.Stream == "" {
		found.add("stream", "it is empty: name a key, such as %q", DefaultA2A().Stream)
	}
	if c.MaxLen < 0 {
		found.add("max_len", "%d is below 0: use a number of entries, or 0 for no bound", c.MaxLen)
	}
	return found
}

// Secret stands in for what must not be shown.
const Secret = "<secret>"

// Redacted returns the section with its secrets replaced by [Secret]; an unset one stays
// empty.
func (c A2A) Redacted() A2A {
	c.Redis = c.Redis.Redacted()
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
