package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
)

// maxCPUs bounds the CPU numbers that are believed: the largest kernels are built for
// 8192.
const maxCPUs = 1 << 16

// topology is the part of the host's CPUs that this process may use.
type topology struct {
	// cpus are the numbers of the logical CPUs that the process may run on, in
	// ascending order; nil if the system does not report it.
	cpus []int
	// siblings are the same, by physical core, in the order of each core's first; nil where
	// the system does not report it.
	siblings [][]int
	// cores is the number of physical cores among them, at least 1: hyperthreads of
	// one core count once, cores of every speed alike.
	cores int
	// quota is the CPU time that the process's cgroup may use, in CPUs; 0 for no limit.
	quota float64
}

// systemTopology asks Linux's /proc and /sys; elsewhere, and where these are silent,
// every logical CPU that Go sees counts as a core.
func systemTopology() topology {
	return readTopology(os.DirFS("/"), defaultCores())
}

// usable returns the number of cores that the process can keep busy: cores, or the quota,
// rounded up, where that is less.
func (t topology) usable() int {
	if t.quota > 0 && t.quota < float64(t.cores) {
		return int(math.Ceil(t.quota))
	}
	return t.cores
}

// readTopology reads the topology from a file tree as a running Linux has it; fallback is
// the number of cores if the tree has none.
func readTopology(root fs.FS, fallback int) topology {
	t := topology{cores: max(1, fallback), quota: readQuota(root)}
	allowed, err := allowedCPUs(root)
	if err != nil {
		return t
	}
	t.cpus = allowed
	place := make(map[string]int) // of a core in siblings
	for _, cpu := range allowed {
		name := core(root, cpu)
		at, known := place[name]
		if !known {
			at = len(t.siblings)
			place[name] = at
			t.siblings = append(t.siblings, nil)
		}
		t.siblings[at] = append(t.siblings[at], cpu)
	}
	t.cores = len(t.siblings)
	return t
}

// allowedCPUs returns the CPUs that the process may run on and that are online. The list
// in /proc/self/status is what sched_getaffinity(2) reads, cpusets included, but keeps
// CPUs that went offline.
func allowedCPUs(root fs.FS) ([]int, error) {
	status, err := fs.ReadFile(root, "proc/self/status")
	if err != nil {
		return nil, err
	}
	text, ok := field(status, "Cpus_allowed_list:")
	if !ok {
		return nil, errors.New("no Cpus_allowed_list in /proc/self/status")
	}
	allowed, err := parseCPUList(text)
	if err != nil {
		return nil, err
	}
	if online, err := readCPUList(root, "sys/devices/system/cpu/online"); err == nil {
		allowed = intersect(allowed, online)
	}
	if len(allowed) == 0 {
		return nil, errors.New("no CPU is both allowed and online")
	}
	return allowed, nil
}

// field finds the first line that begins with the key and gives the rest of it.
func field(content []byte, key string) (string, bool) {
	for line := range bytes.Lines(content) {
		if rest, ok := bytes.CutPrefix(line, []byte(key)); ok {
			return strings.TrimSpace(string(rest)), true
		}
	}
	return "", false
}

// core identifies the physical core of a CPU by the list of the CPUs that share it:
// unlike core_id, which counts per package, per die or per cluster depending on the
// architecture, that is unique. (Linux's Documentation/admin-guide/cputopology.rst;
// core_cpus_list was thread_siblings_list before 5.3.) A CPU without topology, as some
// virtual machines have it, is a core of its own.
func core(root fs.FS, cpu int) string {
	for _, name := range []string{"core_cpus_list", "thread_siblings_list"} {
		file := fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/%s", cpu, name)
		if content, err := fs.ReadFile(root, file); err == nil {
			if text := strings.TrimSpace(string(content)); text != "" {
				return text
			}
		}
	}
	return strconv.Itoa(cpu)
}

// readCPUList reads a file in the kernel's list format.
func readCPUList(root fs.FS, name string) ([]int, error) {
	content, err := fs.ReadFile(root, name)
	if err != nil {
		return nil, err
	}
	return parseCPUList(string(content))
}

// parseCPUList reads the kernel's list format, as in "0-3,8,10-11": ascending ranges.
func parseCPUList(text string) ([]int, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	var cpus []int
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is not a list of CPUs: %w", text, err)
		}
		to, err := strconv.ParseUint(last, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is not a list of CPUs: %w", text, err)
		}
		if to < from || to >= maxCPUs || len(cpus) > 0 && int(from) <= cpus[len(cpus)-1] {
			return nil, fmt.Errorf("%q is not a list of CPUs: %q is out of order or out of range", text, part)
		}
		for cpu := from; cpu <= to; cpu++ {
			cpus = append(cpus, int(cpu))
		}
	}
	return cpus, nil
}

// intersect returns the numbers of a that are also in b, in a's order.
func intersect(a, b []int) []int {
	in := make(map[int]bool, len(b))
	for _, n := range b {
		in[n] = true
	}
	var both []int
	for _, n := range a {
		if in[n] {
			both = append(both, n)
		}
	}
	return both
}

// readQuota finds the tightest CPU limit on the process's cgroup and those above it, in
// CPUs; 0 if there is none.
func readQuota(root fs.FS) float64 {
	quota := math.Inf(1)
	for g := range groups(root, "cpu") {
		limit, ok := quotaV1(root, g.dir)
		if g.v2 {
			limit, ok = quotaV2(root, g.dir)
		}
		if ok {
			quota = min(quota, limit)
		}
	}
	if math.IsInf(quota, 1) {
		return 0
	}
	return quota
}

// quotaV2 reads cpu.max: "max 100000" or "150000 100000", microseconds of CPU time in
// each period of so many (Linux's Documentation/admin-guide/cgroup-v2.rst).
func quotaV2(root fs.FS, dir string) (float64, bool) {
	content, err := fs.ReadFile(root, path.Join(dir, "cpu.max"))
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(content))
	if len(fields) != 2 {
		return 0, false
	}
	return ratio(fields[0], fields[1])
}

// quotaV1 reads cpu.cfs_quota_us and cpu.cfs_period_us; a quota of -1 is none
// (Linux's Documentation/scheduler/sched-bwc.rst).
func quotaV1(root fs.FS, dir string) (float64, bool) {
	quota, err := fs.ReadFile(root, path.Join(dir, "cpu.cfs_quota_us"))
	if err != nil {
		return 0, false
	}
	period, err := fs.ReadFile(root, path.Join(dir, "cpu.cfs_period_us"))
	if err != nil {
		return 0, false
	}
	return ratio(strings.TrimSpace(string(quota)), strings.TrimSpace(string(period)))
}

// ratio is quota / period if both are numbers above zero.
func ratio(quota, period string) (float64, bool) {
	q, err := strconv.ParseInt(quota, 10, 64)
	if err != nil || q <= 0 { // "max" or "-1": no limit
		return 0, false
	}
	p, err := strconv.ParseInt(period, 10, 64)
	if err != nil || p <= 0 {
		return 0, false
	}
	return float64(q) / float64(p), true
}
