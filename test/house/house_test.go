// Package house_test holds the imports of the program's packages to the floors that
// docs/developing.md gives them: a package imports packages of lower floors only.
package house_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	module = "github.com/quant-exporter/quant-exporter"
	root   = "../.."
)

// floors are the rows of the table in docs/developing.md, by package.
func floors(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "developing.md"))
	require.NoError(t, err)
	all := map[string]int{}
	for _, row := range regexp.MustCompile("(?m)^\\| ([0-9]+) \\| `([^`]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		require.NotContains(t, all, row[2], "the table has it twice")
		all[row[2]], err = strconv.Atoi(row[1])
		require.NoError(t, err)
	}
	require.NotEmpty(t, all)
	return all
}

// imports are, for each package of the program, those packages of this module that it
// imports on any system. Tests, what serves them, scripts and examples are no part of the
// program.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		switch {
		case entry.IsDir() && (entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".") && name != "."):
			return filepath.SkipDir
		case name == "test" || name == "internal/test" || name == "scripts" || name == "examples":
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		in := path.Dir(name)
		if in == "." {
			in = "main"
		}
		locals := all[in]
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if local, ok := strings.CutPrefix(imported, module+"/"); ok {
				locals = append(locals, local)
			}
		}
		all[in] = locals
		return nil
	})
	require.NoError(t, err)
	return all
}

func TestPackagesImportLowerFloorsOnly(t *testing.T) {
	floor := floors(t)
	known := map[string]bool{}
	for in, imported := range imports(t) {
		known[in] = true
		if !assert.Contains(t, floor, in, "docs/developing.md gives it no floor") {
			continue
		}
		for _, local := range imported {
			if assert.Contains(t, floor, local, "%s imports it, which docs/developing.md gives no floor", in) {
				assert.Less(t, floor[local], floor[in], "the floor of %s, which %s imports, is not lower", local, in)
			}
		}
	}
	for in := range floor {
		assert.True(t, known[in], "docs/developing.md gives %s a floor, and there is no such package", in)
	}
}
