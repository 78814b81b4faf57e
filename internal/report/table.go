// Package report shows people and programs what cycles do and find: a table, JSON
// lines, and progress while they run.
//
// Names of files and messages of tools are other people's text. What is written for
// people holds none of their control characters: see [Name] and [Text].
package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Cycle is what one cycle came to. Its results share a model and its settings.
type Cycle struct {
	Results    []runner.Result
	PassedOver []string // targets that were passed over
	// Choice of a format; nil where none was to be chosen.
	Choice *event.Choice
}

// Table writes what a cycle came to for people to read, with what needs an explanation
// below. It ends with an empty line, so that tables can follow each other, and does
// nothing for no results.
func Table(w io.Writer, c Cycle, color bool) error {
	results := c.Results
	if len(results) == 0 {
		return nil
	}
	var out strings.Builder
	heading(&out, results)
	rows(&out, c, color)
	out.WriteString("\n")
	failures(&out, results)
	remarks(&out, results)
	chosen(&out, c)
	legend(&out, results)
	out.WriteString("\n")
	_, err := io.WriteString(w, out.String())
	return err
}

// heading says what was measured and with what, as far as a cycle came.
func heading(w io.Writer, results []runner.Result) {
	r := results[0]
	fmt.Fprint(w, text.Name(r.Model))
	if r.Original.Bytes > 0 { // its header was read
		fmt.Fprintf(w, ": %s, %s, %.2f bits per weight, %s parameters", r.SourceFormat, text.Size(r.Original.Bytes), r.Original.BitsPerWeight, text.Count(r.Original.Parameters))
	}
	if r.Evidence.Baseline != nil {
		fmt.Fprint(w, ", made of the model to compare with")
	}
	if engine := r.Evidence.Engine; engine.Name != "" {
		fmt.Fprintf(w, "; %s", text.Name(engine.String()))
		if threads := threadsOf(results); threads > 0 {
			fmt.Fprintf(w, ", %d %s", threads, text.Plural(threads, "thread", "threads"))
		}
		if why := r.Evidence.MethodReason; why != "" {
			fmt.Fprintf(w, "\nmeasured by a process a file: %s", text.Text(why))
		}
	}
	fmt.Fprint(w, "\n")
	for _, change := range changesOf(results) {
		fmt.Fprintf(w, "changed since the decision before: %s\n", text.Text(change))
	}
	fmt.Fprint(w, "\n")
}

// changesOf returns the inputs that have changed, each once: the targets of a cycle share them.
func changesOf(results []runner.Result) []string {
	var all []string
	for _, r := range results {
		for _, change := range r.Changes {
			if !slices.Contains(all, change.Text) {
				all = append(all, change.Text)
			}
		}
	}
	return all
}

// threadsOf returns what the tool said it used; 0 when it did not.
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

// rows writes the table itself. The head has two lines, and the decision is one word, for
// two phases to fit 120 columns; the word is the last cell, whose colour no column's width
// depends on.
func rows(w io.Writer, c Cycle, color bool) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	phases := c.Results[0].Evidence.Benchmark.Measured()
	separator := "\t\tbits/\t"
	for _, phase := range phases {
		fmt.Fprint(t, separator, phase)
		separator = "\t\t"
	}
	fmt.Fprint(t, "\n", "target\tsize\tweight", strings.Repeat("\ttokens/s\tspeed", len(phases)), "\trounds\tdecision\n")
	for _, r := range c.Results {
		fmt.Fprintf(t, "%s\t%s\t%s", text.Name(r.TargetFormat), text.Size(r.Quantized.Bytes), bitsPerWeight(r.Quantized))
		for _, phase := range phases {
			throughput, speed := phaseCells(r.Verdict, phase)
			fmt.Fprintf(t, "\t%s\t%s", throughput, speed)
		}
		rounds := "-"
		if r.Verdict != nil {
			rounds = strconv.Itoa(r.Verdict.Rounds)
		}
		fmt.Fprintf(t, "\t%s\t%s\n", rounds, decision(r, color))
	}
	for _, target := range c.PassedOver {
		fmt.Fprint(t, text.Name(target), "\t-\t-", strings.Repeat("\t-\t-", len(phases)), "\t-\tpassed over\n")
	}
	t.Flush()
}

// chosen says which format was chosen, and why others were passed over.
func chosen(w io.Writer, c Cycle) {
	if c.Choice == nil {
		return
	}
	what := "none, because none is kept"
	if c.Choice.ChosenFormat != nil {
		what = fmt.Sprintf("%s, %s", text.Name(*c.Choice.ChosenFormat), text.Name(c.Choice.Choose.Superlative()))
	}
	if previous := c.Choice.PreviousFormat; previous != nil && (c.Choice.ChosenFormat == nil || *previous != *c.Choice.ChosenFormat) {
		what += "; before it was " + text.Name(*previous)
	}
	fmt.Fprintf(w, "Chosen to be served: %s.\n", what)
	if len(c.PassedOver) > 0 {
		fmt.Fprint(w, "Targets that were passed over could not be chosen any more, whatever they are: they were not measured, and keep their decision.\n")
	}
}

