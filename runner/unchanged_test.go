package runner_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// renumber has another file of the same size and time take the place of one, as file systems
// seem to that give files new numbers. change, if any, changes what it holds.
func renumber(t *testing.T, path string, change func(content []byte)) {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	if change != nil {
		change(content)
	}
	other := filepath.Join(filepath.Dir(path), "other")
	require.NoError(t, os.WriteFile(other, content, 0o600))
	require.NoError(t, os.Chtimes(other, info.ModTime(), info.ModTime()))
	require.NoError(t, os.Rename(other, path))
}

func lastByte(content []byte) { content[len(content)-1]++ }

func TestContentTellsWhetherARenumberedFileIsTheSame(t *testing.T) {
	for name, test := range map[string]struct {
		file   string // of the working directory, or "model"
		change func([]byte)
		fails  runner.Reason // "" for none
		says   string
	}{
		"the model":                    {file: "model"},
		"the copy":                     {file: "Q2_K.gguf"},
		"a model that holds something": {"model", lastByte, runner.ReasonSourceChanged, "and holds something else"},
		"a copy that holds something":  {"Q2_K.gguf", lastByte, runner.ReasonBenchmark, "it is no longer the file that was made"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, &engine{}, "Q2_K")
			f.engine.speed = func(file string, n int) (float64, error) {
				if file != "Q2_K.gguf" || n > 2 {
					return 100, nil
				}
				path := f.model.Path
				if test.file != "model" {
					found, err := filepath.Glob(filepath.Join(f.options.WorkDir, "cycle-*", test.file))
					require.NoError(t, err)
					require.Len(t, found, 1)
					path = found[0]
				}
				if test.change == nil || n == 0 { // a second change could bring the first number back
					renumber(t, path, test.change)
				}
				return 100, nil
			}
			r := f.run(t.Context())["Q2_K"]
			if test.fails == "" {
				require.Nil(t, r.Failure)
				assert.Equal(t, verdict.Kept, r.Outcome())
				return
			}
			require.NotNil(t, r.Failure)
			assert.Equal(t, test.fails, r.Failure.Reason)
			assert.ErrorContains(t, r.Failure, test.says)
		})
	}
}

func TestModelIsRenumberedBeforeAnybodyReadIt(t *testing.T) {
	f := newFixture(t, &engine{}, "Q2_K")
	renumber(t, f.model.Path, nil)
	require.Nil(t, f.run(t.Context())["Q2_K"].Failure)

	f = newFixture(t, &engine{}, "Q2_K")
	renumber(t, f.model.Path, func(content []byte) {
		before, _, found := bytes.Cut(content, []byte("general.architecture"))
		require.True(t, found)
		copy(content[len(before):], "general.architectur_")
	})
	failure := f.failure("Q2_K", f.run(t.Context()))
	assert.Equal(t, runner.ReasonSourceChanged, failure.Reason)
}

func TestNoiseOfARenumberedModel(t *testing.T) {
	f := newFixture(t, &engine{})
	f.engine.speed = func(string, int) (float64, error) {
		renumber(t, f.model.Path, nil)
		return 100, nil
	}
	_, err := runner.New(f.engine, f.options).MeasureNoise(t.Context(), f.request, 3)
	require.NoError(t, err)
}
