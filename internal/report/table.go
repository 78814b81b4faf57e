// Package report shows people and programs what cycles do and find: a table, JSON
// lines, and progress while they run.
package report

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Table writes the results of one cycle for people to read, with what needs an
// explanation below it. It does nothing for no results.
func Table(w io.Writer, results []runner.Result, color bool) error {
	if len(results) == 0 {
		return nil
	}
	var text strings.Builder
	heading(&text, results)
	rows(&text, results)
	notes(&text, results)
	out := text.String()
	if color {
		out = colored.Replace(out)
	} else {
		out = plain.Replace(out)
	}
	_, err := io.WriteString(w, out)
	return err
}

// Decisions are marked while the table is laid out, and coloured afterwards, so that
// escape sequences do not count as columns.
var (
	colored = strings.NewReplacer("\x01", "\x1b[1;32m", "\x02", "\x1b[1;31m", "\x03", "\x1b[1;33m", "\x04", "\x1b[0m")
	plain   = strings.NewReplacer("\x01", "", "\x02", "", "\x03", "", "\x04", "")
)

func heading(w io.Writer, results []runner.Result) {
	r := results[0]
	fmt.Fprintf(w, "%s: %s, %s", printable(r.Model), r.SourceFormat, Bytes(r.Original.Bytes))
	if r.Original.Parameters > 0 {
		fmt.Fprintf(w, ", %.2f bits per weight, %s parameters", r.Original.BitsPerWeight, count(r.Original.Parameters))
	}
	if engine := r.Evidence.Engine; engine.Name != "" {
		fmt.Fprintf(w, "; %s", engine)
		if threads := threadsOf(results); threads > 0 {
			fmt.Fprintf(w, ", %d %s", threads, plural(threads, "thread", "threads"))
		}
	}
	fmt.Fprint(w, "\n\n")
}

// threadsOf is what the tool said it used.
func threadsOf(results []runner.Result) int {
	for _, r := range results {
		for _, round := range r.Evidence.Rounds {
			if t := round.Original.Measurement.Threads; t > 0 {
				return t
			}
		}
	}
	return 0
}

func rows(w io.Writer, results []runner.Result) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	phases := results[0].Evidence.Benchmark.Phases
	fmt.Fprint(t, "target\tsize\tbits/weight")
	for _, phase := range phases {
		fmt.Fprintf(t, "\t%s, tokens/s\tdrop", phase)
	}
	fmt.Fprintln(t, "\trounds\tdecision")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%s", r.TargetFormat, Bytes(r.Quantized.Bytes), bitsPerWeight(r.Quantized))
		for _, phase := range phases {
			before, drop := phaseCells(r.Verdict, phase)
			fmt.Fprintf(t, "\t%s\t%s", before, drop)
		}
		rounds := "-"
		if r.Verdict != nil {
			rounds = fmt.Sprint(r.Verdict.Rounds)
		}
		fmt.Fprintf(t, "\t%s\t%s\n", rounds, decision(r))
	}
	t.Flush()
}

func phaseCells(v *verdict.Verdict, phase verdict.Phase) (throughput, drop string) {
	if v == nil {
		return "-", "-"
	}
	for _, p := range v.Phases {
		if p.Phase == phase {
			return fmt.Sprintf("%s -> %s", Throughput(p.Original), Throughput(p.Quantized)), Drop(p)
		}
	}
	return "-", "-"
}

func decision(r runner.Result) string {
	switch {
	case r.Failure != nil:
		return "\x03failed\x04 (" + string(r.Failure.Reason) + ")"
	case r.Verdict.Outcome == verdict.Kept:
		return "\x01kept\x04"
	case r.Verdict.Outcome == verdict.Rejected:
		return "\x02rejected\x04 (" + string(r.Verdict.Gate) + ")"
	default:
		return "\x03" + string(r.Verdict.Outcome) + "\x04"
	}
}

// notes explain what the table cannot.
func notes(w io.Writer, results []runner.Result) {
	fmt.Fprintln(w)
	for _, r := range results {
		if r.Failure != nil {
			fmt.Fprintf(w, "%s failed (%s): %s\n", r.TargetFormat, r.Failure.Reason, r.Failure)
			continue
		}
		if share := r.Quantized.FallbackShare; share > 0 {
			fmt.Fprintf(w, "%s: %s\n", r.TargetFormat, fallback(share))
		}
		if r.Unconfirmed {
			fmt.Fprintf(w, "%s: a second set of rounds did not confirm a change, so %s stands.\n", r.TargetFormat, r.Previous)
		} else if r.Verdict.Outcome == verdict.Inconclusive {
			fmt.Fprintf(w, "%s: the drop is too close to the threshold for this host's noise; in %d rounds it resolves a difference of %s. Try `quant-exporter calibrate`.\n",
				r.TargetFormat, r.Verdict.Rounds, Percent(r.Verdict.Resolvable))
		}
		if repeated := repeatedRounds(r); repeated > 0 {
			fmt.Fprintf(w, "%s: %d %s while other processes took the CPU were measured again.\n", r.TargetFormat, repeated, plural(repeated, "round", "rounds"))
		}
	}
	fmt.Fprintf(w, "A copy is rejected when it is %s or more slower in any phase. A drop below zero is a gain.\n", Percent(results[0].Threshold))
	for _, r := range results {
		if r.Verdict != nil {
			fmt.Fprintf(w, "In brackets: the interval at a confidence of %.4g %%.", r.Verdict.Confidence*100)
			break
		}
	}
	total := time.Duration(0)
	for _, r := range results {
		total = max(total, r.Durations[runner.OperationTotal])
	}
	fmt.Fprintf(w, " The cycle took %s.\n", total.Round(100*time.Millisecond))
}

// fallback explains why a copy is larger than its format's name says.
func fallback(share float64) string {
	return fmt.Sprintf("%.0f %% of the parameters are in rows that do not fit its blocks, and are stored in larger types.", math.Ceil(share*100))
}

func repeatedRounds(r runner.Result) int {
	n := 0
	for _, round := range r.Evidence.Rounds {
		if !round.Counted {
			n++
		}
	}
	return n
}

// Drop writes a drop with its interval: "-41.0 % [-43.2, -38.9]".
func Drop(p verdict.PhaseVerdict) string {
	return fmt.Sprintf("%s [%s, %s]", Percent(p.Drop), bound(p.Lower), bound(p.Upper))
}

func bound(ratio *float64) string {
	if ratio == nil {
		return "open"
	}
	return fmt.Sprintf("%.1f", *ratio*100)
}

// Percent writes a ratio as a percentage with one decimal.
func Percent(ratio float64) string { return fmt.Sprintf("%.1f %%", ratio*100) }

// Throughput writes tokens per second with three to four digits that mean something.
func Throughput(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// Bytes writes a size in powers of ten, as file managers and disk vendors do.
func Bytes(n int64) string {
	switch {
	case n == 0:
		return "-"
	case n < 1e6:
		return fmt.Sprintf("%.0f kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	default:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
}

func bitsPerWeight(f runner.FileFigures) string {
	if f.Bytes == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", f.BitsPerWeight)
}

func count(n int64) string {
	if n < 1e9 {
		return fmt.Sprintf("%.1f M", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f B", float64(n)/1e9)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// printable quotes a name that would disturb a terminal.
func printable(name string) string {
	if quoted := fmt.Sprintf("%q", name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}
