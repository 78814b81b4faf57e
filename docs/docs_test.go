package docs_test

import (
	"io"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/command"
	"github.com/quant-exporter/quant-exporter/internal/test/docs"
)

// The tables of the documentation that list what the program has are made of the program:
// see `make docs`.
func TestDocs(t *testing.T) {
	app := command.NewFlags(io.Discard).App.Model()
	docs.Check(t, "..", docs.Tables(t, "..", app))
	docs.CheckNames(t, "..", app)
	docs.CheckLinks(t, "..")
}

func TestDocsHaveEveryExitStatus(t *testing.T) {
	var want []string
	for _, status := range []int{command.ExitKept, command.ExitRejected, command.ExitInconclusive, command.ExitFailed, command.ExitError} {
		want = append(want, strconv.Itoa(status))
	}
	assert.Equal(t, want, docs.Rows(t, "..", "exit status of `run`"))
}

func TestHelpIsSentences(t *testing.T) {
	toolkits := []string{"web.listen-address", "web.config.file"} // worded by exporter-toolkit
	app := command.NewFlags(io.Discard).App.Model()
	assert.Regexp(t, `\.$`, app.Help)
	for _, command := range app.FlattenedCommands() {
		assert.Regexp(t, `\.$`, command.Help, command.Name)
		for _, flag := range command.Flags {
			if !slices.Contains(toolkits, flag.Name) {
				assert.Regexp(t, `\.$`, flag.Help, "%s --%s", command.Name, flag.Name)
			}
		}
	}
}
