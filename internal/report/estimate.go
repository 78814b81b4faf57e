package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/estimate"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// EstimateTable writes what a dry run computed of a model for people to read; original is
// what its copies are compared with. It ends with an empty line, so that tables can follow
// each other; EstimateLegend explains all of them.
func EstimateTable(w io.Writer, model string, original runner.FileFigures, estimates []estimate.Estimate, limits config.Settings) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %s, %s, %.2f bits per weight, %s parameters\n\n",
		text.Name(model), original.Format, text.Size(original.Bytes), original.BitsPerWeight, text.Count(original.Parameters))

	t := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
	fmt.Fprint(t, "target\tsize\tbits/weight\tmemory\tgeneration speed\toutlook\n")
	for _, e := range estimates {
		outlook := "kept"
		switch {
		case e.DropRatio >= limits.Threshold:
			outlook = "rejected"
		case beyond(e.Memory, limits.MaxMemory.Host):
			outlook = "rejected by its memory"
		case beyond(e.Memory, limits.MaxMemory.Device): // nothing is started: nobody knows how much of it one would get
			outlook = "kept, but may not fit a device of " + text.Size(int64(limits.MaxMemory.Device))
		}
		fmt.Fprintf(t, "%s\t%s\t%.2f\t%s\t%s\testimated, likely %s\n", text.Name(e.Target), text.Size(e.Bytes), e.BitsPerWeight, text.Size(e.Memory), text.Speed(e.DropRatio), outlook)
	}
	t.Flush()

	out.WriteString("\n")
	for _, e := range estimates {
		if how := limits.Recipes.How(e.Target); how != "" {
			fmt.Fprintf(&out, "%s, estimated as a plain %s: it is %s.\n", text.Name(e.Target), limits.Recipes.Format(e.Target), text.Name(how))
		}
		if e.FallbackShare > 0 {
			fmt.Fprintf(&out, "%s, estimated: %s\n", text.Name(e.Target), fallback(e.FallbackShare))
		}
		if e.NeedsImatrix {
			fmt.Fprintf(&out, "%s, estimated: quantizing will need an importance matrix (engine.imatrix).\n", text.Name(e.Target))
		}
	}
	if !strings.HasSuffix(out.String(), "\n\n") {
		out.WriteString("\n")
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// beyond reports whether a copy takes more than a limit; 0 is none.
func beyond(memory int64, limit config.Size) bool { return limit > 0 && memory > int64(limit) }

// EstimateLegend explains, once for all tables of a dry run, where their figures come from.
func EstimateLegend(w io.Writer, threshold float64) error {
	_, err := fmt.Fprintf(w, `Estimated from the files' headers; nothing was run or measured. The speed is bytes(original) /
bytes(copy), of those that one token of generation reads from memory: weights in use, and a
half-full KV cache. It is the gain at best, where memory bandwidth is the limit; the prompt
phase and the quality are not estimated. A copy is rejected at %s or below. The memory is what
weights, cache and computation take in a round.
Only measurements decide: run without --dry-run.
`, text.SpeedLimit(threshold))
	return err
}

// estimateLine is the JSON object of a dry run. It has no throughputs, for none were
// measured, and no decision.
type estimateLine struct {
	EventType     string             `json:"event_type"` // event.TypeEstimate
	Estimated     bool               `json:"estimated"`  // true
	ModelName     string             `json:"model_name"`
	Drop          float64            `json:"throughput_drop_percent"`
	Threshold     float64            `json:"threshold_percent"`
	SourceFormat  string             `json:"source_format"`
	TargetFormat  string             `json:"target_format"`
	CycleVersion  string             `json:"cycle_version"`
	Phase         verdict.Phase      `json:"phase"`
	Memory        int64              `json:"memory_bytes"`
	OriginalFile  runner.FileFigures `json:"original_file"`
	QuantizedFile runner.FileFigures `json:"quantized_file"`
	Recipe        string             `json:"recipe,omitempty"` // as in event.Decision; it is not estimated
}

// EstimateLines writes what a dry run computed, one object a line.
func EstimateLines(w io.Writer, model string, original runner.FileFigures, estimates []estimate.Estimate, limits config.Settings) error {
	for _, e := range estimates {
		file := EstimatedFile(e, original.Parameters)
		file.Format = limits.Recipes.Format(e.Target)
		err := Line(w, estimateLine{
			EventType:     event.TypeEstimate,
			Estimated:     true,
			ModelName:     model,
			Drop:          e.DropRatio * 100,
			Threshold:     event.ThresholdPercent(limits.Threshold),
			SourceFormat:  original.Format,
			TargetFormat:  e.Target,
			CycleVersion:  event.CycleVersion,
			Phase:         verdict.Generation,
			Memory:        e.Memory,
			OriginalFile:  original,
			QuantizedFile: file,
			Recipe:        limits.Recipes.How(e.Target),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// EstimatedFile returns the file that was estimated.
func EstimatedFile(e estimate.Estimate, parameters int64) runner.FileFigures {
	return runner.FileFigures{Format: e.Target, Bytes: e.Bytes, Parameters: parameters, BitsPerWeight: e.BitsPerWeight, FallbackShare: e.FallbackShare}
}
