package store

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

func TestOnlyOneProcessHasTheState(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	for name, second := range map[string]func() (*Store, error){
		"Open":           func() (*Store, error) { return Open(dir, Options{}) },
		"OpenForReading": func() (*Store, error) { return OpenForReading(dir) },
	} {
		_, err := second()
		var locked *LockedError
		require.ErrorAs(t, err, &locked, name)
		assert.Equal(t, os.Getpid(), locked.PID)
		assert.Equal(t, dir, locked.Path)
		assert.Equal(t, filepath.Base(os.Args[0]), locked.Command)
		assert.WithinDuration(t, time.Now(), locked.Since, time.Hour)
		require.ErrorContains(t, err, "is in use by pid")
	}
	require.NoError(t, s.Close())
	open(t, dir, Options{})
}

func TestStateLockedByAnotherProgram(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, open(t, dir, Options{}).Close())
	other, err := bbolt.Open(filepath.Join(dir, fileName), 0o600, nil)
	require.NoError(t, err)
	defer other.Close()
	_, err = Open(dir, Options{})
	var locked *LockedError
	require.ErrorAs(t, err, &locked)
	assert.ErrorContains(t, err, "in use by another process, which is not known")
}

func TestOpenMakesItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	open(t, dir, Options{})
	info, err := os.Stat(dir)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o750), info.Mode().Perm())
	info, err = os.Stat(filepath.Join(dir, fileName))
	require.NoError(t, err)
	assert.Less(t, info.Size(), int64(1<<20))

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Open(file, Options{})
	require.ErrorContains(t, err, file)
}

func TestOpenRemovesWhatAKilledProcessLeft(t *testing.T) {
	dir := t.TempDir()
	left := []string{filepath.Join(dir, freshName), filepath.Join(dir, ".quant-exporter-backup-1.partial")}
	for _, path := range left {
		require.NoError(t, os.WriteFile(path, []byte("half"), 0o600))
	}
	mine := filepath.Join(dir, "state.db.backup")
	require.NoError(t, os.WriteFile(mine, []byte("mine"), 0o600))
	open(t, dir, Options{})
	for _, path := range left {
		assert.NoFileExists(t, path)
	}
	assert.FileExists(t, mine)
}

func TestOpenForReading(t *testing.T) {
	dir := t.TempDir()
	_, err := OpenForReading(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "--storage.path")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries)

	s := open(t, dir, Options{Bus: true})
	record(t, s, decided("m", "Q2_K", verdict.Kept))
	begin(t, s, "m", "Q2_K")
	before := s.State()
	require.NoError(t, s.Close())
	file := filepath.Join(dir, fileName)
	content, err := os.ReadFile(file)
	require.NoError(t, err)

	r, err := OpenForReading(dir)
	require.NoError(t, err)
	assert.Equal(t, before, r.State(), "the cycle still runs")
	require.NoError(t, r.Check())
	events, err := r.NextPending(0)
	require.NoError(t, err)
	assert.Len(t, events, 1)
	for _, err := range []error{
		r.CountSkipped("nightly", SkipOverlap, 1), r.NewProducer("x"), r.SetBus(true), r.EndCycle(2, nil),
	} {
		require.ErrorIs(t, err, ErrReadOnly)
	}
	require.NoError(t, r.Close())
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, content, after)
}

// What cannot be read is an error that says so, and is left as it is.
func TestDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Bus: true})
	for range 20 {
		record(t, s, decided("m", "Q2_K", verdict.Kept))
	}
	require.NoError(t, s.Close())
	file := filepath.Join(dir, fileName)
	whole, err := os.ReadFile(file)
	require.NoError(t, err)

	foreign := filepath.Join(t.TempDir(), "foreign")
	db, err := bbolt.Open(foreign, 0o600, &bbolt.Options{NoFreelistSync: true})
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err }))
	require.NoError(t, db.Close())
	other, err := os.ReadFile(foreign)
	require.NoError(t, err)

	page := os.Getpagesize()
	random := rand.New(rand.NewPCG(1, 2))
	garbage := make([]byte, 100_000)
	for i := range garbage {
		garbage[i] = byte(random.Uint32())
	}
	behindMeta := append(append([]byte{}, whole[:2*page]...), garbage...)
	cases := map[string][]byte{
		"empty": {}, "text": []byte("hello\n"), "garbage": garbage, "garbage behind the first pages": behindMeta, "another program's": other,
	}
	for _, size := range []int{1, 100, page - 1, page, 2*page - 1, 2 * page, 3 * page, 4*page + 1, 8 * page} {
		cases["cut off at "+time.Duration(size).String()] = whole[:size]
	}
	for name, content := range cases {
		require.NoError(t, os.WriteFile(file, content, 0o600))
		t.Run(name, func(t *testing.T) { refused(t, dir, "is damaged, or is the file of another program") })
	}

	// Pages destroyed at random: an error, or a state that can be looked at.
	for range 20 {
		content := append([]byte{}, whole...)
		at := page * (2 + random.IntN(len(content)/page-2))
		for i := range page {
			content[at+i] = byte(random.Uint32())
		}
		require.NoError(t, os.WriteFile(file, content, 0o600))
		s, err := OpenForReading(dir)
		if err != nil {
			require.ErrorContains(t, err, "is damaged")
			continue
		}
		_ = s.Check() // may find it, or the page was not in use
		require.NoError(t, s.Close())
	}
}

// refused sees that a file is an error that contains a text, and is left as it is.
func refused(t *testing.T, dir, text string) {
	t.Helper()
	file := filepath.Join(dir, fileName)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, open := range []func() (*Store, error){
		func() (*Store, error) { return Open(dir, Options{}) },
		func() (*Store, error) { return OpenForReading(dir) },
	} {
		_, err := open()
		require.ErrorContains(t, err, text)
		require.ErrorContains(t, err, file)
		after, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, content, after)
	}
}

func TestNewerSchema(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	require.NoError(t, s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaSchema), []byte("2"))
	}))
	require.NoError(t, s.Close())
	refused(t, dir, "newer version of this program (schema 2; this one reads up to 1)")
}

// unreleased.db.gz is a state of the last build before the schema began anew at 1: of one
// cycle, run on the fake llama.cpp.
func TestStateOfAnUnreleasedBuild(t *testing.T) {
	packed, err := os.ReadFile(filepath.Join("testdata", "unreleased.db.gz"))
	require.NoError(t, err)
	content, err := unpacked(packed)
	require.NoError(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, fileName)
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	sentence := "from before its first release, which this version cannot read, and was left as it is: move the folder " + dir + " away to start afresh, or name another one with --storage.path"
	refused(t, dir, sentence)

	db, err := bbolt.Open(file, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error { // the version before that one
		return tx.Bucket([]byte(bucketMeta)).Put([]byte("schema"), []byte("1"))
	}))
	require.NoError(t, db.Close())
	refused(t, dir, sentence)
}
