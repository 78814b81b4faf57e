package runner_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// made keeps the jobs of an engine that quantizes by copying.
func (e *engine) made() *[]runner.QuantizeJob {
	jobs := &[]runner.QuantizeJob{}
	e.quantize = func(job runner.QuantizeJob) error {
		*jobs = append(*jobs, job)
		return makeCopy(job)
	}
	return jobs
}

func TestBaselineIsTheOriginalOfTheCycle(t *testing.T) {
	e := &engine{speed: factors(map[string]float64{"baseline.gguf": 2, "Q4_K_M.gguf": 2.2, "Q2_K.gguf": 1.5})}
	jobs := e.made()
	f := newQualityFixture(t, e, "Q4_K_M", "Q2_K")
	e.quality = divergences(nil)
	f.request.Baseline = "Q8_0"
	var last runner.Progress
	f.request.Progress = func(p runner.Progress) {
		if p.Operation == runner.OperationQuantize {
			assert.Greater(t, p.Done, last.Done)
			assert.LessOrEqual(t, p.Done, 1.0)
			last = p
		}
	}
	results := f.run(t.Context())

	assert.Equal(t, []string{"Q8_0", "Q4_K_M", "Q2_K"}, []string{(*jobs)[0].Format, (*jobs)[1].Format, (*jobs)[2].Format}, "made once")
	for _, job := range *jobs {
		assert.Equal(t, "original.gguf", job.Input, "%s is made of the model itself", job.Format)
	}
	assert.Equal(t, []string{"baseline.gguf", "Q4_K_M.gguf", "Q2_K.gguf"}, e.evaluated, "quality is that beside the baseline")
	assert.NotContains(t, e.measure, "original.gguf")
	assert.InDelta(t, 1, last.Done, 0)

	assert.Equal(t, verdict.Kept, results["Q4_K_M"].Outcome())
	assert.Equal(t, verdict.Rejected, results["Q2_K"].Outcome(), "faster than the model, and slower than the baseline")
	assert.InDelta(t, 0.25, results["Q2_K"].Verdict.Worst().Drop, 0.01)
	for _, r := range results {
		assert.Equal(t, "Q8_0", r.SourceFormat)
		assert.Positive(t, r.Original.Bytes)
		require.NotNil(t, r.Evidence.Baseline)
		assert.Equal(t, runner.BaselineEvidence{Format: "Q8_0", Quantize: runner.ToolRun{Args: []string{"quantize", "Q8_0"}}}, *r.Evidence.Baseline)
		assert.Equal(t, []string{"quantize", r.TargetFormat}, r.Evidence.Quantize.Args)
		assert.Equal(t, *r.Verdict, r.Evidence.Verdict())
	}
}

func TestBaselineMayBeATargetToo(t *testing.T) {
	e := &engine{}
	f := newFixture(t, e, "Q8_0")
	f.request.Baseline = "q8_0"
	r := f.run(t.Context())["Q8_0"]
	assert.Equal(t, verdict.Kept, r.Outcome())
	assert.Equal(t, "Q8_0", r.SourceFormat)
	assert.Contains(t, e.measure, "baseline.gguf")
	assert.Contains(t, e.measure, "Q8_0.gguf")
}

func TestModelInTheFormatOfTheBaselineIsItself(t *testing.T) {
	e := &engine{}
	jobs := e.made()
	f := newFixture(t, e, "Q2_K")
	f.request.Baseline = "f16"
	r := f.run(t.Context())["Q2_K"]
	assert.Equal(t, verdict.Kept, r.Outcome())
	assert.Equal(t, "F16", r.SourceFormat)
	assert.Nil(t, r.Evidence.Baseline)
	assert.Len(t, *jobs, 1)
	text, err := json.Marshal(r.Evidence)
	require.NoError(t, err)
	assert.NotContains(t, string(text), `"baseline"`)
}

