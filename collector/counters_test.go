package collector

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The documentation of the export has a row for every counter, with its metric.
func TestCountersOfTheExportAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/http.md")
	require.NoError(t, err)
	row := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| .* `(quant_cycle_\\w+)` \\|$")
	var found, want []string
	for _, match := range row.FindAllStringSubmatch(string(text), -1) {
		found = append(found, match[1]+" "+match[2])
	}
	for kind, f := range countedAs {
		want = append(want, fmt.Sprint(kind, " ", families[f].Name))
	}
	assert.ElementsMatch(t, want, found)
}
