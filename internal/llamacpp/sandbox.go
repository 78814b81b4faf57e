package llamacpp

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/process"
	"github.com/quant-exporter/quant-exporter/runner"
)

// wholeLandlock is the first version of Landlock's interface that keeps a tool from every way of
// writing to a file: those before it allow truncate(2). Linux 6.2 has it.
const wholeLandlock = 3

// sandbox says how the tools are confined: see sandboxBy.
func (e *Engine) sandbox() (string, error) { return sandboxBy(e.cfg.Sandbox, process.Landlock()) }

// sandboxBy says how tools are confined with a version of Landlock's interface, 0 for none:
// "landlock 7", "partial landlock 2" where they can still cut files off, "none" where the kernel
// has none, "off" where the configuration says so. It fails where a whole sandbox is required
// that the kernel has not.
func sandboxBy(wanted config.Sandbox, version int) (string, error) {
	switch {
	case wanted == config.SandboxOff:
		return "off", nil
	case version >= wholeLandlock:
		return fmt.Sprintf("landlock %d", version), nil
	case wanted == config.SandboxRequired && version > 0:
		return "", runner.Failf(runner.ReasonEngineMissing, "engine.sandbox is required, but the Landlock of this kernel (version %d) lets tools cut files off: use auto, or Linux 6.2 or newer", version)
	case wanted == config.SandboxRequired:
		return "", runner.Failf(runner.ReasonEngineMissing, "engine.sandbox is required, but %w: use auto, or another kernel", process.ErrNoLandlock)
	case version > 0:
		return fmt.Sprintf("partial landlock %d", version), nil
	default:
		return "none", nil
	}
}

func (e *Engine) confines() bool { return e.cfg.Sandbox != config.SandboxOff && process.Landlock() > 0 }

// systemPaths are what programs read to start, and to find libraries, drivers and devices. Of
// /etc there is only what they need: the rest holds passwords and keys.
var systemPaths = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/proc", "/sys",
	"/nix/store", "/gnu/store", "/snap", "/var/lib/snapd/lib", "/home/linuxbrew/.linuxbrew",
	"/run/opengl-driver", "/run/opengl-driver-32", "/run/current-system", "/run/nvidia-persistenced", "/run/nvidia-container-devices",
	"/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld-musl-x86_64.path", "/etc/ld-musl-aarch64.path",
	"/etc/OpenCL", "/etc/vulkan", "/etc/glvnd", "/etc/egl", "/etc/drirc", "/etc/nvidia", "/etc/nv_tegra_release", "/etc/ascend_install.info", "/etc/alternatives", "/etc/static",
	"/etc/ssl/openssl.cnf", "/etc/ssl/certs", "/etc/pki/tls/openssl.cnf", "/etc/crypto-policies",
	"/etc/localtime", "/etc/timezone", "/etc/locale.alias", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group",
	"/etc/os-release", "/etc/lsb-release", "/etc/debian_version", "/etc/machine-id", "/etc/hostname", "/etc/hosts", "/etc/profile", "/etc/bash.bashrc",
}

// devicePatterns are the devices that every program uses, and the devices of accelerators.
var devicePatterns = []string{
	"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom",
	"/dev/dri", "/dev/kfd", "/dev/dxg", "/dev/accel", "/dev/udmabuf",
	"/dev/nvidia*", "/dev/nvhost*", "/dev/nvmap", "/dev/nvgpu*", "/dev/nvsciipc", "/dev/host1x*",
	"/dev/davinci*", "/dev/devmm_svm", "/dev/hisi_hdc", "/dev/mali*", "/dev/mtgpu*",
	"/dev/kgsl*", "/dev/dma_heap", "/dev/ion", "/dev/fastrpc*", "/dev/adsprpc*",
}

// cudaDevices are there where CUDA's driver is: the control device of a card, and a Jetson's GPU.
var cudaDevices = []string{"/dev/nvidiactl", "/dev/nvgpu*", "/dev/nvhost-gpu"}

