//go:build !linux

package process

// Landlock returns the version of the kernel's interface: 0, as only Linux has it.
func Landlock() int { return 0 }

func onOwnThread(f func()) { f() }

func (c *Confinement) confineThread() error { return ErrNoLandlock }
