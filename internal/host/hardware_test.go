package host

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestReadHardware(t *testing.T) {
	h := ReadHardware(Topology{Cores: 3})
	assert.Equal(t, 3, h.Cores)
	assert.Equal(t, runtime.NumCPU(), h.CPUs)
	assert.Equal(t, runtime.GOARCH, h.Arch)
	assert.True(t, strings.HasPrefix(strings.ToLower(h.Kernel), runtime.GOOS), h.Kernel)
	assert.Positive(t, h.Memory)
	assert.NotEmpty(t, h.Host)
	assert.Equal(t, 2, ReadHardware(Topology{CPUs: []int{0, 4}, Cores: 1}).CPUs)
}

func TestHardwareString(t *testing.T) {
	for want, h := range map[string]Hardware{
		"AMD EPYC, 2 cores, 8.6 GB, Linux 6.12.1": {CPU: "AMD EPYC", Arch: "amd64", Cores: 2, Memory: 8 << 30, Kernel: "Linux 6.12.1"},
		"arm64, 1 core": {Arch: "arm64", Cores: 1},
	} {
		assert.Equal(t, want, h.String())
	}
}
