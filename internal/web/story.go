package web

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// maxLog is how much of a cycle's log a page shows: its end, where it says what went wrong.
const maxLog = 256 << 10

// cycleView is what the template of a cycle's page shows.
type cycleView struct {
	frame
	ID             uint64
	Entry          string // "" from the command line
	Model, Link    string
	Due, Started   moment
	Ended          moment // zero while it runs
	Took           string
	Undecided      []string
	Chosen         *choiceView // nil before its end, and where none is to be chosen
	ChoiceID       string      // of the event that told of it; "" when it did not change
	Outranked      []outrankedTarget
	Running        *runningView // nil unless it is the one that runs
	Results        []resultView
	Published      []*publicationView
	Log, LogNotice string
}

// outrankedTarget is a target that the cycle passed over, and for which one.
type outrankedTarget struct{ Target, By string }

// resultView is one target's part of a cycle.
type resultView struct {
	ID                 string // unique on the page
	Target, Source     string
	Against            string // the file that is the copy; "" where one was made
	Decision, Previous string // in a word; Decision says for a failure which one
	Changed            bool
	EventID            string
	Changes            []string // of inputs, since the decision before
	Unconfirmed        bool
	Failure, Reason    string
	Threshold          string
	Quality            *qualityView // nil when it was not evaluated
	Phases             []phaseView
	RoundsUsed         int
	Confidence         string
	Resolvable         string // "" unless it is inconclusive
	Files              []fileView
	Facts, Durations   []factView
	Commands           []factView
	Looks, Plots       []*plotView
	Table              []roundView
	PhaseNames         []string
}

// qualityView is what was found of a copy's quality.
type qualityView struct {
	Text, Exceeded, Confidence string
	Figures                    []qualityFigure
}

type qualityFigure struct {
	Name, Value, Interval string
	Limit                 string // "" for none
	Outcome               string // "" without a limit
}

func viewQuality(q *runner.Evaluated) *qualityView {
	if q == nil {
		return nil
	}
	v := &qualityView{
		Text:     fmt.Sprintf("%s, %d chunks of %d tokens", text.Name(q.Corpus), q.Chunks, q.Context),
		Exceeded: q.Breaches(q.Limits), Confidence: trim(q.Confidence*100) + " %",
	}
	add := func(name string, i quality.Interval, write func(float64) string, limit quality.Limit, bound float64, relation string) {
		f := qualityFigure{Name: name, Value: write(i.Estimate), Interval: write(i.Lower) + " to " + write(i.Upper)}
		if bound != 0 {
			f.Limit, f.Outcome = relation+" "+write(bound), string(verdict.Kept)
			if slices.Contains(q.Exceeded, limit) {
				f.Outcome = string(verdict.Rejected)
			}
		}
		v.Figures = append(v.Figures, f)
	}
	add("KL divergence", q.KLDivergence, text.Divergence, quality.MaxKLDivergence, q.Limits.MaxKLDivergence, "at most")
	add("Top token agrees", q.Top1Agreement, text.Percent, quality.MinTop1Agreement, q.Limits.MinTop1Agreement, "at least")
	add("Perplexity increase", q.PerplexityIncrease, text.Percent, quality.MaxPerplexityIncrease, q.Limits.MaxPerplexityIncrease, "at most")
	v.Figures = append(v.Figures,
		qualityFigure{Name: "Perplexity of the original", Value: fmt.Sprintf("%.4g", q.OriginalPerplexity)},
		qualityFigure{Name: "Perplexity of the copy", Value: fmt.Sprintf("%.4g", q.Perplexity)})
	return v
}

type fileView struct{ Stage, Format, Size, BitsPerWeight, Parameters, Fallback string }

type factView struct{ Name, Value string }

// roundView is a row of the table of rounds.
type roundView struct {
	Number, Set   int
	Began         string // time of day
	First         string
	Counted       bool
	Figures       []string // per phase: original, quantized, drop
	Others, Steal string   // of the worse of both measurements
}

