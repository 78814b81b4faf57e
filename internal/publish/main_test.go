package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/disk"
)

// The test binary is one of these children where the environment names it, with the
// directory to publish in as its first argument.
const childEnv = "QUANT_EXPORTER_TEST_PUBLISH"

func TestMain(m *testing.M) {
	child := map[string]func(args []string) error{
		"":     nil,
		"kill": publishUntilKilled,
		"step": publishAndDieAt,
		"full": fillTheDisk,
	}[os.Getenv(childEnv)]
	if child == nil {
		os.Exit(m.Run())
	}
	if err := child(os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func childCommand(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	return cmd
}

// content of the copy of a cycle: every second one has the same as before.
func content(cycle uint64) []byte {
	random := rand.NewChaCha8([32]byte{byte(cycle / 2), byte(cycle / 2 >> 8)})
	bytes := make([]byte, 50_000+cycle/2)
	_, _ = random.Read(bytes) // never fails
	return bytes
}

func loads(context.Context, string, string) error { return nil }

// copyOf is the copy of a cycle, in a directory of the caller's. It publishes in both
// layouts in turn.
func copyOf(t interface{ TempDir() string }, cycle uint64) Copy {
	file := filepath.Join(t.TempDir(), "Q4_K_M.gguf")
	if err := os.WriteFile(file, content(cycle), 0o600); err != nil {
		panic(err)
	}
	return Copy{
		File: file, Keep: 2, Load: loads,
		Manifest: Manifest{Model: "a/m", SourceFormat: "F16", TargetFormat: "Q4_K_M", Decision: Decision{Decision: "kept", Cycle: cycle}},
	}
}

// inDir lets children, which are killed, have the parent's directory.
type inDir string

func (d inDir) TempDir() string {
	dir := filepath.Join(string(d), strconv.FormatUint(rand.Uint64(), 36))
	if err := os.Mkdir(dir, 0o700); err != nil {
		panic(err)
	}
	return dir
}

func open(t *testing.T, dir string) *Directory {
	t.Helper()
	d, err := Open(dir, nil)
	require.NoError(t, err)
	return d
}

// stableOf reads what a server would, and checks that it is whole; "" without a link.
func stableOf(t *testing.T, link string) (cycle uint64, dir string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(link)
	if errors.Is(err, os.ErrNotExist) {
		_, err := os.Lstat(link)
		require.ErrorIs(t, err, os.ErrNotExist, "the link leads nowhere")
		return 0, ""
	}
	require.NoError(t, err)
	return whole(t, dir), dir
}

// whole checks that a version is.
func whole(t *testing.T, dir string) (cycle uint64) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	require.NoError(t, err)
	var m Manifest
	require.NoError(t, json.Unmarshal(text, &m))
	require.Equal(t, "a/m", m.Model)
	file, err := os.ReadFile(filepath.Join(dir, m.File))
	require.NoError(t, err)
	sum, bytes, err := disk.Hash(t.Context(), filepath.Join(dir, m.File), nil)
	require.NoError(t, err)
	require.Equal(t, m.SHA256, sum, "torn: %s", dir)
	require.Equal(t, m.Bytes, bytes)
	require.Equal(t, content(m.Decision.Cycle), file, "the copy of another cycle")
	require.Equal(t, sum[:12], filepath.Base(dir))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, dir)
	return m.Decision.Cycle
}

// versionsIn gives the names of all that is in the pair's directory, and checks that each
// version is whole.
func versionsIn(t *testing.T, pair string) []string {
	t.Helper()
	entries, err := os.ReadDir(pair)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	require.NoError(t, err)
	var names []string
	for _, entry := range entries {
		if entry.Name() == "stable" {
			continue
		}
		whole(t, filepath.Join(pair, entry.Name()))
		names = append(names, entry.Name())
	}
	return names
}

// kill ends this process as nothing else does.
func kill() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func assertNothingIncoming(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(dir, ".incoming"))
	require.NoError(t, err)
	assert.Empty(t, left)
}
