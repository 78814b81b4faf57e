package disk

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func create(t *testing.T, parent string) *Dir {
	t.Helper()
	dir, err := NewDir(parent)
	require.NoError(t, err)
	t.Cleanup(func() { _ = dir.Remove() })
	return dir
}

// entries gives the names of what is in a directory.
func entries(t *testing.T, path string) []string {
	t.Helper()
	list, err := os.ReadDir(path)
	require.NoError(t, err)
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name()
	}
	return names
}

func TestNewDir(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "data", "work")
	dir, other := create(t, parent), create(t, parent)
	assert.NotEqual(t, dir.Path(), other.Path())
	assert.True(t, filepath.IsAbs(dir.Path()))
	info, err := os.Stat(dir.Path())
	require.NoError(t, err)
	assert.Equal(t, fs.ModeDir|0o700, info.Mode())
	assert.Regexp(t, dirName, filepath.Base(dir.Path()))
	content, err := os.ReadFile(dir.Path() + lockSuffix)
	require.NoError(t, err)
	assert.Equal(t, marker, string(content))
}

func TestCreateSaysWhatIsInTheWay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := NewDir(file)
	require.ErrorContains(t, err, file)
}

func TestRemove(t *testing.T) {
	parent := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.MkdirAll(outside, 0o500))
	model := filepath.Join(outside, "..", "model.gguf")
	require.NoError(t, os.WriteFile(model, []byte("weights"), 0o444))

	dir := create(t, parent)
	in := func(name string) string { return filepath.Join(dir.Path(), name) }
	require.NoError(t, os.Symlink(outside, in("dir-link")))
	require.NoError(t, os.Symlink(model, in("file-link")))
	require.NoError(t, os.Link(model, in("hard-link")))
	require.NoError(t, os.Mkdir(in("sub"), 0o500))
	require.NoError(t, dir.Remove())
	require.NoError(t, dir.Remove(), "a second time")

	assert.Empty(t, entries(t, parent))
	content, err := os.ReadFile(model)
	require.NoError(t, err)
	assert.Equal(t, "weights", string(content))
	for path, mode := range map[string]fs.FileMode{model: 0o444, outside: 0o500} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode().Perm(), path)
	}
}

// TestRemoveWithoutPermission runs as an ordinary user, since nothing stops root.
func TestRemoveWithoutPermission(t *testing.T) {
	parent := t.TempDir()
	require.NoError(t, os.Chmod(parent, 0o777))
	require.NoError(t, os.Chmod(filepath.Dir(parent), 0o755)) // TempDir's own, else root's alone
	remover := exec.Command(os.Args[0])
	remover.Env = append(os.Environ(), removeEnv+"="+parent)
	out, err := remover.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Empty(t, entries(t, parent))
}

// TestOpenDirsLeavesWhatLinksLeadTo pins down that making a tree removable changes
// nothing outside it, and no file's mode: a hard link is the user's model.
func TestOpenDirsLeavesWhatLinksLeadTo(t *testing.T) {
	tree, outside := t.TempDir(), t.TempDir()
	model := filepath.Join(outside, "model.gguf")
	require.NoError(t, os.WriteFile(model, nil, 0o444))
	require.NoError(t, os.Chmod(outside, 0o500))
	require.NoError(t, os.Symlink(outside, filepath.Join(tree, "dir-link")))
	require.NoError(t, os.Link(model, filepath.Join(tree, "hard-link")))
	require.NoError(t, os.Mkdir(filepath.Join(tree, "sub"), 0o500))

	require.NoError(t, openDirs(tree))
	for path, mode := range map[string]fs.FileMode{outside: 0o500, model: 0o444, filepath.Join(tree, "sub"): 0o700} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode().Perm(), path)
	}
}

func TestRemoveOfAGoneDirectory(t *testing.T) {
	parent := t.TempDir()
	dir := create(t, parent)
	require.NoError(t, os.RemoveAll(dir.Path()))
	require.NoError(t, dir.Remove())
	assert.Empty(t, entries(t, parent))
}

