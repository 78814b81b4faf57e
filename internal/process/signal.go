package process

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// SignalName returns the signal's usual name, "SIGSEGV".
func SignalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(sig))
}
