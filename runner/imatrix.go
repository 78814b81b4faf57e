package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/config"
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

// recipeMatrix gives the path of the importance matrix of a recipe; "" where it names none, or
// none of this model is there.
func recipeMatrix(r *config.Recipe, m model.Model) (string, error) {
	if r.Imatrix == "" || PerModel(r.Imatrix) {
		return matrixOf(r.Imatrix, m), nil
	}
	path, err := filepath.Abs(r.Imatrix)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", fmt.Errorf("imatrix of %s: %w: name a file that llama-imatrix made, or take the key out", r.Name, err)
	}
	return path, nil
}

// ownMatrix notes which importance matrix the model has, of an engine that has one for each.
func (c *cycle) ownMatrix() {
	if c.info.Matrices == "" {
		return
	}
	c.imatrix = matrixOf(c.info.Matrices, c.Model)
	c.info.Imatrix = c.imatrix != ""
}
