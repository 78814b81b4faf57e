package config

import "reflect"

// SetHash takes over the hash of another configuration, as it tells two texts of one
// meaning apart.
func (c *Config) SetHash(other *Config) { c.hash = other.hash }

// Problems returns the problems of the sections.
func (c *Config) Problems(checks Checks) []Problem { return c.problems(checks) }

// Problems returns the problems of the entry by itself.
func (e *Entry) Problems(c *Config, checks Checks) []Problem { return e.problems(c, checks) }

// KeysIn reports of a text which keys it has.
func KeysIn(text []byte) (has func(path string) bool, err error) {
	document, err := parseDocument("c.yml", text)
	return document.has, err
}

// InputTags are the tags of the settings, by key.
func (s Settings) InputTags() map[string]string {
	tags := map[string]string{}
	inputs("", reflect.ValueOf(s), func(key, tag, _ string) { tags[key] = tag })
	return tags
}