func TestBaselineThatCannotBeMadeFailsTheCycle(t *testing.T) {
	refused := runner.Failf(runner.ReasonQuantize, "no such tensor")
	for name, test := range map[string]struct {
		baseline string
		change   func(*fixture)
		reason   runner.Reason
		want     string
	}{
		"no format": {"Q8_1", func(*fixture) {}, runner.ReasonQuantize, `baseline: "Q8_1" is not a format that this made up makes`},
		"needs an importance matrix": {
			"IQ2_XS", func(*fixture) {}, runner.ReasonQuantize, "IQ2_XS is useless without an importance matrix",
		},
		"the tool fails": {"Q8_0", func(f *fixture) {
			f.engine.quantize = func(job runner.QuantizeJob) error {
				require.Equal(f.t, "Q8_0", job.Format, "nothing is made after it")
				return refused
			}
		}, runner.ReasonQuantize, "making the baseline Q8_0: no such tensor"},
		"the tool leaves nothing": {"Q8_0", func(f *fixture) {
			f.engine.quantize = func(runner.QuantizeJob) error { return nil }
		}, runner.ReasonQuantize, "making the baseline Q8_0: the tool said that it succeeded and left no file"},
		"the tool refuses it at once": {"Q8_0", func(f *fixture) { f.engine.refuse = "Q8_0" }, runner.ReasonQuantize, "asking for the size of Q8_0"},
		"no space for it": {"Q8_0", func(f *fixture) {
			f.engine.size = func(format string) (int64, bool) {
				if format == "Q8_0" {
					return 1 << 60, true
				}
				return 1000, true
			}
		}, runner.ReasonNoSpace, "the cycle needs exactly"},
		"the engine is gone": {"Q8_0", func(f *fixture) {
			f.engine.probe = func() error { return runner.Failf(runner.ReasonEngineMissing, "gone") }
		}, runner.ReasonEngineMissing, "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, &engine{}, "Q4_K_M", "Q2_K")
			f.request.Baseline = test.baseline
			test.change(f)
			results := f.run(t.Context())
			for target, r := range results {
				failure := f.failure(target, results)
				assert.Equal(t, test.reason, failure.Reason)
				require.ErrorContains(t, failure, test.want)
				assert.Equal(t, test.baseline, r.SourceFormat)
				assert.Zero(t, r.Original, "not the model's own figures")
			}
		})
	}
}

func TestMeasureNoiseMeasuresTheBaseline(t *testing.T) {
	e := &engine{}
	f := newFixture(t, e)
	f.request.Baseline = "Q8_0"
	noise, err := runner.New(e, f.options).MeasureNoise(t.Context(), f.request, 4)
	require.NoError(t, err)
	assert.Len(t, noise.Rounds, 4)
	for _, file := range e.measure {
		assert.Equal(t, "baseline.gguf", file)
	}
}

func TestBaselineOfASplitSet(t *testing.T) {
	e := &engine{}
	f := newFixture(t, e, "Q2_K")
	dir := t.TempDir()
	for i, shard := range gguftest.Split(gguftest.Model(gguftest.Tiny()), 2) {
		shard.Write(t, filepath.Join(dir, gguf.ShardPath("big", i+1, 2)))
	}
	found, err := model.Discover(dir, false, nil)
	require.NoError(t, err)
	f.request.Model = found.Models[0]
	f.request.Baseline = "Q8_0"
	e.quantize = func(job runner.QuantizeJob) error {
		assert.Equal(t, "original-00001-of-00002.gguf", job.Input)
		whole := gguftest.Tiny()
		whole.FileType = uint32(fileTypes[job.Format])
		gguftest.Model(whole).Write(t, filepath.Join(job.Dir, job.Output))
		return nil
	}
	assert.Equal(t, verdict.Kept, f.run(t.Context())["Q2_K"].Outcome())
	assert.NotContains(t, e.measure, "original-00001-of-00002.gguf")
}

func TestBaselineIsAnInputAndReused(t *testing.T) {
	f, _, _ := newReuseFixture(t, "Q2_K")
	f.request.Baseline = "Q8_0"
	first := f.run(t.Context())["Q2_K"]
	assert.Equal(t, []string{"Q8_0", "Q2_K"}, f.engine.quantized)
	assert.Equal(t, "Q8_0", first.Inputs.Arguments["baseline"])

	again := f.run(t.Context())["Q2_K"]
	assert.Len(t, f.engine.quantized, 2, "nothing is quantized again")
	assert.Len(t, again.Evidence.Baseline.Reused, 64)
	assert.Equal(t, first.Evidence.Baseline.Quantize.Args, again.Evidence.Baseline.Quantize.Args, "how it was made")
	assert.True(t, again.Inputs.Same(*first.Inputs))

	f.request.Baseline = ""
	asItIs := f.run(t.Context())["Q2_K"]
	assert.Equal(t, []runner.Change{{Input: runner.InputArguments, Text: "baseline Q8_0 → none"}}, asItIs.Inputs.Changes(*first.Inputs))
	f.request.Baseline = "F16" // of the model itself: no baseline, and nothing that has changed
	asked, err := runner.New(f.engine, f.options).Inputs(t.Context(), f.request)
	require.NoError(t, err)
	assert.True(t, asked.Same(*asItIs.Inputs))
}