func (s *server) cyclePage(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		s.explain(w, r, http.StatusNotFound, "No such cycle", fmt.Sprintf("%q is no number of a cycle.", r.PathValue("id")))
		return
	}
	k := s.snapshot()
	cycle, records, known, err := s.Store.Cycle(id)
	if err == nil && !known {
		var why string
		if why, err = s.whyNoCycle(id); err == nil {
			s.explain(w, r, http.StatusNotFound, fmt.Sprintf("No cycle %d", id), why)
			return
		}
	}
	if err != nil {
		s.Logger.Error("A cycle is not shown", "cycle", id, "err", err)
		s.explain(w, r, http.StatusInternalServerError, fmt.Sprintf("Cycle %d cannot be shown", id), err.Error())
		return
	}
	now := time.Now()
	v := viewCycle(&cycle, records, now)
	v.frame = s.frame(fmt.Sprintf("Cycle %d", id), "cycles", now)
	v.Log, v.LogNotice = s.log(id)
	if cycle.Ended == nil {
		v.Token = s.token(k)
		if running := k.status.Running; running != nil && running.Cycle == id {
			v.Running = k.running()
		}
	}
	s.render(w, r, http.StatusOK, "cycle.html", v)
}

// log of a cycle, and what is to say about it.
func (s *server) log(cycle uint64) (shown, notice string) {
	if s.CycleLog == nil {
		return "", "Logs of cycles are not kept."
	}
	shown, err := s.CycleLog(cycle)
	switch {
	case err != nil:
		return "", text.Text(err.Error())
	case shown == "":
		return "", "There is no log of this cycle."
	case len(shown) > maxLog:
		shown = shown[len(shown)-maxLog:]
		_, shown, _ = strings.Cut(shown, "\n") // the rest of a line
		notice = "This is the end of a long log."
	}
	return text.Text(shown), notice
}

func viewCycle(c *store.Cycle, records []store.Record, now time.Time) cycleView {
	v := cycleView{
		ID: c.ID, Entry: text.Name(c.Entry), Model: text.Name(c.Model), Link: c.Model,
		Due: momentOf(c.Due, now), Started: momentOf(c.Started, now), Undecided: c.Undecided,
	}
	if c.Ended != nil {
		v.Ended, v.Took = momentOf(*c.Ended, now), precise(c.Ended.Sub(c.Started))
	}
	for i := range c.Published {
		v.Published = append(v.Published, viewPublication(&c.Published[i], now))
	}
	if c.Ended != nil && c.Choose != choice.None {
		v.Chosen = viewChoice(&store.Choice{Rule: c.Choose, Format: c.Chosen}, now)
		v.ChoiceID = text.Name(c.ChoiceID)
	}
	for _, target := range slices.Sorted(maps.Keys(c.Outranked)) {
		v.Outranked = append(v.Outranked, outrankedTarget{text.Name(target), text.Name(c.Outranked[target])})
	}
	for i := range records {
		v.Results = append(v.Results, viewResult(fmt.Sprintf("r%d", i), &records[i]))
	}
	return v
}

func viewResult(id string, r *store.Record) resultView {
	e := &r.Evidence
	v := resultView{
		ID: id, Target: text.Name(r.Target), Source: text.Name(r.SourceFormat), Against: text.Name(r.Against),
		Previous: string(r.Previous), Changed: r.Changed, EventID: text.Name(r.EventID), Changes: changeTexts(r.Changes), Unconfirmed: r.Unconfirmed,
		Threshold: text.Threshold(r.Threshold), Quality: viewQuality(r.Quality),
		Facts: facts(r), Durations: durations(r.Durations), Commands: commands(e),
	}
	for _, file := range []struct {
		stage   runner.Stage
		figures runner.FileFigures
	}{{runner.StageOriginal, r.Original}, {runner.StageQuantized, r.Quantized}} {
		if file.figures.Bytes > 0 {
			v.Files = append(v.Files, viewFile(file.stage, file.figures))
		}
	}
	if r.Failure != nil {
		v.Decision, v.Reason = failure(r.Failure.Reason)
		v.Failure = text.Text(r.Failure.Error)
	}
	if r.Verdict != nil {
		v.decided(r)
	}
	for _, phase := range e.Benchmark.Phases {
		v.PhaseNames = append(v.PhaseNames, string(phase))
		if plot := newRoundsPlot(id+"-rounds-"+string(phase), e.Rounds, phase); plot != nil {
			v.Plots = append(v.Plots, plot)
		}
	}
	for i, round := range e.Rounds {
		v.Table = append(v.Table, viewRound(i+1, round, e.Benchmark.Phases))
	}
	return v
}

