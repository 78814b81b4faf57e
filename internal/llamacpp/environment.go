package llamacpp

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// The variables of our own environment that the tools get. Secrets that an exporter may
// have in its environment (HF_TOKEN, passwords, cloud credentials) are not among them.
var (
	passedNames = []string{
		"PATH", "HOME", "LANG", "LANGUAGE", "TMPDIR", "TZ",
		"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH",
	}
	passedPrefixes = []string{
		"LC_",
		"GGML_", "LLAMA_", // llama.cpp itself
		"CUDA_", "NVIDIA_", "HIP_", "ROCR_", "ROCM_", "HSA_", // GPUs
		"VK_", "MESA_", "XDG_", // Vulkan finds its drivers by them
		"SYCL_", "ONEAPI_", "ZE_", "ZES_",
		"OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "BLIS_", // CPU threads
	}
)

// Environment picks from ours ("KEY=value" each) what a tool gets, and puts extra on
// top of it. The result is sorted.
func Environment(ours []string, extra map[string]string) []string {
	picked := map[string]string{"GGML_NO_BACKTRACE": "1"}
	for _, entry := range ours {
		name, value, ok := strings.Cut(entry, "=")
		if ok && passed(name) {
			picked[name] = value
		}
	}
	maps.Copy(picked, extra)

	environment := make([]string, 0, len(picked))
	for _, name := range slices.Sorted(maps.Keys(picked)) {
		environment = append(environment, name+"="+picked[name])
	}
	return environment
}

func passed(name string) bool {
	return slices.Contains(passedNames, name) || hasPassedPrefix(name)
}

func hasPassedPrefix(name string) bool {
	return slices.ContainsFunc(passedPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// steersTools says whether a variable is one by which tools work differently.
func steersTools(name string) bool {
	return hasPassedPrefix(name) && !strings.HasPrefix(name, "LC_") && !strings.HasPrefix(name, "XDG_")
}

var secretName = regexp.MustCompile(`(?i)token|key|secret|pass|pwd|credential|auth`)

// SecretName says whether a variable of this name has a value that is nobody's business.
func SecretName(name string) bool { return secretName.MatchString(name) }

// shownValue is a value as others may see it: a URL may hold a password.
func shownValue(value string) string {
	if !strings.Contains(value, "@") {
		return value
	}
	hash := sha256.Sum256([]byte(value))
	return "sha256:" + hex.EncodeToString(hash[:6])
}
