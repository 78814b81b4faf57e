package calibrate

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// Report is what a calibration found.
type Report struct {
	Model     string  `json:"model_name"`
	Format    string  `json:"format"`
	Threshold float64 `json:"threshold_ratio"`
	MaxRounds int     `json:"max_rounds"` // of a cycle: benchmark.rounds.max
	Threads   []Row   `json:"threads"`
	// Recommended is the number of threads to measure with: of those that resolve
	// nearly the smallest drop within MaxRounds, the fastest, and the fewest of equally
	// fast ones. 0, and not in the JSON, when only one number was tried.
	Recommended int `json:"recommended_threads,omitempty"`
	// Warning says, where it is so, that the threshold is below what this host
	// resolves within MaxRounds; else it is "".
	Warning string `json:"warning,omitempty"`
}

// Row is what one number of threads gave.
type Row struct {
	Threads  int     `json:"threads"`
	Rounds   int     `json:"rounds"`
	Repeated int     `json:"repeated_rounds"` // contaminated by other processes, and not counted
	Phases   []Phase `json:"phases"`
}

// Phase is what one phase of them gave.
type Phase struct {
	Phase      verdict.Phase `json:"phase"`
	Throughput float64       `json:"throughput"` // tokens per second, median
	Spread     float64       `json:"spread"`     // standard deviation of the log ratio from round to round
	// Resolves is about 4, 8, 20 and Report.MaxRounds rounds, in rising order; a number
	// below benchmark.rounds.min, at which no cycle decides, is left out.
	Resolves []Resolution `json:"resolves"`
}

// Resolution is the smallest drop that can be told from none within so many rounds: see
// verdict.Resolvable.
type Resolution struct {
	Rounds int     `json:"rounds"`
	Drop   float64 `json:"drop_ratio"` // 0 to 1
}

// WriteJSON writes the report as one object on a line.
func (r *Report) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// WriteText writes the report for people to read.
func (r *Report) WriteText(w io.Writer) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s (%s) against itself: whatever differs is this host's noise.\n\n", text.Name(r.Model), r.Format)
	r.table(&out)
	fmt.Fprintf(&out, "\nspread:    standard deviation of a single round's ratio, in the rounds measured\nresolves:  the speed, and all below it, that so many rounds tell from 1×; a cycle takes up to %d,\n           and rejects a copy at %s or below\n", r.MaxRounds, text.SpeedLimit(r.Threshold))
	if r.Recommended > 0 {
		fmt.Fprintf(&out, "\nRecommended: %s (engine.threads in the configuration file).\n", countThreads(r.Recommended))
	}
	if r.Warning != "" {
		fmt.Fprintf(&out, "\nWarning: %s.\n", r.Warning)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (r *Report) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprint(t, "\t\t\t\t\t\tresolves\n", "threads\tphase\ttokens/s\trounds\trepeated\tspread %")
	for _, at := range r.horizons() {
		fmt.Fprintf(t, "\tin %d", at.Rounds)
	}
	fmt.Fprintln(t)
	for _, row := range r.Threads {
		for _, p := range row.Phases {
			fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%d\t%s", row.Threads, p.Phase, text.Throughput(p.Throughput), row.Rounds, row.Repeated, text.Tenths(p.Spread))
			for _, at := range p.Resolves {
				fmt.Fprintf(t, "\t%s", resolved(at.Drop))
			}
			fmt.Fprintln(t)
		}
	}
	t.Flush()
}

// resolved writes the speed at a drop that can be told from none, "-" where none can.
func resolved(drop float64) string {
	if drop >= 1 {
		return "-"
	}
	return text.Speed(drop)
}

// horizons are the same for every phase of a report.
func (r *Report) horizons() []Resolution {
	for _, row := range r.Threads {
		for _, p := range row.Phases {
			return p.Resolves
		}
	}
	return nil
}
