// Package host knows the machine that measurements are made on: the cores that they may
// use, what other processes took of those cores meanwhile, and what the machine is.
//
// What a system does not report (there is no /proc, or no /sys) is left out of the
// answer and is never an error: a measurement goes on without it.
package host
