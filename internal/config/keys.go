package config

import (
	"iter"
	"reflect"
	"slices"
	"strings"
)

// fields gives the fields of a struct type that are keys of the file, by key, in order.
func fields(t reflect.Type) iter.Seq2[string, reflect.StructField] {
	return func(yield func(string, reflect.StructField) bool) {
		for f := range t.Fields() {
			key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
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

// Keys gives every key there is and its value in c, by its path of names, such as
// "benchmark.rounds.min", in the order of the file.
func (c *Config) Keys() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		walk("", reflect.ValueOf(c).Elem(), yield)
	}
}

func walk(prefix string, section reflect.Value, yield func(string, any) bool) bool {
	for key, f := range fields(section.Type()) {
		value := section.FieldByIndex(f.Index)
		if value.Kind() == reflect.Struct {
			if !walk(prefix+key+".", value, yield) {
				return false
			}
		} else if !yield(prefix+key, value.Interface()) {
			return false
		}
	}
	return true
}
