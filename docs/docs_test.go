package docs_test

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/command"
	"github.com/quant-exporter/quant-exporter/internal/test/docs"
	"github.com/quant-exporter/quant-exporter/internal/test/schemas"
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

// A command that the text names, rather than a block, is one that the program or the Makefile has.
func TestCommandsInTheText(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	require.NoError(t, err)
	mentions := docs.Mentions(t, "..")
	require.NotEmpty(t, mentions)
	for _, m := range mentions {
		if m.Args[0] == "make" {
			assert.Regexp(t, `(?m)^`+regexp.QuoteMeta(m.Args[1])+`:`, string(makefile), "%s:%d", m.Page, m.Line)
			continue
		}
		flags := command.NewFlags(io.Discard)
		flags.App.Terminate(func(int) {}) // after --version
		if _, err := flags.Parse(m.Args[1:]); err != nil {
			assert.ErrorContains(t, err, " needs a ", "%s:%d: only what the command works on may be left out", m.Page, m.Line)
		}
	}
}

// The events that the documentation shows fit their schemas, and every kind of object has
// a row that links to its schema.
func TestDocsShowWholeEvents(t *testing.T) {
	page, err := os.ReadFile("events.md")
	require.NoError(t, err)
	shown := map[string]string{}
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, `{"event_type":`) {
			continue
		}
		var event struct {
			Type string `json:"event_type"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &event))
		require.NotContains(t, shown, event.Type, "shown once")
		shown[event.Type] = line
	}
	assert.Len(t, shown, 2)
	schemas.Check(t, schemas.RunOutput, shown["QUANT_DECISION"]) // as run prints it
	schemas.Check(t, "quant-choice", shown["QUANT_CHOICE"])
	files, err := schemas.Files()
	require.NoError(t, err)
	for _, path := range files {
		assert.Contains(t, string(page), "(../examples/"+filepath.Base(path)+")")
	}
}