func (v *resultView) decided(r *store.Record) {
	v.Decision = string(r.Verdict.Outcome)
	v.Phases = viewPhases(r.Verdict, r.Threshold)
	v.RoundsUsed = r.Verdict.Rounds
	v.Confidence = trim(r.Verdict.Confidence*100) + " %"
	if r.Verdict.Outcome == verdict.Inconclusive {
		v.Resolvable = text.Percent(r.Verdict.Resolvable)
	}
	for set, verdict := range r.Evidence.Verdicts {
		for i := range verdict.Phases {
			plot := newLooksPlot(fmt.Sprintf("%s-looks-%d-%d", v.ID, set, i), &verdict.Phases[i], r.Threshold)
			if plot == nil {
				continue
			}
			if set > 0 {
				plot.Title += ", to confirm"
			}
			v.Looks = append(v.Looks, plot)
		}
	}
}

func viewFile(stage runner.Stage, f runner.FileFigures) fileView {
	v := fileView{
		Stage: string(stage), Format: text.Name(f.Format), Size: fileSize(f.Bytes),
		BitsPerWeight: fmt.Sprintf("%.2f", f.BitsPerWeight), Parameters: thousands(f.Parameters),
	}
	if f.FallbackShare > 0 {
		v.Fallback = text.Percent(f.FallbackShare) + " of the parameters in a larger type, because their rows do not fit its blocks"
	}
	return v
}

// facts are the conditions under which a result came about.
func facts(r *store.Record) []factView {
	e := &r.Evidence
	var all []factView
	add := func(name, value string) {
		if value != "" {
			all = append(all, factView{name, text.Name(value)})
		}
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
	}
	add("Hardware", e.Hardware)
	if r.Inputs != nil {
		add("Driver", r.Inputs.Driver)
		add("Model", "SHA-256 "+r.Inputs.Source)
	}
	add("Host", r.Host)
	add("Isolation", e.Isolation)
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
		add("Text", fmt.Sprintf("%d bytes, SHA-256 %s", q.Corpus.Bytes, q.Corpus.SHA256))
		if q.Reused != "" {
			add("Predictions", "of the original, reused from an earlier cycle, SHA-256 "+q.Reused)
		}
	}
	if b := e.Benchmark; b.Rounds.Max > 0 {
		add("Measured", fmt.Sprintf("%d prompt tokens, %d generation tokens, depth %d; %d to %d rounds; error rate %s %%",
			b.PromptTokens, b.GenerationTokens, b.Depth, b.Rounds.Min, b.Rounds.Max, trim(b.Alpha*100)))
	}
	return all
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

