package host

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// defaultCores is the number of cores where the system tells no topology.
func defaultCores() int {
	if n, err := unix.SysctlUint32("hw.physicalcpu"); err == nil && n > 0 {
		return int(n)
	}
	return runtime.NumCPU()
}
