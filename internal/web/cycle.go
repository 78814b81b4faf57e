package web

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// maxLog is how much of a cycle's log a page shows: its end, where it says what went wrong.
const maxLog = 256 << 10

// cyclePage is what the template of a cycle's page shows.
type cyclePage struct {
	frame
	store.Cycle
	Choice         *store.Choice // nil before its end, and where none is to be chosen
	Running        *runningView  // nil unless it goes on, here or on a worker
	Results        []resultView
	Shared         []factView // of all results
	Log, LogNotice string
}

// resultView is one target's part of a cycle.
type resultView struct {
	ID string // unique on the page
	*store.Record
	Looks, Rounds []*plotView
	Table         []roundView
	Facts         []factView // the ones that not all results share
}

type factView struct{ Name, Value string }

// roundView is a row of the table of rounds.
type roundView struct {
	runner.Round
	Number  int
	Figures []string   // per phase: original, quantized, speed
	Load    *host.Load // the worse of both measurements; nil when it is not known
}

// cycleAnswer is everything of one cycle.
type cycleAnswer struct {
	Cycle   store.Cycle    `json:"cycle"`
	Results []store.Record `json:"results"`
}

func (s *server) cycle(r *http.Request) (any, error) { return s.findCycle(r.PathValue("id")) }

// findCycle reads the cycle of a number, or says why it is missing.
func (s *server) findCycle(number string) (*cycleAnswer, error) {
	id, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return nil, refused(errorBadData, "%q is not the number of a cycle", number)
	}
	cycle, records, known, err := s.Store.Cycle(id)
	if err != nil {
		return nil, err
	}
	if known {
		return &cycleAnswer{cycle, orEmpty(records)}, nil
	}
	newest, err := s.Store.Cycles(0, 1)
	switch {
	case err != nil:
		return nil, err
	case id == 0 || len(newest) == 0 || id > newest[0].ID:
		return nil, refused(errorNotFound, "there is no cycle %d", id)
	}
	return nil, refused(errorNotFound, "cycle %d was removed by storage.retention, which bounds how long results are kept; the decisions and counters that it led to stay", id)
}

func (s *server) cyclePage(w http.ResponseWriter, r *http.Request) {
	k := s.snapshot()
	found, err := s.findCycle(r.PathValue("id"))
	if err != nil {
		title := "The cycle cannot be shown"
		if kindOf(err) != errorInternal {
			title, err = "No such cycle", refused(errorNotFound, "%v", err)
		}
		s.explain(w, r, title, err)
		return
	}
	v := &cyclePage{frame: s.frame(fmt.Sprintf("Cycle %d", found.Cycle.ID), "cycles", k.now), Cycle: found.Cycle}
	v.Log, v.LogNotice = s.log(v.ID)
	if v.Ended == nil {
		v.Token = s.token(k)
		v.Running = k.runningCycle(v.ID)
	} else if v.Choose != choice.None {
		v.Choice = &store.Choice{Rule: v.Choose, Format: v.Chosen}
	}
	for i := range found.Results {
		v.Results = append(v.Results, viewResult(fmt.Sprintf("r%d", i), &found.Results[i]))
	}
	v.Shared = sharedFacts(v.Results)
	s.render(w, r, http.StatusOK, "cycle.html", v)
}

// log of a cycle, and what is to say about it.
func (s *server) log(cycle uint64) (shown, notice string) {
	shown, err := s.Dispatcher.CycleLog(cycle)
	switch {
	case err != nil:
		return "", err.Error()
	case shown == "":
		return "", "There is no log of this cycle."
	case len(shown) > maxLog:
		shown = shown[len(shown)-maxLog:]
		_, shown, _ = strings.Cut(shown, "\n") // the rest of a line
		notice = "Only the end of this long log is shown."
	}
	return shown, notice
}