func TestSweepRemovesWhatAKilledProcessLeft(t *testing.T) {
	parent := t.TempDir()
	dead, deadDir := startOwner(t, parent)
	_, liveDir := startOwner(t, parent)
	mine := create(t, parent)
	removed, err := Sweep(parent)
	require.NoError(t, err)
	require.Empty(t, removed, "all are in use")

	kill(t, dead)
	removed, err = Sweep(parent)
	require.NoError(t, err)
	assert.Equal(t, []string{deadDir}, removed)
	assert.NoDirExists(t, deadDir)
	assert.NoFileExists(t, deadDir+lockSuffix)
	assert.FileExists(t, filepath.Join(liveDir, "file"))
	assert.DirExists(t, mine.Path())
}

func TestSweepWithoutParent(t *testing.T) {
	removed, err := Sweep(filepath.Join(t.TempDir(), "missing"))
	require.NoError(t, err)
	assert.Empty(t, removed)
}

// abandon makes what a process leaves that was killed with this much written.
func abandon(t *testing.T, parent, content string, withDir bool) (path string) {
	t.Helper()
	path = filepath.Join(parent, newName())
	require.NoError(t, os.WriteFile(path+lockSuffix, []byte(content), 0o600))
	if withDir {
		require.NoError(t, os.Mkdir(path, 0o700))
	}
	return path
}

func TestSweepAfterEveryStep(t *testing.T) {
	parent := t.TempDir()
	want := []string{
		abandon(t, parent, "", false),     // killed before it was marked
		abandon(t, parent, marker, false), // before the directory was made, or after it was removed
		abandon(t, parent, marker, true),  // in use
	}
	removed, err := Sweep(parent)
	require.NoError(t, err)
	assert.ElementsMatch(t, want, removed)
	assert.Empty(t, entries(t, parent))
}

func TestSweepLeavesWhatIsNotOurs(t *testing.T) {
	parent := t.TempDir()
	abandon(t, parent, "another program's", true)
	abandon(t, parent, marker+"more", true)
	abandon(t, parent, marker+"\x00", true)
	abandon(t, parent, "\x00quant", true)
	file := abandon(t, parent, "", false)
	require.NoError(t, os.WriteFile(file, []byte("somebody's"), 0o600))
	link := abandon(t, parent, "", false)
	require.NoError(t, os.Symlink(t.TempDir(), link))
	for name, in := range map[string]string{"cycle-00000000000000aa": "notes.txt", "cycle-00000000000000bb": "model.gguf", "cycle-00000000000000cc": "originals.gguf"} {
		require.NoError(t, os.Mkdir(filepath.Join(parent, name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(parent, name, in), nil, 0o600))
	}
	open := filepath.Join(parent, "cycle-00000000000000dd")
	require.NoError(t, os.Mkdir(open, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(open, "original.gguf"), nil, 0o600))
	for _, name := range []string{"cycle-1", "cycle-0123456789abcdef", "models"} { // no lock file
		require.NoError(t, os.Mkdir(filepath.Join(parent, name), 0o700))
	}
	for _, name := range []string{"cycle-1.lock", "cycle-0123456789abcdeg.lock", "xcycle-0123456789abcdef.lock", "x.gguf"} {
		require.NoError(t, os.WriteFile(filepath.Join(parent, name), []byte(marker), 0o600))
	}
	before := entries(t, parent)
	removed, err := Sweep(parent)
	require.NoError(t, err)
	assert.Empty(t, removed)
	assert.Equal(t, before, entries(t, parent))
}

// After a power loss files have their names, and of their content what was written by then.
func TestSweepFindsWhatLostItsMarker(t *testing.T) {
	parent := t.TempDir()
	var want []string
	for _, content := range []string{"", marker[:1], marker[:len(marker)-1], "\x00", strings.Repeat("\x00", len(marker)), marker[:10] + strings.Repeat("\x00", len(marker)-10)} {
		want = append(want, abandon(t, parent, content, true))
	}
	for name, in := range map[string]string{"cycle-00000000000000aa": "original.gguf", "cycle-00000000000000bb": "plan-00001-of-00002.gguf"} {
		path := filepath.Join(parent, name)
		require.NoError(t, os.Mkdir(path, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(path, in), nil, 0o600))
		want = append(want, path)
	}
	inUse := create(t, parent)
	require.NoError(t, os.Truncate(inUse.Path()+lockSuffix, 0))
	removed, err := Sweep(parent)
	require.NoError(t, err)
	assert.ElementsMatch(t, want, removed)
	assert.DirExists(t, inUse.Path(), "the kernel says that it is")
	require.NoError(t, inUse.Remove())
	assert.Empty(t, entries(t, parent))
}

func TestSweepGoesOnAfterAnError(t *testing.T) {
	parent := t.TempDir()
	link := filepath.Join(parent, "cycle-0000000000000000.lock") // sorts first
	target := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(target, []byte(marker), 0o600))
	require.NoError(t, os.Symlink(target, link))
	dead := abandon(t, parent, marker, true)
	removed, err := Sweep(parent)
	require.ErrorContains(t, err, "cycle-0000000000000000")
	assert.Equal(t, []string{dead}, removed)
	assert.FileExists(t, target)
}

