package host

import "golang.org/x/sys/unix"

func cpuAndMemory() (cpu string, memory int64) {
	if name, err := unix.Sysctl("machdep.cpu.brand_string"); err == nil {
		cpu = name
	}
	if bytes, err := unix.SysctlUint64("hw.memsize"); err == nil {
		memory = int64(bytes)
	}
	return cpu, memory
}
