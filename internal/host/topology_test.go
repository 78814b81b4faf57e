package host

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// linux makes a tree as a running Linux has it. siblings are the lists of the CPUs
// that share a core, as each CPU of the list has it.
func linux(allowed, online string, siblings ...string) fstest.MapFS {
	tree := fstest.MapFS{}
	put(tree, "proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t"+allowed+"\nMems_allowed:\t1\n")
	put(tree, "sys/devices/system/cpu/online", online+"\n")
	for _, list := range siblings {
		cpus, err := parseCPUList(list)
		if err != nil {
			panic(err)
		}
		for _, cpu := range cpus {
			put(tree, fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/core_cpus_list", cpu), list+"\n")
		}
	}
	return tree
}

func put(tree fstest.MapFS, name, content string) fstest.MapFS {
	tree[name] = &fstest.MapFile{Data: []byte(content)}
	return tree
}

func TestReadTopology(t *testing.T) {
	old := fstest.MapFS{} // a kernel before 5.3
	for name, file := range linux("0-3", "0-3", "0-1", "2-3") {
		old[strings.Replace(name, "core_cpus_list", "thread_siblings_list", 1)] = file
	}
	offline := linux("0-7", "0-3", "0", "1", "2", "3") // the second threads are off, and without topology
	cases := []struct {
		name   string
		tree   fstest.MapFS
		cpus   int
		cores  int
		usable int
	}{
		{"hyperthreaded laptop", linux("0-7", "0-7", "0,4", "1,5", "2,6", "3,7"), 8, 4, 4},
		{"one core with both its threads", linux("0,4", "0-7", "0,4", "1,5", "2,6", "3,7"), 2, 1, 1},
		{"one thread each of two cores", linux("0-1", "0-7", "0,4", "1,5", "2,6", "3,7"), 2, 2, 2},
		{"two sockets, numbered in turn", linux("0-7", "0-7", "0,4", "2,6", "1,5", "3,7"), 8, 4, 4},
		{"virtual machine without topology", linux("0-1", "0-1"), 2, 2, 2},
		{"big.LITTLE", linux("0-7", "0-7", "0", "1", "2", "3", "4", "5", "6", "7"), 8, 8, 8},
		{"hybrid: two cores with threads, four without", linux("0-7", "0-7", "0-1", "2-3", "4", "5", "6", "7"), 8, 6, 6},
		{"offline CPUs", offline, 4, 4, 4},
		{"old kernel", old, 4, 2, 2},
		{"container with a quota", withV2(linux("0-7", "0-7"), "/", "", "250000 100000"), 8, 8, 3},
		{"quota above the cores", withV2(linux("0-1", "0-1"), "/", "", "800000 100000"), 2, 2, 2},
		{"quota below one CPU", withV2(linux("0-1", "0-1"), "/", "", "5000 100000"), 2, 2, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := readTopology(c.tree, 77)
			assert.Len(t, got.cpus, c.cpus)
			assert.Equal(t, c.cores, got.cores)
			assert.Equal(t, c.usable, got.usable())
		})
	}
}

func TestReadTopologyFallsBack(t *testing.T) {
	for name, tree := range map[string]fstest.MapFS{
		"nothing":                 {},
		"status without the list": put(fstest.MapFS{}, "proc/self/status", "Name:\tx\n"),
		"garbage":                 linux("x", "0-1"),
		"nothing allowed":         linux("", "0-1"),
		"all offline":             linux("4-5", "0-1"),
	} {
		t.Run(name, func(t *testing.T) {
			got := readTopology(tree, 6)
			assert.Equal(t, topology{cores: 6}, got)
			assert.Equal(t, 6, got.usable())
		})
	}
	assert.Equal(t, 1, readTopology(fstest.MapFS{}, 0).cores)
}

// withV2 adds a cgroup v2 at path below the mount with this cpu.max; the process's own
// cgroup is at self.
func withV2(tree fstest.MapFS, self, path, limit string) fstest.MapFS {
	put(tree, "proc/self/cgroup", "0::"+self+"\n")
	return put(tree, "sys/fs/cgroup"+path+"/cpu.max", limit+"\n")
}

