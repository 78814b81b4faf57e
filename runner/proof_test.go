package runner_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// lies are what a tool may leave that says that it succeeded.
func lies(f *fixture) map[string]struct {
	lie  func(job runner.QuantizeJob, path string) error
	want string
} {
	write := func(change func(*gguftest.File)) func(runner.QuantizeJob, string) error {
		return func(job runner.QuantizeJob, path string) error {
			shape := gguftest.Tiny()
			shape.FileType = uint32(fileTypes[job.Format])
			file := gguftest.Model(shape)
			change(&file)
			file.Write(f.t, path)
			return nil
		}
	}
	type lie = struct {
		lie  func(job runner.QuantizeJob, path string) error
		want string
	}
	return map[string]lie{
		"nothing":                      {func(runner.QuantizeJob, string) error { return nil }, "no file"},
		"a folder":                     {func(_ runner.QuantizeJob, path string) error { return os.Mkdir(path, 0o700) }, "not a regular file"},
		"a symbolic link to the model": {func(_ runner.QuantizeJob, path string) error { return os.Symlink(f.model.Path, path) }, "not a regular file"},
		"a hard link to the model":     {func(_ runner.QuantizeJob, path string) error { return os.Link(f.model.Path, path) }, "another name of the model itself"},
		"a file of two names": {func(job runner.QuantizeJob, path string) error {
			if err := makeCopy(job); err != nil {
				return err
			}
			return os.Link(path, path+".other")
		}, "left a file with 2 names"},
		"the model's content": {func(_ runner.QuantizeJob, path string) error {
			return copyFile(f.model.Path, path)
		}, "says it is F16 instead of Q2_K"},
		"another format": {func(job runner.QuantizeJob, _ string) error {
			job.Format, job.Output = "Q8_0", "Q2_K.gguf"
			return makeCopy(job)
		}, "says it is Q8_0 instead of Q2_K"},
		"bytes behind the end": {func(job runner.QuantizeJob, path string) error {
			if err := makeCopy(job); err != nil {
				return err
			}
			return os.Truncate(path, 1<<40)
		}, "bytes behind its last tensor"},
		"fewer tensors": {write(func(file *gguftest.File) { file.Tensors = file.Tensors[:len(file.Tensors)-1] }), "tensors, and the model"},
		"a tensor of its own": {write(func(file *gguftest.File) {
			file.Tensors = append(file.Tensors, gguftest.Tensor{Name: "more.weight", Type: gguf.F16, Dims: []uint64{256}})
		}), `has a tensor "more.weight"`},
		"a tensor twice": {write(func(file *gguftest.File) { file.Tensors = append(file.Tensors, file.Tensors[0]) }), "or has it twice"},
		"another shape":  {write(func(file *gguftest.File) { file.Tensors[0].Dims = []uint64{256, 1024} }), `its tensor "token_embd.weight" has the shape [256 1024]`},
		"half of it": {func(job runner.QuantizeJob, path string) error {
			if err := makeCopy(job); err != nil {
				return err
			}
			return os.Truncate(path, 100_000)
		}, "not whole"},
	}
}

// What a tool leaves is not a copy because it says so; and what is not a copy is not kept for
// other cycles.
func TestALyingToolMakesNoDecision(t *testing.T) {
	outside, _, _ := newReuseFixture(t, "Q2_K")
	for _, name := range slices.Sorted(maps.Keys(lies(outside))) {
		t.Run(name, func(t *testing.T) {
			f, kept, _ := newReuseFixture(t, "Q2_K")
			tt := lies(f)[name]
			before, err := os.ReadFile(f.model.Path)
			require.NoError(t, err)
			f.engine.quantize = func(job runner.QuantizeJob) error { return tt.lie(job, filepath.Join(job.Dir, job.Output)) }
			failure := f.failure("Q2_K", f.run(t.Context()))
			assert.Equal(t, runner.ReasonQuantize, failure.Reason)
			require.ErrorContains(t, failure, tt.want)
			for key, content := range kept.files {
				assert.NotContains(t, string(content[:4]), "GGUF", key)
			}
			after, err := os.ReadFile(f.model.Path)
			require.NoError(t, err)
			assert.Equal(t, before, after)

			f.engine.quantize = nil // the tool is mended
			assert.Nil(t, f.run(t.Context())["Q2_K"].Failure)
		})
	}
}

