package llamacpp

import (
	"fmt"
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

func TestProcessesOfNvidiaSMI(t *testing.T) {
	assert.Equal(t, map[int]int64{4711: 5321 << 20, 12: 0}, parseSMI("4711, 5321\n4711, 10\n12, 0\n13, [N/A]\n[Not Found], 7\n\n"))
}
