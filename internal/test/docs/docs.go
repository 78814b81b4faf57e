// Package docs holds the documentation against the program.
//
// The tables of its pages that list what the program has, such as every flag, are
// generated. They stand between two comments:
//
//	<!-- generated: keys engine -->
//	<!-- end -->
//
// The first names the table and, after it, the groups of rows that belong there; without
// any, all rows do that have no group. `make docs` writes them, and [Check] fails where
// they are not as it would write them.
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/golden"
)

// Table is a table of the documentation, whose rows may be on several pages.
type Table struct {
	Columns []string
	Rows    []Row
}

// Row is one thing that is documented.
type Row struct {
	Name  string // tells rows of a table apart
	Group string
	Cells []string
}

// Pages are the files of the documentation: those that root, the folder of the repository,
// and docs hold.
func Pages(t testing.TB, root string) []string {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	for _, name := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md"} {
		pages = append(pages, filepath.Join(root, name))
	}
	return pages
}

var block = regexp.MustCompile(`(?s)(<!-- generated: ([^\n]*?) -->\n).*?(<!-- end -->)`)

// Check compares the generated parts of every page with what the tables hold, and fails
// where a row is on no page or on several. With -update it writes them instead.
func Check(t *testing.T, root string, tables map[string]Table) {
	t.Helper()
	written := map[string]int{}
	for _, page := range Pages(t, root) {
		text := read(t, page)
		got := block.ReplaceAllStringFunc(text, func(old string) string {
			parts := block.FindStringSubmatch(old)
			words := strings.Fields(parts[2])
			table, ok := tables[words[0]]
			if !assert.True(t, ok, "%s: there is no table %q", page, words[0]) {
				return old
			}
			rows := table.of(words[1:])
			for _, group := range words[1:] {
				assert.NotEmpty(t, table.of([]string{group}), "%s: the table %q has no rows of the group %q", page, words[0], group)
			}
			for _, row := range rows {
				written[words[0]+" "+row.Name]++
			}
			return parts[1] + markdown(table.Columns, rows) + parts[3]
		})
		golden.CheckFile(t, page, got)
	}
	for name, table := range tables {
		for _, row := range table.Rows {
			assert.Equal(t, 1, written[name+" "+row.Name], "on how many pages the table %q has %s", name, row.Name)
		}
	}
}

// of gives the rows of these groups, or of none.
func (t Table) of(groups []string) []Row {
	if len(groups) == 0 {
		groups = []string{""}
	}
	var rows []Row
	for _, row := range t.Rows {
		if slices.Contains(groups, row.Group) {
			rows = append(rows, row)
		}
	}
	return rows
}

func markdown(columns []string, rows []Row) string {
	var text strings.Builder
	fmt.Fprintf(&text, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, row := range rows {
		for _, cell := range row.Cells {
			text.WriteString(strings.TrimRight("| "+strings.ReplaceAll(cell, "|", `\|`), " ") + " ")
		}
		text.WriteString("|\n")
	}
	return text.String()
}

// Rows gives the names, in code type or plain, in the first column of the table whose
// heading begins so, which some page has to have.
func Rows(t testing.TB, root, heading string) []string {
	t.Helper()
	var names []string
	for _, page := range Pages(t, root) {
		_, table, ok := strings.Cut(read(t, page), "\n| "+heading)
		if !ok {
			continue
		}
		require.Nil(t, names, "a second table %q, in %s", heading, page)
		names = []string{}
		for _, line := range strings.Split(table, "\n")[2:] { // below the heading and its line
			if !strings.HasPrefix(line, "|") {
				break
			}
			names = append(names, strings.Trim(strings.Split(line, "|")[1], " `"))
		}
	}
	require.NotEmpty(t, names, "no page has a table %q", heading)
	return names
}

func read(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}