func viewResult(id string, r *store.Record) resultView {
	v := resultView{ID: id, Record: r, Facts: facts(r)}
	for set, verdict := range r.Evidence.Verdicts {
		for i := range verdict.Phases {
			plot := newLooksPlot(fmt.Sprintf("%s-looks-%d-%d", id, set, i), &verdict.Phases[i], r.Threshold)
			if plot == nil {
				continue
			}
			if set > 0 {
				plot.Title += ", to confirm"
			}
			v.Looks = append(v.Looks, plot)
		}
	}
	phases, rounds := r.Evidence.Benchmark.Measured(), r.Evidence.Rounds
	for _, phase := range phases {
		if plot := newRoundsPlot(id+"-rounds-"+string(phase), rounds, phase); plot != nil {
			v.Rounds = append(v.Rounds, plot)
		}
	}
	for i, round := range rounds {
		v.Table = append(v.Table, viewRound(i+1, round, phases))
	}
	return v
}

// Telling reports whether the reader probably wants the log: it grows, or says what failed.
func (v *cyclePage) Telling() bool {
	return v.Running != nil || slices.ContainsFunc(v.Results, func(r resultView) bool { return r.Failure != nil })
}

// sharedFacts removes from results the facts that they all share, and returns them. Results
// that failed early have too few facts to be compared.
func sharedFacts(results []resultView) []factView {
	var shared []factView
	for i, r := range results {
		switch {
		case len(r.Evidence.Rounds) == 0:
		case shared == nil:
			shared = slices.Clone(results[i].Facts)
		default:
			shared = slices.DeleteFunc(shared, func(f factView) bool { return !slices.Contains(r.Facts, f) })
		}
	}
	for i := range results {
		results[i].Facts = slices.DeleteFunc(results[i].Facts, func(f factView) bool { return slices.Contains(shared, f) })
	}
	return shared
}

// Why the copy was rejected, which is the gate, its figure and its limit, or why nothing was
// decided; "" for a kept one.
func (v *resultView) Why() string {
	switch {
	case v.Unconfirmed:
		return "a change was measured but not confirmed"
	case v.Verdict != nil && v.Verdict.Outcome == verdict.Inconclusive:
		return "the interval holds the limit, " + text.SpeedLimit(v.Threshold)
	}
	return report.Gate(&v.Result)
}

// Speeds returns the phases that were measured.
func (v *resultView) Speeds() []verdict.PhaseVerdict {
	if v.Verdict == nil {
		return nil
	}
	return measured(v.Verdict)
}

// Outcome in a word; for a failure which one.
func (v *resultView) Outcome() string {
	switch {
	case v.Failure != nil:
		return ending("", v.Failure.Reason)
	case v.Verdict != nil:
		return string(v.Verdict.Outcome)
	}
	return ""
}

// Copy returns the file that was compared with the original; "" where there is none.
func (v *resultView) Copy() string {
	if v.Quantized.Bytes == 0 {
		return ""
	}
	return fileFacts(v.Quantized)
}

// qualityFigure is a row of the table of a copy's quality.
type qualityFigure struct {
	Name, Value, Interval string
	Limit                 string // "" for none
	Outcome               string // "" without a limit
}

func qualityFigures(q *runner.Evaluated) []qualityFigure {
	var all []qualityFigure
	add := func(f qualityFigure, limit quality.Limit, bound float64, relation string, write func(float64) string) {
		if bound != 0 {
			f.Limit, f.Outcome = relation+" "+write(bound), string(verdict.Kept)
			if slices.Contains(q.Exceeded, limit) {
				f.Outcome = string(verdict.Rejected)
			}
		}
		all = append(all, f)
	}
	between := func(name string, i quality.Interval, write func(float64) string) qualityFigure {
		return qualityFigure{Name: name, Value: write(i.Estimate), Interval: write(i.Lower) + " to " + write(i.Upper)}
	}
	add(between("KL divergence", q.KLDivergence, text.Divergence), quality.MaxKLDivergence, q.Limits.MaxKLDivergence, "at most", text.Divergence)
	if p999 := q.Quantile(quality.P999); p999 != nil {
		f := qualityFigure{Name: "KL divergence, 99.9 % of tokens", Value: "below " + text.Divergence(*p999)}
		add(f, quality.MaxKLDivergenceP999, q.Limits.MaxKLDivergenceP999, "at most", text.Divergence)
	}
	add(between("Top token agrees", q.Top1Agreement, text.Percent), quality.MinTop1Agreement, q.Limits.MinTop1Agreement, "at least", text.Percent)
	add(between("RMS Δp", q.RMSDeltaP, text.Percent), quality.MaxRMSDeltaP, q.Limits.MaxRMSDeltaP, "at most", text.Percent)
	add(between("Perplexity increase", q.PerplexityIncrease, text.Percent), quality.MaxPerplexityIncrease, q.Limits.MaxPerplexityIncrease, "at most", text.Percent)
	return append(all, qualityFigure{Name: "Perplexity of the copy", Value: fmt.Sprintf("%.4g", q.Perplexity)})
}

