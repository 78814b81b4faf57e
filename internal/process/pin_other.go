//go:build !linux

package process

// Pin does nothing: these systems pin no process to CPUs.
func Pin(int, []int) error { return nil }