// TestCreateAndSweepTogether has makers and sweepers race for the names: a directory
// that its maker still has must never go.
func TestCreateAndSweepTogether(t *testing.T) {
	parent := t.TempDir()
	stop := make(chan struct{})
	var sweepers, makers sync.WaitGroup
	for range 2 {
		sweepers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				removed, err := Sweep(parent)
				assert.NoError(t, err)
				for _, path := range removed {
					// Only what was not a directory yet: its maker has taken another name.
					assert.NoDirExists(t, path)
				}
			}
		})
	}
	for range 4 {
		makers.Go(func() {
			for range 100 {
				dir, err := NewDir(parent)
				if err != nil {
					t.Errorf("creating a directory: %v", err)
					return
				}
				file := filepath.Join(dir.Path(), "file")
				assert.NoError(t, os.WriteFile(file, nil, 0o600))
				_, err = os.Stat(file)
				assert.NoError(t, err)
				assert.NoError(t, dir.Remove())
			}
		})
	}
	makers.Wait()
	close(stop)
	sweepers.Wait()
	assert.Empty(t, entries(t, parent))
}

// TestSweepBetweenMakingAndLocking stops a maker at the one moment in which a sweep can
// lock its file.
func TestSweepBetweenMakingAndLocking(t *testing.T) {
	parent := t.TempDir()
	path := filepath.Join(parent, newName()+lockSuffix)
	f, err := createLockFile(path, 0o600)
	require.NoError(t, err)
	defer f.Close()
	removed, err := Sweep(parent)
	require.NoError(t, err)
	require.Len(t, removed, 1)
	locked, err := TryLock(f)
	require.NoError(t, err)
	require.True(t, locked, "the sweep is over")
	named, err := stillNamed(f, path)
	require.NoError(t, err)
	assert.False(t, named, "so the maker takes another name")
}

func TestFree(t *testing.T) {
	dir := t.TempDir()
	before, err := Free(dir)
	require.NoError(t, err)
	assert.Positive(t, before)

	// The same as the system's own tool says, up to what others write meanwhile.
	out, err := exec.Command("df", "-Pk", dir).Output()
	require.NoError(t, err)
	fields := bytes.Fields(bytes.Split(out, []byte("\n"))[1])
	var kilobytes int64
	for _, c := range fields[3] {
		kilobytes = kilobytes*10 + int64(c-'0')
	}
	assert.InEpsilon(t, float64(kilobytes)*1024, float64(before), 0.05)

	_, err = Free(filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}
