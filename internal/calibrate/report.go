package calibrate

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/quant-exporter/quant-exporter/internal/config"
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
	// Unpaired says why the paired method could not be measured; "" when it could, and where
	// another was asked for.
	Unpaired string `json:"unpaired,omitempty"`
	// Recommended is the number of threads to measure with: of those that resolve
	// nearly the smallest drop within MaxRounds, the fastest, and the fewest of equally
	// fast ones; RecommendedMethod is how. 0 and "", and not in the JSON, when only one number
	// and method was tried.
	Recommended       int           `json:"recommended_threads,omitempty"`
	RecommendedMethod config.Method `json:"recommended_method,omitempty"`
	// Warning says, where it is so, that the threshold is below what this host
	// resolves within MaxRounds; else it is "".
	Warning string `json:"warning,omitempty"`
}

// Row is what one number of threads gave by one method.
type Row struct {
	Threads  int           `json:"threads"`
	Method   config.Method `json:"method"`
	Rounds   int           `json:"rounds"`
	Repeated int           `json:"repeated_rounds"`   // contaminated by other processes, and not counted
	Seconds  float64       `json:"seconds_per_round"` // that counts; those that were repeated included
	Phases   []Phase       `json:"phases"`
}

// Phase is what one phase of them gave.
type Phase struct {
	Phase      verdict.Phase `json:"phase"`
	Throughput float64       `json:"throughput"` // tokens per second, median
	Spread     float64       `json:"spread"`     // standard deviation of the log ratio from round to round
	// Resolves is about 4, 8, 20 and Report.MaxRounds rounds, in rising order; a number
	// below benchmark.rounds.min, at which no cycle decides, is left out.
	Resolves []Resolution `json:"resolves"`
	// Within is about a minute and about five.
	Within []Resolution `json:"resolves_within"`
}

// Resolution is the smallest drop that so many rounds can tell from no drop: see
// verdict.Resolvable.
type Resolution struct {
	Rounds  int     `json:"rounds"`
	Seconds int     `json:"seconds,omitempty"` // that the rounds take, where a time was asked about
	Drop    float64 `json:"drop_ratio"`        // 0 to 1
}

// WriteJSON writes the report as one object on a line.
func (r *Report) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// WriteText writes the report for people to read.
func (r *Report) WriteText(w io.Writer) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s (%s) against itself: whatever differs is this host's noise.\n\n", text.Name(r.Model), r.Format)
	r.table(&out)
	fmt.Fprintf(&out, "\nspread:    standard deviation of a single round's ratio, in the rounds measured\nresolves:  the highest speed that can be told from 1× in that time; a cycle takes up to %d rounds,\n           and rejects a copy at %s or below\n", r.MaxRounds, text.SpeedLimit(r.Threshold))
	if r.Unpaired != "" {
		fmt.Fprintf(&out, "\nNot measured in pairs: %s.\n", text.Text(r.Unpaired))
	}
	if r.Recommended > 0 {
		fmt.Fprintf(&out, "\nRecommended: the method %s (benchmark.method in the configuration file) and %s (engine.threads).\n", r.RecommendedMethod, countThreads(r.Recommended))
	}
	if r.Warning != "" {
		fmt.Fprintf(&out, "\nWarning: %s.\n", r.Warning)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (r *Report) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(t, "\t\t\t\t\t\tresolves\nmethod\tthreads\tphase\ttokens/s\ts/round\tspread %%\tin 1 min\tin 5 min\tin %d rounds\n", r.MaxRounds)
	for _, row := range r.Threads {
		for _, p := range row.Phases {
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%.3g\t%s", row.Method, row.Threads, p.Phase, text.Throughput(p.Throughput), row.Seconds, text.Tenths(p.Spread))
			for _, at := range p.Within {
				fmt.Fprintf(t, "\t%s", resolved(at.Drop))
			}
			fmt.Fprintf(t, "\t%s\n", resolved(p.resolves(r.MaxRounds)))
		}
	}
	t.Flush()
}

// resolved writes the speed at the smallest drop that can be resolved, "-" if none can.
func resolved(drop float64) string {
	if drop >= 1 {
		return "-"
	}
	return text.Speed(drop)
}
