package studentt

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"gonum.org/v1/gonum/stat/distuv"
)

// The values are those of a table of the distribution.
func TestUpper(t *testing.T) {
	assert.InDelta(t, 2.919986, Upper(0.05, 2), 1e-6)
	assert.InDelta(t, 22.327125, Upper(0.001, 2), 1e-5)
	assert.InDelta(t, 3.364930, Upper(0.01, 5), 1e-6)
	assert.InDelta(t, 1.770933, Upper(0.05, 13), 1e-6)
	assert.Zero(t, Upper(0.5, 3))
	assert.True(t, math.IsInf(Upper(0, 3), 1))
}

func TestUpperIsThatOfTheLibrary(t *testing.T) {
	for _, freedom := range []float64{1, 2, 3, 5, 13, 41, 127, 1000} {
		for _, alpha := range []float64{1e-9, 1e-5, 0.001, 0.0025, 0.02, 0.1, 0.3, 0.49} {
			theirs := -distuv.StudentsT{Sigma: 1, Nu: freedom}.Quantile(alpha)
			assert.InEpsilon(t, theirs, Upper(alpha, freedom), 1e-12, "%g of %g", alpha, freedom)
		}
	}
}

func TestInterval(t *testing.T) {
	mean, half := Interval([]float64{1, 2, 3, 4}, 0.95)
	assert.InDelta(t, 2.5, mean, 1e-12)
	assert.InDelta(t, 3.182446*1.290994/2, half, 1e-5) // t of 3 degrees of freedom, times s, over √4
	_, half = Interval([]float64{2, 2, 2}, 0.999)
	assert.Zero(t, half)
}
