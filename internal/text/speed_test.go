package text

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSpeed(t *testing.T) {
	for drop, want := range map[float64]string{
		0: "1.00×", -1e-9: "1.00×", 0.12: "0.88×", 0.5: "0.50×", -0.567: "1.57×", -0.994: "1.99×", -0.996: "2.0×",
		-2.677: "3.7×", -8.94: "9.9×", -8.96: "10×", -98.7: "100×", -99: "100×", -99.01: "> 100×", -1e300: "> 100×",
		0.99: "0.01×", 0.9901: "< 0.01×", 1: "< 0.01×", 2: "< 0.01×",
	} {
		assert.Equal(t, want, Speed(drop), drop)
	}
}

func TestSpeedInterval(t *testing.T) {
	assert.Equal(t, "3.7× [2.8–5.3]", SpeedWithin(-2.677, new(-4.259), new(-1.773)))
	assert.Equal(t, "[0.02–> 100]", SpeedInterval(new(-2207.872), new(0.985)))
	assert.Equal(t, "[< 0.01–0.90]", SpeedInterval(new(0.1), new(0.999)))
	assert.Equal(t, "[open–2.0]", SpeedInterval(new(-1.0), nil))
	assert.Equal(t, "[0.98–open]", SpeedInterval(nil, new(0.02)))
}

func TestSpeedLimit(t *testing.T) {
	assert.Equal(t, "0.88×", SpeedLimit(0.12))
	assert.Equal(t, "0.8766×", SpeedLimit(0.1234))
	assert.Equal(t, "1×", SpeedLimit(1e-9))
}
