package llamacpp

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/process"
	"github.com/quant-exporter/quant-exporter/runner"
)

// deviceOf returns the accelerator that a buffer is on, as llama.cpp names buffers: CUDA0 for
// "CUDA0", and MTL0 for "MTL0_Mapped". "CPU_REPACK" and "CUDA_Host" are in the memory of the
// host, for which it returns "".
func deviceOf(buffer string) string {
	name, _ := strings.CutSuffix(buffer, "_Mapped")
	for _, host := range []string{"CPU", "BLAS", "AMX", "HBM"} {
		if strings.HasPrefix(name, host) {
			return ""
		}
	}
	if strings.HasSuffix(name, "_Host") {
		return ""
	}
	return name
}

// onDevices returns the bytes of all buffers, by accelerator; there are none where nothing is on
// one. It returns nil where the server did not say all: where it named no buffer of weights, none
// on a device for the layers that it offloaded, or more buffers than are kept.
func onDevices(o *runner.Offload) map[string]int64 {
	if o == nil || len(o.Buffers) >= mostBuffers {
		return nil
	}
	all, weights := map[string]int64{}, false
	for _, b := range o.Buffers {
		if b.On != "" {
			all[b.On] += b.Bytes
		}
		weights = weights || b.Use == "model" && (b.On != "" || o.Layers == 0)
	}
	if !weights {
		return nil
	}
	return all
}

// onHost returns the bytes of all buffers in the memory of the host.
func onHost(o *runner.Offload) int64 {
	sum := int64(0)
	if o != nil {
		for _, b := range o.Buffers {
			if b.On == "" {
				sum += b.Bytes
			}
		}
	}
	return sum
}

// askSMI bounds how long nvidia-smi may take.
const askSMI = 10 * time.Second

// smiArgs have nvidia-smi print each process that computes on a GPU, and its memory in MiB.
var smiArgs = []string{"--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"}

// ofProcesses returns the bytes of GPU memory that each process has, by its number, as NVIDIA's
// driver counts them: with the context and what libraries take, which no buffer shows. It is
// nil where there is no nvidia-smi, or where it does not say.
func (e *Engine) ofProcesses(ctx context.Context, dir string) map[int]int64 {
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return nil
	}
	result, err := process.Run(ctx, process.Spec{
		Path: path, Args: smiArgs, Dir: dir, Env: e.environment, Timeout: askSMI, StdoutLimit: outputLimit,
	})
	if err != nil {
		e.logger.Debug("nvidia-smi does not say what processes take", "err", err)
		return nil
	}
	return parseSMI(string(result.Stdout))
}

// parseSMI reads lines such as "4711, 5321"; in a container, or on some systems, the memory is
// "[N/A]". A process on several GPUs has a line for each. Where only one of them has its model, it
// has no more than a context on the others, so that the largest counts.
func parseSMI(printed string) map[int]int64 {
	all := map[int]int64{}
	for line := range strings.Lines(printed) {
		number, memory, found := strings.Cut(line, ",")
		pid, err := strconv.Atoi(strings.TrimSpace(number))
		mebibytes, unknown := strconv.ParseInt(strings.TrimSpace(memory), 10, 32)
		if found && err == nil && unknown == nil {
			all[pid] = max(all[pid], mebibytes<<20)
		}
	}
	return all
}