func bitsPerWeight(f runner.FileFigures) string {
	if f.Bytes == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", f.BitsPerWeight)
}

func phaseCells(v *verdict.Verdict, phase verdict.Phase) (throughput, speed string) {
	if v != nil && v.Rounds > 0 {
		for _, p := range v.Phases {
			if p.Phase == phase {
				return text.Throughput(p.Original) + " -> " + text.Throughput(p.Quantized), text.SpeedWithin(p.Drop, p.Lower, p.Upper)
			}
		}
	}
	return "-", "-"
}

// Colours as every terminal knows them (ECMA-48, SGR).
const (
	green  = "\x1b[1;32m"
	red    = "\x1b[1;31m"
	yellow = "\x1b[1;33m"
	normal = "\x1b[0m"
)

// decision returns how a result ended, in a word.
func decision(r runner.Result, color bool) string {
	word, tint := string(r.Outcome()), yellow
	switch {
	case r.Failure != nil:
		word = "failed"
	case r.Outcome() == verdict.Kept:
		tint = green
	case r.Outcome() == verdict.Rejected:
		tint = red
	}
	if !color {
		return word
	}
	return tint + word + normal
}

// failures writes every failure once, with all targets that ended with it: what ends a
// whole cycle would otherwise be read as many times as there are targets.
func failures(w io.Writer, results []runner.Result) {
	var order []string
	targets := map[string][]string{}
	for _, r := range results {
		if r.Failure == nil {
			continue
		}
		what := fmt.Sprintf("failed (%s): %s", r.Failure.Reason, strings.ReplaceAll(text.Text(r.Failure.Error()), "\n", "\n  "))
		if targets[what] == nil {
			order = append(order, what)
		}
		targets[what] = append(targets[what], text.Name(r.TargetFormat))
	}
	for _, what := range order {
		fmt.Fprintf(w, "%s %s\n", strings.Join(targets[what], ", "), what)
	}
}

// remarks explain what the rows cannot.
func remarks(w io.Writer, results []runner.Result) {
	for _, r := range results {
		if r.Failure != nil {
			continue
		}
		remark := func(format string, args ...any) {
			fmt.Fprintf(w, "%s: %s\n", text.Name(r.TargetFormat), fmt.Sprintf(format, args...))
		}
		if r.Recipe != "" {
			remark("made as %s.", text.Name(r.Recipe))
		}
		if r.Against != "" {
			remark("the file %s as it is.", text.Name(r.Against))
		}
		switch {
		case r.Verdict.Outcome == verdict.Rejected:
			remark("rejected by %s.", Gate(&r))
		case r.Unconfirmed:
			remark("a second set of rounds did not confirm a change, so %s stands.", r.Previous)
		case r.Verdict.Outcome == verdict.Inconclusive:
			remark("%s", inconclusive(r.Verdict))
		}
		if q := r.Quality; q != nil && q.Passed() {
			remark("%s.", q.Figures())
		}
		if share := r.Quantized.FallbackShare; share > 0 {
			remark("%s", fallback(share))
		}
		if r.Evidence.Reused != "" {
			remark("the copy is one that an earlier cycle made of the same.")
		}
		if n := repeatedRounds(r); n > 0 {
			remark("%d %s measured again, because other processes used the CPU meanwhile.", n, text.Plural(n, "round was", "rounds were"))
		}
	}
}

// inconclusive says why there is no decision, and what to do for one.
func inconclusive(v *verdict.Verdict) string {
	if v.Resolvable >= 1 { // not even one look, or noise beyond all bounds
		return fmt.Sprintf("%d %s not enough to tell any speed from 1×; raise benchmark.budget, and see `quant-exporter calibrate`.",
			v.Rounds, text.Plural(v.Rounds, "round is", "rounds are"))
	}
	return fmt.Sprintf("too close to the limit: with this host's noise, %d rounds tell %s or less from 1×. See `quant-exporter calibrate`.",
		v.Rounds, text.Speed(v.Resolvable))
}

// fallback explains why a copy is larger than its format's name says.
func fallback(share float64) string {
	return fmt.Sprintf("%.0f %% of the parameters are in rows that do not fit its blocks, and are stored in larger types.", math.Ceil(share*100))
}

// repeatedRounds counts those that did not count.
func repeatedRounds(r runner.Result) int {
	n := 0
	for _, round := range r.Evidence.Rounds {
		if !round.Counted {
			n++
		}
	}
	return n
}

// legend says how to read the table: of the columns only what is in them.
func legend(w io.Writer, results []runner.Result) {
	var total time.Duration
	var measured *verdict.Verdict
	for _, r := range results {
		total = max(total, r.Durations[runner.OperationTotal])
		if r.Verdict != nil {
			measured = r.Verdict
		}
	}
	if measured != nil {
		fmt.Fprintf(w, "Speed: beside the original, 2× is twice as fast. A copy is rejected at %s or below in any phase.\n", text.SpeedLimit(results[0].Threshold))
		if measured.Confidence > 0 {
			fmt.Fprintf(w, "In brackets: the interval at a confidence of %.4g %%. ", measured.Confidence*100)
		}
	}
	fmt.Fprintf(w, "The cycle took %s.\n", total.Round(100*time.Millisecond))
}
