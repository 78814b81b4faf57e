// Package studentt has the upper quantiles of Student's t distribution, and the interval that they make.
package studentt

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// Upper returns the value that Student's t with that many degrees of freedom, more than 0, exceeds
// with the probability alpha, 0 to 0.5.
//
// The two tails beyond t hold I_x(freedom/2, 1/2), the regularized incomplete beta function at
// x = freedom / (freedom + t²): Abramowitz and Stegun, 26.7.1 and 26.5.27. Only that function is taken
// from gonum: its type of the distribution links its linear algebra, which is a twentieth of the program.
func Upper(alpha, freedom float64) float64 {
	x := mathext.InvRegIncBeta(freedom/2, 0.5, 2*alpha)
	return math.Sqrt(freedom * (1 - x) / x)
}

// Interval returns the mean of two figures or more, and half the width of the interval around it
// that holds the true mean with that confidence, 0 to 1, where the figures are normal.
func Interval(x []float64, confidence float64) (mean, half float64) {
	n, squares := float64(len(x)), 0.0
	for _, v := range x {
		mean += v / n
	}
	for _, v := range x {
		squares += (v - mean) * (v - mean)
	}
	return mean, Upper((1-confidence)/2, n-1) * math.Sqrt(squares/(n-1)/n)
}
