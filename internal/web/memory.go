package web

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// memoryRow is what a file took of one device, in bytes; 0 where that is not known.
type memoryRow struct {
	File                    string
	Device                  string
	Weights, Cache, Compute int64
	Most, Limit             int64
}

// memoryRows returns the rows of the table of memory: the original's, then the copy's; none
// before a round.
func memoryRows(r *store.Record) []memoryRow {
	if r.Memory == nil {
		return nil
	}
	var last runner.Round
	for _, round := range r.Evidence.Rounds {
		if round.Set == 1 {
			last = round
		}
	}
	limits := func(device string) int64 {
		if device == runner.HostMemory {
			return int64(r.Memory.Limits.Host)
		}
		return int64(r.Memory.Limits.Device)
	}
	original := memoryOf("original", r.Memory.Original, last.Original.Measurement.Offload)
	quantized := memoryOf("copy", r.Memory.Quantized, last.Quantized.Measurement.Offload)
	for i := range quantized {
		quantized[i].Limit = limits(quantized[i].Device)
	}
	return append(original, quantized...)
}

func memoryOf(file string, m runner.Memory, o *runner.Offload) []memoryRow {
	most := m.All()
	var rows []memoryRow
	for _, device := range slices.Sorted(maps.Keys(most)) {
		row := memoryRow{File: file, Device: device, Most: most[device]}
		if o != nil {
			for _, b := range o.Buffers {
				switch {
				case cmp.Or(b.On, runner.HostMemory) != device:
				case b.Use == "model":
					row.Weights += b.Bytes
				case b.IsCache():
					row.Cache += b.Bytes
				default:
					row.Compute += b.Bytes
				}
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// firstToken writes how long the first token of a prompt takes, which is the time of the prompt;
// "" for another phase.
func firstToken(r *store.Record, v verdict.PhaseVerdict, throughput float64) string {
	tokens := r.Evidence.Benchmark.PromptTokens
	if v.Phase != verdict.Prompt || throughput <= 0 || tokens == 0 {
		return ""
	}
	return precise(time.Duration(float64(tokens) / throughput * float64(time.Second)))
}
