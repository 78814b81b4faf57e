package text

import "fmt"

// People read how fast a copy is beside its original: 3.7× is 3.7 times as fast, 0.88× is
// 12 % slower. Everything else (metrics, events, the verdict) holds the drop in throughput,
// a ratio that is 1 − speed. Where both are meant, these functions lead from one to the
// other, and nothing else does.

// Speed writes the speed of a copy whose throughput drops by that ratio: "3.7×", and
// "> 100×" or "< 0.01×" where more digits would be noise.
func Speed(drop float64) string { return speed(drop) + "×" }

// SpeedInterval writes the ends of an interval of drops, from the slow one to the fast one:
// "[2.8–5.3]". An end that is nil is open.
func SpeedInterval(lower, upper *float64) string {
	return "[" + speedBound(upper) + "–" + speedBound(lower) + "]"
}

// SpeedWithin writes a speed and its interval: "3.7× [2.8–5.3]".
func SpeedWithin(drop float64, lower, upper *float64) string {
	return Speed(drop) + " " + SpeedInterval(lower, upper)
}

// SpeedLimit writes the speed at which, and below which, a threshold rejects, with all the
// digits that somebody gave: "0.88×".
func SpeedLimit(threshold float64) string { return fmt.Sprintf("%.4g×", 1-threshold) }

func speedBound(drop *float64) string {
	if drop == nil {
		return "open"
	}
	return speed(*drop)
}

func speed(drop float64) string {
	switch v := 1 - drop; {
	case v > 100:
		return "> 100"
	case v < 0.01:
		return "< 0.01"
	case v >= 9.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 1.995:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