// devices returns the files that a tool controls, of those that glob finds. Since version 570
// CUDA's driver gives its threads names, by /proc/PID/task/TID/comm, and refuses to compute
// where it may not, upon which llama.cpp takes the CPU without a word. Landlock knows no
// patterns, and nobody knows the PID beforehand, so that all of /proc is written to.
func devices(glob func(pattern string) ([]string, error)) []string {
	var all []string
	for _, pattern := range devicePatterns {
		found, _ := glob(pattern) // the patterns are well formed
		all = append(all, found...)
	}
	if hasCUDA(glob) {
		all = append(all, "/proc")
	}
	return all
}

func hasCUDA(glob func(pattern string) ([]string, error)) bool {
	return slices.ContainsFunc(cudaDevices, func(pattern string) bool {
		found, _ := glob(pattern) // likewise
		return len(found) > 0
	})
}

// cacheFolders are where drivers keep programs that they compiled, below the folder for caches.
var cacheFolders = []string{
	"mesa_shader_cache", "mesa_shader_cache_db", "nvidia", "radv_builtin_shaders", "radv_builtin_shaders64", "AMD", "comgr",
	"neo_compiler_cache", "libsycl_cache", "pocl",
}

// noPaths are the variables whose values name places that a tool has no need to read.
var noPaths = []string{"HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"}

// confinement returns what a program may do that is run with these arguments in a working
// folder, "" for one that is only asked about itself; nil where tools are not confined. It
// reads the tools, the system, the models that links in the working folder lead to, and what its
// arguments and variables name by an absolute path. It writes its working folder, shared memory
// and the caches of drivers.
func (e *Engine) confinement(program binary, args []string, dir string) *process.Confinement {
	if !e.confines() {
		return nil
	}
	home := e.variable("HOME")
	whole := func(path string) bool { // a folder that holds far more than is needed
		return path == "/" || path == filepath.Clean(home)
	}
	reads := slices.Concat(systemPaths, e.cfg.SandboxReads, programPaths(program.path, whole))
	for _, folder := range e.cfg.SandboxReads { // which may hold links to programs elsewhere
		for _, target := range linkedFrom(folder) {
			reads = append(reads, programPaths(target, whole)...)
		}
	}
	for _, tool := range []string{quantizeTool, benchTool, serverTool, perplexityTool} {
		if found, err := e.find(tool); err == nil && found.path != program.path { // a script may run another
			reads = append(reads, programPaths(found.path, whole)...)
		}
	}
	for _, arg := range args {
		if _, value, ok := strings.Cut(arg, "="); ok {
			arg = value
		}
		if filepath.IsAbs(arg) && !whole(filepath.Clean(arg)) {
			reads = append(reads, arg)
		}
	}
	for _, entry := range e.environment {
		name, value, _ := strings.Cut(entry, "=")
		if slices.Contains(noPaths, name) {
			continue
		}
		for _, path := range filepath.SplitList(value) {
			if filepath.IsAbs(path) && !whole(filepath.Clean(path)) {
				reads = append(reads, path)
			}
		}
	}
	writes := append(e.caches(home), "/dev/shm")
	if dir != "" {
		reads = append(reads, linkedModels(dir)...)
		writes = append(writes, dir)
	}
	if own := e.cfg.Env["TMPDIR"]; own != "" {
		writes = append(writes, own)
	}
	// CUDA's driver asks whether there is a server that shares the GPU (MPS).
	return &process.Confinement{Reads: reads, Writes: writes, Devices: devices(filepath.Glob), Connects: hasCUDA(filepath.Glob)}
}

// programPaths are the folders of a program and of its libraries, as a build, a prefix
// such as /opt/llama.cpp, or a package manager lays them out.
func programPaths(path string, whole func(string) bool) []string {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		resolved = path
	}
	var all []string
	for _, program := range []string{path, resolved} {
		folder := filepath.Dir(program)
		if !whole(folder) {
			all = append(all, folder)
		} else {
			libraries, _ := filepath.Glob(filepath.Join(folder, "lib*.so*"))
			all = append(append(all, program), libraries...)
		}
		if filepath.Base(folder) != "bin" {
			continue
		}
		prefix := filepath.Dir(folder)
		if !whole(prefix) && filepath.Base(prefix) != ".local" { // which holds what a user has, too
			all = append(all, prefix)
			continue
		}
		for _, beside := range []string{"lib", "lib64", "libexec"} {
			all = append(all, filepath.Join(prefix, beside))
		}
	}
	return all
}

