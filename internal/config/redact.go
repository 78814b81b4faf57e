package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"gopkg.in/yaml.v3"
)

// Redacted returns the effective configuration as YAML, with every key, and with secrets
// hidden: the credentials of URLs, the key of the TLS client, the values in engine.env under
// names such as API_TOKEN, and the values of arguments such as --hf-token. If no secret is
// set, it reads back as the same configuration.
func (c *Config) Redacted() ([]byte, error) {
	node, err := encoded(reflect.ValueOf(c.redacted()))
	if err != nil {
		return nil, fmt.Errorf("writing the configuration as YAML: %w", err)
	}
	return inYAML(node)
}

// Changed is Redacted without the keys that have their defaults; the defaults of an entry are
// the values of the sections. It is "{}\n" if every key has its default.
func (c *Config) Changed() ([]byte, error) {
	shown, defaults := c.redacted(), Default()
	is, err := encoded(reflect.ValueOf(shown))
	was, defaultsErr := encoded(reflect.ValueOf(defaults))
	if err := errors.Join(err, defaultsErr); err != nil {
		return nil, fmt.Errorf("writing the configuration as YAML: %w", err)
	}
	if key, entries := entry(is, "schedule"); key != nil {
		for i, item := range entries.Content {
			byDefault, err := encoded(reflect.ValueOf(shown.NewEntry(0, shown.Schedule[i].Against != "")))
			if err != nil {
				return nil, fmt.Errorf("writing the configuration as YAML: %w", err)
			}
			without(item, byDefault)
		}
	}
	without(is, was)
	return inYAML(is)
}

// without takes out of a section what another one has just so.
func without(section, other *yaml.Node) {
	var left []*yaml.Node
	for i := 0; i+1 < len(section.Content); i += 2 {
		key, value := section.Content[i], section.Content[i+1]
		_, same := entry(other, key.Value)
		if same != nil && equal(value, same) {
			continue
		}
		if same != nil && value.Kind == yaml.MappingNode && same.Kind == yaml.MappingNode {
			without(value, same)
		}
		left = append(left, key, value)
	}
	section.Content = left
}

func equal(a, b *yaml.Node) bool {
	return a.Kind == b.Kind && a.ShortTag() == b.ShortTag() && a.Value == b.Value && slices.EqualFunc(a.Content, b.Content, equal)
}

func inYAML(node *yaml.Node) ([]byte, error) {
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(node); err != nil {
		return nil, fmt.Errorf("writing the configuration as YAML: %w", err)
	}
	return text.Bytes(), nil
}

// redacted is a configuration without secrets.
func (c *Config) redacted() Config {
	shown := *c
	shown.A2A = c.A2A.Redacted()
	shown.Fleet = c.Fleet.Redacted()
	shown.Engine = c.Engine.redacted()
	shown.Schedule = slices.Clone(c.Schedule)
	for i := range shown.Schedule {
		shown.Schedule[i].Engine = shown.Schedule[i].Engine.redacted()
		shown.Schedule[i].Recipes = shown.Schedule[i].Recipes.redacted()
	}
	return shown
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

// encoded returns a value as YAML with every key: the YAML library would leave out what is
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
			of := value.FieldByIndex(f.Index)
			if e, ok := reflect.TypeAssert[Entry](value); ok && key == "targets" && len(e.Recipes) > 0 {
				of = reflect.ValueOf(e.items())
			}
			item, err := encoded(of)
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
