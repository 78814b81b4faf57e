package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// AdoptStrays makes this process the parent of every process below it whose own parent ends
// (a subreaper), so that a child that left its group is found, and ended, when the Run that it
// comes from is over. Such a child is ended, too, while a tool of another Run is still at
// work: call it in a program that starts processes by Run only.
func AdoptStrays() error {
	before := strays() // a shell may have started them and then become us: they are not ours to end
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming the parent of processes whose own has ended: %w", err)
	}
	family.mu.Lock()
	defer family.mu.Unlock()
	for _, pid := range before {
		family.leaders[pid] = true
	}
	return nil
}

// endStrays ends the processes that left the group that they were started in and have lost
// their parent, and reaps what was left of group. It returns how many had left theirs, and
// waits for the end of all no longer than Grace. It does nothing unless AdoptStrays was called.
func endStrays(group int) int {
	var adopts int32
	_, _, errno := unix.Syscall(unix.SYS_PRCTL, unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&adopts)), 0)
	if errno != 0 || adopts == 0 {
		return 0
	}
	family.ending.Lock()
	defer family.ending.Unlock()
	seen := map[int]bool{}
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(Grace); ; <-look.C {
		left := strays()
		for _, pid := range left { // our own children: no other process has the number before they are reaped
			if of, err := unix.Getpgid(pid); err == nil && of != group {
				seen[pid] = true
			}
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return len(seen)
		}
	}
}

// strays are our children that are neither leaders nor in the group of one.
func strays() []int {
	family.mu.Lock()
	defer family.mu.Unlock()
	lists, _ := filepath.Glob("/proc/self/task/*/children") // the pattern is well formed
	var found []int
	for _, list := range lists {
		text, _ := os.ReadFile(list) // a thread that has ended has no children
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil || family.leaders[pid] {
				continue
			}
			if group, err := unix.Getpgid(pid); err == nil && family.leaders[group] {
				continue
			}
			found = append(found, pid)
		}
	}
	return found
}

// EndMarked kills all processes of this user whose environment has the entry ("NAME=value")
// and returns how many there were. Those that it may not look into are passed over.
func EndMarked(entry string) (ended int, err error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, directory := range processes {
		pid, err := strconv.Atoi(filepath.Base(directory))
		if err != nil || pid == os.Getpid() {
			continue
		}
		// The descriptor is of this very process, whoever gets its number later.
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		environment, err := os.ReadFile(filepath.Join(directory, "environ"))
		if err == nil && marked(environment, entry) {
			if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err == nil {
				ended++
			} else if !errors.Is(err, unix.ESRCH) {
				_ = unix.Close(fd)
				return ended, fmt.Errorf("ending process %d: %w", pid, err)
			}
		}
		_ = unix.Close(fd)
	}
	return ended, nil
}

// marked reports whether an environment, entries that each end with a zero byte, has the entry.
func marked(environment []byte, entry string) bool {
	for each := range bytes.SplitSeq(environment, []byte{0}) {
		if string(each) == entry {
			return true
		}
	}
	return false
}
