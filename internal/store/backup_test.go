package store

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
	"github.com/quant-exporter/quant-exporter/schedule"
)

func TestExport(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Bus: true})
	record(t, s, decided("m <\"&>", "Q2_K", verdict.Rejected))
	record(t, s, failed("m <\"&>", "Q2_K", runner.ReasonCrash))
	require.NoError(t, s.SetEntry("nightly", schedule.State{Spec: "@daily", Last: start()}))
	require.NoError(t, s.CountSkipped("nightly", SkipDeadline, 2))
	var live bytes.Buffer
	require.NoError(t, s.Export(&live))

	kinds := map[string][]map[string]any{}
	lines := bufio.NewScanner(bytes.NewReader(live.Bytes()))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var object map[string]any
		require.NoError(t, json.Unmarshal(lines.Bytes(), &object), lines.Text())
		kind, _ := object["kind"].(string)
		kinds[kind] = append(kinds[kind], object)
	}
	require.NoError(t, lines.Err())
	require.Len(t, kinds["meta"], 1)
	assert.InDelta(t, 1, kinds["meta"][0]["schema"], 0)
	assert.Equal(t, s.State().Outbox.Producer, kinds["meta"][0]["producer"])
	assert.Equal(t, []map[string]any{{"kind": "entry", "entry": "nightly", "spec": "@daily", "last": "2026-11-23T03:00:00Z"}}, kinds["entry"])
	assert.Len(t, kinds["cycle"], 2)
	require.Len(t, kinds["result"], 2)
	assert.Equal(t, "m <\"&>", kinds["result"][0]["model_name"])
	assert.Contains(t, kinds["result"][0], "evidence")
	assert.Equal(t, map[string]any{"reason": "crash", "error": "it did not work"}, kinds["result"][1]["failure"])
	assert.Len(t, kinds["pair"], 1)
	assert.Len(t, kinds["model"], 1)
	assert.Len(t, kinds["event"], 1)
	assert.Contains(t, kinds["counter"], map[string]any{
		"kind": "counter", "counter": "skipped", "labels": map[string]any{"entry": "nightly", "reason": "deadline"}, "value": 2.0,
	})
	assert.Contains(t, kinds["counter"], map[string]any{
		"kind": "counter", "counter": "decision", "value": 1.0,
		"labels": map[string]any{"result": "rejected", "model_name": "m <\"&>", "source_format": "F16", "target_format": "Q2_K"},
	})

	broken := errors.New("gone")
	require.ErrorIs(t, s.Export(failingWriter{broken}), broken)
	_, err := s.Backup(failingWriter{broken})
	require.ErrorIs(t, err, broken)
	require.NoError(t, s.Close())
	r, err := OpenForReading(dir)
	require.NoError(t, err)
	defer r.Close()
	var stored bytes.Buffer
	require.NoError(t, r.Export(&stored))
	assert.Equal(t, live.String(), stored.String())
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// Of several backups to one name, at once, one gets it, and is whole.
func TestBackupFileTakesNoNameFromAnother(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	record(t, s, decided("m", "Q2_K", verdict.Kept))
	path := filepath.Join(t.TempDir(), fileName)
	errs := make([]error, 8)
	var writing sync.WaitGroup
	for i := range errs {
		writing.Go(func() { errs[i] = s.BackupFile(path) })
	}
	writing.Wait()
	written := 0
	for _, err := range errs {
		if err == nil {
			written++
			continue
		}
		require.ErrorIs(t, err, fs.ErrExist)
		require.ErrorContains(t, err, path)
	}
	assert.Equal(t, 1, written)
	assert.Equal(t, []string{fileName}, names(t, filepath.Dir(path)))
	assert.Len(t, open(t, filepath.Dir(path), Options{}).State().Pairs, 1)
}

// Where a file cannot have two names, it is copied.
func TestCopyNew(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	require.NoError(t, os.WriteFile(from, []byte("content"), 0o600))
	require.NoError(t, copyNew(from, to))
	content, err := os.ReadFile(to)
	require.NoError(t, err)
	assert.Equal(t, "content", string(content))
	info, err := os.Stat(to)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())

	require.NoError(t, os.WriteFile(from, []byte("other"), 0o600))
	require.ErrorIs(t, copyNew(from, to), fs.ErrExist)
	content, err = os.ReadFile(to)
	require.NoError(t, err)
	assert.Equal(t, "content", string(content))

	require.Error(t, copyNew(dir, filepath.Join(dir, "half")), "a directory cannot be read")
	assert.Equal(t, []string{"from", "to"}, names(t, dir))
}

// names of what is in a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// A client that reads an export slowly holds up no commit, not even those that need the
// file to grow a good deal.
func TestSlowExportHoldsUpNothing(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	record(t, s, decided("m", "Q2_K", verdict.Kept))
	slow := &slowWriter{entered: make(chan struct{}), leave: make(chan struct{})}
	exported := make(chan error)
	go func() { exported <- s.Export(slow) }()
	<-slow.entered
	big := decided("m", "Q2_K", verdict.Kept)
	big.Evidence.Hardware = string(bytes.Repeat([]byte("x"), 1<<18))
	for range 5 {
		record(t, s, big)
	}
	assert.Greater(t, s.Stats().FileBytes, int64(1<<20))
	close(slow.leave)
	require.NoError(t, <-exported)
	assert.NotContains(t, slow.String(), "xxx", "as of when it began")
}

type slowWriter struct {
	bytes.Buffer
	entered, leave chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.Len() == 0 {
		close(w.entered)
		<-w.leave
	}
	return w.Buffer.Write(p)
}

func TestRoomIsUsedAgain(t *testing.T) {
	s := open(t, t.TempDir(), Options{Retention: config.Retention{Cycles: 1}})
	big := decided("m", "Q2_K", verdict.Kept)
	big.Evidence.Hardware = string(bytes.Repeat([]byte("x"), 30<<10))
	for range 5 {
		record(t, s, big)
	}
	before := s.Stats()
	assert.Positive(t, s.db.Stats().FreePageN)
	for range 10 {
		record(t, s, big)
	}
	assert.Equal(t, before.FileBytes, s.Stats().FileBytes)
}
