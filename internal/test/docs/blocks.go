package docs

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Block is a block of code on a page.
type Block struct {
	Page     string
	Line     int    // of its first line
	Language string // "sh", "yaml", "json" or "text"
	Text     string
	// NotRun is why a test does not run it, from the comment "not run: REASON" before it.
	NotRun string
	// Served is whether a serving exporter has to be there, as the comment "run beside a
	// serving exporter" says.
	Served bool
}

var (
	languages = []string{"sh", "yaml", "json", "text"}
	notRun    = regexp.MustCompile(`^<!-- not run: (.+) -->$`)
)

// served is the comment before a block of commands to a serving exporter.
const served = "<!-- run beside a serving exporter -->"

// Blocks are the blocks of code of the README, of the pages in docs and of the READMEs of
// the examples. It fails where one has no language that is known, because then no test
// would look at it.
func Blocks(t testing.TB, root string) []Block {
	t.Helper()
	var blocks []Block
	for _, page := range append(Pages(t, root), glob(t, filepath.Join(root, "examples", "*", "*.md"))...) {
		var open *Block
		before := "" // the last line that is not empty
		for i, line := range strings.Split(read(t, page), "\n") {
			language, isFence := strings.CutPrefix(line, "```")
			switch {
			case isFence && open == nil:
				assert.True(t, slices.Contains(languages, language), "%s:%d: a block of code needs one of the languages %v", page, i+1, languages)
				open = &Block{Page: page, Line: i + 2, Language: language, Served: before == served}
				if reason := notRun.FindStringSubmatch(before); reason != nil {
					open.NotRun = reason[1]
				}
			case isFence:
				blocks = append(blocks, *open)
				open, before = nil, ""
			case open != nil:
				open.Text += line + "\n"
			case line != "":
				assert.False(t, strings.HasPrefix(line, "    ") && !strings.HasPrefix(before, "-"), "%s:%d: write blocks of code between fences, with their language", page, i+1)
				before = line
			}
		}
	}
	return blocks
}

// Mention is a command in the text of a page, outside of its blocks.
type Mention struct {
	Page string
	Line int
	Args []string // the program first: "quant-exporter" or "make"
}

var mention = regexp.MustCompile("`((?:quant-exporter|make) [^`]+)`")

// Mentions are the commands of this program and of make that the README and the pages in docs
// name in their text.
func Mentions(t testing.TB, root string) []Mention {
	t.Helper()
	var all []Mention
	for _, page := range Pages(t, root) {
		inBlock := false
		for i, line := range strings.Split(read(t, page), "\n") {
			if strings.HasPrefix(line, "```") {
				inBlock = !inBlock
			}
			if inBlock {
				continue
			}
			for _, found := range mention.FindAllStringSubmatch(line, -1) {
				all = append(all, Mention{page, i + 1, strings.Fields(found[1])})
			}
		}
	}
	return all
}
