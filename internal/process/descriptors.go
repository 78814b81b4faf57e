package process

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// KeepDescriptors sees that no child inherits a descriptor that this process was started with:
// a shell, or a service manager that hands over sockets, may leave them open. Those that
// this program opens are never inherited. Call it before anything is started.
func KeepDescriptors() {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil { // a system without: it has closed them on its own, or there are none
		return
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}
