package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// repository is where the files are on the web.
const repository = "https://github.com/quant-exporter/quant-exporter/blob/main/"

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```$")
	spans   = regexp.MustCompile("`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	onWeb   = regexp.MustCompile(regexp.QuoteMeta(repository) + `([^\s"]+)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// CheckLinks fails where a link in a Markdown file, or one from an example to this
// repository, leads to a file or heading that does not exist. Links to other sites are
// not followed.
func CheckLinks(t *testing.T, root string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*/*.md"} {
		for _, file := range glob(t, filepath.Join(root, pattern)) {
			text := spans.ReplaceAllString(fence.ReplaceAllString(read(t, file), ""), "")
			for _, match := range link.FindAllStringSubmatch(text, -1) {
				if !strings.Contains(match[1], "://") {
					assert.NoError(t, leads(t, file, match[1]), file)
				}
			}
		}
	}
	for _, pattern := range []string{"examples/*", "examples/*/*"} {
		for _, file := range glob(t, filepath.Join(root, pattern)) {
			if info, err := os.Stat(file); err != nil || info.IsDir() || info.Size() > 1<<20 || filepath.Ext(file) == ".go" {
				continue
			}
			for _, match := range onWeb.FindAllStringSubmatch(read(t, file), -1) {
				assert.NoError(t, leads(t, filepath.Join(root, "README.md"), match[1]), file)
			}
		}
	}
}

// leads follows a link in a file.
func leads(t *testing.T, file, to string) error {
	t.Helper()
	path, anchor, hasAnchor := strings.Cut(to, "#")
	target := file
	if path != "" {
		target = filepath.Join(filepath.Dir(file), path)
	}
	if _, err := os.Stat(target); err != nil {
		return fmt.Errorf("the link to %s: %w", to, err)
	}
	if hasAnchor && !anchors(read(t, target))[anchor] {
		return fmt.Errorf("the link to %s: there is no such heading", to)
	}
	return nil
}

// anchors are those that GitHub gives to the headings of a page.
func anchors(page string) map[string]bool {
	all := map[string]bool{}
	for _, match := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			default:
				return -1
			}
		}, match[1])
		anchor := name
		for i := 1; all[anchor]; i++ {
			anchor = fmt.Sprintf("%s-%d", name, i)
		}
		all[anchor] = true
	}
	return all
}

func glob(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	require.NoError(t, err)
	return files
}
