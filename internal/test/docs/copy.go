package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Copy copies the repository, as a reader would clone it, into an existing directory:
// without what was built, fetched or left there by runs.
func Copy(t testing.TB, root, to string) {
	t.Helper()
	left := map[string]bool{"data": true, "test-output": true, "dist": true, "quant-exporter": true}
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		skip := left[name] || strings.HasPrefix(name, ".")
		switch {
		case entry.IsDir() && skip:
			return filepath.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case skip, !entry.Type().IsRegular():
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, info.Mode().Perm())
	}))
}
