package host

import "github.com/prometheus/procfs"

func cpuAndMemory() (cpu string, memory int64) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return "", 0
	}
	if cpus, err := proc.CPUInfo(); err == nil && len(cpus) > 0 {
		cpu = cpus[0].ModelName
	}
	if mem, err := proc.Meminfo(); err == nil && mem.MemTotalBytes != nil {
		memory = int64(*mem.MemTotalBytes)
	}
	return cpu, memory
}
