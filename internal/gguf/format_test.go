package gguf_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
)

func TestCanonical(t *testing.T) {
	for target, want := range map[string]string{
		"Q2_K": "Q2_K", "q2_k": "Q2_K", "Q2_K_S": "Q2_K_S", "q3_k": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "Q4_K_S": "Q4_K_S", "bf16": "BF16", "": "",
	} {
		assert.Equal(t, want, gguf.Canonical(target), target)
	}
}
