package config

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"gopkg.in/yaml.v3"
)

// Redacted is the effective configuration as YAML, with every key and secrets hidden:
// the credentials of URLs, the key of the TLS client, the values in engine.env under names
// such as API_TOKEN, and those of arguments such as --hf-token. Where none is set, it reads back as the same configuration.
func (c *Config) Redacted() ([]byte, error) {
	shown := *c
	shown.A2A = c.A2A.Redacted()
	shown.Engine = c.Engine.redacted()
	shown.Schedule = slices.Clone(c.Schedule)
	for i := range shown.Schedule {
		shown.Schedule[i].Engine = shown.Schedule[i].Engine.redacted()
	}
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	node, err := encoded(reflect.ValueOf(shown))
	if err == nil {
		err = encoder.Encode(node)
	}
	if err != nil {
		return nil, fmt.Errorf("writing the configuration as YAML: %w", err)
	}
	return text.Bytes(), nil
}

func (c Engine) redacted() Engine {
	c.Env = redactedEnv(c.Env)
	c.BenchArgs, c.QuantizeArgs, c.EvaluateArgs = RedactArgs(c.BenchArgs), RedactArgs(c.QuantizeArgs), RedactArgs(c.EvaluateArgs)
	return c
}

func redactedEnv(env map[string]string) map[string]string {
	env = maps.Clone(env)
	for name, value := range env {
		if value != "" && SecretName(name) {
			env[name] = Secret
		} else {
			env[name] = RedactURL(value)
		}
	}
	return env
}

// encoded is a value as YAML with every key: the YAML library would leave out what is
// empty where a type asks for that.
func encoded(value reflect.Value) (*yaml.Node, error) {
	node := &yaml.Node{}
	switch {
	case value.Type() == scheduleType:
		node.Kind = yaml.SequenceNode
		for i := range value.Len() {
			item, err := encoded(value.Index(i))
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, item)
		}
		return node, nil
	case value.Kind() == reflect.Struct && value.Type() != tlsConfig:
		node.Kind = yaml.MappingNode
		for key, f := range fields(value.Type()) {
			item, err := encoded(value.FieldByIndex(f.Index))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, item)
		}
		return node, nil
	}
	shown := value.Interface()
	if d, ok := shown.(model.Duration); ok {
		shown = inDays(d)
	}
	return node, node.Encode(shown)
}

// inDays writes a duration of whole days in days, as people do: the type itself makes
// 365d into 1y, and 7d into 1w.
func inDays(d model.Duration) string {
	const day = model.Duration(24 * time.Hour)
	if d > 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}
