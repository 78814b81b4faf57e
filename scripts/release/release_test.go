//go:build !race

// A release compresses a great deal, one file after another: make test runs this without the
// race detector.

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/docs"
	"github.com/quant-exporter/quant-exporter/internal/test/program"
)

func TestVersionOf(t *testing.T) {
	for text, want := range map[string]string{
		"v0.1.0-0-g1a2b3c4":             "0.1.0",
		"v0.1.0-0-g1a2b3c4-dirty":       "0.1.0+dirty",
		"v0.1.0-5-g1a2b3c4":             "0.1.0+5.g1a2b3c4",
		"v0.2.0-rc.1-12-g1a2b3c4-dirty": "0.2.0-rc.1+12.g1a2b3c4.dirty",
		"1a2b3c4":                       "0.0.0+g1a2b3c4",
		"1a2b3c4-dirty":                 "0.0.0+g1a2b3c4.dirty",
	} {
		assert.Equal(t, want, versionOf(text), text)
	}
}

func TestPlatformsAreChosenByName(t *testing.T) {
	all, err := choose("")
	require.NoError(t, err)
	assert.Equal(t, platforms, all)
	some, err := choose("linux/arm64,darwin/amd64")
	require.NoError(t, err)
	assert.Equal(t, []platform{{"linux", "arm64"}, {"darwin", "amd64"}}, some)
	_, err = choose("linux")
	assert.ErrorContains(t, err, `"linux"`)
}

// What an earlier release left goes; a folder that holds anything else is not touched.
func TestFolderIsEmptiedOfReleasesOnly(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "quant-exporter-0.0.9.linux-amd64.tar.gz")
	require.NoError(t, os.WriteFile(old, nil, 0o600))
	_, err := emptied(dir)
	require.NoError(t, err)
	assert.NoFileExists(t, old)

	require.NoError(t, os.WriteFile(old, nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600))
	_, err = emptied(dir)
	require.ErrorContains(t, err, "thesis.tex")
	assert.FileExists(t, old)
}

// commitOf are the flags of a release of a copy, which has no git of its own.
func commitOf(version string) []string {
	return []string{"-version", version, "-revision", "1a2b3c4d5e6f", "-date", "1790000000", "-platforms", here().String()}
}

// here is this host's platform: its files can be tried.
func here() platform { return platform{runtime.GOOS, runtime.GOARCH} }

// released makes a release in a copy of the repository, after the changes to it, and returns
// the folder of the files.
func released(t *testing.T, version string, change func(dir string)) string {
	t.Helper()
	source := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.Mkdir(source, 0o755))
	root, err := program.Root()
	require.NoError(t, err)
	docs.Copy(t, root, source)
	if change != nil {
		change(source)
	}
	out := t.TempDir()
	was, err := os.Getwd()
	require.NoError(t, err)
	t.Chdir(source)
	require.NoError(t, release(t.Context(), append(commitOf(version), "-out", out)))
	t.Chdir(was)
	return out
}

// contents are the files of a folder by name.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	files := map[string][]byte{}
	for _, entry := range entries {
		files[entry.Name()], err = os.ReadFile(filepath.Join(dir, entry.Name()))
		require.NoError(t, err)
	}
	return files
}

// A release takes its time: it is made once for all that is tried on it.
func TestRelease(t *testing.T) {
	program.NotShort(t)
	made := released(t, "0.1.0", nil)
	t.Run("made again is equal", func(t *testing.T) { madeAgain(t, made) })
	t.Run("holds what it should", func(t *testing.T) { holds(t, contents(t, made)) })
	packages(t, made)
}

// madeAgain sees that a release of the same commit in another folder is equal, byte by byte.
func madeAgain(t *testing.T, made string) {
	first, second := contents(t, made), contents(t, released(t, "0.1.0", nil))
	require.Len(t, second, len(first))
	for name, content := range first {
		assert.True(t, bytes.Equal(content, second[name]), "%s differs", name)
		assert.Contains(t, name, map[bool]string{true: "SUMS", false: "0.1.0"}[name == sumsFile])
	}
}

