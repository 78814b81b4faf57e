//go:build !darwin

package host

import "runtime"

// defaultCores returns the number of cores if the system reports no topology.
func defaultCores() int { return runtime.NumCPU() }
