package llamacpp

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/quant-exporter/quant-exporter/runner"
)

// abilities is what the binaries at hand can do.
type abilities struct {
	formats []runner.Format
	dryRun  bool // llama-quantize --dry-run: b8116 and later

	jsonl    bool // llama-bench -o jsonl: b3661 and later
	progress bool // llama-bench --progress: b3677 and later
	depth    bool // llama-bench -d: b5212 and later

	gpu     bool
	devices string // accelerators, as --list-devices names them
	version version
}

// version is what a tool says of itself.
type version struct {
	name   string // "0.7.0"; in builds before b10394 the build number
	build  int
	commit string
}

// gpuNames returns the names of the accelerators, without the names of the back ends.
func (a *abilities) gpuNames() string {
	var names []string
	for device := range strings.SplitSeq(a.devices, ", ") {
		if _, name, ok := strings.Cut(device, ": "); ok {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// hasFlag reports whether a tool's help names the flag.
func hasFlag(help, flag string) bool {
	between := func(r rune) bool { return strings.ContainsRune(" \t\r\n,[]<>|()", r) }
	for word := range strings.FieldsFuncSeq(help, between) {
		if word == flag {
			return true
		}
	}
	return false
}

var formatLine = regexp.MustCompile(`(?m)^\s*\d+\s+or\s+([A-Za-z0-9_]+)\s*:(.*)$`)

var aliasText = regexp.MustCompile(`\balias for ([A-Za-z0-9_]+)`)

// needImatrix are the formats that llama-quantize refuses without an importance matrix,
// whatever the model: those with IQ1, IQ2 or IQ3_XXS tensors, and Q2_K_S. Which others
// need one for a certain model, IQ3_XS for example, its --dry-run says.
//
// Source: tensor_requires_imatrix in llama.cpp's src/llama-quant.cpp, and tried.
var needImatrix = []string{"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "Q2_K_S"}

// parseFormats reads the types that llama-quantize's help lists, each once, in the
// help's order. COPY, which is not a type, has no number there and is left out.
func parseFormats(help string) []runner.Format {
	var formats []runner.Format
	for _, match := range formatLine.FindAllStringSubmatch(help, -1) {
		format := runner.Format{Name: match[1], NeedsImatrix: slices.Contains(needImatrix, match[1])}
		if alias := aliasText.FindStringSubmatch(match[2]); alias != nil {
			format.Alias = alias[1]
		}
		known := slices.ContainsFunc(formats, func(f runner.Format) bool { return f.Name == format.Name })
		if !known {
			formats = append(formats, format)
		}
	}
	return formats
}

var (
	// As in "version: 4753 (c392e509)".
	oldVersion = regexp.MustCompile(`(?m)\bversion: (\d+) \(([0-9A-Za-z]+)\)`)
	// As in "version: 0.7.0 (build 11669, commit Debian)".
	newVersion = regexp.MustCompile(`(?m)\bversion: (\S+) \(build (\d+), commit ([^)\s]+)\)`)
)

// parseVersion reads what --version prints; the zero value when it is neither form.
func parseVersion(text string) version {
	if match := newVersion.FindStringSubmatch(text); match != nil {
		build, _ := strconv.Atoi(match[2]) // out of range is as good as unknown
		return version{name: match[1], build: build, commit: commit(match[3])}
	}
	if match := oldVersion.FindStringSubmatch(text); match != nil {
		build, _ := strconv.Atoi(match[1])
		if build == 0 {
			return version{commit: commit(match[2])}
		}
		return version{name: match[1], build: build, commit: commit(match[2])}
	}
	return version{}
}

// commit returns what a tool says of its commit: "" for the word of one that was built outside of
// a repository.
func commit(said string) string {
	if said == "unknown" {
		return ""
	}
	return said
}

// As in "  CUDA0: NVIDIA H200 (143167 MiB, 142634 MiB free)".
var deviceLine = regexp.MustCompile(`(?m)^\s+([A-Za-z0-9_]+: .*) \((\d+) MiB\b(?:, (\d+) MiB free\b)?`)

// parseDevices reads llama-bench --list-devices: the names, and whether one is a GPU.
// Accelerators that work on the CPU's memory, such as BLAS, are listed with none of their
// own.
func parseDevices(text string) (names string, gpu bool) {
	var all []string
	for _, match := range deviceLine.FindAllStringSubmatch(text, -1) {
		all = append(all, match[1])
		gpu = gpu || strings.Trim(match[2], "0") != ""
	}
	return strings.Join(all, ", "), gpu
}

// parseFree reads how many bytes all the devices of llama-bench --list-devices have free;
// 0 when there is none, or when it does not say.
func parseFree(text string) int64 {
	free := int64(0)
	for _, match := range deviceLine.FindAllStringSubmatch(text, -1) {
		mebibytes, err := strconv.ParseInt(match[3], 10, 64)
		if err != nil || mebibytes > 1<<40 {
			continue
		}
		free += mebibytes << 20
	}
	return free
}

// gpuBackend matches what builds without --list-devices may print of their GPU while
// they start.
var gpuBackend = regexp.MustCompile(`(?i)loaded (CUDA|Vulkan|HIP|ROCm|SYCL|Metal|MUSA|CANN|OpenCL) backend|ggml_(cuda_init|vulkan|metal_init|sycl_init|opencl): found`)
