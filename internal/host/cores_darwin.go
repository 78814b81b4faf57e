package host

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// defaultCores returns the number of cores if the system reports no topology.
func defaultCores() int {
	if n, err := unix.SysctlUint32("hw.physicalcpu"); err == nil && n > 0 {
		return int(n)
	}
	return runtime.NumCPU()
}
