package runner

import (
	"fmt"
	"maps"
	"slices"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// Memory is what a file took while it was measured, in bytes: its weights, the caches for what
// was measured, and what computing needs.
type Memory struct {
	// Host is the most that the process had in the host's memory, files that it maps included;
	// 0 where the system does not report it.
	Host int64 `json:"host_bytes"`
	// Devices are the accelerators, by the names that the tool gives them: empty where the file
	// has nothing of any, and nil where the tool did not say.
	Devices map[string]int64 `json:"device_bytes,omitzero"`
}

// most returns the larger of each figure.
func (m Memory) most(other Memory) Memory {
	m.Host = max(m.Host, other.Host)
	m.Devices = maps.Clone(m.Devices)
	if m.Devices == nil && other.Devices != nil {
		m.Devices = map[string]int64{}
	}
	for device, bytes := range other.Devices {
		m.Devices[device] = max(m.Devices[device], bytes)
	}
	return m
}

// HostMemory names the memory of the host, where devices are named.
const HostMemory = "host"

// All returns every figure that is known, by its device, the host's as HostMemory.
func (m Memory) All() map[string]int64 {
	all := maps.Clone(m.Devices)
	if all == nil {
		all = map[string]int64{}
	}
	if m.Host > 0 {
		all[HostMemory] = m.Host
	}
	return all
}

// Device returns the most that any one accelerator gave.
func (m Memory) Device() int64 {
	most := int64(0)
	for _, bytes := range m.Devices {
		most = max(most, bytes)
	}
	return most
}

// MemoryFigures are what both stages took, and what a copy may take.
type MemoryFigures struct {
	Original  Memory           `json:"original"`
	Quantized Memory           `json:"quantized"`
	Limits    config.MaxMemory `json:"limits,omitzero"`
}

// memoryFigures returns the most that the rounds of the first set say; nil before a round. A
// second set, if there is one, only confirms the first.
func memoryFigures(rounds []Round, limits config.MaxMemory) *MemoryFigures {
	f := MemoryFigures{Limits: limits}
	for _, r := range rounds {
		if r.Set == 1 {
			f.Original = f.Original.most(r.Original.Measurement.Memory)
			f.Quantized = f.Quantized.most(r.Quantized.Measurement.Memory)
		}
	}
	if len(f.Original.All()) == 0 && len(f.Quantized.All()) == 0 {
		return nil
	}
	return &f
}

// Breach says which limit the copy exceeds, and by what: "CUDA0: 13.1 GB, limit 12 GB"; "" for
// none.
func (f *MemoryFigures) Breach() string {
	if f == nil {
		return ""
	}
	if limit := int64(f.Limits.Host); limit > 0 && f.Quantized.Host > limit {
		return breach(HostMemory, f.Quantized.Host, limit)
	}
	for _, device := range slices.Sorted(maps.Keys(f.Quantized.Devices)) {
		if limit := int64(f.Limits.Device); limit > 0 && f.Quantized.Devices[device] > limit {
			return breach(device, f.Quantized.Devices[device], limit)
		}
	}
	return ""
}

// taken returns what the copy took, as a choice goes by it; nil before a round. Where the engine
// has no devices, nothing of one is what it took.
func (f *MemoryFigures) taken(withoutDevices bool) *choice.Memory {
	if f == nil {
		return nil
	}
	return &choice.Memory{Host: f.Quantized.Host, Device: f.Quantized.Device(), DeviceKnown: withoutDevices || f.Quantized.Devices != nil}
}

func breach(device string, bytes, limit int64) string {
	return fmt.Sprintf("%s: %s, limit %s", device, text.Size(bytes), text.Size(limit))
}

// exceedsMemory reports whether the copy takes more memory than it may. The same file takes the
// same each time: the first round says it.
func (c *cycle) exceedsMemory(p *pair) bool {
	return memoryFigures(p.rounds, c.MaxMemory).Breach() != ""
}

// memoryKnown fails where a limit is set, also one of the choice, and its figure is missing.
func (c *cycle) memoryKnown(m Measurement) error {
	chooses := c.Choose.Limits()
	switch {
	case (c.MaxMemory.Host > 0 || chooses.Host > 0) && m.Memory.Host == 0:
		return Failf(ReasonBenchmark, "max_memory.host is set, and this system does not report what a process has in memory: remove the limit")
	case (c.MaxMemory.Device > 0 || chooses.Device > 0) && c.info.Devices != "" && m.Memory.Devices == nil:
		return Failf(ReasonBenchmark, "max_memory.device is set, and %s does not report what a file takes of a device: measure by the paired method, with a build of llama-server that prints its buffers, or remove the limit", c.info.Name)
	}
	return nil
}

// rejectedByMemory returns the verdict on a pair whose copy exceeds a limit of memory, whatever
// its throughput is. The figures of the rounds stay.
func rejectedByMemory(v verdict.Verdict) verdict.Verdict {
	v.Outcome, v.Gate = verdict.Rejected, verdict.GateMemory
	return v
}
