package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
)

// secretName is how variables are named whose values are nobody's business.
var secretName = regexp.MustCompile(`(?i)token|key|secret|passw|passphrase|credential|auth`)

// Redacted is the effective configuration as YAML, with every key and secrets hidden:
// the credentials of URLs, the key of the TLS client, and the values in engine.env under
// names such as HF_TOKEN. Where none is set, it reads back as the same configuration.
func (c *Config) Redacted() ([]byte, error) {
	shown := *c
	shown.A2A = c.A2A.Redacted()
	shown.Engine.Env = redactedEnv(c.Engine.Env)
	shown.Schedule = slices.Clone(c.Schedule)
	for i := range shown.Schedule {
		shown.Schedule[i].Engine.Env = redactedEnv(shown.Schedule[i].Engine.Env)
	}
	text, err := yaml.Marshal(&shown)
	if err != nil {
		return nil, fmt.Errorf("writing the configuration as YAML: %w", err)
	}
	return text, nil
}

func redactedEnv(env map[string]string) map[string]string {
	env = maps.Clone(env)
	for name, value := range env {
		if value != "" && secretName.MatchString(name) {
			env[name] = a2a.Secret
		} else {
			env[name] = a2a.RedactURL(value)
		}
	}
	return env
}
