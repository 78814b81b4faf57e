package store

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// with gives a result inputs of a build and a threshold.
func with(r *runner.Result, build int, threshold string) *runner.Result {
	r.Inputs = &runner.Inputs{
		Source: "abc", Engine: runner.EngineID{Name: "llama.cpp", Build: build}, Decision: map[string]string{"threshold": threshold},
	}
	return r
}

// ladder records a cycle of results.
func ladder(t *testing.T, s *Store, results ...*runner.Result) (cycle uint64, committed []Committed) {
	t.Helper()
	var targets []string
	for _, r := range results {
		targets = append(targets, r.TargetFormat)
	}
	cycle = begin(t, s, results[0].Model, targets...)
	for _, r := range results {
		c, err := s.Commit(cycle, r)
		require.NoError(t, err)
		committed = append(committed, c)
	}
	require.NoError(t, s.EndCycle(cycle, nil))
	return cycle, committed
}

func TestChangedInputsAreNamed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	engine := runner.Change{Input: runner.InputEngine, Text: "llama.cpp 11669 → 11702"}
	threshold := runner.Change{Input: runner.InputDecision, Text: "threshold 0.12 → 0.2"}
	q2, q8 := PairID{Model: "m", Target: "Q2_K"}, PairID{Model: "m", Target: "Q8_0"}

	ladder(t, s, decided("m", "Q2_K", verdict.Kept)) // of a version without inputs
	_, first := ladder(t, s, with(decided("m", "Q2_K", verdict.Kept), 11669, "0.12"), with(decided("m", "Q8_0", verdict.Kept), 11669, "0.12"))
	assert.Empty(t, first[0].Changes, "nothing is known of those before")
	assert.Empty(t, first[1].Changes)
	_, same := ladder(t, s, with(decided("m", "Q2_K", verdict.Kept), 11669, "0.12"))
	assert.Empty(t, same[0].Changes)
	assert.Empty(t, counted(s, CountInputChange))

	// A failure says so, too, and the decision after it says it still.
	failing, failure := ladder(t, s, with(failed("m", "Q2_K", runner.ReasonCrash), 11702, "0.12"))
	assert.Equal(t, []runner.Change{engine}, failure[0].Changes)
	assert.Empty(t, counted(s, CountInputChange), "it decided nothing")
	changing, changed := ladder(t, s, with(decided("m", "Q2_K", verdict.Rejected), 11702, "0.12"), with(decided("m", "Q8_0", verdict.Inconclusive), 11702, "0.2"))
	assert.Equal(t, []runner.Change{engine}, changed[0].Changes)
	assert.Equal(t, []runner.Change{engine, threshold}, changed[1].Changes)

	var data struct {
		ChangedInputs []string `json:"changed_inputs"`
	}
	require.NoError(t, json.Unmarshal(changed[0].Event.Data, &data))
	assert.Equal(t, []string{engine.Text}, data.ChangedInputs)

	s = reopen(t, s, dir, Options{})
	assert.Equal(t, map[Counter]uint64{inputChanges(runner.InputEngine): 1, inputChanges(runner.InputDecision): 1}, counted(s, CountInputChange), "once in a cycle, however many targets it has")
	assert.Equal(t, 11702, s.State().Pairs[q2].Decided.Inputs.Engine.Build)
	assert.Equal(t, []runner.Change{engine, threshold}, s.State().Pairs[q8].Decided.Changes)
	cycle, records, _, err := s.Cycle(changing)
	require.NoError(t, err)
	assert.Equal(t, []runner.Change{engine, threshold}, cycle.Changes)
	assert.Equal(t, []runner.Change{engine}, records[0].Changes)
	assert.Equal(t, "abc", records[0].Inputs.Source)
	cycle, records, _, err = s.Cycle(failing)
	require.NoError(t, err)
	assert.Empty(t, cycle.Changes)
	assert.Equal(t, []runner.Change{engine}, records[0].Changes)
	points, err := s.History(q2, 0)
	require.NoError(t, err)
	assert.Equal(t, []runner.Change{engine}, points[len(points)-1].Changes)
	require.NoError(t, s.Check())
}

// What Retention removes goes on counting.
func TestChangesOfInputsStayCounted(t *testing.T) {
	s := open(t, t.TempDir(), Options{Retention: config.Retention{Cycles: 2}})
	for build := range 10 {
		ladder(t, s, with(decided("m", "Q2_K", verdict.Kept), build+1, "0.12"), with(decided("m", "Q8_0", verdict.Kept), build+1, "0.12"))
		require.NoError(t, s.Check())
	}
	assert.Equal(t, uint64(9), s.State().Counters.Of(inputChanges(runner.InputEngine)))
	cycles, err := s.Cycles(0, 0)
	require.NoError(t, err)
	assert.Less(t, len(cycles), 5)
}

