package runner_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

var mix = config.Recipe{Name: "Q8_mix", Format: "Q8_0", Args: []string{"--tensor-type", "ffn_down=q6_k"}}

func TestRecipesCompeteWithFormats(t *testing.T) {
	f := newFixture(t, &engine{speed: factors(map[string]float64{"Q8_0.gguf": 0.5})}, "Q8_0", "Q8_mix")
	f.request.Recipes = config.Recipes{mix}
	jobs := map[string]runner.QuantizeJob{}
	f.engine.quantize = func(job runner.QuantizeJob) error {
		jobs[job.Output] = job
		return makeCopy(job)
	}
	results := f.run(t.Context())
	assert.Equal(t, verdict.Rejected, results["Q8_0"].Outcome())
	assert.Equal(t, verdict.Kept, results["Q8_mix"].Outcome())
	assert.Empty(t, jobs["Q8_0.gguf"].Args)
	job := jobs["recipe-Q8_mix.gguf"]
	assert.Equal(t, "Q8_0", job.Format)
	assert.Equal(t, mix.Args, job.Args)
	assert.Empty(t, results["Q8_0"].Recipe)
	assert.Equal(t, "Q8_0 with --tensor-type ffn_down=q6_k", results["Q8_mix"].Recipe)
}

func TestRecipesThatCannotBeMadeFailAlone(t *testing.T) {
	f := newFixture(t, &engine{}, "Q2_K", "unknown", "lost", "f16")
	f.request.Recipes = config.Recipes{
		{Name: "unknown", Format: "Q9_0", Args: []string{"--pure"}},
		{Name: "lost", Format: "Q8_0", Imatrix: "/nowhere/matrix.gguf"},
		{Name: "f16", Format: "Q8_0", Args: []string{"--pure"}}, // a format that only the tool knows would do as well
	}
	results := f.run(t.Context())
	assert.Equal(t, verdict.Kept, results["Q2_K"].Outcome())
	for target, want := range map[string]string{
		"unknown": `"Q9_0" is not a format that this made up makes`,
		"lost":    "imatrix of lost: stat /nowhere/matrix.gguf: no such file or directory: name a file that llama-imatrix made",
		"f16":     `the recipe "f16" has the name of a format that this made up makes`,
	} {
		failure := f.failure(target, results)
		assert.Equal(t, runner.ReasonQuantize, failure.Reason, target)
		assert.ErrorContains(t, failure, want)
	}
}

func TestRecipesHaveTheirImportanceMatrix(t *testing.T) {
	f := newFixture(t, &engine{}, "IQ2_XS", "with", "beside", "neither")
	dir := t.TempDir()
	matrix, beside := filepath.Join(dir, "m.gguf"), strings.TrimSuffix(f.model.Path, ".gguf")+".imatrix.gguf"
	require.NoError(t, os.WriteFile(matrix, []byte("importance"), 0o600))
	require.NoError(t, os.WriteFile(beside, []byte("of this model"), 0o600))
	f.request.Recipes = config.Recipes{
		{Name: "with", Format: "IQ2_XS", Imatrix: matrix},
		{Name: "beside", Format: "IQ2_XS", Imatrix: "{file}.imatrix.gguf"},
		{Name: "neither", Format: "Q2_K", Imatrix: dir + "/of-{model}.gguf"},
	}
	used := map[string]string{}
	f.engine.quantize = func(job runner.QuantizeJob) error {
		used[job.Output] = job.Imatrix
		return makeCopy(job)
	}
	results := f.run(t.Context())
	assert.Equal(t, map[string]string{"recipe-with.gguf": matrix, "recipe-beside.gguf": beside, "recipe-neither.gguf": ""}, used)
	require.ErrorContains(t, f.failure("IQ2_XS", results), "is useless without an importance matrix")
	assert.Equal(t, hashOf([]byte("importance")), results["with"].Inputs.Arguments["recipe.imatrix"])
	assert.Equal(t, hashOf([]byte("of this model")), results["beside"].Inputs.Arguments["recipe.imatrix"])
	assert.NotContains(t, results["neither"].Inputs.Arguments, "recipe.imatrix")
	assert.Equal(t, "IQ2_XS with the importance matrix {file}.imatrix.gguf", results["beside"].Recipe)
	assert.Equal(t, "Q2_K, without its importance matrix "+dir+"/of-{model}.gguf, which is not there", results["neither"].Recipe)

	f.request.Recipes[2].Args = []string{"--pure"}
	f.engine.info.Imatrix = true
	results = f.run(t.Context())
	assert.Equal(t, "Q2_K with --pure, without its importance matrix "+dir+"/of-{model}.gguf, which is not there, but with the engine's", results["neither"].Recipe)
	assert.Equal(t, "IQ2_XS with the importance matrix {file}.imatrix.gguf", results["beside"].Recipe)
}