// holds looks into the files of a release: sums, list of modules, archive, program. No path of
// this host is in them.
func holds(t *testing.T, first map[string][]byte) {
	base := "quant-exporter-0.1.0." + here().os + "-" + here().arch
	listed := 0
	for line := range strings.Lines(string(first[sumsFile])) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		assert.Equal(t, fmt.Sprintf("%x", sha256.Sum256(first[name])), sum, name)
		listed++
	}
	assert.Equal(t, len(first)-1, listed)

	var bom struct {
		Metadata struct {
			Component struct{ Name, Version string }
		}
		Components []struct{ Name, Version string }
	}
	require.NoError(t, json.Unmarshal(first[base+".sbom.json"], &bom))
	assert.Equal(t, "v0.1.0", bom.Metadata.Component.Version)
	goMod, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	found := 0
	for _, c := range bom.Components {
		if strings.Contains(string(goMod), c.Name+" "+c.Version) {
			found++
		}
	}
	assert.Greater(t, found, 15, "modules of go.mod with their versions")

	dir := t.TempDir()
	unpack := exec.CommandContext(t.Context(), "tar", "-xz", "-C", dir)
	unpack.Stdin = bytes.NewReader(first[base+".tar.gz"])
	out, err := unpack.CombinedOutput()
	require.NoError(t, err, "%s", out)
	file := filepath.Join(dir, base, "quant-exporter")
	out, err = exec.CommandContext(t.Context(), file, "--version").CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Regexp(t, `^quant-exporter, version 0\.1\.0 \(.*revision: 1a2b3c4d5e6f\)`, string(out))
	assert.Regexp(t, `build date: +2026-09-21T`, string(out))
	for _, beside := range []string{"LICENSE", "quant-exporter.1", "quant-exporter.yml", "examples/alerts.yml", "examples/systemd/quant-exporter.service"} {
		assert.FileExists(t, filepath.Join(dir, base, beside))
	}
	executable, err := os.ReadFile(file)
	require.NoError(t, err)
	home, err := os.UserHomeDir()
	require.NoError(t, err)
	root, err := program.Root()
	require.NoError(t, err)
	// The program itself names a file in /tmp (the pipes of CUDA's MPS): folders of a build are looked for.
	temporary := os.TempDir()
	for _, path := range []string{root, temporary + "/TestRelease", temporary + "/go-", filepath.Join(home, "go"), "_buildvcs"} {
		assert.False(t, bytes.Contains(executable, []byte(path)), "%s is in the program", path)
	}
}

// A plain go build says which version it is, and of when, where git is at hand; go install of
// a version has the same from the module proxy.
func TestPlainBuildKnowsItsVersion(t *testing.T) {
	program.NotShort(t)
	dir := t.TempDir()
	root, err := program.Root()
	require.NoError(t, err)
	docs.Copy(t, root, dir)
	in := func(env []string, name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), append([]string{
			"GIT_AUTHOR_DATE=2026-11-28T12:00:00Z", "GIT_COMMITTER_DATE=2026-11-28T12:00:00Z", "GIT_CONFIG_GLOBAL=/dev/null",
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		}, env...)...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	in(nil, "git", "init", "-q")
	in(nil, "git", "add", ".")
	in(nil, "git", "commit", "-qm", "all")
	in(nil, "git", "tag", "v0.3.0")
	// Without cgo and paths the compiled packages are the release's, which are in Go's cache.
	build := func(vcs string) {
		in([]string{"GOFLAGS=", "CGO_ENABLED=0"}, "go", "build", "-trimpath", "-buildvcs="+vcs, "-o", filepath.Join(dir, "built"), ".")
	}
	build("true")
	assert.Regexp(t, `(?s)^quant-exporter, version 0\.3\.0 \(.*revision: [0-9a-f]{40}\).*build date: +2026-11-28T12:00:00Z`, in(nil, "./built", "--version"))
	build("false")
	assert.Regexp(t, `^quant-exporter, version unknown `, in(nil, "./built", "--version"))
}
