package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"
)

// ticksPerSecond is the unit of CPU times in /proc, USER_HZ, the same on all
// architectures that Go runs on (proc(5)).
const ticksPerSecond = 100

// cpuTime is the user and system time of a process so far, from fields 14 and 15 of
// /proc/PID/stat (proc_pid_stat(5)).
func cpuTime(pid int) (time.Duration, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// The second field is the command in parentheses, which may hold spaces.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var user, system int64
	if _, err := fmt.Sscan(strings.Join(fields[11:13], " "), &user, &system); err != nil {
		return 0, fmt.Errorf("reading %s: %w", path, err)
	}
	return time.Duration(user+system) * time.Second / ticksPerSecond, nil
}

// memory gives the resident memory of a process, in bytes: all of it, and with what it
// shares with others divided among them (proc_pid_smaps(5)).
func memory(pid int) (rss, pss int64, err error) {
	path := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		if _, after, ok := strings.Cut(line, "Rss:"); ok {
			_, err = fmt.Sscan(after, &rss)
		} else if after, ok := strings.CutPrefix(line, "Pss:"); ok {
			_, err = fmt.Sscan(after, &pss)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("reading %s: %w", path, err)
		}
	}
	return rss * 1024, pss * 1024, nil
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:2], " ")
}