// A copy by a recipe depends on the recipe, and no other copy does.
func TestInputsAndKeysHoldTheRecipe(t *testing.T) {
	f, _, _ := newReuseFixture(t, "Q8_0", "Q8_mix")
	types := filepath.Join(t.TempDir(), "types.txt")
	require.NoError(t, os.WriteFile(types, []byte("ffn_down=q6_k"), 0o600))
	recipe := mix
	recipe.Args = []string{"--tensor-type-file", types}
	f.request.Recipes = config.Recipes{recipe}
	f.engine.quality = divergences(map[string]float64{"Q8_0.gguf": 0.001, "recipe-Q8_mix.gguf": 0.002})
	first := f.run(t.Context())
	assert.Equal(t, []string{"Q8_0", "Q8_0"}, f.engine.quantized)
	plain, mixed := first["Q8_0"].Inputs, first["Q8_mix"].Inputs
	assert.NotContains(t, plain.Arguments, "recipe.args")
	assert.Equal(t, "Q8_0", mixed.Arguments["recipe.format"])
	assert.Equal(t, hashOf([]byte("ffn_down=q6_k")), mixed.Arguments["recipe.args "+types])
	assert.Nil(t, mixed.ByTarget)

	before, err := runner.New(f.engine, f.options).Inputs(t.Context(), f.request)
	require.NoError(t, err)
	assert.Empty(t, before.Of("Q8_0").Changes(*plain))
	assert.Empty(t, before.Of("Q8_mix").Changes(*mixed))

	f.engine.quantized = nil
	f.run(t.Context())
	assert.Empty(t, f.engine.quantized, "both are reused")
	require.NoError(t, os.WriteFile(types, []byte("ffn_down=q5_k"), 0o600))
	third := f.run(t.Context())
	assert.Equal(t, []string{"Q8_0"}, f.engine.quantized, "the recipe is another one")
	assert.Len(t, third["Q8_0"].Evidence.Reused, 64)
	assert.Empty(t, third["Q8_mix"].Evidence.Reused)
	changes := third["Q8_mix"].Inputs.Changes(*mixed)
	require.Len(t, changes, 1)
	assert.Equal(t, runner.InputArguments, changes[0].Input)
}

func TestFormatsOfRecipes(t *testing.T) {
	names, err := runner.Formats(t.Context(), &engine{}, []string{"q8_mix", "q8_0"}, config.Recipes{mix})
	require.NoError(t, err)
	assert.Equal(t, []string{"Q8_mix", "Q8_0"}, names)
}

// What arguments name is read whole, be it by the configuration or by a recipe.
func TestFilesOfAnAbsurdSizeAreRefused(t *testing.T) {
	huge := filepath.Join(t.TempDir(), "types.txt")
	require.NoError(t, os.WriteFile(huge, nil, 0o600))
	require.NoError(t, os.Truncate(huge, 17<<30))
	f := newFixture(t, &engine{}, "mix")
	f.request.Recipes = config.Recipes{{Name: "mix", Format: "Q8_0", Args: []string{"--tensor-type-file", huge}}}
	failure := f.failure("mix", f.run(t.Context()))
	assert.Equal(t, runner.ReasonQuantize, failure.Reason)
	require.ErrorContains(t, failure, "the recipe mix names "+huge+", which has 18253611008 bytes: no file for the tools but a model has more than")

	f.request.Recipes[0] = config.Recipe{Name: "mix", Format: "Q8_0", Imatrix: huge}
	require.ErrorContains(t, f.failure("mix", f.run(t.Context())), "imatrix of mix: "+huge+" has 18253611008 bytes, more than any importance matrix")

	f.request.Recipes, f.request.Quality.Corpus = nil, huge
	f.request.Targets = []string{"Q8_0"}
	require.ErrorContains(t, f.failure("Q8_0", f.run(t.Context())), "quality.corpus: "+huge+" has 18253611008 bytes, all of which llama-perplexity would read")
}
