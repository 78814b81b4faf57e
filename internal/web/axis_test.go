package web_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/internal/web"
	"github.com/quant-exporter/quant-exporter/runner"
)

func float(t testing.TB, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	require.NoError(t, err, text)
	return v
}

// A bar shows on which side of the limit a speed lies, from several times the original's to
// a standstill.
func TestBarsAreInOrder(t *testing.T) {
	last := 133.0
	for _, drop := range []float64{-50, -3, -2, -1, -0.3, -0.05, 0, 0.02, 0.1, 0.12, 0.14, 0.3, 0.8, 1} {
		bar := web.NewBar("kept", drop, nil, nil, 0.12)
		x := float(t, bar.Point)
		assert.LessOrEqual(t, x, last, drop)
		if drop > -3 {
			assert.Less(t, x, last, drop)
		}
		last = x
		var limit float64
		_, err := fmt.Sscanf(bar.Limit, "M%f", &limit)
		require.NoError(t, err)
		assert.Equal(t, drop >= 0.12, x <= limit, drop)
		assert.GreaterOrEqual(t, x, 0.0)
		assert.LessOrEqual(t, x, 132.0)
		assert.Equal(t, "M0 8H132", bar.Range, "open ends run out of the picture")
	}
	narrow := web.NewBar("kept", 0.02, new(0.0199), new(0.0201), 0.12)
	var from, to float64
	_, err := fmt.Sscanf(narrow.Range, "M%f 8H%f", &from, &to)
	require.NoError(t, err)
	assert.InDelta(t, 2, to-from, 0.11, "still visible")
}

// What is beyond the scale is an arrow, and says so.
func TestBeyondTheScale(t *testing.T) {
	points := func(drops ...float64) (all []store.Point) {
		for i, drop := range drops {
			all = append(all, store.Point{
				Time: now.Add(time.Duration(i) * time.Hour), Cycle: uint64(i), Outcome: verdict.Kept, Threshold: 0.12,
				Phases: []store.PointPhase{{Phase: verdict.Generation, Drop: drop, Lower: new(drop - 0.1), Upper: new(drop + 0.1)}},
			})
		}
		return all
	}
	plot := web.NewHistoryPlot("id", points(-3.298, -2.5), verdict.Generation)
	assert.Regexp(t, `^M[0-9. hlz-]+$`, plot.Marks[0].Arrow)
	assert.Contains(t, plot.Marks[0].Title, "kept, 4.3× [4.2–4.4], beyond the scale")
	assert.Empty(t, plot.Marks[1].Arrow)
	assert.Contains(t, plot.Description, "1 beyond the scale, which ends at 4.0×")
	spark := web.NewSpark(points(-2.5, -3.298), verdict.Generation)
	assert.NotEmpty(t, spark.Marks[0].Arrow)
	assert.Contains(t, spark.Title, "1 beyond the scale")

	assert.NotEmpty(t, web.NewBar("kept", -3.298, new(-3.4), new(-3.2), 0.12).Arrow)
	assert.Empty(t, web.NewBar("kept", -3, nil, nil, 0.12).Arrow)
	assert.NotContains(t, web.NewHistoryPlot("id", points(-3, 1), verdict.Generation).Description, "beyond")
}

// A time axis has dates at its ends, or the times of the one day.
func TestTimesOfOneDay(t *testing.T) {
	labels := func(after ...time.Duration) (all []string) {
		var points []store.Point
		for _, d := range after {
			points = append(points, store.Point{Time: now.Add(d), Phases: []store.PointPhase{{Phase: verdict.Generation}}})
		}
		for _, tick := range web.NewHistoryPlot("id", points, verdict.Generation).Columns {
			all = append(all, tick.Label)
		}
		return all
	}
	assert.Equal(t, []string{"2000-01-01", "2000-01-03"}, labels(0, 48*time.Hour))
	assert.Equal(t, []string{"2000-01-01, UTC", "01:00", "22:30"}, labels(time.Hour, 22*time.Hour+30*time.Minute))
	assert.Equal(t, []string{"2000-01-01, UTC", "01:00"}, labels(time.Hour))
}

func TestTicks(t *testing.T) {
	for _, drops := range [][]float64{{0}, {0.12}, {-0.3, 0.12}, {-2.5, 0.12}, {0.01, 0.12, 0.9}, {-100, 1}} {
		at, labels := web.TicksOfSpeeds(drops)
		assert.Contains(t, labels, "1×", drops)
		assert.LessOrEqual(t, len(labels), 11)
		for i := range at {
			for j := range i {
				assert.GreaterOrEqual(t, math.Abs(float(t, at[i])-float(t, at[j])), 14.9, "labels do not cover each other")
			}
		}
	}
	for _, values := range [][]float64{{7}, {0.001, 0.002}, {33.1, 34.6}, {100, 100.2}, {1, 100000}, {1e-9, 1e12}} {
		labels := web.TicksOf(values)
		assert.GreaterOrEqual(t, len(labels), 2, values)
		assert.LessOrEqual(t, len(labels), 8, values)
	}
}