// commands are the argument lists of the tools, each once.
func commands(e *runner.Evidence) []factView {
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
	v := roundView{Number: number, Set: r.Set, First: string(r.First), Counted: r.Counted}
	began := r.Original.Started
	if r.First == runner.StageQuantized {
		began = r.Quantized.Started
	}
	if !began.IsZero() {
		v.Began = began.UTC().Format(time.TimeOnly)
	}
	throughputs := r.Throughputs(phases)
	for _, phase := range phases {
		p := throughputs[phase]
		drop := ""
		if p.Original > 0 {
			drop = text.Percent(1 - p.Quantized/p.Original)
		}
		v.Figures = append(v.Figures, text.Throughput(p.Original), text.Throughput(p.Quantized), drop)
	}
	var others, steal float64
	known := false
	for _, load := range []*runner.Load{r.Original.Load, r.Quantized.Load} {
		if load != nil {
			known = true
			others, steal = max(others, load.Others), max(steal, load.Steal)
		}
	}
	if known {
		v.Others, v.Steal = fmt.Sprintf("%.2f", others), text.Percent(steal)
	}
	return v
}

// precise writes how long something took.
func precise(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

// thousands writes a count with its digits in groups of three.
func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "\u00a0" + digits[i:]
	}
	return digits
}

// cyclesView is what the template of the list of cycles shows.
type cyclesView struct {
	frame
	Cycles []cycleRow
	Newest bool   // whether this is the first part
	Next   uint64 // the parameter before of the next part; 0 when there is none
}

type cycleRow struct {
	ID             uint64
	Entry          string
	Model, Link    string
	Started, Ended moment
	Took           string
	Results        []outcomeView
}

// outcomeView is how a cycle ended for a target.
type outcomeView struct{ Target, Word string }

// cyclesOnPage is how many cycles the list has on a page.
const cyclesOnPage = 50

func (s *server) cyclesPage(w http.ResponseWriter, r *http.Request) {
	before, _, err := parseCyclesQuery(url.Values{"before": {r.URL.Query().Get("before")}})
	if err != nil {
		s.explain(w, r, http.StatusBadRequest, "No such page", err.Error())
		return
	}
	now := time.Now()
	v := cyclesView{frame: s.frame("Cycles", "cycles", now), Newest: before == 0}
	v.Token = s.token(s.snapshot())
	list, err := s.readCycles(before, cyclesOnPage)
	if err == nil {
		v.Next = list.NextBefore
		results := 0
		if v.Newest { // there are no newer results of a pair to pass over
			results = cyclesOnPage
		}
		v.Cycles, err = s.cycleRows(list.Cycles, results, now)
	}
	if err != nil {
		s.Logger.Error("The cycles are not shown", "err", err)
		s.explain(w, r, http.StatusInternalServerError, "The cycles cannot be shown", err.Error())
		return
	}
	s.render(w, r, http.StatusOK, "cycles.html", v)
}

// cycleRows tells of each cycle how it ended: what its targets' histories say, of which
// so many results are read, or all for 0. The results themselves are far larger.
func (s *server) cycleRows(cycles []store.Cycle, results int, now time.Time) ([]cycleRow, error) {
	words := map[store.PairID]map[uint64]string{}
	var rows []cycleRow
	for _, c := range cycles {
		row := cycleRow{ID: c.ID, Entry: text.Name(c.Entry), Model: text.Name(c.Model), Link: c.Model, Started: momentOf(c.Started, now)}
		if c.Ended != nil {
			row.Ended, row.Took = momentOf(*c.Ended, now), precise(c.Ended.Sub(c.Started))
		}
		for _, target := range c.Targets {
			id := store.PairID{Model: c.Model, Target: target}
			if words[id] == nil {
				points, err := s.Store.History(id, results)
				if err != nil {
					return nil, err
				}
				words[id] = map[uint64]string{}
				for _, p := range points {
					words[id][p.Cycle] = string(p.Outcome)
					if p.Reason != "" {
						words[id][p.Cycle] = failedWord(p.Reason)
					}
				}
			}
			word := words[id][c.ID]
			switch {
			case word != "":
			case c.Outranked[target] != "":
				word = "outranked"
			case slices.Contains(c.Undecided, target) && c.Ended == nil:
				word = "running"
			default:
				word = "removed"
			}
			row.Results = append(row.Results, outcomeView{text.Name(target), word})
		}
		rows = append(rows, row)
	}
	return rows, nil
}
