package llamacpp

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/runner"
)

func read(t testing.TB, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, path...)...))
	require.NoError(t, err)
	return string(text)
}

// help is what the real tool prints, which the fake repeats.
func help(t testing.TB, tool string) string {
	return read(t, "..", "..", "test", "fakellama", "tools", "help", tool+".txt")
}

func TestParseFormatsOfTheRealHelp(t *testing.T) {
	formats := parseFormats(help(t, "llama-quantize"))

	assert.Len(t, formats, 38, "as many types as the help lists, without COPY")
	for _, want := range []runner.Format{
		{Name: "Q2_K"},
		{Name: "Q4_K", Alias: "Q4_K_M"},
		{Name: "Q4_K_M"},
		{Name: "F16"},
		{Name: "BF16"},
		{Name: "F32"},
		{Name: "MXFP4_MOE"},
		{Name: "IQ1_S", NeedsImatrix: true},
		{Name: "IQ2_M", NeedsImatrix: true},
		{Name: "IQ3_XXS", NeedsImatrix: true},
		{Name: "IQ3_S"},
		{Name: "Q2_K_S", NeedsImatrix: true},
	} {
		assert.Contains(t, formats, want)
	}
	for _, format := range formats {
		assert.NotEqual(t, "COPY", format.Name)
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]version{
		"version: 4753 (c392e509)\nbuilt with cc":                                      {"4753", 4753, "c392e509"},
		"version: 0.2.0-dev (build 10572, commit 3af988fab)\n":                         {"0.2.0-dev", 10572, "3af988fab"},
		"load_backend: x\nversion: 0.7.0 (build 11669, commit Debian)\nbuilt with GNU": {"0.7.0", 11669, "Debian"},
		"version: 0 (unknown)\nbuilt with cc":                                          {}, // outside of a repository: builds cannot be told apart
		"version: 0.7.0 (build 0, commit unknown)\n":                                   {"0.7.0", 0, ""},
		"error: invalid parameter":                                                     {},
		"":                                                                             {},
	} {
		assert.Equal(t, want, parseVersion(text), text)
	}
}

func TestParseDevices(t *testing.T) {
	for _, test := range []struct {
		text, names string
		gpu         bool
		free        int64 // MiB
	}{
		{"Available devices:\n  (none)\n", "", false, 0},
		{"Available devices:\n  BLAS: OpenBLAS (0 MiB, 0 MiB free)\n", "BLAS: OpenBLAS", false, 0},
		{"Available devices:\n  CUDA0: NVIDIA H200 (143167 MiB, 142634 MiB free)\n", "CUDA0: NVIDIA H200", true, 142634},
		{"Available devices:\n  BLAS: x (0 MiB, 0 MiB free)\n  Vulkan0: AMD (RADV) (12 MiB, 9 MiB free)", "BLAS: x, Vulkan0: AMD (RADV)", true, 9},
		{"Available devices:\n  CUDA0: A (10 MiB, 9 MiB free)\n  CUDA1: B (10 MiB, 7 MiB free)\n", "CUDA0: A, CUDA1: B", true, 16},
		{"Available devices:\n  CUDA0: A (10 MiB)\n", "CUDA0: A", true, 0},
		{"", "", false, 0},
	} {
		names, gpu := parseDevices(test.text)
		assert.Equal(t, test.names, names, test.text)
		assert.Equal(t, test.gpu, gpu, test.text)
		assert.Equal(t, test.free<<20, parseFree(test.text), test.text)
	}
}

func TestHasFlag(t *testing.T) {
	help := help(t, "llama-bench")
	for flag, want := range map[string]bool{
		"--progress": true, "jsonl": true, "--n-depth": true, "-d": true, "--list-devices": true, "--version": true,
		"--prog": false, "--warmup": false,
	} {
		assert.Equal(t, want, hasFlag(help, flag), flag)
	}
	assert.True(t, hasFlag("usage: x [--help] [--dry-run]", "--dry-run"))
}

func FuzzParseHelp(f *testing.F) {
	f.Add(help(f, "llama-quantize"))
	f.Add("  10  or  Q2_K    :  2.96G\n  15  or  Q4_K    : alias for Q4_K_M\n")
	f.Add("version: 99999999999999999999 (abc)")
	f.Fuzz(func(t *testing.T, text string) {
		seen := map[string]bool{}
		for _, format := range parseFormats(text) {
			require.NotEmpty(t, format.Name)
			require.False(t, seen[format.Name], "%s is listed twice", format.Name)
			seen[format.Name] = true
		}
		parseVersion(text)
		parseDevices(text)
		require.GreaterOrEqual(t, parseFree(text), int64(0))
	})
}
