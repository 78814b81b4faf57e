package runner_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// against has the request name a file beside the model; the file is Q4_K_M.
func (f *fixture) against() string {
	f.t.Helper()
	path := gguftest.Model(gguftest.TinyQuantized()).Write(f.t, filepath.Join(filepath.Dir(f.model.Path), "prod.gguf"))
	found, err := model.Discover(filepath.Dir(f.model.Path), false, nil)
	require.NoError(f.t, err)
	file, err := found.File("prod")
	require.NoError(f.t, err)
	require.NoError(f.t, file.Err)
	f.request.Against = &file
	return path
}

func TestAFileThatExistsIsMeasuredAsItIs(t *testing.T) {
	for _, isolation := range []disk.Mode{disk.Auto, disk.Copy} {
		e := &engine{speed: factors(map[string]float64{"against.gguf": 1.5})}
		jobs := e.made()
		f := newQualityFixture(t, e, "Q4_K_M")
		e.quality = divergences(map[string]float64{"against.gguf": 0.01})
		f.options.Isolation = isolation
		path := f.against()
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		f.request.Finish = func(context.Context, runner.Finished) { assert.Fail(t, "there is no copy to publish") }

		r := f.run(t.Context())["Q4_K_M"]
		assert.Equal(t, verdict.Kept, r.Outcome(), r.Failure)
		assert.InDelta(t, -0.5, r.Verdict.Worst().Drop, 0.01)
		assert.Empty(t, *jobs, "nothing is made")
		assert.Equal(t, []string{"original.gguf", "against.gguf"}, e.evaluated)
		assert.Equal(t, "F16", r.SourceFormat)
		assert.Equal(t, "prod", r.Against)
		assert.Equal(t, "Q4_K_M", r.Quantized.Format)
		assert.EqualValues(t, len(before), r.Quantized.Bytes)
		require.Len(t, r.Evidence.Against, 1)
		assert.Equal(t, path, r.Evidence.Against[0].Path)
		assert.Empty(t, r.Evidence.Quantize.Args)
		assert.Equal(t, *r.Verdict, r.Evidence.Verdict())
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, before, after)
	}
}

func TestAFileThatExistsHasToPassBothGates(t *testing.T) {
	e := &engine{speed: factors(map[string]float64{"against.gguf": 0.5})}
	f := newFixture(t, e, "Q4_K_M")
	f.against()
	r := f.run(t.Context())["Q4_K_M"]
	assert.Equal(t, verdict.Rejected, r.Outcome())
	assert.Equal(t, verdict.Generation, r.Verdict.Gate)

	e = &engine{quality: func(string) (quality.Chunk, error) { return quality.Chunk{KLDivergence: 1}, nil }}
	f = newQualityFixture(t, e, "Q4_K_M")
	f.against()
	r = f.run(t.Context())["Q4_K_M"]
	assert.Equal(t, verdict.Rejected, r.Outcome())
	assert.Equal(t, verdict.GateQuality, r.Verdict.Gate)
}

func TestAFileThatExistsBesideABaseline(t *testing.T) {
	e := &engine{}
	jobs := e.made()
	f := newFixture(t, e, "Q4_K_M")
	f.against()
	f.request.Baseline = "Q8_0"
	r := f.run(t.Context())["Q4_K_M"]
	assert.Equal(t, verdict.Kept, r.Outcome(), r.Failure)
	assert.Equal(t, "Q8_0", r.SourceFormat)
	require.Len(t, *jobs, 1)
	assert.Equal(t, "Q8_0", (*jobs)[0].Format)
	assert.NotContains(t, e.measure, "original.gguf")
}

func TestASplitSetThatExists(t *testing.T) {
	e := &engine{}
	f := newFixture(t, e, "Q4_K_M")
	dir := filepath.Dir(f.model.Path)
	for i, shard := range gguftest.Split(gguftest.Model(gguftest.TinyQuantized()), 2) {
		shard.Write(t, filepath.Join(dir, gguf.ShardPath("prod", i+1, 2)))
	}
	found, err := model.Discover(dir, false, nil)
	require.NoError(t, err)
	file, err := found.File("prod-00002-of-00002.gguf")
	require.NoError(t, err)
	assert.Equal(t, "prod-00001-of-00002", file.Name)
	f.request.Against = &file
	r := f.run(t.Context())["Q4_K_M"]
	assert.Equal(t, verdict.Kept, r.Outcome(), r.Failure)
	assert.Contains(t, e.measure, "against-00001-of-00002.gguf")
	assert.Len(t, r.Evidence.Against, 2)
}

