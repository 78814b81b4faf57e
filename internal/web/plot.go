package web

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// plotView is a plot, ready to be drawn: coordinates are pixels.
type plotView struct {
	ID          string // unique on the page
	Title       string
	Description string // what a reader who does not see it has to know
	Rows        []tickView
	Columns     []tickView
	Limit       string // path of the threshold; "" without one
	Bands       []string
	Strokes     []strokeView
	Marks       []markView
	Labels      []labelView
}

// readoutView is what a chart says while the pointer is over a part of it.
type readoutView struct {
	From, Width string // of that part, in percent of the chart's width
	At          string // where the marks are that it tells about, likewise
	Lines       []string
}

// across is where a pixel of a plot lies, in percent of the width that a chart gives it.
func across(x float64) string { return pixel(100*(x-plotLeft)/(plotRight-plotLeft)) + "%" }

// Readouts are the titles of the marks, by where these are: each has the part of the chart
// that is nearest to it.
func (p *plotView) Readouts() ([]readoutView, error) {
	lines, places := map[float64][]string{}, []float64{}
	for _, mark := range p.Marks {
		x, err := strconv.ParseFloat(mark.X, 64)
		if err != nil {
			return nil, fmt.Errorf("the place of a mark: %w", err)
		}
		if lines[x] == nil {
			places = append(places, x)
		}
		lines[x] = append(lines[x], mark.Title)
	}
	slices.Sort(places)
	var all []readoutView
	from := float64(plotLeft)
	for i, x := range places {
		to := float64(plotRight)
		if i+1 < len(places) {
			to = (x + places[i+1]) / 2
		}
		all = append(all, readoutView{across(from), pixel(100*(to-from)/(plotRight-plotLeft)) + "%", across(x), lines[x]})
		from = to
	}
	return all, nil
}

// Share is where the mark is, in percent of a chart's width.
func (m markView) Share() (string, error) {
	x, err := strconv.ParseFloat(m.X, 64)
	return across(x), err
}

// Share is where the tick is, likewise.
func (t tickView) Share() (string, error) {
	x, err := strconv.ParseFloat(t.At, 64)
	return across(x), err
}

// strokeView is a path and what it stands for.
type strokeView struct{ Class, Path string }

// markView is a point of a plot.
type markView struct {
	Class, X, Y, R string
	Title          string
	Arrow          string // path in place of the point where the scale ends before it; else ""
}

// markSpeed marks the speed at a drop on a vertical axis.
func markSpeed(class string, x float64, y axis, drop, radius float64, title string) markView {
	m := markView{Class: class, X: pixel(x), Y: pixel(y.at(drop)), R: pixel(radius), Title: title}
	if offScale(drop) {
		m.Arrow = fmt.Sprintf("M%s %sh%sl-%s -%sz", pixel(x-1.2*radius), pixel(y.at(drop)+radius), pixel(2.4*radius), pixel(1.2*radius), pixel(2.2*radius))
		m.Title += ", beyond the scale"
	}
	return m
}

// Size of a plot in pixels, and where its axes are.
const (
	plotWidth  = 380
	plotHeight = 190
	plotLeft   = 46
	plotRight  = plotWidth - 10
	plotTop    = 8
	plotBottom = plotHeight - 22
	tickApart  = 15 // between two labels of the vertical axis
)

// phasePoint is what a result says of one phase.
type phasePoint struct {
	store.Point
	store.PointPhase
}

// ofPhase returns the decided points that measured a phase.
func ofPhase(points []store.Point, phase verdict.Phase) []phasePoint {
	var all []phasePoint
	for _, p := range points {
		for _, measured := range p.Phases {
			if measured.Phase == phase {
				all = append(all, phasePoint{p, measured})
			}
		}
	}
	return all
}

// dropsOf returns all values that a plot of the points has to hold.
func dropsOf(points []phasePoint) []float64 {
	var drops []float64
	for _, p := range points {
		drops = append(append(drops, p.Drop, p.Threshold), closed(p.Lower, p.Upper)...)
	}
	return drops
}

// closed returns the ends of an interval that are not open.
func closed(ends ...*float64) []float64 {
	var all []float64
	for _, end := range ends {
		if end != nil {
			all = append(all, *end)
		}
	}
	return all
}

// trace is a history on two axes: the intervals as a band, the drops as a line, and the
// threshold of each time.
type trace struct{ band, line, limit string }

