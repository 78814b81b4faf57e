package runner

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/model"
)

// Placeholders of EngineInfo.Matrices: the name of the model, and the path of its first file
// without ".gguf".
const (
	modelPlaceholder = "{model}"
	filePlaceholder  = "{file}"
)

// PerModel reports whether the path of an importance matrix is another one for each model.
func PerModel(imatrix string) bool {
	return strings.Contains(imatrix, modelPlaceholder) || strings.Contains(imatrix, filePlaceholder)
}

// matrixOf gives the path of a model's importance matrix; "" where it has none.
func matrixOf(matrices string, m model.Model) string {
	if matrices == "" {
		return ""
	}
	path := strings.ReplaceAll(matrices, modelPlaceholder, m.Name)
	if _, rest, beside := strings.Cut(path, filePlaceholder); beside { // it is absolute, whatever comes before it
		path = strings.TrimSuffix(m.Path, ".gguf") + rest
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return path
}

// ownMatrix notes which importance matrix the model has, of an engine that has one for each.
func (c *cycle) ownMatrix() {
	if c.info.Matrices == "" {
		return
	}
	c.imatrix = matrixOf(c.info.Matrices, c.Model)
	c.info.Imatrix = c.imatrix != ""
}
