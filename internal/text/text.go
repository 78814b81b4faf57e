// Package text writes names and messages of others, and our figures, for people: on a
// terminal, in a log, on a page.
package text

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/units"
)

// Name writes the name of a file or a format on one line: as it is, or quoted when it
// holds anything that a terminal would not show as itself (line ends, escape sequences,
// marks that turn the direction of writing).
func Name(name string) string {
	if strings.IndexFunc(name, unprintable) >= 0 {
		return strconv.Quote(name)
	}
	return name
}

// Text writes a message that may hold what tools or files said: line ends stay, and
// everything else that a terminal would not show as itself is written as an escape.
func Text(message string) string {
	if strings.IndexFunc(message, unprintable) < 0 {
		return message
	}
	var out strings.Builder
	for _, r := range message {
		if r == '\n' || !unprintable(r) {
			out.WriteRune(r)
			continue
		}
		escaped := strconv.QuoteRune(r)
		out.WriteString(escaped[1 : len(escaped)-1])
	}
	return out.String()
}

// unprintable is true for the invisible format characters (Unicode's category Cf), too,
// and for the replacement character, which is what a byte that is not UTF-8 reads as.
func unprintable(r rune) bool { return !strconv.IsPrint(r) || r == '\uFFFD' }

// Percent writes a ratio as a percentage with one decimal: "12.0 %".
func Percent(ratio float64) string { return Tenths(ratio) + " %" }

// Tenths writes a ratio as a percentage with one decimal and without the sign, for a
// column that has it in its head.
func Tenths(ratio float64) string {
	// Adding 0 makes a rounded -0 a plain one.
	return fmt.Sprintf("%.1f", math.Round(ratio*1000)/10+0)
}

// Threshold writes a threshold, a ratio, with all the digits that somebody would give:
// "12 %".
func Threshold(ratio float64) string { return fmt.Sprintf("%.4g %%", ratio*100) }

// Throughput writes tokens per second with three digits, and no fewer than there are
// before the point.
func Throughput(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

// Plural returns the noun that goes with n.
func Plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// Size writes bytes in powers of ten, as file managers and disk vendors do; "-" for 0,
// which is a file that was not made.
func Size(n int64) string {
	switch {
	case n == 0:
		return "-"
	case n < 1e6:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	default:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
}

// Bytes writes a size so that units.ParseStrictBytes reads the same: whole thousands in powers of
// ten, others in powers of two. That function adds parts as floating-point numbers: a size beyond
// 2^53 of which it would lose some is written as one number.
func Bytes(n int64) string {
	written := units.Base2Bytes(n).String()
	switch {
	case n == 0:
		return "0"
	case n%1000 == 0:
		written = units.MetricBytes(n).String()
	}
	if again, err := units.ParseStrictBytes(written); err != nil || again != n {
		return strconv.FormatInt(n, 10) + "B"
	}
	return written
}

// Count writes a number of parameters as model makers do: "7.2 B".
func Count(n int64) string {
	switch {
	case n < 1e6:
		return fmt.Sprintf("%.1f k", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f M", float64(n)/1e6)
	default:
		return fmt.Sprintf("%.1f B", float64(n)/1e9)
	}
}

// Divergence writes nats with three digits.
func Divergence(nats float64) string { return fmt.Sprintf("%.3g", nats) }

// Span writes a duration in the largest unit of which it has at least two, so that it is
// never off by half. The script of the pages does the same.
func Span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", max(d/time.Second, 1))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	default:
		return fmt.Sprintf("%d days", d/day)
	}
}
