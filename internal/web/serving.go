package web

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// What people choose a copy by, of all copies of a model at a glance: its size against its speed
// and against what its predictions are worth, and its throughput over depths and clients.

// labelView is a word beside a mark.
type labelView struct{ X, Y, Text string }

// servingPlots returns the pictures of a model's copies; none where there is nothing to compare.
func servingPlots(pairs []*pairView) []*plotView {
	var plots []*plotView
	for _, plot := range []*plotView{
		newSpeedBySize(pairs), newDivergenceBySize(pairs),
		newFurtherPlot("depths", "Generation over depth, tokens/s", pairs, atDepths(pairs)),
		newFurtherPlot("clients", "Generation over clients, tokens/s in all", pairs, atOnce(pairs)),
	} {
		if plot != nil {
			plots = append(plots, plot)
		}
	}
	return plots
}

// copyPoint is a copy in a picture over sizes.
type copyPoint struct {
	*pairView
	at, low, high float64 // what is drawn, between the ends of its interval
	said          string
}

// primary returns the figures of a pair's speed, if it was measured.
func (v *pairView) primary() (verdict.PhaseVerdict, bool) {
	if v.Pair.Decided == nil {
		return verdict.PhaseVerdict{}, false
	}
	return v.Pair.Decided.Verdict.Primary()
}

// divergence returns how far a pair's predictions are from the original's; nil where that was
// not evaluated.
func (v *pairView) divergence() *quality.Interval {
	if v.Pair.Decided == nil || v.Pair.Decided.Quality == nil {
		return nil
	}
	return &v.Pair.Decided.Quality.KLDivergence
}

// dominated returns the kept copy that is better than this one in one of size, speed and
// divergence, and in none of them worse; nil where there is none. Speeds and divergences that
// cannot be told apart are equal, as they are where a format is chosen: estimates change places from
// night to night.
func (v *pairView) dominated(pairs []*pairView) *pairView {
	if _, measured := v.primary(); !measured {
		return nil
	}
	mine := v.Pair.Decided.Candidate()
	for _, other := range pairs {
		if _, measured := other.primary(); other == v || !measured || other.Decision() != string(verdict.Kept) {
			continue
		}
		its := other.Pair.Decided.Candidate()
		if its.Method != mine.Method { // their speeds are not comparable
			continue
		}
		differences := []int{cmp.Compare(v.bytes(), other.bytes()), choice.CompareSpeeds(mine, its)}
		if mine.KLDivergence != nil && its.KLDivergence != nil {
			differences = append(differences, mine.KLDivergence.Compare(*its.KLDivergence))
		}
		if slices.Min(differences) >= 0 && slices.Max(differences) > 0 {
			return other
		}
	}
	return nil
}

func newSpeedBySize(pairs []*pairView) *plotView {
	var points []copyPoint
	var drops []float64
	for _, v := range pairs {
		if p, measured := v.primary(); measured && v.bytes() > 0 {
			points = append(points, copyPoint{pairView: v, said: text.SpeedWithin(p.Drop, p.Lower, p.Upper)})
			drops = append(append(drops, p.Drop), closed(p.Lower, p.Upper)...)
		}
	}
	if len(points) < 2 {
		return nil
	}
	y := speedAxis(drops, plotBottom, plotTop+10)
	for i := range points {
		p, _ := points[i].primary()
		points[i].at = y.at(p.Drop)
		points[i].low, points[i].high = y.ends(p.Lower, p.Upper)
	}
	return bySize("sizes-speed", "Speed beside the original", points, pairs, y.ticksOfSpeeds(tickApart))
}

func newDivergenceBySize(pairs []*pairView) *plotView {
	var points []copyPoint
	var values []float64
	for _, v := range pairs {
		if d := v.divergence(); d != nil && v.bytes() > 0 {
			points = append(points, copyPoint{pairView: v, said: fmt.Sprintf("KL divergence %s [%s–%s]%s",
				text.Divergence(d.Estimate), text.Divergence(d.Lower), text.Divergence(d.Upper), v.Pair.Decided.Quality.InPart())})
			values = append(values, d.Estimate, d.Lower, d.Upper)
		}
	}
	if len(points) < 2 {
		return nil
	}
	y := linearAxis(values, plotTop+10, plotBottom)
	for i := range points {
		d := points[i].divergence()
		points[i].at, points[i].low, points[i].high = y.at(d.Estimate), y.at(d.Lower), y.at(d.Upper)
	}
	return bySize("sizes-divergence", "KL divergence (down is worse)", points, pairs, y.ticks())
}

