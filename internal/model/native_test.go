package model_test

import (
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
	write := func(name string, types map[string]gguf.Type) {
		file := gguftest.Model(gguftest.Tiny())
		for i := range file.Tensors {
			for part, kind := range types {
				if tensor := &file.Tensors[i]; strings.Contains(tensor.Name, part) && len(tensor.Dims) > 1 {
					tensor.Type = kind
				}
			}
		}
		file.Write(t, m.path(name))
	}
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
