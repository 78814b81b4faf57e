package web

import "github.com/quant-exporter/quant-exporter/internal/verdict"

// ServeOn is Serve on listeners that a test made.
var ServeOn = serve

// NewBar draws the speed at a drop and its interval.
func NewBar(outcome verdict.Outcome, drop float64, lower, upper *float64, threshold float64) *barView {
	return newBar(verdict.PhaseVerdict{Outcome: outcome, Drop: drop, Lower: lower, Upper: upper}, threshold)
}

// NewSpark, NewHistoryPlot and NewQualityPlot draw.
var (
	NewSpark       = newSpark
	NewHistoryPlot = newHistoryPlot
	NewQualityPlot = newQualityPlot
)

// TicksOfSpeeds are the labels of an axis that holds the speeds at the drops, and where they are.
func TicksOfSpeeds(drops []float64) (at, labels []string) {
	for _, tick := range speedAxis(drops, plotBottom, plotTop).ticksOfSpeeds(tickApart) {
		at, labels = append(at, tick.At), append(labels, tick.Label)
	}
	return at, labels
}

// TicksOf returns the labels of a linear axis.
func TicksOf(values []float64) (labels []string) {
	for _, tick := range linearAxis(values, plotBottom, plotTop).ticks() {
		labels = append(labels, tick.Label)
	}
	return labels
}
