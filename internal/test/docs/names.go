package docs

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	anyFlag = regexp.MustCompile(`(?:^|[^-a-z])(--[a-z][a-z.-]*[a-z])\b`)
	// ourFlag is one of our flags: other programs' flags have no dot and no hyphen.
	ourFlag   = regexp.MustCompile(`(?m)(?:^|[\s="\[])(--[a-z]+[.-][a-z.-]*[a-z])\b`)
	anyMetric = regexp.MustCompile(`quant_(?:cycle|exporter)_[a-z0-9_]+`)
	anyKey    = regexp.MustCompile("`((?:models|work|cache|engine|benchmark|quality|publish|storage|a2a|schedule(?:\\[\\])?)\\.[a-z0-9_.]+)`")
)

// others are flags of other programs that the documentation speaks of.
var others = []string{"--config", "--build", "--now", "--from-file", "--storage.tsdb.path", "--rm", "--tensor-type", "--tensor-type-file"}

// CheckNames fails where the documentation, or an example, names a flag, key or metric
// that does not exist.
func CheckNames(t *testing.T, root string, app *kingpin.ApplicationModel) {
	t.Helper()
	tables := Tables(t, root, app)
	flags, keys, metrics := map[string]bool{}, map[string]bool{}, map[string]bool{"quant_exporter_build_info": true}
	for _, row := range tables["flags"].Rows {
		_, flag, _ := strings.Cut(row.Name, "--")
		flags["--"+flag] = true
	}
	for _, flag := range app.Flags {
		if flag.Hidden { // which the tables leave out
			flags["--"+flag.Name] = true
		}
	}
	for _, name := range others {
		flags[name] = true
	}
	for _, row := range tables["keys"].Rows {
		key := strings.Replace(row.Name, "[]", "", 1)
		for i := range key { // the sections that it is in
			keys[key[:i]] = keys[key[:i]] || key[i] == '.'
		}
		keys[key], keys[row.Name] = true, true
	}
	for _, row := range tables["metrics"].Rows {
		metrics[row.Name] = true
	}
	names := func(file string, pattern *regexp.Regexp, known map[string]bool) {
		for _, match := range pattern.FindAllStringSubmatch(read(t, file), -1) {
			name := match[len(match)-1]
			assert.True(t, known[name], "%s names %s, which does not exist", file, name)
		}
	}
	for _, page := range append(Pages(t, root), filepath.Join(root, "quant-exporter.yml")) {
		names(page, anyFlag, flags)
		names(page, anyKey, keys)
		names(page, anyMetric, metrics)
	}
	for _, folder := range []string{"systemd", "docker", "kubernetes"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, "examples", folder), func(file string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				names(file, ourFlag, flags)
			}
			return err
		}))
	}
}
