package config

import (
	"iter"
	"reflect"
	"slices"
	"strings"

	"github.com/prometheus/common/config"
)

// tlsConfig is documented as one key: Prometheus has it, too.
var tlsConfig = reflect.TypeFor[config.TLSConfig]()

// fields returns the fields of a struct type that are keys of the file, by key, in order.
func fields(t reflect.Type) iter.Seq2[string, reflect.StructField] {
	return func(yield func(string, reflect.StructField) bool) {
		for f := range t.Fields() {
			if f.Anonymous { // inline
				for key, inner := range fields(f.Type) {
					inner.Index = append(slices.Clone(f.Index), inner.Index...)
					if !yield(key, inner) {
						return
					}
				}
				continue
			}
			key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if t == tlsConfig && strings.HasSuffix(key, "_ref") { // of a secret manager, which we have not
				continue
			}
			if key != "" && key != "-" && !yield(key, f) {
				return
			}
		}
	}
}

// fieldOf finds the field of a key.
func fieldOf(section reflect.Value, key string) (field reflect.Value, ok bool) {
	for name, f := range fields(section.Type()) {
		if name == key {
			return section.FieldByIndex(f.Index), true
		}
	}
	return reflect.Value{}, false
}

// keysOf lists the keys of a section for a message.
func keysOf(t reflect.Type) string {
	var keys []string
	for key := range fields(t) {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return strings.Join(keys, ", ")
}

// Inherited is the value that Keys gives for a key of an entry whose default is the
// file's own section, or key, of this name.
type Inherited string

// Keys returns every key there is and its value in c, by its path of names, such as
// "benchmark.rounds.min", in the order of the file. The keys of an entry come as
// "schedule[].cron", with their defaults.
func (c *Config) Keys() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		if walk("", reflect.ValueOf(c).Elem(), yield) {
			entryKeys(yield)
		}
	}
}

func walk(prefix string, section reflect.Value, yield func(string, any) bool) bool {
	for key, f := range fields(section.Type()) {
		value := section.FieldByIndex(f.Index)
		switch {
		case f.Type == scheduleType:
		case f.Type.Kind() == reflect.Struct && f.Type != tlsConfig:
			if !walk(prefix+key+".", value, yield) {
				return false
			}
		default:
			if !yield(prefix+key, value.Interface()) {
				return false
			}
		}
	}
	return true
}

func entryKeys(yield func(string, any) bool) {
	defaults := Config{}
	entry := reflect.ValueOf(defaults.NewEntry(0, false))
	sections := reflect.ValueOf(defaults)
	for key, f := range fields(entry.Type()) {
		value := entry.FieldByIndex(f.Index).Interface()
		if section, ok := fieldOf(sections, key); ok && section.Type() == f.Type { // not models
			value = Inherited(key)
		}
		if !yield("schedule[]."+key, value) {
			return
		}
	}
}
