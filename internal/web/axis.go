package web

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// Speeds reach from a standstill to many times the original's, and a few percent about 1×
// decide. Hence their scale is linear about 1× and logarithmic further out: the inverse
// hyperbolic sine of drop / dropKnee, with its sign turned, so that faster is up and right.
// What is faster than mostGain is drawn there, as an arrow.
const (
	dropKnee = 0.05
	mostGain = -3.0 // four times as fast
	mostDrop = 1.0
)

func speedScale(drop float64) float64 {
	return -math.Asinh(min(max(drop, mostGain), mostDrop) / dropKnee)
}

// offScale reports whether a drop lies beyond the scale: no drop is more than all.
func offScale(drop float64) bool { return drop < mostGain }

// speedTicks are where a scale of speeds may be labelled.
var speedTicks = []float64{4, 2, 1.5, 1.2, 1.1, 1.05, 1.02, 1.01, 1, 0.99, 0.98, 0.95, 0.9, 0.8, 0.5, 0}

// axis leads from values to the pixels of a plot.
type axis struct {
	scale    func(float64) float64
	low, end float64 // scaled values at the pixels from and to
	from, to float64
}

// at returns the pixel of a value; what lies beyond an end is drawn at it.
func (a axis) at(v float64) float64 {
	share := (a.scale(v) - a.low) / (a.end - a.low)
	return a.from + min(max(share, 0), 1)*(a.to-a.from)
}

// ends returns the pixels of an interval of drops; an open end, and one beyond the scale, is at
// the end of the axis.
func (a axis) ends(lower, upper *float64) (slow, fast float64) {
	slow, fast = a.from, a.to
	if upper != nil {
		slow = a.at(*upper)
	}
	if lower != nil && !offScale(*lower) {
		fast = a.at(*lower)
	}
	return slow, fast
}

// speedAxis holds the speeds at all of the drops, and 1×.
func speedAxis(drops []float64, from, to float64) axis {
	low, end := speedScale(0), speedScale(0)
	for _, drop := range drops {
		low, end = min(low, speedScale(drop)), max(end, speedScale(drop))
	}
	margin := max((end-low)*0.08, 0.1)
	return axis{speedScale, low - margin, end + margin, from, to}
}

// ticksOfSpeeds returns as many as there is room for, at least apart pixels from each other.
func (a axis) ticksOfSpeeds(apart float64) []tickView {
	var ticks []tickView
	taken := []float64{}
	add := func(speed float64) {
		scaled, at := speedScale(1-speed), a.at(1-speed)
		near := func(other float64) bool { return math.Abs(other-at) < apart }
		if scaled < a.low || scaled > a.end || slices.ContainsFunc(taken, near) {
			return
		}
		taken = append(taken, at)
		ticks = append(ticks, tickView{At: pixel(at), Label: trim(speed) + "×"})
	}
	add(1)
	for i := range speedTicks { // from the outside to the inside
		add(speedTicks[i])
		add(speedTicks[len(speedTicks)-1-i])
	}
	return ticks
}

// linearAxis holds all of the values.
func linearAxis(values []float64, from, to float64) axis {
	low, end := slices.Min(values), slices.Max(values)
	margin := max((end-low)*0.08, end*0.01, 1e-9)
	return axis{func(v float64) float64 { return v }, low - margin, end + margin, from, to}
}

// ticks are two to seven round values.
func (a axis) ticks() []tickView {
	span := a.end - a.low
	magnitude := math.Pow(10, math.Floor(math.Log10(span))-1) // span is 10 to 100 of it
	step := magnitude
	for _, round := range []float64{2, 5, 10, 20} {
		if span/step > 6 {
			step = magnitude * round
		}
	}
	var ticks []tickView
	for i := math.Ceil(a.low / step); i*step <= a.end && len(ticks) < 10; i++ {
		ticks = append(ticks, tickView{At: pixel(a.at(i * step)), Label: trim(i * step)})
	}
	return ticks
}

// timeAxis leads from moments to pixels.
func timeAxis(first, last time.Time, from, to float64) axis {
	return axis{func(v float64) float64 { return v }, float64(first.UnixMilli()), max(float64(last.UnixMilli()), float64(first.UnixMilli()+1)), from, to}
}

// tickView is a labelled place on an axis.
type tickView struct {
	At, Label string
	Anchor    string // what of the label is there: start, middle or end
	// Form is how the label writes At's moment, which the script does in another time zone: day,
	// clock, or zone, which is the day with the zone; "" for what is not a moment.
	Form   string
	Moment string
}

// pixel writes a coordinate: a tenth of a pixel is finer than anybody sees.
func pixel(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// trim writes a round number without the noise of binary fractions.
func trim(v float64) string { return strconv.FormatFloat(v+0, 'g', 6, 64) }

// barView draws a speed and its interval against the threshold, on the same scale for all
// pairs, so that bars can be compared down a column. It says nothing that the figures
// beside it do not.
type barView struct {
	Outcome string
	Zone    string // path of what is beyond the threshold
	Limit   string // of the threshold
	Same    string // of a speed of 1×
	Range   string // of the interval
	Point   string // abscissa of the estimate
	Arrow   string // in place of the point where the scale ends before it; else ""
}

// Size of a bar in pixels.
const (
	barWidth  = 132
	barHeight = 16
)

func newBar(p verdict.PhaseVerdict, threshold float64) *barView {
	x := axis{speedScale, speedScale(mostDrop), speedScale(mostGain), 2, barWidth - 2}
	from, to := x.ends(p.Lower, p.Upper)
	if p.Upper == nil { // open ends run out of the picture
		from = 0
	}
	if p.Lower == nil || offScale(*p.Lower) {
		to = barWidth
	}
	if to-from < 2 { // narrower than anybody sees
		from, to = (from+to)/2-1, (from+to)/2+1
	}
	bottom := "V" + strconv.Itoa(barHeight)
	limit := pixel(x.at(threshold))
	arrow := ""
	if offScale(p.Drop) {
		arrow = fmt.Sprintf("M%d 8L%d 3.5V12.5z", barWidth, barWidth-8)
	}
	return &barView{
		Arrow:   arrow,
		Outcome: string(p.Outcome),
		Zone:    "M0 0H" + limit + bottom + "H0z",
		Limit:   "M" + limit + " 0" + bottom,
		Same:    "M" + pixel(x.at(0)) + " 0" + bottom,
		Range:   "M" + pixel(from) + " " + strconv.Itoa(barHeight/2) + "H" + pixel(to),
		Point:   pixel(x.at(p.Drop)),
	}
}
