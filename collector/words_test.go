package collector

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/runner"
)

// A word that another package knows and this one does not would be born at 1.
func TestWordsAreComplete(t *testing.T) {
	assert.ElementsMatch(t, constants[runner.Reason](t, "../runner/failure.go", "Reason"), reasons)
	assert.ElementsMatch(t, constants[runner.Input](t, "../runner/inputs.go", "Input"), inputs)
	assert.ElementsMatch(t, constants[store.SkipReason](t, "../internal/store/state.go", "SkipReason"), skipReasons)
}

// constants finds the string constants that a source file declares of a type.
func constants[T ~string](t *testing.T, path, typeName string) []T {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	var values []T
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == typeName {
			for _, value := range spec.Values {
				text, err := strconv.Unquote(value.(*ast.BasicLit).Value)
				require.NoError(t, err)
				values = append(values, T(text))
			}
		}
		return true
	})
	require.NotEmpty(t, values, "%s declares no constant of type %s", path, typeName)
	return values
}
