package host

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stat is a /proc/stat of two busy CPUs: user nice system idle iowait irq softirq steal
// guest guest_nice, in ticks of 10 ms. Guests' time is also in user time.
const stat = `cpu  3000000 200 4000 0 0 50 60 90 2000000 100
cpu0 1000000 100 1000 500 600 20 30 40 900000 50
cpu1 2000000 100 3000 500 600 30 30 50 1100000 50
intr 1 0
ctxt 1
btime 1700000000
processes 1
procs_running 1
procs_blocked 0
softirq 1 0 0 0 0 0 0 0 0 0 0
`

func readStat(t *testing.T, content string, cpus ...int) usage {
	t.Helper()
	proc := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(proc, "stat"), []byte(content), 0o600))
	return usageReaderOf(proc, topology{cpus: cpus, cores: 1}).read()
}

func TestLoadCountsTheCPUsOfTheTopology(t *testing.T) {
	const tick = 10 * time.Millisecond
	cases := []struct {
		name        string
		cpus        []int
		busy, steal time.Duration
	}{
		{"one of two", []int{1}, (2000000 + 100 + 3000 + 30 + 30) * tick, 50 * tick},
		{"both", []int{0, 1}, (3000000 + 200 + 4000 + 50 + 60) * tick, 90 * tick},
		{"unknown", nil, (3000000 + 200 + 4000 + 50 + 60) * tick, 90 * tick},
		{"one that a made-up /proc/stat leaves out", []int{1, 2}, (3000000 + 200 + 4000 + 50 + 60) * tick, 90 * tick},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := readStat(t, stat, c.cpus...)
			assert.True(t, got.ok)
			assert.Equal(t, c.steal, got.steal)
			// This process's own time is taken off: some, and no hours.
			assert.Less(t, got.busy, c.busy)
			assert.Greater(t, got.busy, c.busy-time.Hour)
		})
	}
}

func TestLoadUnknownIsNoError(t *testing.T) {
	assert.Equal(t, usage{}, usageReaderOf(filepath.Join(t.TempDir(), "no-proc"), topology{}).read())
	assert.Equal(t, usage{}, usageReaderOf(t.TempDir(), topology{}).read(), "a /proc without stat")
	assert.Equal(t, usage{}, readStat(t, "cpu x y\n"))
}

func TestLoadOfThisHost(t *testing.T) {
	_, err := os.Stat("/proc/stat")
	got := newUsageReader(systemTopology()).read()
	assert.Equal(t, err == nil, got.ok)
	if got.ok {
		assert.Positive(t, got.busy)
	}
}

func used(busy, steal time.Duration) usage {
	return usage{busy: time.Hour + busy, steal: time.Minute + steal, ok: true}
}

func TestDisturb(t *testing.T) {
	const s = time.Second
	cases := []struct {
		name        string
		busy, steal time.Duration
		ours        time.Duration
		cores       int
		threads     int
		want        Load
	}{
		{"nobody else", 10 * s, 0, 10 * s, 2, 1, Load{}},
		{"others on the free core", 20 * s, 0, 10 * s, 2, 1, Load{Others: 1}},
		{"others on half of ours too", 20 * s, 0, 5 * s, 2, 1, Load{Others: 1.5, Share: 0.5}},
		{"no core free", 20 * s, 0, 15 * s, 2, 2, Load{Others: 0.5, Share: 0.25}},
		{"more threads than cores", 20 * s, 0, 15 * s, 2, 8, Load{Others: 0.5, Share: 0.5 / 8}},
		{"others on three of eight, four free", 70 * s, 0, 40 * s, 8, 4, Load{Others: 3}},
		{"threads unknown, as with a GPU", 10 * s, 0, 1 * s, 8, 0, Load{Others: 0.9}},
		{"a tenth stolen", 9 * s, 1 * s, 9 * s, 2, 1, Load{Steal: 0.1, Share: 0.1}},
		{"stolen and taken", 18 * s, 2 * s, 3 * s, 2, 1, Load{Others: 1.5, Steal: 0.1, Share: 0.6}},
		{"never above 1", 800 * s, 0, 0, 2, 1, Load{Others: 80, Share: 1}},
		{"ticks that count less than we used", 9 * s, 0, 10 * s, 2, 1, Load{}},
		{"a counter that went back", -5 * s, -5 * s, 0, 2, 1, Load{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := disturb(used(0, 0), used(c.busy, c.steal), 10*s, c.ours, c.cores, c.threads)
			require.NotNil(t, got)
			assert.InDelta(t, c.want.Others, got.Others, 1e-9)
			assert.InDelta(t, c.want.Steal, got.Steal, 1e-9)
			assert.InDelta(t, c.want.Share, got.Share, 1e-9)
		})
	}
}

func TestDisturbUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		before, after usage
		wall          time.Duration
	}{
		"before":  {usage{}, used(0, 0), time.Second},
		"after":   {used(0, 0), usage{}, time.Second},
		"no time": {used(0, 0), used(0, 0), 0},
	} {
		got := disturb(c.before, c.after, c.wall, 0, 2, 1)
		assert.Nil(t, got, name)
	}
}

func FuzzDisturb(f *testing.F) {
	f.Add(int64(1e9), int64(0), int64(1e9), int64(1e9), 2, 1)
	f.Add(int64(-1), int64(math.MaxInt64), int64(1), int64(math.MinInt64), -1, -1)
	f.Fuzz(func(t *testing.T, busy, steal, wall, ours int64, cores, threads int) {
		after := usage{busy: time.Duration(busy), steal: time.Duration(steal), ok: true}
		l := disturb(usage{ok: true}, after, time.Duration(wall), time.Duration(ours), cores, threads)
		if l != nil && !(l.Others >= 0 && l.Steal >= 0 && l.Steal <= 1 && l.Share >= 0 && l.Share <= 1) {
			t.Fatalf("%+v", l)
		}
	})
}