// bySize draws copies over their sizes.
func bySize(id, title string, points []copyPoint, pairs []*pairView, rows []tickView) *plotView {
	largest := slices.MaxFunc(points, func(a, b copyPoint) int { return int(a.bytes()/1000 - b.bytes()/1000) }).bytes()
	unit, name := 1e6, "MB"
	if largest >= 1e9 {
		unit, name = 1e9, "GB"
	}
	sizes := []float64{}
	for _, p := range points {
		sizes = append(sizes, float64(p.bytes())/unit)
	}
	x := linearAxis(sizes, plotLeft+16, plotRight-16)
	p := &plotView{ID: id, Title: title + ", by size in " + name, Rows: rows}
	for _, tick := range x.ticks() {
		tick.Anchor = "middle"
		p.Columns = append(p.Columns, tick)
	}
	var sentences []string
	for i, point := range points {
		at := pixel(x.at(sizes[i]))
		said := fmt.Sprintf("%s: %s, %s, %s", text.Name(point.id.Target), text.Size(point.bytes()), point.said, point.Decision())
		class, radius := point.Decision(), "3.5"
		if other := point.dominated(pairs); other != nil {
			class = "dominated"
			said += "; " + text.Name(other.id.Target) + " is no worse in anything"
		}
		if point.Chosen != "" {
			radius, said = "5.5", said+"; chosen"
		}
		p.Strokes = append(p.Strokes, strokeView{"pair", fmt.Sprintf("M%s %sV%s", at, pixel(point.low), pixel(point.high))})
		p.Marks = append(p.Marks, markView{Class: class, X: at, Y: pixel(point.at), R: radius, Title: said})
		p.Labels = append(p.Labels, labelView{at, pixel(math.Max(point.at-8, plotTop+2)), text.Name(point.id.Target)})
		sentences = append(sentences, said)
	}
	p.Description = strings.Join(sentences, ". ") + "."
	return p
}

// atDepths returns generation and its further depths, as far as any pair was measured at one.
func atDepths(pairs []*pairView) []verdict.Phase {
	return furtherPhases(pairs, func(_, depth int) int { return depth })
}

// atOnce returns generation and its further numbers of clients.
func atOnce(pairs []*pairView) []verdict.Phase {
	return furtherPhases(pairs, func(clients, _ int) int { return clients })
}

// furtherPhases returns generation, then the phases of a kind, of which number is above 0, in
// the order of that number.
func furtherPhases(pairs []*pairView, number func(clients, depth int) int) []verdict.Phase {
	of := func(phase verdict.Phase) int {
		clients, depth, _ := phase.Further()
		return number(clients, depth)
	}
	phases := []verdict.Phase{verdict.Generation}
	for _, v := range pairs {
		for _, p := range v.Phases() {
			if of(p.Phase) > 0 && !slices.Contains(phases, p.Phase) {
				phases = append(phases, p.Phase)
			}
		}
	}
	slices.SortFunc(phases, func(a, b verdict.Phase) int { return of(a) - of(b) })
	return phases
}

// labelApart is how far apart labels are in pixels, for each to be read.
const labelApart = 11

// newFurtherPlot draws throughputs in phases that belong together, a line for the original and
// one for each copy. It is nil where there is but one phase.
func newFurtherPlot(id, title string, pairs []*pairView, phases []verdict.Phase) *plotView {
	if len(phases) < 2 {
		return nil
	}
	type line struct {
		name, class string
		values      []float64
	}
	var lines []line
	all := []float64{0}
	for _, v := range pairs {
		original, quantized := line{name: "original", class: "original"}, line{name: text.Name(v.id.Target), class: "quantized"}
		for _, phase := range phases {
			for _, p := range v.Phases() {
				if p.Phase == phase {
					original.values, quantized.values = append(original.values, p.Original), append(quantized.values, p.Quantized)
				}
			}
		}
		if len(quantized.values) < len(phases) {
			continue
		}
		if len(lines) == 0 {
			lines = append(lines, original)
		}
		lines = append(lines, quantized)
	}
	if len(lines) == 0 {
		return nil
	}
	for _, l := range lines {
		all = append(all, l.values...)
	}
	y := linearAxis(all, plotBottom, plotTop)
	step := float64(plotRight-plotLeft-120) / float64(len(phases)-1)
	x := func(i int) float64 { return plotLeft + 40 + float64(i)*step }
	p := &plotView{ID: id, Title: title, Rows: y.ticks()}
	for i, phase := range phases {
		p.Columns = append(p.Columns, tickView{At: pixel(x(i)), Label: string(phase), Anchor: "middle"})
	}
	var sentences []string
	for _, l := range lines {
		var path, figures []string
		for i, value := range l.values {
			path = append(path, pixel(x(i))+" "+pixel(y.at(value)))
			p.Marks = append(p.Marks, markView{Class: l.class, X: pixel(x(i)), Y: pixel(y.at(value)), R: "3", Title: fmt.Sprintf("%s, %s: %s tokens/s", l.name, phases[i], text.Throughput(value))})
			figures = append(figures, text.Throughput(value))
		}
		p.Strokes = append(p.Strokes, strokeView{"line", "M" + strings.Join(path, "L")})
		sentences = append(sentences, l.name+": "+strings.Join(figures, ", "))
	}
	last := len(phases) - 1
	slices.SortFunc(lines, func(a, b line) int { return cmp.Compare(b.values[last], a.values[last]) }) // from the top
	lowest := math.Inf(-1)
	for _, l := range lines { // beside the ends of their lines, and not on top of each other
		lowest = math.Max(lowest+labelApart, y.at(l.values[last])+3.5)
		p.Labels = append(p.Labels, labelView{pixel(x(last) + 40), pixel(lowest), l.name})
	}
	p.Description = fmt.Sprintf("Tokens per second in %v. %s.", phases, strings.Join(sentences, "; "))
	return p
}
