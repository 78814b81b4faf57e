//go:build !darwin

package host

import "runtime"

// defaultCores is the number of cores where the system tells no topology.
func defaultCores() int { return runtime.NumCPU() }
