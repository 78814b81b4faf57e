package runner_test

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// The made-up model has a context of 4096 tokens.
func TestMoreTokensThanTheModelWasMadeFor(t *testing.T) {
	const positions = "position_embd.weight"
	tests := []struct {
		name                      string
		table                     bool
		prompt, generation, depth int
		phases                    []verdict.Phase
		want                      string // of what is beyond; "" is fine
	}{
		{"as many", false, 4096, 4096, 0, nil, ""},
		{"as many, with a table", true, 4096, 4096, 0, nil, ""},
		{"a long prompt", false, 4097, 64, 0, nil, "benchmark.prompt_tokens is 4097"},
		{"a long prompt, with a table", true, 4097, 64, 0, nil, "benchmark.prompt_tokens is 4097"},
		{"both, by their depth", true, 2000, 3000, 3000, nil, "benchmark.prompt_tokens with benchmark.depth is 5000, and benchmark.generation_tokens with benchmark.depth is 6000"},
		{"of a phase that is not measured", true, 8000, 64, 0, []verdict.Phase{verdict.Generation}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, &engine{}, "Q8_0")
			var log bytes.Buffer
			f.options.Logger = slog.New(slog.NewTextHandler(&log, nil))
			if tt.table {
				file := gguftest.Model(gguftest.Tiny())
				file.Tensors = append(file.Tensors, gguftest.Tensor{Name: positions, Type: gguf.F32, Dims: []uint64{256, 4096}})
				path := file.Write(t, filepath.Join(t.TempDir(), "m.gguf"))
				found, err := model.Discover(filepath.Dir(path), false, nil)
				require.NoError(t, err)
				f.model, f.request.Model = found.Models[0], found.Models[0]
			}
			f.request.Benchmark.PromptTokens, f.request.Benchmark.GenerationTokens, f.request.Benchmark.Depth = tt.prompt, tt.generation, config.Depths{tt.depth}
			if tt.phases != nil {
				f.request.Benchmark.Phases = tt.phases
			}
			r := f.run(t.Context())["Q8_0"]
			if tt.want == "" || !tt.table {
				require.Nil(t, r.Failure)
				assert.Contains(t, log.String(), tt.want)
				assert.Equal(t, tt.want != "", bytes.Contains(log.Bytes(), []byte("context_length=4096")), "told, or nothing to tell")
				return
			}
			require.NotNil(t, r.Failure)
			assert.Equal(t, runner.ReasonBenchmark, r.Failure.Reason)
			require.ErrorContains(t, r.Failure, "has a context of 4096 tokens")
			require.ErrorContains(t, r.Failure, tt.want)
		})
	}
}
