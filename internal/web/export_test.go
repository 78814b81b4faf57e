package web

// ServeOn is Serve on listeners that a test made.
var ServeOn = serve

// NewBar, NewSpark and NewHistoryPlot draw.
var (
	NewBar         = newBar
	NewSpark       = newSpark
	NewHistoryPlot = newHistoryPlot
)

// TicksOfDrops are the labels of an axis that holds the drops, and where they are.
func TicksOfDrops(drops []float64) (at, labels []string) {
	for _, tick := range dropAxis(drops, plotBottom, plotTop).ticksOfDrops(tickApart) {
		at, labels = append(at, tick.At), append(labels, tick.Label)
	}
	return at, labels
}

// TicksOf are those of a linear axis.
func TicksOf(values []float64) (labels []string) {
	for _, tick := range linearAxis(values, plotBottom, plotTop).ticks() {
		labels = append(labels, tick.Label)
	}
	return labels
}
