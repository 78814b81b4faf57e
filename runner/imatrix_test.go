package runner_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

func TestEachModelHasItsImportanceMatrix(t *testing.T) {
	for name, file := range map[string]string{
		"by its name": "matrices/{model}.gguf",
		"beside it":   "elsewhere/{file}.imatrix.gguf",
		"not of it":   "matrices/of-{model}.gguf",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, &engine{}, "IQ2_XS", "Q2_K")
			dir := t.TempDir()
			matrix := filepath.Join(dir, "matrices", "tiny.gguf")
			if name == "beside it" {
				matrix = strings.TrimSuffix(f.model.Path, ".gguf") + ".imatrix.gguf"
			}
			require.NoError(t, os.MkdirAll(filepath.Dir(matrix), 0o700))
			require.NoError(t, os.WriteFile(matrix, []byte("importance"), 0o600))
			f.engine.info = runner.EngineInfo{Imatrix: true, Matrices: filepath.Join(dir, file)}
			var used []string
			f.engine.quantize = func(job runner.QuantizeJob) error {
				used = append(used, job.Imatrix)
				return makeCopy(job)
			}
			results := f.run(t.Context())
			assert.Equal(t, verdict.Kept, results["Q2_K"].Outcome())
			if name == "not of it" {
				assert.Equal(t, []string{""}, used)
				assert.ErrorContains(t, f.failure("IQ2_XS", results), "is useless without an importance matrix")
				return
			}
			assert.Equal(t, []string{matrix, matrix}, used)
			assert.Equal(t, hashOf([]byte("importance")), results["Q2_K"].Inputs.Arguments["engine.imatrix"])
		})
	}
}
