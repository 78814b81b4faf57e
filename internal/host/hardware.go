package host

import (
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Hardware says what machine a figure was measured on. What the system does not report
// is empty or zero.
type Hardware struct {
	Name   string `json:"name,omitempty"`         // host name
	CPU    string `json:"cpu,omitempty"`          // model name of the (first) CPU
	Arch   string `json:"arch"`                   // as Go calls it: amd64, arm64
	Cores  int    `json:"cores"`                  // physical cores that the process may use
	CPUs   int    `json:"cpus"`                   // logical ones
	Memory int64  `json:"memory_bytes,omitempty"` // of the machine
	Kernel string `json:"kernel,omitempty"`       // name and release: "Linux 6.12.1"
}

func readHardware(t topology) Hardware {
	h := Hardware{Arch: runtime.GOARCH, Cores: t.cores, CPUs: len(t.cpus)}
	if h.CPUs == 0 {
		h.CPUs = runtime.NumCPU()
	}
	if name, err := os.Hostname(); err == nil {
		h.Name = name
	}
	h.CPU, h.Memory = cpuAndMemory()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		h.Kernel = unix.ByteSliceToString(uts.Sysname[:]) + " " + unix.ByteSliceToString(uts.Release[:])
	}
	return h
}

// CPUName returns the model name of the (first) CPU; "" if the system does not report it.
func CPUName() string {
	cpu, _ := cpuAndMemory()
	return cpu
}

// String describes the machine on one line, without its name: "AMD EPYC, 2 cores,
// 8.2 GB, Linux 6.12.1".
func (h Hardware) String() string {
	parts := h.processor()
	if h.Memory > 0 {
		parts = append(parts, fmt.Sprintf("%.1f GB", float64(h.Memory)/1e9))
	}
	if h.Kernel != "" {
		parts = append(parts, h.Kernel)
	}
	return strings.Join(parts, ", ")
}

// Machine is String without what differs from one start of the same machine to the next:
// the kernel, and the memory that it leaves.
func (h Hardware) Machine() string {
	parts := h.processor()
	if h.Memory > 0 {
		parts = append(parts, fmt.Sprintf("%.0f GB", float64(h.Memory)/1e9))
	}
	return strings.Join(parts, ", ")
}

// Driver names the kernel and the drivers of GPUs that are loaded at the moment, as far
// as the system reports it: "Linux 6.12.1, nvidia 550.54.14".
func (h Hardware) Driver() string { return h.driver(os.DirFS("/")) }

func (h Hardware) driver(root fs.FS) string {
	var parts []string
	if h.Kernel != "" {
		parts = append(parts, h.Kernel)
	}
	// Drivers that come with the kernel have no version of their own.
	for _, module := range []string{"nvidia", "amdgpu", "i915", "xe"} {
		if version, err := fs.ReadFile(root, "sys/module/"+module+"/version"); err == nil {
			parts = append(parts, module+" "+strings.TrimSpace(string(version)))
		}
	}
	return strings.Join(parts, ", ")
}

func (h Hardware) processor() []string {
	cpu := h.CPU
	if cpu == "" {
		cpu = h.Arch
	}
	unit := "cores"
	if h.Cores == 1 {
		unit = "core"
	}
	return []string{cpu, fmt.Sprintf("%d %s", h.Cores, unit)}
}