// linkedFrom are the files that the symbolic links in a folder lead to.
func linkedFrom(dir string) []string {
	entries, _ := os.ReadDir(dir) // the tool says what it misses
	var all []string
	for _, entry := range entries {
		if entry.Type()&os.ModeSymlink == 0 {
			continue
		}
		if target, err := filepath.EvalSymlinks(filepath.Join(dir, entry.Name())); err == nil {
			all = append(all, target)
		}
	}
	return all
}

// linkedModels are the models that symbolic links in a working folder lead to: links of the
// exporter's. A tool before may have left another one, or exchanged ours, to let the next tool
// read what it could not. Therefore only regular files count that begin as a model does; a tool
// that wants to read another model gains nothing that way that is a secret.
func linkedModels(dir string) []string {
	return slices.DeleteFunc(linkedFrom(dir), func(path string) bool { return !isModel(path) })
}

// isModel reports whether a file is a regular one that begins as GGUF files do.
func isModel(path string) bool {
	file, _, err := disk.OpenRegular(path)
	if err != nil {
		return false
	}
	defer file.Close()
	var magic [4]byte
	_, err = io.ReadFull(file, magic[:])
	return err == nil && string(magic[:]) == "GGUF"
}

// caches are the folders in which drivers keep what they compiled: without them the first
// measurement of every process would compile it again. The tools cannot make them, so that
// CUDA's is made here where there is such a device.
func (e *Engine) caches(home string) []string {
	all := []string{cmp.Or(e.variable("CUDA_MPS_PIPE_DIRECTORY"), "/tmp/nvidia-mps")} // of pipes that clients write to
	if own := e.variable("CUDA_CACHE_PATH"); own != "" {
		all = append(all, own)
	}
	below := e.variable("XDG_CACHE_HOME")
	if filepath.IsAbs(home) {
		cuda := filepath.Join(home, ".nv")
		if hasCUDA(filepath.Glob) {
			_ = os.Mkdir(cuda, 0o700) // else the driver does without
		}
		all = append(all, cuda)
		if below == "" {
			below = filepath.Join(home, ".cache")
		}
	}
	if filepath.IsAbs(below) {
		for _, name := range cacheFolders {
			all = append(all, filepath.Join(below, name))
		}
	}
	return all
}

// variable returns the value that a variable has for the tools; "" when it is not set.
func (e *Engine) variable(name string) string {
	for _, entry := range e.environment {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// workVariable marks the processes of a cycle by its working folder, so that those which a
// killed exporter has left behind are found.
const workVariable = "QUANT_EXPORTER_WORK"

// environmentIn is the environment of a tool that works in a folder. A confined one has its
// temporary files there, unless engine.env names another place.
func (e *Engine) environmentIn(dir string) []string {
	environment := append(slices.Clone(e.environment), workVariable+"="+dir)
	if _, own := e.cfg.Env["TMPDIR"]; !own && e.confines() {
		environment = slices.DeleteFunc(environment, func(entry string) bool { return strings.HasPrefix(entry, "TMPDIR=") })
		environment = append(environment, "TMPDIR="+dir)
	}
	return environment
}

// EndLeft kills the processes that were started in these working folders and still run,
// whoever their parent is now, and returns how many there were.
func EndLeft(dirs []string) (ended int, err error) {
	for _, dir := range dirs {
		n, failed := process.EndMarked(workVariable + "=" + dir)
		ended, err = ended+n, errors.Join(err, failed)
	}
	return ended, err
}

// refusedBySandbox is the hint for a tool that the sandbox may have kept from a file.
func refusedBySandbox(said string) string {
	lower := strings.ToLower(said)
	if strings.Contains(lower, "permission denied") || strings.Contains(lower, "cannot open shared object file") || strings.Contains(lower, "not permitted") {
		return "; it ran in a sandbox: name the folders that it must read as engine.sandbox_reads, or try engine.sandbox: off"
	}
	return ""
}
