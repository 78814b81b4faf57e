package process

import "sync"

// family are the children of this process that Run started and has not reaped: one family,
// as the kernel keeps one list of children for the whole process.
var family = struct {
	mu      sync.Mutex // held while a child is started, so that nobody takes it for a stray
	leaders map[int]bool
	ending  sync.Mutex // held by the one that ends strays
}{leaders: map[int]bool{}}

// adopt starts a leader by start, which returns its process ID.
func adopt(start func() (pid int, err error)) error {
	family.mu.Lock()
	defer family.mu.Unlock()
	pid, err := start()
	if err == nil {
		family.leaders[pid] = true
	}
	return err
}

// disown forgets a leader, which has been reaped.
func disown(pid int) {
	family.mu.Lock()
	defer family.mu.Unlock()
	delete(family.leaders, pid)
}
