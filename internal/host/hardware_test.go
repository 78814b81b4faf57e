package host

import (
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
)

func TestReadHardware(t *testing.T) {
	h := readHardware(topology{cores: 3})
	assert.Equal(t, 3, h.Cores)
	assert.Equal(t, runtime.NumCPU(), h.CPUs)
	assert.Equal(t, runtime.GOARCH, h.Arch)
	assert.True(t, strings.HasPrefix(strings.ToLower(h.Kernel), runtime.GOOS), h.Kernel)
	assert.Positive(t, h.Memory)
	assert.NotEmpty(t, h.Name)
	assert.Equal(t, 2, readHardware(topology{cpus: []int{0, 4}, cores: 1}).CPUs)
}

func TestHardwareString(t *testing.T) {
	for want, h := range map[string]Hardware{
		"AMD EPYC, 2 cores, 8.6 GB, Linux 6.12.1": {CPU: "AMD EPYC", Arch: "amd64", Cores: 2, Memory: 8 << 30, Kernel: "Linux 6.12.1"},
		"arm64, 1 core": {Arch: "arm64", Cores: 1},
	} {
		assert.Equal(t, want, h.String())
	}
}

// What differs from one start of a machine to the next does not make it another machine.
func TestMachine(t *testing.T) {
	h := Hardware{CPU: "AMD EPYC", Arch: "amd64", Cores: 2, Memory: 8_200_000_000, Kernel: "Linux 6.12.1"}
	assert.Equal(t, "AMD EPYC, 2 cores, 8 GB", h.Machine())
	h.Memory, h.Kernel = 8_199_000_000, "Linux 6.12.5"
	assert.Equal(t, "AMD EPYC, 2 cores, 8 GB", h.Machine())
	assert.Equal(t, "arm64, 1 core", Hardware{Arch: "arm64", Cores: 1}.Machine())
}

func TestDriver(t *testing.T) {
	h := Hardware{Kernel: "Linux 6.12.1"}
	assert.Equal(t, "Linux 6.12.1", h.driver(fstest.MapFS{}))
	assert.Equal(t, "Linux 6.12.1, nvidia 550.54.14, amdgpu 6.7.0", h.driver(fstest.MapFS{
		"sys/module/nvidia/version": {Data: []byte("550.54.14\n")},
		"sys/module/amdgpu/version": {Data: []byte("6.7.0\n")},
		"sys/module/nouveau/x":      {},
	}))
	assert.Contains(t, readHardware(topology{}).Driver(), strings.Fields(readHardware(topology{}).Kernel)[0])
}
