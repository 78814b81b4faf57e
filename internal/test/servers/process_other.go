//go:build unix && !linux

package servers

import "syscall"

// attributes puts the child into a group of its own.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// waitStopped cannot ask the kernel here without reaping the child; SIGSTOP takes effect
// promptly enough.
func waitStopped(int) error { return nil }
