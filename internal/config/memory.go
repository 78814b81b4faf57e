package config

// MaxMemory is the section `max_memory:`, how much memory a copy may take while it is measured.
type MaxMemory struct {
	// Host bounds the memory of the host, and Device the memory of each accelerator. Default 0: no
	// limit.
	Host   Size `yaml:"host" input:"decision" json:"host,omitempty"`
	Device Size `yaml:"device" input:"decision" json:"device,omitempty"`
}

// Any reports whether there is a limit.
func (m MaxMemory) Any() bool { return m != MaxMemory{} }

// Validate finds every value that cannot be used.
func (m MaxMemory) Validate() []Problem {
	var found problems
	for key, size := range map[string]Size{"host": m.Host, "device": m.Device} {
		if size < 0 {
			found.add(key, "%v is not a size: use one such as 24GB, or 0 for no limit", size)
		}
	}
	return found
}
