package llamacpp_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
)

// Servers load where there is room, and are measured on the CPUs of the round.
func TestServersOfARoundHaveTheSameCPUs(t *testing.T) {
	p, job := pairedPlace(t, fakellama.Behaviour{})
	var own unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &own))
	if own.Count() < 2 {
		t.Fatal("this test takes two CPUs")
	}
	for cpu := range 1024 {
		if own.IsSet(cpu) {
			job.CPUs = []int{cpu} // the last one
		}
	}
	where := map[string]int{} // how many servers were seen, by what they may run on
	files, err := p.engine().Round(t.Context(), job, func(_ int, done float64) {
		if done <= 0.1 || done == 1 { // loading, or over
			return
		}
		processes, err := filepath.Glob("/proc/[0-9]*/cwd")
		require.NoError(t, err)
		for _, cwd := range processes {
			if dir, err := os.Readlink(cwd); err == nil && dir == p.dir {
				for _, set := range cpusOf(t, filepath.Dir(cwd)) {
					where[set]++
				}
			}
		}
	})
	require.NoError(t, err)
	require.Len(t, where, 1)
	assert.Positive(t, where[strconv.Itoa(job.CPUs[0])])
	for _, file := range files {
		assert.Equal(t, job.CPUs, file.Measurement.CPUs)
	}
}

// cpusOf returns what the kernel lists of each thread.
func cpusOf(t *testing.T, process string) []string {
	t.Helper()
	threads, err := filepath.Glob(process + "/task/*/status")
	require.NoError(t, err)
	lists := []string{}
	for _, status := range threads {
		if text, err := os.ReadFile(status); err == nil {
			lists = append(lists, field(string(text), "Cpus_allowed_list:"))
		}
	}
	return lists
}

func field(status, name string) string {
	_, rest, _ := strings.Cut(status, name)
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}