func TestAFileThatExistsFails(t *testing.T) {
	other := func(f *fixture, change func(*gguf.Header)) {
		header := *f.request.Against.Header
		change(&header)
		f.request.Against.Header = &header
	}
	for name, test := range map[string]struct {
		change func(f *fixture, path string)
		reason runner.Reason
		want   string
	}{
		"unreadable": {func(f *fixture, _ string) {
			f.request.Against = &model.Model{Name: "prod", Err: errors.New("cut off")}
		}, runner.ReasonBadModel, "cut off"},
		"of another architecture": {func(f *fixture, _ string) {
			other(f, func(h *gguf.Header) { h.Architecture = "qwen3" })
		}, runner.ReasonBadModel, `prod.gguf is of the architecture "qwen3" and `},
		"of another vocabulary": {func(f *fixture, _ string) {
			other(f, func(h *gguf.Header) { h.Vocabulary++ })
		}, runner.ReasonBadModel, "prod.gguf has a vocabulary of "},
		"exchanged before": {func(f *fixture, path string) {
			require.NoError(f.t, os.Chtimes(path, time.Time{}, time.Unix(1, 0)))
		}, runner.ReasonSourceChanged, "the file to compare with changed since its header was read"},
		"exchanged while measuring": {func(f *fixture, path string) {
			f.engine.speed = func(string, int) (float64, error) { return 100, os.Chtimes(path, time.Time{}, time.Unix(1, 0)) }
		}, runner.ReasonSourceChanged, "the file to compare with changed since"},
		"deleted, and the tool fails of it": {func(f *fixture, path string) {
			f.engine.speed = func(string, int) (float64, error) {
				return 0, os.Remove(path)
			}
		}, runner.ReasonSourceChanged, "prod.gguf"},
		"no room for a copy of it": {func(f *fixture, _ string) {
			f.options.Isolation = disk.Copy
			f.request.Against.Size = 1 << 60
		}, runner.ReasonNoSpace, "the cycle needs exactly"},
		"the model is the bad one": {func(f *fixture, _ string) {
			f.request.Model = model.Model{Name: "bad", Err: errors.New("no model")}
		}, runner.ReasonBadModel, "no model"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, &engine{}, "Q4_K_M")
			test.change(f, f.against())
			failure := f.failure("Q4_K_M", f.run(t.Context()))
			assert.Equal(t, test.reason, failure.Reason)
			require.ErrorContains(t, failure, test.want)
		})
	}
}

func TestWhatAFileHoldsIsAnInput(t *testing.T) {
	f, kept, known := newReuseFixture(t, "Q4_K_M")
	path := f.against()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	f.age(path)
	look := func() runner.Inputs {
		found, err := model.Discover(filepath.Dir(path), false, nil)
		require.NoError(t, err)
		file, err := found.File("prod")
		require.NoError(t, err)
		f.request.Against = &file
		inputs, err := runner.New(f.engine, f.options).Inputs(t.Context(), f.request)
		require.NoError(t, err)
		return inputs
	}
	before := look()
	assert.Equal(t, hashOf(content), before.Arguments["against"])
	assert.Len(t, known.hashes, 3, "of the model, the text, and the file")
	decided := f.run(t.Context())["Q4_K_M"]
	assert.True(t, look().Same(*decided.Inputs))
	assert.Len(t, kept.files, 1, "the predictions, and not the file")

	content[len(content)-1] ^= 1
	require.NoError(t, os.WriteFile(path, content, 0o600))
	changes := look().Changes(*decided.Inputs)
	require.Len(t, changes, 1)
	assert.Equal(t, runner.InputArguments, changes[0].Input)
	assert.Contains(t, changes[0].Text, "against ")

	f.request.Against.Err = errors.New("cut off")
	_, err = runner.New(f.engine, f.options).Inputs(t.Context(), f.request)
	assert.ErrorContains(t, err, "cut off")
}
