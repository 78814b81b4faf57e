package runner_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// The copies are handed on after the last result, while they and the lock are there.
func TestFinish(t *testing.T) {
	e := &engine{speed: factors(map[string]float64{"Q2_K.gguf": 0.7})}
	f := newFixture(t, e, "Q8_0", "Q2_K", "nonsense")
	locked := false
	f.options.Lock = lock(func() (func(), error) {
		locked = true
		return func() { locked = false }, nil
	})
	var said runner.Operation
	f.request.Progress = func(p runner.Progress) { said = p.Operation }
	calls := 0
	f.request.Finish = func(ctx context.Context, finished runner.Finished) {
		calls++
		assert.True(t, locked)
		assert.Equal(t, runner.OperationPublish, said)
		assert.Equal(t, f.model, finished.Model)
		require.Len(t, finished.Copies, 2)
		for i, want := range []runner.Copy{{Target: "Q8_0", Outcome: verdict.Kept}, {Target: "Q2_K", Outcome: verdict.Rejected}} {
			got := finished.Copies[i]
			content, err := os.ReadFile(got.Path)
			require.NoError(t, err)
			assert.Equal(t, hashOf(content), got.SHA256)
			got.Path, got.SHA256 = "", ""
			assert.Equal(t, want, got)
		}
		require.NoError(t, finished.Load(ctx, "elsewhere", "copy.gguf"))
		assert.Equal(t, "copy.gguf", e.measure[len(e.measure)-1])
		e.speed = func(string, int) (float64, error) { return 0, errors.New("cannot be loaded") }
		require.ErrorContains(t, finished.Load(ctx, "elsewhere", "copy.gguf"), "cannot be loaded")
	}
	results := f.run(t.Context())
	assert.Equal(t, 1, calls)
	assert.Len(t, results, 3)
	assert.False(t, locked)
}

// What was decided before a cycle failed, or was canceled, is handed on; what never
// came to a copy is not.
func TestFinishOfACycleThatFails(t *testing.T) {
	e := &engine{speed: func(file string, n int) (float64, error) {
		if file == "Q2_K.gguf" && n > 3 {
			return 0, runner.Failf(runner.ReasonEngineMissing, "the tool is gone")
		}
		return map[string]float64{"Q2_K.gguf": 87 + 4*float64(n%2), "Q8_0.gguf": 140}[file] + map[string]float64{"original.gguf": 100}[file], nil
	}}
	f := newFixture(t, e, "Q8_0", "Q2_K")
	var copies []runner.Copy
	f.request.Finish = func(_ context.Context, finished runner.Finished) { copies = finished.Copies }
	results := f.run(t.Context())
	require.Equal(t, verdict.Kept, results["Q8_0"].Outcome())
	require.NotNil(t, results["Q2_K"].Failure)
	require.Len(t, copies, 1)
	assert.Equal(t, "Q8_0", copies[0].Target)

	f = newFixture(t, &engine{}, "Q8_0")
	f.engine.probe = func() error { return runner.Failf(runner.ReasonEngineMissing, "no llama-bench") }
	f.request.Finish = func(context.Context, runner.Finished) { t.Error("there are no copies") }
	f.run(t.Context())
}

// A copy that was made, and passed over, is not a copy to publish.
func TestFinishWithoutWhatIsPassedOver(t *testing.T) {
	f := newQualityFixture(t, &engine{quality: divergences(map[string]float64{"Q8_0.gguf": 0.001, "Q2_K.gguf": 0.01})}, "Q8_0", "Q2_K")
	f.request.Choose = choice.BestQuality
	var copies []runner.Copy
	f.request.Finish = func(_ context.Context, finished runner.Finished) { copies = finished.Copies }
	f.run(t.Context())
	require.Len(t, f.passed, 1)
	require.Len(t, copies, 1)
}