func draw(points []phasePoint, x func(i int) float64, y axis) trace {
	var upper, lower, line, limit []string
	for i, p := range points {
		low, high := y.ends(p.Lower, p.Upper)
		at := pixel(x(i)) + " "
		upper = append(upper, at+pixel(high))
		lower = append([]string{at + pixel(low)}, lower...)
		line = append(line, at+pixel(y.at(p.Drop)))
		limit = append(limit, at+pixel(y.at(p.Threshold)))
	}
	return trace{
		band:  "M" + strings.Join(append(upper, lower...), "L") + "z",
		line:  "M" + strings.Join(line, "L"),
		limit: "M" + strings.Join(limit, "L"),
	}
}

// sparkView is a history in a table's cell, over the last results and not over time.
type sparkView struct {
	Title             string
	Band, Line, Limit string
	Marks             []markView // changes of the standing decision, and the last result
}

// Size of a spark in pixels, and how many results are on it.
const (
	sparkWidth  = 116
	sparkHeight = 34
	sparkPoints = 20
)

// newSpark is nil for a pair without a history to speak of.
func newSpark(points []store.Point, phase verdict.Phase) *sparkView {
	all := ofPhase(points, phase)
	if len(all) == 0 {
		return nil
	}
	y := speedAxis(dropsOf(all), sparkHeight-4, 4)
	step := (sparkWidth - 10) / float64(max(len(all)-1, 1))
	x := func(i int) float64 { return 5 + float64(i+max(2-len(all), 0))*step }
	t := draw(all, x, y)
	s := &sparkView{
		Title: fmt.Sprintf("%s speed in the last %d decided %s: %s", phase, len(all), text.Plural(len(all), "cycle", "cycles"), tale(all)),
		Band:  t.band, Line: t.line, Limit: "M0 " + pixel(y.at(all[len(all)-1].Threshold)) + "H" + strconv.Itoa(sparkWidth),
	}
	for i, p := range all {
		if p.Changed || i == len(all)-1 {
			s.Marks = append(s.Marks, markSpeed(string(p.Outcome), x(i), y, p.Drop, 2.5, ""))
		}
	}
	return s
}

// tale returns a history in words.
func tale(points []phasePoint) string {
	counts, beyond := map[verdict.Outcome]int{}, 0
	low, high := points[0].Drop, points[0].Drop
	for _, p := range points {
		counts[p.Outcome]++
		low, high = min(low, p.Drop), max(high, p.Drop)
		if offScale(p.Drop) {
			beyond++
		}
	}
	var parts []string
	for _, outcome := range []verdict.Outcome{verdict.Kept, verdict.Rejected, verdict.Inconclusive} {
		if n := counts[outcome]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, outcome))
		}
	}
	summary := fmt.Sprintf("%s; speeds from %s to %s, the last %s", strings.Join(parts, ", "), text.Speed(high), text.Speed(low), text.Speed(points[len(points)-1].Drop))
	if beyond > 0 {
		summary += fmt.Sprintf("; %d beyond the scale, which ends at %s", beyond, text.Speed(mostGain))
	}
	return summary
}

// newHistoryPlot draws a phase of a pair over time, failures at the bottom. It is nil
// where nothing was measured.
func newHistoryPlot(id string, points []store.Point, phase verdict.Phase) *plotView {
	all := ofPhase(points, phase)
	if len(all) == 0 {
		return nil
	}
	y := speedAxis(dropsOf(all), plotBottom, plotTop)
	first, last := points[0].Time, points[len(points)-1].Time
	x := timeAxis(first, last, plotLeft+8, plotRight-8)
	t := draw(all, func(i int) float64 { return x.at(float64(all[i].Time.UnixMilli())) }, y)
	p := &plotView{
		ID:          id,
		Title:       "Speed in " + string(phase),
		Description: fmt.Sprintf("From %s to %s: %s.", when(first), when(last), tale(all)),
		Rows:        y.ticksOfSpeeds(tickApart),
		Columns:     timeTicks(first, last),
		Limit:       t.limit,
		Bands:       []string{t.band},
		Strokes:     []strokeView{{"line", t.line}},
	}
	if len(all) == 1 {
		p.Limit = "M" + pixel(plotLeft) + " " + pixel(y.at(all[0].Threshold)) + "H" + pixel(plotRight)
	}
	for _, point := range all {
		radius := 3.0
		if point.Changed {
			radius = 4.5
		}
		p.Marks = append(p.Marks, markSpeed(string(point.Outcome), x.at(float64(point.Time.UnixMilli())), y, point.Drop, radius,
			fmt.Sprintf("cycle %d, %s: %s, %s", point.Cycle, when(point.Time), point.Outcome, text.SpeedWithin(point.Drop, point.Lower, point.Upper))))
	}
	for _, point := range points {
		if len(point.Changes) > 0 {
			at := pixel(x.at(float64(point.Time.UnixMilli())))
			p.Strokes = append(p.Strokes, strokeView{"set", fmt.Sprintf("M%s %dV%d", at, plotTop, plotBottom)})
			p.Marks = append(p.Marks, markView{
				Class: "input", X: at, Y: pixel(plotTop), R: "3",
				Title: fmt.Sprintf("cycle %d, %s: changed: %s", point.Cycle, when(point.Time), changeTexts(point.Changes)),
			})
		}
		if len(point.Phases) == 0 {
			word, why := ending(point.Outcome, point.Reason), reason(point.Reason)
			if point.Reason == "" {
				why = "nothing was measured"
			}
			p.Marks = append(p.Marks, markView{
				Class: word, X: pixel(x.at(float64(point.Time.UnixMilli()))), Y: pixel(plotBottom), R: "3",
				Title: strings.TrimSuffix(fmt.Sprintf("cycle %d, %s: %s, %s", point.Cycle, when(point.Time), word, why), ", "),
			})
		}
	}
	return p
}