// facts returns the conditions under which a result came about.
func facts(r *store.Record) []factView {
	e := &r.Evidence
	var all []factView
	add := func(name, value string) {
		if value != "" {
			all = append(all, factView{name, value})
		}
	}
	if r.Threshold > 0 {
		add("Rejected at", text.SpeedLimit(r.Threshold)+" of the original’s speed or below")
	}
	if q := r.Quality; q != nil {
		add("Text", fmt.Sprintf("%s, %d chunks of %d tokens", text.Name(q.Corpus), q.Planned, q.Context))
		add("Perplexity of the original", fmt.Sprintf("%.4g, over %d chunks", q.OriginalPerplexity, q.Chunks))
	}
	add("Engine", e.Engine.String())
	add("Commit", e.Engine.Commit)
	if len(e.Rounds) > 0 {
		m := e.Rounds[0].Original.Measurement
		add("Backends", m.Backends)
		add("CPU", m.CPU)
		add("GPU", m.GPU)
		if m.Threads > 0 {
			add("Threads", strconv.Itoa(m.Threads))
		}
		if o := m.Offload; o != nil && o.AllLayers > 0 {
			add("Offloaded", fmt.Sprintf("%d of %d layers of the original, %s", o.Layers, o.AllLayers, offloadOf(e.Rounds[0].Quantized)))
		}
		add("Idle servers", idleText(e.Rounds))
	}
	add("Method", methodText(e))
	add("Hardware", e.Hardware)
	if r.Original.Bytes > 0 {
		add("Original", fileFacts(r.Original))
	}
	if r.Inputs != nil {
		add("Driver", r.Inputs.Driver)
		add("Model", "SHA-256 "+r.Inputs.Source)
	}
	add("Host", r.Host)
	add("Isolation", e.Isolation)
	add("Sandbox", sandboxText(e.Engine.Sandbox))
	for _, file := range e.Against {
		add("Compared file", file.Path)
	}
	if e.Baseline != nil {
		how := ", made once for the cycle"
		if e.Baseline.Reused != "" {
			how = ", reused from an earlier cycle, SHA-256 " + e.Baseline.Reused
		}
		add("Baseline", "the original is the model in "+e.Baseline.Format+how)
	}
	if e.Reused != "" {
		add("Copy", "reused from an earlier cycle, SHA-256 "+e.Reused)
	}
	if q := e.Quality; q != nil {
		add("Evaluated on", fmt.Sprintf("%d bytes, SHA-256 %s", q.Corpus.Bytes, q.Corpus.SHA256))
		if q.Reused != "" {
			add("Predictions", "of the original, reused from an earlier cycle, SHA-256 "+q.Reused)
		}
	}
	if b := e.Benchmark; b.Rounds.Max > 0 {
		clients := ""
		if len(b.Clients.Further()) > 0 {
			clients = fmt.Sprintf(", clients %v", b.Clients)
		}
		add("Benchmark", fmt.Sprintf("%d prompt tokens, %d generation tokens, depth %v%s; %d to %d rounds; error rate %s %%",
			b.PromptTokens, b.GenerationTokens, b.Depth, clients, b.Rounds.Min, b.Rounds.Max, trim(b.Alpha*100)))
	}
	return all
}

// fileFacts say what a file is.
func fileFacts(f runner.FileFigures) string {
	return fmt.Sprintf("%s, %s, %.2f bits per weight, %s parameters", text.Name(f.Format), text.Size(f.Bytes), f.BitsPerWeight, thousands(f.Parameters))
}

