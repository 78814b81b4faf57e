package host

import (
	"math"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPinLeavesOneCoreOut(t *testing.T) {
	laptop := readTopology(linux("0-7", "0-7", "0,4", "1,5", "2,6", "3,7"), 1)
	two := readTopology(linux("0-1", "0-1"), 1)
	quota := readTopology(withV2(linux("0-7", "0-7"), "/", "", "250000 100000"), 1)
	for _, tt := range []struct {
		name       string
		topology   topology
		threads, n int
		want       []int
	}{
		{"all but one core, both threads of each", laptop, 3, 0, []int{0, 1, 2, 4, 5, 6}},
		{"the core that is left out turns", laptop, 3, 1, []int{1, 2, 3, 5, 6, 7}},
		{"and comes round", laptop, 3, 4, []int{0, 1, 2, 4, 5, 6}},
		{"fewer threads move among the same cores", laptop, 1, 0, []int{0, 1, 2, 4, 5, 6}},
		{"two cores", two, 1, 0, []int{0}},
		{"two cores, the other one", two, 1, 1, []int{1}},
		{"a quota of two cores and a half", quota, 2, 0, []int{0, 1}},
		{"a quota, later", quota, 2, 7, []int{0, 7}},
		{"as many threads as cores", laptop, 4, 0, nil},
		{"more threads than cores", laptop, 8, 0, nil},
		{"threads that the tool chooses", laptop, 0, 0, nil},
		{"one core", readTopology(linux("3", "0-7"), 1), 1, 0, nil},
		{"a system that does not tell", readTopology(fstest.MapFS{}, 8), 7, 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, tt.topology.pin(tt.threads, tt.n))
		})
	}
}

func TestGroupMemory(t *testing.T) {
	v2 := func(files map[string]string) fstest.MapFS {
		tree := put(fstest.MapFS{}, "proc/self/cgroup", "0::/system.slice/q.service\n")
		for name, content := range files {
			put(tree, "sys/fs/cgroup/"+name, content)
		}
		return tree
	}
	for _, tt := range []struct {
		name string
		tree fstest.MapFS
		want int64
	}{
		{"no groups", fstest.MapFS{}, math.MaxInt64},
		{"no limit", v2(map[string]string{"system.slice/q.service/memory.max": "max\n", "system.slice/q.service/memory.current": "5\n"}), math.MaxInt64},
		{"a limit", v2(map[string]string{"system.slice/q.service/memory.max": "1000\n", "system.slice/q.service/memory.current": "300\n"}), 700},
		{"pages of files count as free", v2(map[string]string{
			"system.slice/q.service/memory.max": "1000\n", "system.slice/q.service/memory.current": "900\n",
			"system.slice/q.service/memory.stat": "anon 100\nfile 800\ninactive_file 750\nactive_file 50\n",
		}), 850},
		{"the tighter limit of a group above", v2(map[string]string{
			"system.slice/q.service/memory.max": "1000\n", "system.slice/q.service/memory.current": "300\n",
			"system.slice/memory.max": "500\n", "system.slice/memory.current": "450\n",
		}), 50},
		{"more than the limit", v2(map[string]string{"system.slice/q.service/memory.max": "10\n", "system.slice/q.service/memory.current": "30\n"}), 0},
		{"a container that sees its own group as the root", v2(map[string]string{"memory.max": "800\n", "memory.current": "100\n"}), 700},
		{"version 1", put(put(put(put(fstest.MapFS{}, "proc/self/cgroup", "9:memory:/docker/x\n"),
			"sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "1000\n"), "sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "400\n"),
			"sys/fs/cgroup/memory/docker/x/memory.stat", "cache 1\ntotal_inactive_file 100\n"), 700},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, groupMemory(tt.tree))
		})
	}
}

func TestTakenIsTheLongestWaitAndWhatWasStolen(t *testing.T) {
	at := func(steal time.Duration, waiting ...time.Duration) Schedule {
		s := Schedule{ok: true, steal: steal, threads: map[int]thread{}}
		for id, w := range waiting {
			s.threads[id] = thread{waiting: w}
		}
		return s
	}
	assert.InDelta(t, 0.2, Between(at(0, 50, 0), at(0, 60, 20)).Taken(100, 100), 1e-12)
	assert.InDelta(t, 0.3, Between(at(5, 50, 0), at(15, 60, 20)).Taken(100, 100), 1e-12)
	assert.InDelta(t, 1, Between(at(0, 0), at(0, 500)).Taken(100, 100), 1e-12, "never more than all of it")
	assert.InDelta(t, 0.1, Between(at(0), at(0, 10)).Taken(100, 100), 1e-12, "a thread that began meanwhile")
	assert.InDelta(t, 0.3, Between(at(5, 0), at(15, 10)).Taken(100, 50), 1e-12, "stopped for half of the time")
	assert.Zero(t, Between(Schedule{}, at(0, 10)).Taken(100, 100), "if the system does not report it")
	assert.Zero(t, Between(at(0, 0), at(0, 10)).Taken(0, 0))
}
