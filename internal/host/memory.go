package host

import (
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// FreeMemory returns how many bytes of memory a measurement may take without another process
// losing any: what the kernel calls available, which the pages of files are that nobody
// needs, or what the limits of the control groups leave, where that is less. It is 0 where
// the system does not report it.
func (h *Host) FreeMemory() int64 {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return 0
	}
	info, err := proc.Meminfo()
	if err != nil || info.MemAvailableBytes == nil {
		return 0
	}
	return min(int64(*info.MemAvailableBytes), groupMemory(os.DirFS("/")))
}

// groupMemory returns the least that the memory limits on the process's cgroup and those above it
// leave, in bytes; the largest number where there is no limit. Pages of files that were not
// used of late count as free: the kernel takes them back first.
func groupMemory(root fs.FS) int64 {
	free := int64(math.MaxInt64)
	for g := range groups(root, "memory") {
		files := memoryV1
		if g.v2 {
			files = memoryV2
		}
		if left, ok := files.left(root, g.dir); ok {
			free = min(free, max(left, 0))
		}
	}
	return free
}

// groupFiles are the files in which a hierarchy shows its limit, its use and the pages of
// files that were not used of late. Sources: Linux's Documentation/admin-guide/cgroup-v2.rst
// and cgroup-v1/memory.rst.
type groupFiles struct{ limit, used, inactive string }

var (
	memoryV2 = groupFiles{"memory.max", "memory.current", "inactive_file"}
	memoryV1 = groupFiles{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}
)

// left returns what the limit of a group leaves; false where it has none.
func (f groupFiles) left(root fs.FS, dir string) (int64, bool) {
	number := func(name string) (int64, bool) {
		content, err := fs.ReadFile(root, path.Join(dir, name))
		if err != nil {
			return 0, false
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
		return n, err == nil
	}
	limit, limited := number(f.limit)
	used, known := number(f.used)
	if !limited || !known {
		return 0, false
	}
	stat, err := fs.ReadFile(root, path.Join(dir, "memory.stat"))
	if err != nil {
		return limit - used, true
	}
	for line := range strings.Lines(string(stat)) {
		if value, ok := strings.CutPrefix(line, f.inactive+" "); ok {
			if inactive, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64); err == nil {
				used -= inactive
			}
		}
	}
	return limit - used, true
}
