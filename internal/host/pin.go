package host

import "slices"

// Pin returns the logical CPUs for the n-th measurement with so many threads: all threads of as
// many physical cores as it needs, and of all but one at least, within what the process may
// use. The cores that are left out turn from one n to the next. It is nil where the system is
// to choose: if it does not report its CPUs, where nothing would be left out, and for a
// number of threads that is not known, 0, because the tool then counts the cores itself.
func (h *Host) Pin(threads, n int) []int { return h.topology.pin(threads, n) }

func (t topology) pin(threads, n int) []int {
	cores := max(threads, t.usable()-1)
	if threads <= 0 || n < 0 || cores >= len(t.siblings) {
		return nil
	}
	var cpus []int
	for i := range cores {
		cpus = append(cpus, t.siblings[(n+i)%len(t.siblings)]...)
	}
	slices.Sort(cpus)
	return cpus
}