func TestHashesAreRememberedByWhatTellsFilesApart(t *testing.T) {
	dir := t.TempDir()
	now := &clock{start()}
	s := open(t, dir, Options{Now: now.Now})
	id := model.FileID{Path: "/models/a.gguf", Device: 1, Inode: 2, Size: 3, Modified: start().Local()}
	_, known := s.Hash(id)
	assert.False(t, known)
	require.NoError(t, s.RememberHash(id, "abc"))
	s = reopen(t, s, dir, Options{Now: now.Now})

	renamed := id
	renamed.Path = "/models/b.gguf"
	hash, known := s.Hash(renamed)
	assert.True(t, known)
	assert.Equal(t, "abc", hash)
	for name, change := range map[string]func(*model.FileID){
		"device":   func(id *model.FileID) { id.Device++ },
		"inode":    func(id *model.FileID) { id.Inode++ },
		"size":     func(id *model.FileID) { id.Size++ },
		"modified": func(id *model.FileID) { id.Modified = id.Modified.Add(time.Nanosecond) },
	} {
		other := id
		change(&other)
		_, known := s.Hash(other)
		assert.False(t, known, name)
	}

	id.Size = 4
	require.NoError(t, s.RememberHash(id, "def"))
	hash, known = s.Hash(id)
	assert.True(t, known)
	assert.Equal(t, "def", hash)
	require.NoError(t, s.Check())
}

// unstable file systems give files new numbers, and one file's number to another.
func TestHashesOnAFileSystemThatGivesNewNumbers(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) model.FileID {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte("abc"), 0o600))
		require.NoError(t, os.Chtimes(path, start(), start()))
		id, err := model.Identify(path)
		require.NoError(t, err)
		return id
	}
	s := open(t, t.TempDir(), Options{})
	a, b := write("a.gguf"), write("b.gguf")
	require.NoError(t, s.RememberHash(a, "abc"))

	again := a
	again.Inode = 1 << 40
	_, known := s.Hash(again)
	assert.False(t, known, "it may be another file: its content decides")
	require.NoError(t, s.RememberHash(again, "abc"))
	again.Inode++
	hash, known := s.Hash(again)
	assert.True(t, known, "once settled, it is remembered")
	assert.Equal(t, "abc", hash)
	again.Size++
	_, known = s.Hash(again)
	assert.False(t, known, "it was written to")

	require.NoError(t, s.RememberHash(again, "def"))
	again.Inode++
	_, known = s.Hash(again)
	assert.False(t, known, "of other content nothing was settled")

	b.Inode = a.Inode
	require.NoError(t, os.Rename(write("other").Path, a.Path))
	_, known = s.Hash(b)
	assert.False(t, known, "the number was that of a file that is still there")
	require.NoError(t, os.Remove(a.Path))
	hash, known = s.Hash(b)
	assert.True(t, known, "it was renamed, as far as anybody can tell")
	assert.Equal(t, "abc", hash)
}

func TestHashesAreBounded(t *testing.T) {
	now := &clock{start()}
	s := open(t, t.TempDir(), Options{Now: now.Now})
	require.NoError(t, s.db.Update(func(tx *bbolt.Tx) error { // as many calls would have done
		for i := range maxHashes {
			stored := fmt.Sprintf(`{"size":1,"sha256":"abc","since":%q}`, start().Add(time.Duration((i+7)%maxHashes)*time.Second).Format(time.RFC3339))
			if err := tx.Bucket([]byte(bucketHashes)).Put(hashKey(model.FileID{Inode: uint64(i)}), []byte(stored)); err != nil {
				return err
			}
		}
		return nil
	}))
	now.now = start().Add(24 * time.Hour)
	newest := model.FileID{Device: 1, Inode: 1, Size: 1}
	require.NoError(t, s.RememberHash(newest, "new"))
	_, known := s.Hash(newest)
	assert.True(t, known)
	_, known = s.Hash(model.FileID{Inode: maxHashes - 7, Size: 1})
	assert.False(t, known, "the one that was remembered for longest went")
	_, known = s.Hash(model.FileID{Inode: maxHashes - 6, Size: 1})
	assert.True(t, known)
}
