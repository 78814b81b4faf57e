package text

import (
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

// harmless checks that a terminal shows message as it is; line ends are ours.
func harmless(t *testing.T, message string) {
	t.Helper()
	assert.True(t, utf8.ValidString(message), "%q", message)
	for _, r := range message {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			assert.Failf(t, "raw control character", "%q in %q", r, message)
		}
	}
}

func TestFigures(t *testing.T) {
	assert.Equal(t, "0.0 %", Percent(-0.0004))
	assert.Equal(t, "-0.1 %", Percent(-0.0005))
	assert.Equal(t, "12 %", Threshold(0.12))
	assert.Equal(t, "12.34 %", Threshold(0.1234))
	for v, want := range map[float64]string{10214.4: "10214", 100: "100", 13.44: "13.4", 1.005: "1.00", 0.012345: "0.0123", 1e-9: "1e-09", 0: "0"} {
		assert.Equal(t, want, Throughput(v))
	}
}

func TestNameAndText(t *testing.T) {
	for _, name := range []string{"llama", "日本語", "שלום", "tab here", `it's "q" \ x`, ""} {
		assert.Equal(t, name, Name(name))
		assert.Equal(t, name, Text(name))
	}
	assert.Equal(t, `"a\nb"`, Name("a\nb"))
	assert.Equal(t, "a\nb\\x1bc\\u202e", Text("a\nb\x1bc\u202e"))
}

func FuzzText(f *testing.F) {
	f.Add("a\nb\r\x1b[2J\u009b31m\u202egpj\x01\x02\x03\x04\xff\t\x7fz")
	f.Add("llama\x85\u2028\u2066")
	f.Fuzz(func(t *testing.T, message string) {
		harmless(t, Text(message))
		harmless(t, Name(message))
		assert.NotContains(t, Name(message), "\n")
	})
}
