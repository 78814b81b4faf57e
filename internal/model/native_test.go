package model_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
)

// Makers publish models whose feed-forward matrices are MXFP4, and nothing else: gpt-oss,
// DeepSeek V4. What was quantized to that format has others in Q8_0.
func TestModelsThatAreBornQuantizedAreSources(t *testing.T) {
	m := newModels(t)
	write := func(name string, types map[string]gguf.Type) { writeTypes(m, gguftest.Tiny(), name, types) }
	write("mxfp4.gguf", map[string]gguf.Type{"ffn": gguf.MXFP4})
	write("nvfp4.gguf", map[string]gguf.Type{"ffn": gguf.NVFP4})
	write("made.gguf", map[string]gguf.Type{"ffn": gguf.MXFP4, "attn": gguf.Q8_0})
	found := m.discover()
	assert.Equal(t, []string{"mxfp4", "nvfp4"}, names(found.Models))
	for _, native := range found.Models {
		assert.True(t, native.Header.Native)
	}
	assert.Len(t, found.Skipped, 1)
}

// ggml-org stores gpt-oss with the experts as OpenAI publishes them, and the rest in Q8_0: 98
// matrices beside 72 in MXFP4 of the small one.
func TestModelsWhoseExpertsAreBornQuantizedAreSources(t *testing.T) {
	m := newModels(t)
	shape := gguftest.Tiny()
	shape.Architecture, shape.Experts = "gpt-oss", 4
	rest := map[string]gguf.Type{"attn": gguf.Q8_0, "token_embd": gguf.Q8_0, "output.": gguf.Q8_0}
	with := func(name string, experts, attention gguf.Type) {
		types := maps.Clone(rest)
		types["_exps"], types["attn"] = experts, attention
		writeTypes(m, shape, name, types)
	}
	with("born.gguf", gguf.MXFP4, gguf.Q8_0)
	with("unquantized.gguf", gguf.MXFP4, gguf.BF16)
	with("made.gguf", gguf.MXFP4, gguf.Q5_0)
	with("experts.gguf", gguf.Q8_0, gguf.Q8_0)
	shape.Architecture = "qwen3moe"
	with("other.gguf", gguf.MXFP4, gguf.Q8_0)
	found := m.discover()
	assert.Equal(t, []string{"born", "unquantized"}, names(found.Models))
	for _, native := range found.Models {
		assert.True(t, native.Header.Native)
	}
	assert.Len(t, found.Skipped, 3)
}

// writeTypes writes a model whose matrices have types by a part of their names.
func writeTypes(m models, shape gguftest.Shape, name string, types map[string]gguf.Type) {
	file := gguftest.Model(shape)
	for i := range file.Tensors {
		for part, kind := range types {
			if tensor := &file.Tensors[i]; strings.Contains(tensor.Name, part) && len(tensor.Dims) > 1 {
				tensor.Type = kind
			}
		}
	}
	file.Write(m.t, m.path(name))
}
