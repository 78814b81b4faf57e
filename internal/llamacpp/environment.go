package llamacpp

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// neededNames are the variables of our environment that a tool needs to start and to find
// its libraries. They say nothing of how it computes.
var neededNames = []string{
	"PATH", "HOME", "TMPDIR", "TZ",
	"LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LC_NUMERIC",
	"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH",
	"XDG_CACHE_HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "XDG_DATA_DIRS", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", // drivers of Vulkan and their caches
}

// steeringNames are the variables of our environment that choose devices, libraries of a
// back end and CPU threads. None of them names a model, an argument of a tool, or a place
// for its output: a prefix such as LLAMA_ would let in LLAMA_ARG_MODEL_URL, by which
// llama-perplexity loads another model than the one it is given. Others are for engine.env.
var steeringNames = []string{
	"GGML_BACKEND_PATH", "GGML_NO_BACKTRACE",
	"GGML_CPU_DISABLE_FUSION", "GGML_CPU_TILED_MM", "GGML_KLEIDIAI_SME",
	"GGML_CUDA_DISABLE_GRAPHS", "GGML_CUDA_ENABLE_UNIFIED_MEMORY", "GGML_CUDA_FORCE_CUBLAS_COMPUTE_16F", "GGML_CUDA_FORCE_CUBLAS_COMPUTE_32F",
	"GGML_CUDA_GRAPH_OPT", "GGML_CUDA_NO_PINNED", "GGML_CUDA_P2P", "GGML_HIP_ROCWMMA_FATTN",
	"GGML_METAL_BF16_DISABLE", "GGML_METAL_CONCURRENCY_DISABLE", "GGML_METAL_FUSION_DISABLE", "GGML_METAL_TENSOR_DISABLE",
	"GGML_OPENCL_DEVICE", "GGML_OPENCL_PLATFORM", "GGML_SYCL_DISABLE_GRAPH", "GGML_SYCL_DISABLE_OPT", "GGML_SYCL_PRIORITIZE_DMMV",
	"GGML_VK_ALLOW_SYSMEM_FALLBACK", "GGML_VK_DISABLE_BFLOAT16", "GGML_VK_DISABLE_COOPMAT", "GGML_VK_DISABLE_COOPMAT2", "GGML_VK_DISABLE_F16",
	"GGML_VK_DISABLE_INTEGER_DOT_PRODUCT", "GGML_VK_FORCE_MAX_ALLOCATION_SIZE", "GGML_VK_PREFER_HOST_MEMORY", "GGML_VK_VISIBLE_DEVICES",
	"CUDA_CACHE_DISABLE", "CUDA_CACHE_MAXSIZE", "CUDA_CACHE_PATH", "CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_DEVICE_ORDER", "CUDA_MODULE_LOADING",
	"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "CUDA_MPS_PIPE_DIRECTORY", "CUDA_SCALE_LAUNCH_QUEUES", "CUDA_VISIBLE_DEVICES",
	"NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_TF32_OVERRIDE", "NVIDIA_VISIBLE_DEVICES",
	"GPU_DEVICE_ORDINAL", "HIP_VISIBLE_DEVICES", "HSA_ENABLE_SDMA", "HSA_OVERRIDE_GFX_VERSION", "HSA_XNACK", "ROCBLAS_USE_HIPBLASLT", "ROCM_PATH", "ROCR_VISIBLE_DEVICES",
	"MESA_VK_DEVICE_SELECT", "VK_DRIVER_FILES", "VK_ICD_FILENAMES",
	"ONEAPI_DEVICE_SELECTOR", "SYCL_CACHE_PERSISTENT", "SYCL_PI_LEVEL_ZERO_USE_IMMEDIATE_COMMANDLISTS", "UR_L0_ENABLE_RELAXED_ALLOCATION_LIMITS",
	"ZE_AFFINITY_MASK", "ZE_FLAT_DEVICE_HIERARCHY", "ZES_ENABLE_SYSMAN",
	"GOMP_CPU_AFFINITY", "GOMP_SPINCOUNT", "KMP_AFFINITY", "KMP_BLOCKTIME", "KMP_HW_SUBSET",
	"OMP_DYNAMIC", "OMP_NUM_THREADS", "OMP_PLACES", "OMP_PROC_BIND", "OMP_THREAD_LIMIT", "OMP_WAIT_POLICY",
	"BLIS_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS",
}