// newQualityPlot draws how far the predictions of a pair's copies were from the original's
// over time, the worse the lower. It is nil where that was never evaluated.
func newQualityPlot(id string, points []store.Point) *plotView {
	var all []store.Point
	var values []float64
	for _, p := range points {
		if p.Quality != nil {
			all = append(all, p)
			values = append(values, p.Quality.KLDivergence.Lower, p.Quality.KLDivergence.Upper)
			if p.Quality.Limit > 0 {
				values = append(values, p.Quality.Limit)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	y := linearAxis(values, plotTop, plotBottom)
	first, last := points[0].Time, points[len(points)-1].Time
	x := timeAxis(first, last, plotLeft+8, plotRight-8)
	p := &plotView{
		ID:          id,
		Title:       "KL divergence, in nats (down is worse)",
		Description: fmt.Sprintf("From %s to %s, in %d evaluated %s; the last %s.", when(first), when(last), len(all), text.Plural(len(all), "cycle", "cycles"), text.Divergence(all[len(all)-1].Quality.KLDivergence.Estimate)),
		Rows:        y.ticks(),
		Columns:     timeTicks(first, last),
	}
	var better, worse, line, limit []string
	for _, point := range all {
		q, at := point.Quality, pixel(x.at(float64(point.Time.UnixMilli())))
		better = append(better, at+" "+pixel(y.at(q.KLDivergence.Lower)))
		worse = append([]string{at + " " + pixel(y.at(q.KLDivergence.Upper))}, worse...)
		line = append(line, at+" "+pixel(y.at(q.KLDivergence.Estimate)))
		title := fmt.Sprintf("cycle %d, %s: %s [%s–%s]", point.Cycle, when(point.Time), text.Divergence(q.KLDivergence.Estimate), text.Divergence(q.KLDivergence.Lower), text.Divergence(q.KLDivergence.Upper))
		if q.Limit > 0 {
			limit = append(limit, at+" "+pixel(y.at(q.Limit)))
			title += ", limit " + text.Divergence(q.Limit)
		}
		class := string(verdict.Kept)
		if point.Gate == verdict.GateQuality {
			class = string(verdict.Rejected)
		}
		p.Marks = append(p.Marks, markView{Class: class, X: at, Y: pixel(y.at(q.KLDivergence.Estimate)), R: "3", Title: title})
	}
	p.Bands = []string{"M" + strings.Join(append(better, worse...), "L") + "z"}
	p.Strokes = []strokeView{{"line", "M" + strings.Join(line, "L")}}
	if len(all) == 1 && len(limit) == 1 {
		limit = []string{pixel(plotLeft) + " " + pixel(y.at(all[0].Quality.Limit)), pixel(plotRight) + " " + pixel(y.at(all[0].Quality.Limit))}
	}
	if len(limit) > 0 {
		p.Limit = "M" + strings.Join(limit, "L")
	}
	return p
}

// changeTexts writes changes of inputs on one line.
func changeTexts(changes []runner.Change) string {
	var all []string
	for _, change := range changes {
		all = append(all, text.Name(change.Text))
	}
	return strings.Join(all, "; ")
}

// timeTicks label the ends of a horizontal axis: with dates, or with times of the one day.
func timeTicks(first, last time.Time) []tickView {
	form, label := "day", day
	var ticks []tickView
	add := func(at float64, anchor, form, label string, t time.Time) {
		ticks = append(ticks, tickView{At: pixel(at), Label: label, Anchor: anchor, Form: form, Moment: t.UTC().Format(time.RFC3339)})
	}
	if day(first) == day(last) {
		form, label = "clock", func(t time.Time) string { return t.UTC().Format("15:04") }
		add((plotLeft+plotRight)/2, "middle", "zone", day(first)+", UTC", first)
	}
	add(plotLeft, "start", form, label(first), first)
	if label(first) != label(last) {
		add(plotRight, "end", form, label(last), last)
	}
	return ticks
}

// newLooksPlot draws how the interval of a phase narrowed from look to look.
func newLooksPlot(id string, v *verdict.PhaseVerdict, threshold float64) *plotView {
	if len(v.Looks) == 0 {
		return nil
	}
	drops := []float64{threshold}
	for _, look := range v.Looks {
		drops = append(append(drops, dropAt(look)), closed(look.Lower, look.Upper)...)
	}
	y := speedAxis(drops, plotBottom, plotTop)
	last := v.Looks[len(v.Looks)-1]
	p := &plotView{
		ID:    id,
		Title: "Speed in " + string(v.Phase),
		Description: fmt.Sprintf("The interval of the speed at %d %s, with the limit at %s; after %d rounds it is %s.",
			len(v.Looks), text.Plural(len(v.Looks), "check", "checks"), text.SpeedLimit(threshold), last.Rounds, text.SpeedInterval(last.Lower, last.Upper)),
		Rows:  y.ticksOfSpeeds(tickApart),
		Limit: "M" + pixel(plotLeft) + " " + pixel(y.at(threshold)) + "H" + pixel(plotRight),
	}
	step := float64(plotRight-plotLeft) / float64(len(v.Looks))
	for i, look := range v.Looks {
		x := plotLeft + (float64(i)+0.5)*step
		low, high := y.ends(look.Lower, look.Upper)
		class := string(look.Outcome)
		p.Columns = append(p.Columns, tickView{At: pixel(x), Label: strconv.Itoa(look.Rounds), Anchor: "middle"})
		p.Strokes = append(p.Strokes, strokeView{"interval " + class, fmt.Sprintf("M%s %sV%s", pixel(x), pixel(low), pixel(high))})
		p.Marks = append(p.Marks, markSpeed(class, x, y, dropAt(look), 4,
			fmt.Sprintf("after %d rounds: %s", look.Rounds, text.SpeedWithin(dropAt(look), look.Lower, look.Upper))))
	}
	return p
}

// dropAt returns the estimate of a look, of which the look itself holds the logarithm.
func dropAt(look verdict.Look) float64 { return 0 - math.Expm1(look.Mean) }

// newRoundsPlot draws what every round measured of a phase: the original and the copy,
// joined; the one that was measured first is the larger mark, and what was repeated is
// hollow.
func newRoundsPlot(id string, rounds []runner.Round, phase verdict.Phase) *plotView {
	var values []float64
	for _, round := range rounds {
		if original, quantized, measured := round.Throughputs(phase); measured {
			values = append(values, original, quantized)
		}
	}
	if len(values) == 0 {
		return nil
	}
	y := linearAxis(values, plotBottom, plotTop)
	p := &plotView{
		ID:          id,
		Title:       "Rounds, " + string(phase) + ", tokens/s",
		Description: fmt.Sprintf("Throughput of the original and the copy in each of %d rounds; the table of rounds has the figures.", len(values)/2),
		Rows:        y.ticks(),
	}
	step := float64(plotRight-plotLeft) / float64(len(rounds))
	large := max(min(step*0.45, 4), 1.8) // marks of neighbours shall not cover each other
	for i, round := range rounds {
		x := plotLeft + (float64(i)+0.5)*step
		original, quantized, measured := round.Throughputs(phase)
		state, radii := "", [2]string{pixel(large), pixel(large * 0.62)}
		if !round.Counted {
			state = " repeated"
		}
		if round.First == runner.StageQuantized {
			radii[0], radii[1] = radii[1], radii[0]
		}
		if every := len(rounds)/12 + 1; i%every == 0 {
			p.Columns = append(p.Columns, tickView{At: pixel(x), Label: strconv.Itoa(i + 1), Anchor: "middle"})
		}
		if i > 0 && round.Set != rounds[i-1].Set {
			p.Strokes = append(p.Strokes, strokeView{"set", fmt.Sprintf("M%s %dV%d", pixel(x-step/2), plotTop, plotBottom)})
		}
		if !measured {
			continue
		}
		p.Strokes = append(p.Strokes, strokeView{"pair" + state, fmt.Sprintf("M%s %sV%s", pixel(x), pixel(y.at(original)), pixel(y.at(quantized)))})
		for j, value := range []float64{original, quantized} {
			stage := []runner.Stage{runner.StageOriginal, runner.StageQuantized}[j]
			p.Marks = append(p.Marks, markView{
				Class: string(stage) + state, X: pixel(x), Y: pixel(y.at(value)), R: radii[j],
				Title: fmt.Sprintf("round %d, %s: %s tokens/s%s", i+1, stage, text.Throughput(value), strings.Replace(state, " ", ", ", 1)),
			})
		}
	}
	return p
}
