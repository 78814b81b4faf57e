package llamacpp

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestBuffersBelongToDevices(t *testing.T) {
	var log loadLog
	for i, device := range []string{"CPU_Mapped", "CPU_REPACK", "CUDA_Host", "CPU", "CUDA0", "CUDA0", "CUDA1", "MTL0_Mapped"} {
		log.add(fmt.Sprintf("0.00.099.704 I load_tensors: %12s model buffer size = %8.2f MiB", device, float64(int(1)<<i)))
	}
	o := log.where()
	assert.Equal(t, map[string]int64{"CUDA0": 48 << 20, "CUDA1": 64 << 20, "MTL0": 128 << 20}, onDevices(o))
	assert.EqualValues(t, 15<<20, onHost(o))
	assert.Nil(t, onDevices(nil))
	assert.Zero(t, onHost(nil))
}

// A figure that lacks a part would pass a limit that the file exceeds.
func TestWhatIsOnDevicesIsNotKnownBeforeAllOfItIs(t *testing.T) {
	const (
		offloaded = "load_tensors: offloaded 33/33 layers to GPU"
		onNone    = "load_tensors: offloaded 0/33 layers to GPU"
		weights   = "load_tensors: CUDA0 model buffer size = 48.00 MiB"
		mapped    = "load_tensors: CPU_Mapped model buffer size = 8.00 MiB"
		cache     = "llama_kv_cache: CUDA0 KV buffer size = 2.00 MiB"
	)
	for name, test := range map[string]struct {
		lines []string
		want  map[string]int64
	}{
		"nothing":                         {nil, nil},
		"layers only":                     {[]string{offloaded}, nil},
		"layers, and a cache":             {[]string{offloaded, cache}, nil},
		"layers, and weights on the host": {[]string{offloaded, mapped, cache}, nil},
		"all of it":                       {[]string{offloaded, mapped, weights, cache}, map[string]int64{"CUDA0": 50 << 20}},
		"no layer on a device":            {[]string{onNone, mapped}, map[string]int64{}},
		"a build without that line":       {[]string{weights, cache}, map[string]int64{"CUDA0": 50 << 20}},
		"more buffers than are kept":      {append(slices.Repeat([]string{cache}, mostBuffers), weights), nil},
	} {
		var log loadLog
		for _, line := range test.lines {
			log.add(line)
		}
		assert.Equal(t, test.want, onDevices(log.where()), name)
	}
}

func TestProcessesOfNvidiaSMI(t *testing.T) {
	assert.Equal(t, map[int]int64{4711: 5321 << 20, 12: 0}, parseSMI("4711, 5321\n4711, 10\n12, 0\n13, [N/A]\n[Not Found], 7\n\n"))
}