// takenOver are the names, and the beginnings of names, of variables by which a tool
// loads, runs or prints something else than it was asked to. No tool gets them, not even
// from engine.env. LLAMA_ARG_ stands for arguments, HF_ for downloads and their keys,
// the rest for code that a loader, a driver or a runtime puts into the process, and for what
// makes them print.
var takenOver = []string{
	"LLAMA_*", "HF_*", "HUGGING_FACE_*", "HUGGINGFACE_*", "MODEL_ENDPOINT",
	"LD_*", "DYLD_*", "GCONV_PATH", "LOCPATH", "NLSPATH", "GLIBC_TUNABLES", "MALLOC_TRACE",
	"BASH_ENV", "BASH_FUNC_*", "BASHOPTS", "ENV", "SHELLOPTS", "PS4",
	"OPENSSL_CONF", "OPENSSL_ENGINES", "OPENSSL_MODULES",
	"CUDA_INJECTION*", "NVTX_INJECTION*", "COMPUTE_PROFILE*", "CUDBG_*",
	"HSA_TOOLS_*", "ROCP_*", "ROCPROFILER_*", "ROCTRACER_*", "ROCTX_*", "AMD_LOG_*",
	"OMP_TOOL*", "OMP_DISPLAY_*", "KMP_SETTINGS", "KMP_VERSION",
	"VK_ADD_LAYER_PATH", "VK_INSTANCE_LAYERS", "VK_LAYER_*", "VK_LOADER_*", "VK_IMPLICIT_LAYER_PATH", "VK_ADD_IMPLICIT_LAYER_PATH", "VK_APIDUMP_*",
	"OPENCL_LAYERS", "OPENCL_LAYER_PATH", "XPTI_*", "ZE_ENABLE_*", "ZET_ENABLE_*", "UR_ENABLE_LAYERS", "UR_ADAPTERS_*", "PTI_*",
}

// libraryPaths are the variables of loaders that only say where libraries are.
var libraryPaths = []string{"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "DYLD_FRAMEWORK_PATH", "DYLD_FALLBACK_FRAMEWORK_PATH"}

// Environment picks from ours ("KEY=value" each) what a tool gets, and puts extra on top
// of it. Only variables that are known by name are picked; those that take a tool over are
// left out of extra, too. The result is sorted.
func Environment(ours []string, extra map[string]string) []string {
	picked := map[string]string{"GGML_NO_BACKTRACE": "1"}
	for _, entry := range ours {
		name, value, ok := strings.Cut(entry, "=")
		if ok && (slices.Contains(neededNames, name) || steersTools(name)) {
			picked[name] = value
		}
	}
	maps.Copy(picked, extra)
	maps.DeleteFunc(picked, func(name, _ string) bool { return takesOver(name) })

	environment := make([]string, 0, len(picked))
	for _, name := range slices.Sorted(maps.Keys(picked)) {
		environment = append(environment, name+"="+picked[name])
	}
	return environment
}

// Withheld returns the names, sorted, of the variables of ours that are meant for llama.cpp
// and that its tools do not get. LLAMA_CPP_DIR, which is our own, is not among them.
func Withheld(ours []string) []string {
	var names []string
	for _, entry := range ours {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "LLAMA_ARG_") || strings.HasPrefix(name, "LLAMA_LOG_") || strings.HasPrefix(name, "GGML_") && !steersTools(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// checkVariable reports why a variable cannot be in engine.env.
func checkVariable(name, value string) error {
	switch {
	case name == "" || strings.ContainsAny(name, "=\x00"):
		return fmt.Errorf("%q cannot name an environment variable: use one without = and not empty", name)
	case strings.Contains(value, "\x00"):
		return fmt.Errorf("the value of %s holds a zero byte, which no environment can hold", name)
	case strings.HasPrefix(strings.ToUpper(name), "LLAMA_ARG_"):
		return fmt.Errorf("%s is an argument of llama.cpp's tools, and could make them load another model: use bench_args, quantize_args or evaluate_args", name)
	case takesOver(name):
		return fmt.Errorf("%s could make a tool load or print something else than it is asked to, so no tool gets it: leave it out", name)
	}
	return nil
}

func takesOver(name string) bool {
	name = strings.ToUpper(name)
	return !slices.Contains(libraryPaths, name) && slices.ContainsFunc(takenOver, func(pattern string) bool {
		prefix, isPrefix := strings.CutSuffix(pattern, "*")
		return name == pattern || isPrefix && strings.HasPrefix(name, prefix)
	})
}

// steersTools reports whether results can depend on a variable.
func steersTools(name string) bool { return slices.Contains(steeringNames, name) }

// shownValue returns a value as others may see it: a URL may hold a password.
func shownValue(value string) string {
	if !strings.Contains(value, "@") {
		return value
	}
	hash := sha256.Sum256([]byte(value))
	return "sha256:" + hex.EncodeToString(hash[:6])
}