// The worse the quality, the lower in the chart.
func TestQualityIsWorseDown(t *testing.T) {
	point := func(cycle uint64, divergence float64) store.Point {
		return store.Point{
			Time: now.Add(time.Duration(cycle) * time.Hour), Cycle: cycle, Outcome: verdict.Kept,
			Quality: &store.PointQuality{KLDivergence: quality.Interval{Estimate: divergence, Lower: divergence * 0.9, Upper: divergence * 1.1}, Limit: 0.05},
		}
	}
	rejected := point(2, 0.06)
	rejected.Outcome, rejected.Gate = verdict.Rejected, verdict.GateQuality
	plot := web.NewQualityPlot("id", []store.Point{point(1, 0.01), rejected, {Time: now.Add(3 * time.Hour), Cycle: 3, Reason: runner.ReasonQuantize}})
	require.Len(t, plot.Marks, 2)
	assert.Less(t, float(t, plot.Marks[0].Y), float(t, plot.Marks[1].Y))
	assert.Equal(t, "rejected", plot.Marks[1].Class)
	assert.Contains(t, plot.Marks[1].Title, "cycle 2, 2000-01-01 02:00 UTC: 0.06 [0.054–0.066], limit 0.05")
	assert.NotEmpty(t, plot.Limit)
	assert.Nil(t, web.NewQualityPlot("id", []store.Point{{Cycle: 1}}))
	assert.Regexp(t, `^M46 [0-9.]+L370 [0-9.]+$`, web.NewQualityPlot("id", []store.Point{point(1, 0.01)}).Limit)
}

// Every place of a chart tells about the marks that are nearest to it.
func TestReadouts(t *testing.T) {
	var points []store.Point
	for _, hours := range []time.Duration{0, 1, 4} {
		points = append(points, store.Point{
			Time: now.Add(hours * time.Hour), Cycle: uint64(hours + 1), Outcome: verdict.Kept,
			Phases: []store.PointPhase{{Phase: verdict.Generation, Drop: -0.5}},
		})
	}
	points[2].Changes = []runner.Change{{Text: "llama.cpp 1 → 2"}}
	all, err := web.NewHistoryPlot("id", points, verdict.Generation).Readouts()
	require.NoError(t, err)
	require.Len(t, all, 3)
	end := 0.0
	for i, readout := range all {
		from := float(t, strings.TrimSuffix(readout.From, "%"))
		assert.InDelta(t, end, from, 0.2, "without a gap")
		end = from + float(t, strings.TrimSuffix(readout.Width, "%"))
		at := float(t, strings.TrimSuffix(readout.At, "%"))
		assert.True(t, from <= at && at <= end)
		assert.Contains(t, readout.Lines[0], fmt.Sprintf("cycle %d, ", points[i].Cycle))
	}
	assert.InDelta(t, 100, end, 0.2)
	assert.Len(t, all[2].Lines, 2)
	assert.Contains(t, all[2].Lines[1], "changed: llama.cpp 1 → 2")
}

// Whatever was measured, what is drawn are numbers.
func FuzzPlots(f *testing.F) {
	f.Add(0.1, 0.05, 0.15, 0.12, true)
	f.Add(-1e300, -1e308, 1.0, 0.99, false)
	f.Add(1.0, 1.0, 1.0, 1e-9, true)
	f.Fuzz(func(t *testing.T, drop, lower, upper, threshold float64, open bool) {
		for _, v := range []float64{drop, lower, upper, threshold} {
			if math.IsNaN(v) || math.IsInf(v, 0) { // JSON has none
				return
			}
		}
		low, high := &lower, &upper
		if open {
			low = nil
		}
		bar := web.NewBar("kept", drop, low, high, threshold)
		points := []store.Point{
			{Time: now, Threshold: threshold, Phases: []store.PointPhase{{Phase: verdict.Generation, Drop: drop, Lower: low, Upper: high}}},
			{Time: now, Threshold: threshold, Phases: []store.PointPhase{{Phase: verdict.Generation, Drop: lower, Lower: nil, Upper: nil}}},
		}
		plot := web.NewHistoryPlot("id", points, verdict.Generation)
		for _, path := range []string{bar.Range, bar.Limit, bar.Zone, bar.Point, plot.Bands[0], plot.Limit, plot.Strokes[0].Path} {
			assert.Regexp(t, `^[MLHVz0-9. -]+$`, path)
		}
	})
}

// A budget that is spent leaves a result without a figure, which is not a speed of 1×.
func TestAResultWithoutARoundIsNoPoint(t *testing.T) {
	now := time.Unix(1e9, 0)
	points := []store.Point{
		{Cycle: 1, Time: now, Outcome: verdict.Kept, Phases: []store.PointPhase{{Phase: verdict.Generation, Drop: -0.5}}},
		{Cycle: 2, Time: now.Add(time.Hour), Outcome: verdict.Inconclusive},
	}
	plot := web.NewHistoryPlot("id", points, verdict.Generation)
	require.Len(t, plot.Marks, 2)
	assert.Contains(t, plot.Marks[1].Title, "cycle 2")
	assert.Contains(t, plot.Marks[1].Title, "inconclusive, nothing was measured")
	assert.Contains(t, plot.Description, "1 kept; speeds from 1.50× to 1.50×")
}
