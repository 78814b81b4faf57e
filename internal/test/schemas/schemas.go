// Package schemas holds the JSON Schemas of examples, against which tests hold what the
// program prints and sends.
package schemas

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/quant-exporter/quant-exporter/internal/test/program"
)

// RunOutput names the schema of a line of `run --output json`, of any kind.
const RunOutput = "run-output"

// ending is the ending of the files' names.
const ending = ".schema.json"

// all are the schemas by name, compiled once per test binary.
var all = sync.OnceValues(compile)

// Get returns the schema of this name, such as quant-decision. It fails the test where there
// is none, and is safe for concurrent use.
func Get(t testing.TB, name string) *jsonschema.Schema {
	t.Helper()
	compiled, err := all()
	if err != nil {
		t.Fatalf("compiling the schemas: %v", err)
	}
	schema, ok := compiled[name]
	if !ok {
		t.Fatalf("there is no schema %s", name)
	}
	return schema
}

// Of returns the name of the schema for events of this type: quant-decision for
// QUANT_DECISION.
func Of(eventType string) string {
	return strings.ReplaceAll(strings.ToLower(eventType), "_", "-")
}

// Check fails the test, which goes on, where the JSON text does not fit the schema.
func Check(t testing.TB, name, text string) {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err == nil {
		err = Get(t, name).Validate(value)
	}
	if err != nil {
		t.Errorf("this does not fit the schema %s: %v\n%s", name, err, text)
	}
}

// Files are the paths of the schemas by name.
func Files() (map[string]string, error) {
	root, err := program.Root()
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(root, "examples", "*"+ending))
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, path := range paths {
		files[strings.TrimSuffix(filepath.Base(path), ending)] = path
	}
	return files, nil
}

// compile gives the compiler every file under its $id: they refer to each other by that,
// and nothing is to be fetched.
func compile() (map[string]*jsonschema.Schema, error) {
	files, err := Files()
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	ids := map[string]string{}
	for name, path := range files {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		document, err := jsonschema.UnmarshalJSON(file)
		file.Close()
		if err != nil {
			return nil, err
		}
		object, _ := document.(map[string]any)
		ids[name], _ = object["$id"].(string)
		if err := compiler.AddResource(ids[name], document); err != nil {
			return nil, err
		}
	}
	compiled := map[string]*jsonschema.Schema{}
	for name, id := range ids {
		if compiled[name], err = compiler.Compile(id); err != nil {
			return nil, err
		}
	}
	return compiled, nil
}