// methodText says how the rounds were measured, and why not in pairs.
func methodText(e *runner.Evidence) string {
	switch e.Method {
	case config.MethodPaired:
		return "paired: in each round a fresh llama-server for every file, asked in bursts that take turns"
	case config.MethodProcess:
		return strings.TrimSuffix("process: a llama-bench for each file, one after the other; "+e.MethodReason, "; ")
	default:
		return ""
	}
}

func offloadOf(s runner.Sample) string {
	if o := s.Measurement.Offload; o != nil {
		return fmt.Sprintf("%d of %d of the copy", o.Layers, o.AllLayers)
	}
	return "unknown of the copy"
}

// idleText names the servers that used the CPU while others were measured; "" if none did.
func idleText(rounds []runner.Round) string {
	most := 0.0
	for _, round := range rounds {
		most = max(most, round.Original.Measurement.Idle, round.Quantized.Measurement.Idle)
	}
	if most < runner.NoticeableIdle {
		return ""
	}
	return fmt.Sprintf("used up to %s of a CPU while others were measured", text.Percent(most))
}

// durations in the order in which a cycle goes through its operations.
func durations(of map[runner.Operation]time.Duration) []factView {
	var all []factView
	for _, operation := range []runner.Operation{runner.OperationDiscover, runner.OperationIsolate, runner.OperationQuantize, runner.OperationEvaluate, runner.OperationBenchmark, runner.OperationTotal, runner.OperationPublish} {
		if d, ok := of[operation]; ok {
			all = append(all, factView{string(operation), precise(d)})
		}
	}
	return all
}

// commands returns the argument lists of the tools, each once.
func commands(e runner.Evidence) []factView {
	var all []factView
	add := func(name string, args []string) {
		if len(args) > 0 {
			all = append(all, factView{name, commandLine(args)})
		}
	}
	if e.Baseline != nil {
		add("quantize, original", e.Baseline.Quantize.Args)
	}
	add("quantize", e.Quantize.Args)
	if q := e.Quality; q != nil {
		add("evaluate, original", q.Predict.Args)
		add("evaluate, quantized", q.Evaluate.Args)
	}
	if len(e.Rounds) > 0 {
		add("benchmark, original", e.Rounds[0].Original.Measurement.Run.Args)
		add("benchmark, quantized", e.Rounds[0].Quantized.Measurement.Run.Args)
	}
	return all
}

// commandLine writes arguments as a shell would read them.
func commandLine(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		if quoted[i] = text.Name(arg); plainArgument(arg) {
			continue
		}
		if quoted[i] == arg {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

func plainArgument(arg string) bool {
	return arg != "" && !strings.ContainsFunc(arg, func(r rune) bool {
		return !strings.ContainsRune("-_./=:,+@%", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

func viewRound(number int, r runner.Round, phases []verdict.Phase) roundView {
	v := roundView{Round: r, Number: number}
	for _, phase := range phases {
		original, quantized, measured := r.Throughputs(phase)
		if !measured {
			v.Figures = append(v.Figures, "", "", "")
			continue
		}
		speed := ""
		if original > 0 {
			speed = text.Speed(1 - quantized/original)
		}
		v.Figures = append(v.Figures, text.Throughput(original), text.Throughput(quantized), speed)
	}
	for _, load := range []*host.Load{r.Original.Load, r.Quantized.Load} {
		switch {
		case load == nil:
		case v.Load == nil:
			v.Load = &host.Load{Others: load.Others, Steal: load.Steal}
		default:
			v.Load.Others, v.Load.Steal = max(v.Load.Others, load.Others), max(v.Load.Steal, load.Steal)
		}
	}
	return v
}

// Began returns when the round began; nil when that is not known.
func (v *roundView) Began() *moment {
	began := v.Original.Started
	if v.First == runner.StageQuantized {
		began = v.Quantized.Started
	}
	if began.IsZero() {
		return nil
	}
	return &moment{Time: began}
}

// sandboxText says how the tools were confined.
func sandboxText(sandbox string) string {
	version, landlock := strings.CutPrefix(sandbox, "landlock ")
	switch {
	case landlock:
		return "Landlock " + version
	case sandbox == "none":
		return "none: this kernel has no Landlock"
	case sandbox == "off":
		return "off, by engine.sandbox"
	default:
		return sandbox
	}
}
