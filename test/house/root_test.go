package house_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mostNames is how many names the root may show: what everybody looks at first fits on one
// screen.
const mostNames = 20

func TestRootFitsOnAScreen(t *testing.T) {
	ignored, err := os.ReadFile(filepath.Join(root, ".gitignore"))
	require.NoError(t, err)
	entries, err := os.ReadDir(root)
	require.NoError(t, err)
	var shown []string
	for _, entry := range entries {
		name := entry.Name()
		made := slices.ContainsFunc(strings.Fields(string(ignored)), func(pattern string) bool {
			matches, _ := filepath.Match(strings.Trim(pattern, "/"), name) // a pattern that is none matches nothing
			return matches
		})
		if !made && !strings.HasPrefix(name, ".") {
			shown = append(shown, name)
		}
	}
	assert.LessOrEqual(t, len(shown), mostNames, shown)
}

// What SECURITY.md says of attackers is held by tests that exist.
func TestSecurityNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	require.NoError(t, err)
	exist := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	require.NoError(t, filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		source, err := os.ReadFile(file)
		for _, match := range declared.FindAllSubmatch(source, -1) {
			exist[string(match[1])] = true
		}
		return err
	}))
	for line := range strings.Lines(string(text)) {
		names := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(line, -1)
		for _, name := range names {
			assert.True(t, exist[name[1]], "there is no %s", name[1])
		}
		if strings.HasPrefix(line, "| cannot ") {
			assert.NotEmpty(t, names, "which test holds this? %s", line)
		}
	}
}
