package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The real llama-quantize makes what a recipe says, of the size that its dry run tells.
func TestRecipe(t *testing.T) {
	t.Parallel()
	tools, engine := fastCopies(t)
	h := newHost(t, quick+engine+`
schedule:
  - name: nightly
    cron: "@daily"
    targets: [Q4_K_M, {name: Q4_mix, format: Q4_K_M, args: [--tensor-type, "ffn_down=q8_0"]}]
`, "--llamacpp.dir", tools)
	outcomes, exit := h.run("--entry", "nightly", "--model", bundled())
	require.Zero(t, exit)
	require.Len(t, outcomes, 2)
	made := map[string]outcome{}
	for _, o := range outcomes {
		require.Empty(t, o.Error)
		made[o.Target] = o
	}
	plain, mix := made["Q4_K_M"], made["Q4_mix"]
	assert.Greater(t, mix.Quantized.Bytes, plain.Quantized.Bytes)
	assert.Contains(t, mix.Evidence.Quantize.Args, "ffn_down=q8_0")
	assert.NotContains(t, plain.Evidence.Quantize.Args, "ffn_down=q8_0")
}
