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
	path, err := MatrixFile(r.Imatrix)
	if err != nil {
		return "", fmt.Errorf("imatrix of %s: %w", r.Name, err)
	}
	return path, nil
}

// recipeOf says how the copy of a recipe is made, also where none of the model is there of the
// importance matrices that it names.
func (c *cycle) recipeOf(p *pair) string {
	if p.file == "" || p.matrix != "" || p.recipe.Imatrix == "" { // nothing is looked up before the file has a name
		return p.recipe.String()
	}
	others := *p.recipe
	others.Imatrix = ""
	how := fmt.Sprintf("%s, without its importance matrix %s, which is not there", others, p.recipe.Imatrix)
	if c.info.Imatrix {
		how += ", but with the engine's"
	}
	return how
}

// mostBytes bounds the size of an importance matrix, and of what arguments name, which are read
// whole: the matrices of the largest models have some hundred megabytes.
const mostBytes = 16 << 30

// MatrixFile returns the absolute path of an importance matrix that all models have. It fails
// where there is no file, or one of an absurd size.
func MatrixFile(path string) (string, error) {
	path, err := filepath.Abs(path)
	var info os.FileInfo
	if err == nil {
		info, err = os.Stat(path)
	}
	if err == nil && info.Size() > mostBytes {
		err = fmt.Errorf("%s has %d bytes, more than any importance matrix", path, info.Size())
	}
	if err != nil {
		return "", fmt.Errorf("%w: name a file that llama-imatrix made, or take the key out", err)
	}
	return path, nil
}

// NamedFiles returns the files that arguments of a tool name by an absolute path, such as
// --tensor-type-file, as far as they are there. They are read whole to be told apart, so that one
// of an absurd size is an error.
func NamedFiles(args []string) ([]string, error) {
	var all []string
	for _, path := range args {
		info, err := os.Stat(path)
		if err != nil || !filepath.IsAbs(path) || !info.Mode().IsRegular() {
			continue
		}
		if info.Size() > mostBytes {
			return nil, fmt.Errorf("names %s, which has %d bytes: no file for the tools but a model has more than %d", path, info.Size(), int64(mostBytes))
		}
		all = append(all, path)
	}
	return all, nil
}

// ownMatrix notes which importance matrix the model has, of an engine that has one for each.
func (c *cycle) ownMatrix() {
	if c.info.Matrices == "" {
		return
	}
	c.imatrix = matrixOf(c.info.Matrices, c.Model)
	c.info.Imatrix = c.imatrix != ""
}
