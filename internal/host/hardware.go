package host

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Hardware says what machine a figure was measured on. What the system does not tell
// is empty or zero.
type Hardware struct {
	Host   string `json:"name,omitempty"`         // host name
	CPU    string `json:"cpu,omitempty"`          // model name of the (first) CPU
	Arch   string `json:"arch"`                   // as Go calls it: amd64, arm64
	Cores  int    `json:"cores"`                  // physical cores that the process may use
	CPUs   int    `json:"cpus"`                   // logical ones
	Memory int64  `json:"memory_bytes,omitempty"` // of the machine
	Kernel string `json:"kernel,omitempty"`       // name and release: "Linux 6.12.1"
}

// ReadHardware asks the system.
func ReadHardware(t Topology) Hardware {
	h := Hardware{Arch: runtime.GOARCH, Cores: t.Cores, CPUs: len(t.CPUs)}
	if h.CPUs == 0 {
		h.CPUs = runtime.NumCPU()
	}
	if name, err := os.Hostname(); err == nil {
		h.Host = name
	}
	h.CPU, h.Memory = cpuAndMemory()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		h.Kernel = unix.ByteSliceToString(uts.Sysname[:]) + " " + unix.ByteSliceToString(uts.Release[:])
	}
	return h
}

// String describes the machine on one line, without its name: "AMD EPYC, 2 cores,
// 8.2 GB, Linux 6.12.1".
func (h Hardware) String() string {
	cpu := h.CPU
	if cpu == "" {
		cpu = h.Arch
	}
	unit := "cores"
	if h.Cores == 1 {
		unit = "core"
	}
	parts := []string{cpu, fmt.Sprintf("%d %s", h.Cores, unit)}
	if h.Memory > 0 {
		parts = append(parts, fmt.Sprintf("%.1f GB", float64(h.Memory)/1e9))
	}
	if h.Kernel != "" {
		parts = append(parts, h.Kernel)
	}
	return strings.Join(parts, ", ")
}
