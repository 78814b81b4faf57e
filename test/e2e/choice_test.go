package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/test/schemas"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// fastCopies are the real tools, and a llama-bench by which the original takes twenty
// times as long: only quality and size decide, whatever else this host does.
func fastCopies(t *testing.T) (tools, engine string) {
	t.Helper()
	tools = t.TempDir()
	for _, name := range []string{"llama-quantize", "llama-perplexity"} {
		require.NoError(t, os.Symlink(filepath.Join(shared.tools, name), filepath.Join(tools, name)))
	}
	require.NoError(t, os.Symlink(slow(t), filepath.Join(tools, "llama-bench")))
	return tools, fmt.Sprintf("engine: {env: {SLOWBENCH_REAL: %q, SLOWBENCH_MODEL: original.gguf, SLOWBENCH_FACTOR: \"20\"}}\n",
		filepath.Join(shared.tools, "llama-bench"))
}

// The ladder of the bundled model on its held-out text, of which Q2_K alone is over the
// limit: the smallest copy of the others is chosen, and larger ones are not looked at.
func TestChoiceOfTheLadder(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{})
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: server.Socket, Protocol: 2})
	t.Cleanup(func() { client.Close() })
	tools, engine := fastCopies(t)
	text := filepath.Join(shared.root, "examples", "models", "kjv-heldout.txt")
	h := newHost(t, quick+engine+fmt.Sprintf(`
quality: {corpus: %s, max_kl_divergence: 0.05, chunks: 10}
a2a: {url: "redis://%s"}
schedule: [{name: nightly, cron: "@daily", targets: [Q8_0, Q6_K, Q4_K_M, Q3_K_M, Q2_K], choose: smallest}]
`, text, server.Addr), "--llamacpp.dir", tools)

	for _, step := range []struct {
		rule             choice.Rule
		chosen, previous string
		kept, passedOver []string
	}{
		{choice.Smallest, "Q3_K_M", "", []string{"Q3_K_M"}, []string{"Q4_K_M", "Q6_K", "Q8_0"}},
		{choice.BestQuality, "Q6_K", "Q3_K_M", []string{"Q6_K"}, []string{"Q8_0", "Q4_K_M", "Q3_K_M"}}, // as good as Q8_0, and smaller
		{choice.Smallest, "Q3_K_M", "Q6_K", []string{"Q3_K_M"}, []string{"Q4_K_M", "Q6_K", "Q8_0"}},
	} {
		outcomes, exit := h.run("--entry", "nightly", "--model", bundled(), "--choose", string(step.rule))
		assert.Equal(t, 3, exit, "Q2_K is rejected")
		by := map[string][]string{}
		for _, o := range outcomes {
			require.Empty(t, o.Error)
			switch o.EventType {
			case "QUANT_DECISION":
				by[string(o.Decision)] = append(by[string(o.Decision)], o.Target)
				assert.GreaterOrEqual(t, len(o.Evidence.Rounds), 3, "%s: each that is decided has its first look", o.Target)
				assert.Equal(t, o.Decision, o.Evidence.Verdict().Outcome)
			case "QUANT_SKIPPED":
				by["passed over for "+o.PassedOverFor] = append(by["passed over for "+o.PassedOverFor], o.Target)
			}
		}
		assert.Equal(t, map[string][]string{"rejected": {"Q2_K"}, "kept": step.kept, "passed over for " + step.chosen: step.passedOver}, by)
		last := outcomes[len(outcomes)-1]
		require.Equal(t, "QUANT_CHOICE", last.EventType)
		assert.Equal(t, step.chosen, last.Chosen)
		assert.Equal(t, step.previous, last.Previous)
		assert.NotEmpty(t, last.EventID)
	}

	entries, err := client.XRange(t.Context(), stream, "-", "+").Result()
	require.NoError(t, err)
	schema := schemas.Get(t, "quant-choice")
	var chosen []any
	for _, entry := range entries {
		if entry.Values["event_type"] == "QUANT_CHOICE" {
			data := dataOf(t, entry)
			require.NoError(t, schema.Validate(data))
			chosen = append(chosen, data["chosen_format"])
		}
	}
	assert.Equal(t, []any{"Q3_K_M", "Q6_K", "Q3_K_M"}, chosen)
	assert.Len(t, entries, 6, "and the decisions on Q2_K, Q3_K_M and Q6_K")
}