func TestReadQuota(t *testing.T) {
	v1 := func(self, dir, quota, period string) fstest.MapFS {
		tree := put(fstest.MapFS{}, "proc/self/cgroup", "12:memory:"+self+"\n4:cpu,cpuacct:"+self+"\n1:name=systemd:/\n0::/\n")
		put(tree, dir+"/cpu.cfs_quota_us", quota+"\n")
		return put(tree, dir+"/cpu.cfs_period_us", period+"\n")
	}
	nested := withV2(fstest.MapFS{}, "/a/b", "/a/b", "max 100000")
	put(nested, "sys/fs/cgroup/a/cpu.max", "150000 100000")
	hybrid := put(fstest.MapFS{}, "proc/self/cgroup", "0::/svc\n")
	put(hybrid, "sys/fs/cgroup/unified/svc/cpu.max", "50000 100000")
	cases := []struct {
		name string
		tree fstest.MapFS
		want float64
	}{
		{"no cgroups", fstest.MapFS{}, 0},
		{"v2 without a limit", withV2(fstest.MapFS{}, "/", "", "max 100000"), 0},
		{"v2", withV2(fstest.MapFS{}, "/svc", "/svc", "150000 100000"), 1.5},
		{"v2, limit of an ancestor", nested, 1.5},
		{"v2, container that gets the host's path", withV2(fstest.MapFS{}, "/docker/123", "", "200000 100000"), 2},
		{"v2, path with a colon", withV2(fstest.MapFS{}, "/a:b", "/a:b", "200000 100000"), 2},
		{"v2, path above the root", withV2(fstest.MapFS{}, "/../x", "/x", "200000 100000"), 2},
		{"v2 beside v1", hybrid, 0.5},
		{"v1", v1("/docker/1", "sys/fs/cgroup/cpu/docker/1", "300000", "100000"), 3},
		{"v1 under its full name", v1("/", "sys/fs/cgroup/cpu,cpuacct", "300000", "100000"), 3},
		{"v1, container that gets the host's path", v1("/docker/1", "sys/fs/cgroup/cpu", "50000", "100000"), 0.5},
		{"v1 without a limit", v1("/", "sys/fs/cgroup/cpu", "-1", "100000"), 0},
		{"no period", v1("/", "sys/fs/cgroup/cpu", "1000", "0"), 0},
		{"garbage", withV2(fstest.MapFS{}, "/", "", "fast"), 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			assert.InDelta(t, c.want, readQuota(c.tree), 1e-9)
		})
	}
}

func TestReadTopologyOfThisHost(t *testing.T) {
	got := systemTopology()
	assert.GreaterOrEqual(t, got.cores, 1)
	assert.LessOrEqual(t, got.cores, runtime.NumCPU())
	assert.GreaterOrEqual(t, got.usable(), 1)
	if got.cpus != nil {
		assert.Len(t, got.cpus, runtime.NumCPU(), "what sched_getaffinity(2) gives")
	}
}

func TestThreads(t *testing.T) {
	for cores, want := range map[int]int{0: 1, 1: 1, 2: 1, 3: 2, 64: 63} {
		assert.Equal(t, want, (&Host{topology: topology{cores: cores}}).Threads(), "%d cores", cores)
	}
}

func TestParseCPUList(t *testing.T) {
	for text, want := range map[string][]int{
		"":          nil,
		"0":         {0},
		"0-3,8\n":   {0, 1, 2, 3, 8},
		"1,3-4,7-7": {1, 3, 4, 7},
	} {
		got, err := parseCPUList(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"x", "-1", "3-1", "1,1", "2,0-1", "0-99999999", "1-", ",", "0x1", "+1"} {
		_, err := parseCPUList(text)
		require.Error(t, err, text)
	}
}

func FuzzParseCPUList(f *testing.F) {
	for _, seed := range []string{"", "0", "0-3,8,10-11\n", "3-1", "0-4294967295", "1,,2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cpus, err := parseCPUList(text)
		if err != nil {
			return
		}
		for i, cpu := range cpus {
			if cpu < 0 || cpu >= maxCPUs || i > 0 && cpu <= cpus[i-1] {
				t.Fatalf("%q gave %v", text, cpus)
			}
		}
	})
}

func FuzzReadQuota(f *testing.F) {
	f.Add("0::/a/b\n", "150000 100000")
	f.Add("4:cpu,cpuacct:/x\n0::/\n", "max 100000")
	f.Add("0::/../..\n", "1 9223372036854775807")
	f.Add("::", "1 0")
	f.Fuzz(func(t *testing.T, cgroups, limit string) {
		tree := put(fstest.MapFS{}, "proc/self/cgroup", cgroups)
		put(tree, "sys/fs/cgroup/cpu.max", limit)
		put(tree, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", limit)
		put(tree, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
		quota := readQuota(tree)
		if quota < 0 || math.IsNaN(quota) || math.IsInf(quota, 0) {
			t.Fatalf("quota %v", quota)
		}
		if n := (topology{cores: 4, quota: quota}).usable(); n < 1 || n > 4 {
			t.Fatalf("quota %v leaves %d cores", quota, n)
		}
	})
}