func TestACopyIsAsLargeAsItWasToBe(t *testing.T) {
	for size, want := range map[int64]string{500_000: "instead of the announced 500000", 3_000_000: "instead of the announced", 0: "and one of Q2_K has", 1: ""} {
		f := newFixture(t, &engine{size: func(string) (int64, bool) { return size, size > 0 }}, "Q2_K")
		r := f.run(t.Context())["Q2_K"]
		if want == "" {
			assert.Nil(t, r.Failure)
			continue
		}
		require.NotNil(t, r.Failure)
		require.ErrorContains(t, r.Failure, want)
	}
}

// One bad file in the cache does not spoil every cycle after it.
func TestKeptCopiesThatAreOfNoUseAreMadeAnew(t *testing.T) {
	f, kept, _ := newReuseFixture(t, "Q2_K")
	require.Nil(t, f.run(t.Context())["Q2_K"].Failure)
	model, err := os.ReadFile(f.model.Path)
	require.NoError(t, err)
	for key, content := range kept.files {
		if string(content[:4]) == "GGUF" {
			kept.files[key] = model // as an earlier version kept it
		}
	}
	r := f.run(t.Context())["Q2_K"]
	require.Nil(t, r.Failure)
	assert.Empty(t, r.Evidence.Reused)
	assert.Len(t, f.engine.quantized, 2)
	assert.NotEmpty(t, f.run(t.Context())["Q2_K"].Evidence.Reused, "the new one is kept")
}

// A copy may be what a tool fails by, however right its header is.
func TestKeptCopiesThatACycleFailsWithAreDropped(t *testing.T) {
	f, _, _ := newReuseFixture(t, "Q2_K")
	require.Nil(t, f.run(t.Context())["Q2_K"].Failure)
	speed := f.engine.speed
	f.engine.speed = func(string, int) (float64, error) { return 0, runner.Failf(runner.ReasonCrash, "it died") }
	assert.Equal(t, runner.ReasonCrash, f.failure("Q2_K", f.run(t.Context())).Reason)
	f.engine.speed = speed
	r := f.run(t.Context())["Q2_K"]
	require.Nil(t, r.Failure)
	assert.Empty(t, r.Evidence.Reused)
	assert.Len(t, f.engine.quantized, 2)

	f.engine.speed = func(string, int) (float64, error) { return 0, runner.Failf(runner.ReasonTimeout, "it was late") }
	assert.Equal(t, runner.ReasonTimeout, f.failure("Q2_K", f.run(t.Context())).Reason)
	f.engine.speed = speed
	assert.Empty(t, f.run(t.Context())["Q2_K"].Evidence.Reused, "it may have been the fault of what an earlier cycle made")

	f.engine.quantized = nil
	f.engine.speed = func(string, int) (float64, error) { return 0, runner.Failf(runner.ReasonNoSpace, "the disk is full") }
	assert.Equal(t, runner.ReasonNoSpace, f.failure("Q2_K", f.run(t.Context())).Reason)
	f.engine.speed = speed
	assert.NotEmpty(t, f.run(t.Context())["Q2_K"].Evidence.Reused, "that was not the copy's fault")
}

// A damaged copy, or damaged predictions, would reject a pair for good.
func TestKeptFilesThatACopyIsRejectedWithAreMadeAnew(t *testing.T) {
	f, _, _ := newReuseFixture(t, "Q2_K")
	f.request.Quality.MaxKLDivergence = 1e-9
	for cycle, reused := range []bool{false, true, false, true} {
		r := f.run(t.Context())["Q2_K"]
		require.Nil(t, r.Failure)
		assert.Equal(t, verdict.Rejected, r.Outcome())
		assert.Equal(t, reused, r.Evidence.Reused != "", "cycle %d", cycle)
		assert.Equal(t, reused, r.Evidence.Quality.Reused != "", "predictions of cycle %d", cycle)
	}
}

func TestAModelThatIsExchangedInTheWorkingFolderDecidesNothing(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0", "Q2_K")
	e := &pairing{engine: f.engine}
	e.paired = func(job runner.RoundJob, _ []runner.FileRound) error {
		return errors.Join(copyFile(filepath.Join(job.Dir, "Q8_0.gguf"), job.Dir+"/new"), os.Rename(job.Dir+"/new", filepath.Join(job.Dir, job.Files[0])))
	}
	for _, r := range f.runPaired(e) {
		require.NotNil(t, r.Failure, r.TargetFormat)
		require.ErrorContains(t, r.Failure, "nothing can be said about any copy: original.gguf is no longer the file that was brought into the working folder")
	}
}
