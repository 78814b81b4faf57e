package publish

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/disk"
)

func TestPublish(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	c := copyOf(t, 2)
	loaded := ""
	c.Load = func(_ context.Context, in, file string) error {
		loaded = filepath.Join(in, file)
		require.NoError(t, os.WriteFile(filepath.Join(in, "core"), nil, 0o600)) // as a tool may leave
		return nil
	}
	v, err := d.Publish(t.Context(), c)
	require.NoError(t, err)

	pair := filepath.Join(dir, "a", "m", "Q4_K_M")
	assert.Equal(t, filepath.Join(pair, "stable"), v.Stable)
	assert.Equal(t, filepath.Join(pair, v.SHA256[:12]), v.Dir)
	assert.Equal(t, "m-Q4_K_M.gguf", v.File)
	assert.True(t, strings.HasPrefix(loaded, filepath.Join(dir, ".incoming")), loaded)
	to, err := os.Readlink(v.Stable)
	require.NoError(t, err)
	assert.Equal(t, filepath.Base(v.Dir), to, "a relative link, so that the directory can be mounted elsewhere")
	cycle, _ := stableOf(t, v.Stable)
	assert.EqualValues(t, 2, cycle)
	assertNothingIncoming(t, dir)
	assert.FileExists(t, c.File, "the caller's file stays the caller's")
	for _, path := range []string{v.Dir, filepath.Join(v.Dir, v.File), filepath.Join(v.Dir, "manifest.json")} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		want := os.FileMode(0o644)
		if info.IsDir() {
			want = 0o755
		}
		assert.Equal(t, want&^umask(), info.Mode().Perm(), path)
	}
}

func umask() os.FileMode {
	mask := syscall.Umask(0)
	syscall.Umask(mask)
	return os.FileMode(mask)
}

func TestTheSameContentIsOneVersion(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	first, err := d.Publish(t.Context(), copyOf(t, 2))
	require.NoError(t, err)
	file, err := os.Stat(filepath.Join(first.Dir, first.File))
	require.NoError(t, err)
	link, err := os.Lstat(first.Stable)
	require.NoError(t, err)

	again := copyOf(t, 3)
	again.Load = func(context.Context, string, string) error { return errors.New("it is loaded again") }
	second, err := d.Publish(t.Context(), again)
	require.NoError(t, err)
	assert.Equal(t, first.Dir, second.Dir)
	cycle, _ := stableOf(t, second.Stable)
	assert.EqualValues(t, 3, cycle, "the manifest comes from the newest decision")
	same, err := os.Stat(filepath.Join(second.Dir, second.File))
	require.NoError(t, err)
	assert.True(t, os.SameFile(file, same))
	sameLink, err := os.Lstat(second.Stable)
	require.NoError(t, err)
	assert.True(t, os.SameFile(link, sameLink), "a correct link is left alone: a rename would wake its watchers")
	assert.Len(t, versionsIn(t, filepath.Join(dir, "a", "m", "Q4_K_M")), 1)
}

func TestRetention(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	pair := filepath.Join(dir, "a", "m", "Q4_K_M")
	var published []string
	publish := func(cycle uint64, chosen bool, keep int) {
		c := copyOf(t, cycle)
		c.Chosen, c.Keep = chosen, keep
		v, err := d.Publish(t.Context(), c)
		require.NoError(t, err)
		published = append(published, filepath.Base(v.Dir))
	}
	publish(2, true, 2)
	publish(4, false, 2)
	publish(6, false, 2)
	publish(8, false, 2)
	assert.ElementsMatch(t, []string{published[0], published[2], published[3]}, versionsIn(t, pair), "two, and the one that the model's link leads to")

	publish(10, true, 1) // both links lead on
	publish(12, false, 1)
	assert.ElementsMatch(t, []string{published[4], published[5]}, versionsIn(t, pair))

	publish(10, false, 2) // an old one comes back, and is the newest
	publish(14, false, 2)
	assert.ElementsMatch(t, []string{published[4], published[7]}, versionsIn(t, pair))

	for cycle := uint64(16); cycle < 26; cycle += 2 {
		publish(cycle, false, 0)
	}
	assert.Len(t, versionsIn(t, pair), 7, "0 means no bound")
	assertNothingIncoming(t, dir)
}

func TestChoose(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	link := filepath.Join(dir, "a", "m", "stable")

	_, ok, _, err := d.Choose("a/m", "Q4_K_M")
	require.NoError(t, err)
	assert.False(t, ok, "nothing is published")
	assert.NoFileExists(t, link)

	chosen := copyOf(t, 2)
	chosen.Chosen = true
	_, err = d.Publish(t.Context(), chosen)
	require.NoError(t, err)
	to, err := os.Readlink(link)
	require.NoError(t, err)
	assert.Equal(t, "Q4_K_M", filepath.Dir(to))
	assert.NoFileExists(t, filepath.Join(dir, "a", "m", "Q4_K_M", "stable"))

	other := copyOf(t, 4)
	other.Chosen, other.Manifest.TargetFormat = true, "Q3_K_M"
	_, err = d.Publish(t.Context(), other)
	require.NoError(t, err)
	cycle, _ := stableOf(t, link)
	assert.EqualValues(t, 4, cycle)

	v, ok, moved, err := d.Choose("a/m", "Q4_K_M")
	require.NoError(t, err)
	assert.True(t, ok)
	assert.True(t, moved)
	assert.Equal(t, link, v.Stable)
	cycle, _ = stableOf(t, link)
	assert.EqualValues(t, 2, cycle)

	_, ok, moved, err = d.Choose("a/m", "Q4_K_M")
	require.NoError(t, err)
	assert.True(t, ok)
	assert.False(t, moved, "it is so already")
	assertNothingIncoming(t, dir)
}

func TestWhatFailsChangesNothing(t *testing.T) {
	missing := errors.New("llama-bench: no such tensor")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx    context.Context
		change func(*Copy)
		want   string
	}{
		"it does not load": {t.Context(), func(c *Copy) {
			c.Load = func(context.Context, string, string) error { return missing }
		}, "the copy does not load: llama-bench: no such tensor"},
		"the engine writes to it": {t.Context(), func(c *Copy) {
			c.Load = func(_ context.Context, dir, file string) error {
				return rewrite(filepath.Join(dir, file))
			}
		}, "after the engine loaded it, the copy is not what was measured: it holds something else"},
		"the engine leaves a link": {t.Context(), func(c *Copy) {
			c.Load = func(_ context.Context, dir, file string) error {
				path := filepath.Join(dir, file)
				return errors.Join(os.Rename(path, path+".moved"), os.Symlink(path+".moved", path))
			}
		}, "is not a regular file"},
		"the engine removes it": {t.Context(), func(c *Copy) {
			c.Load = func(_ context.Context, dir, file string) error { return os.Remove(filepath.Join(dir, file)) }
		}, "no such file"},
		"it is canceled":          {ended, func(*Copy) {}, "context canceled"},
		"there is no copy":        {t.Context(), func(c *Copy) { c.File += ".gone" }, "no such file"},
		"a name that leads out":   {t.Context(), func(c *Copy) { c.Manifest.Model = "../m" }, `"../m" cannot be a folder here`},
		"our own name":            {t.Context(), func(c *Copy) { c.Manifest.Model = ".incoming" }, `".incoming" cannot be a folder here`},
		"no name":                 {t.Context(), func(c *Copy) { c.Manifest.Model = "/" }, `"/" cannot be a folder here`},
		"a target that leads out": {t.Context(), func(c *Copy) { c.Manifest.TargetFormat = "../x" }, "cannot be a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := open(t, dir)
			before, err := d.Publish(t.Context(), copyOf(t, 2))
			require.NoError(t, err)
			c := copyOf(t, 4)
			test.change(&c)
			_, err = d.Publish(test.ctx, c)
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, "publishing")
			cycle, at := stableOf(t, before.Stable)
			assert.EqualValues(t, 2, cycle)
			assert.Equal(t, before.Dir, at)
			assert.Len(t, versionsIn(t, filepath.Dir(before.Dir)), 1)
			assertNothingIncoming(t, dir)
		})
	}
}

// rewrite changes a byte of a file, and sets back its times.
func rewrite(path string) error {
	before, err := os.Stat(path)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt([]byte("x"), 100)
	return errors.Join(err, file.Close(), os.Chtimes(path, before.ModTime(), before.ModTime()))
}

// What somebody else has put there stays, and the error says what to do.
func TestForeign(t *testing.T) {
	version := func(cycle uint64) string { // as it will be named
		file := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(file, content(cycle), 0o600))
		sum, _, err := disk.Hash(t.Context(), file, nil)
		require.NoError(t, err)
		return sum[:12]
	}(2)
	write := func(t *testing.T, path, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	symlink := func(t *testing.T, path, to string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.Symlink(to, path))
	}
	for name, test := range map[string]struct {
		there func(t *testing.T, pair string)
		want  string
	}{
		"a version without a manifest": {func(t *testing.T, pair string) {
			write(t, filepath.Join(pair, version, "m-Q4_K_M.gguf"), "mine")
		}, "has no manifest.json: it was not made by quant-exporter, and is in the way: move it elsewhere"},
		"a version of another model": {func(t *testing.T, pair string) {
			write(t, filepath.Join(pair, version, "manifest.json"), `{"model_name": "A/M", "target_format": "Q4_K_M"}`)
		}, `is a version of Q4_K_M of "A/M"`},
		"a manifest that is none": {func(t *testing.T, pair string) {
			write(t, filepath.Join(pair, version, "manifest.json"), `{"model_name"`)
		}, "manifest.json is none"},
		"an empty directory": {func(t *testing.T, pair string) {
			require.NoError(t, os.MkdirAll(filepath.Join(pair, version), 0o700))
		}, "has no manifest.json"},
		"a file of the link's name": {func(t *testing.T, pair string) {
			write(t, filepath.Join(pair, "stable"), "mine")
		}, "which was not made by quant-exporter: move it elsewhere"},
		"a directory of the link's name": {func(t *testing.T, pair string) {
			write(t, filepath.Join(pair, "stable", "mine"), "")
		}, "is neither a symbolic link nor a file that says where one would lead"},
		"a link to elsewhere": {func(t *testing.T, pair string) {
			symlink(t, filepath.Join(pair, "stable"), "/etc")
		}, `leads to "/etc", which was not made by quant-exporter`},
		"the link of another model": {func(t *testing.T, pair string) {
			write(t, filepath.Join(pair, "0123456789ab", "manifest.json"), `{"model_name": "A/M"}`)
			symlink(t, filepath.Join(pair, "stable"), "0123456789ab")
		}, `belongs to the model "A/M"`},
		"a link to what is not ours": {func(t *testing.T, pair string) {
			write(t, filepath.Join(pair, "0123456789ab", "file"), "")
			symlink(t, filepath.Join(pair, "stable"), "0123456789ab")
		}, "has no manifest.json"},
		"a version that is a link": {func(t *testing.T, pair string) {
			elsewhere := t.TempDir()
			write(t, filepath.Join(elsewhere, "manifest.json"), `{"model_name": "a/m", "target_format": "Q4_K_M", "file": "m-Q4_K_M.gguf"}`)
			write(t, filepath.Join(elsewhere, "m-Q4_K_M.gguf"), string(content(2)))
			symlink(t, filepath.Join(pair, version), elsewhere)
		}, "is not a folder: it was not made by quant-exporter"},
		"a copy that is a link": {func(t *testing.T, pair string) {
			elsewhere := filepath.Join(t.TempDir(), "file")
			write(t, elsewhere, string(content(2)))
			write(t, filepath.Join(pair, version, "manifest.json"), `{"model_name": "a/m", "target_format": "Q4_K_M", "file": "m-Q4_K_M.gguf"}`)
			symlink(t, filepath.Join(pair, version, "m-Q4_K_M.gguf"), elsewhere)
		}, "is not a regular file; remove the folder"},
		"a file of the model's name": {func(t *testing.T, pair string) {
			write(t, filepath.Dir(pair), "mine")
		}, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := open(t, dir)
			test.there(t, filepath.Join(dir, "a", "m", "Q4_K_M"))
			before := tree(t, dir)
			_, err := d.Publish(t.Context(), copyOf(t, 2))
			require.ErrorContains(t, err, test.want)
			assert.Equal(t, before, tree(t, dir))
		})
	}
}

// A link that another user has planted leads no publication anywhere; the administrator's does.
func TestForeignLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a link to another user: run this test as root, too")
	}
	for _, planted := range []string{"a", "a/m", "a/m/Q4_K_M", ".incoming"} {
		t.Run(planted, func(t *testing.T) {
			dir, elsewhere := t.TempDir(), t.TempDir()
			d := open(t, dir)
			require.NoError(t, os.RemoveAll(filepath.Join(dir, planted)))
			require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(planted)), 0o700))
			link := filepath.Join(dir, planted)
			require.NoError(t, os.Symlink(elsewhere, link))
			require.NoError(t, os.Lchown(link, 12345, 12345))
			_, err := d.Publish(t.Context(), copyOf(t, 2))
			require.ErrorContains(t, err, link+" is a symbolic link of another user")
			if planted == ".incoming" {
				_, err = Open(dir, nil)
			} else {
				_, _, _, err = d.Choose("a/m", "Q4_K_M")
			}
			require.ErrorContains(t, err, "is a symbolic link of another user")
			entries, err := os.ReadDir(elsewhere)
			require.NoError(t, err)
			assert.Empty(t, entries)

			require.NoError(t, os.Lchown(link, 0, 0))
			_, err = d.Publish(t.Context(), copyOf(t, 2))
			if planted != ".incoming" { // which may be on another file system
				require.NoError(t, err)
			}
		})
	}
}

// tree is all that is in a directory.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case entry.Type().IsRegular():
			text, err := os.ReadFile(path)
			all[path] = string(text)
			return err
		case entry.Type()&os.ModeSymlink != 0:
			to, err := os.Readlink(path)
			all[path] = "-> " + to
			return err
		}
		all[path] = "directory"
		return nil
	}))
	return all
}

// A version that retention passes over, and a link that leads nowhere any more, hinder
// nobody.
func TestHarmless(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	pair := filepath.Join(dir, "a", "m", "Q4_K_M")
	notes := filepath.Join(pair, "0123456789ab", "notes")
	require.NoError(t, os.MkdirAll(filepath.Dir(notes), 0o700))
	require.NoError(t, os.WriteFile(notes, nil, 0o600))
	require.NoError(t, os.Symlink("ba9876543210", filepath.Join(pair, "stable")))
	for cycle := uint64(2); cycle < 10; cycle += 2 {
		c := copyOf(t, cycle)
		c.Keep = 1
		v, err := d.Publish(t.Context(), c)
		require.NoError(t, err)
		at, _ := stableOf(t, v.Stable)
		assert.Equal(t, cycle, at)
	}
	assert.FileExists(t, notes)
}

func TestAChangedVersionIsNotPublishedAgain(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	v, err := d.Publish(t.Context(), copyOf(t, 2))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(v.Dir, v.File), []byte("cut off"), 0o600))
	_, err = d.Publish(t.Context(), copyOf(t, 3))
	require.ErrorContains(t, err, "was changed after it was published: remove the folder")
	require.NoError(t, os.RemoveAll(v.Dir))
	_, err = d.Publish(t.Context(), copyOf(t, 3))
	require.NoError(t, err)
	cycle, _ := stableOf(t, v.Stable)
	assert.EqualValues(t, 3, cycle)
}

// What becomes visible is on the disk before that, and its name after.
func TestOrderOfSyncs(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	var did []string
	name := func(path string) string {
		relative, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		parts := strings.Split(relative, "/")
		for i, part := range parts {
			switch {
			case strings.HasPrefix(part, "cycle-"):
				parts[i] = "X"
			case versionName.MatchString(part):
				parts[i] = "VERSION"
			}
		}
		return strings.Join(parts, "/")
	}
	d.system = system{
		sync: func(path string) error {
			did = append(did, "sync "+name(path))
			return disk.Sync(path)
		},
		rename: func(from, to string) error {
			did = append(did, "rename "+name(from)+" "+name(to))
			return os.Rename(from, to)
		},
		symlink: os.Symlink,
	}
	publish := func(cycle uint64) []string {
		did = nil
		c := copyOf(t, cycle)
		c.Keep = 1
		_, err := d.Publish(t.Context(), c)
		require.NoError(t, err)
		return did
	}
	made := []string{
		"sync .", "sync a", "sync a/m", // the names of a, m and Q4_K_M
		"sync .incoming/X/VERSION/manifest.json",
		"sync .incoming/X/VERSION/m-Q4_K_M.gguf",
		"sync .incoming/X/VERSION",
		"rename .incoming/X/VERSION a/m/Q4_K_M/VERSION",
		"sync a/m/Q4_K_M",
		"rename .incoming/X/stable a/m/Q4_K_M/stable",
		"sync a/m/Q4_K_M",
	}
	assert.Equal(t, made, publish(2))
	assert.Equal(t, []string{
		"sync .", "sync a", "sync a/m",
		"sync .incoming/X/manifest.json",
		"rename .incoming/X/manifest.json a/m/Q4_K_M/VERSION/manifest.json",
		"sync a/m/Q4_K_M/VERSION", "sync a/m/Q4_K_M",
		"sync a/m/Q4_K_M",
	}, publish(3), "the same content")
	assert.Equal(t, append(made, "rename a/m/Q4_K_M/VERSION .incoming/X/old-1", "sync a/m/Q4_K_M"), publish(4), "the one before goes")
}

// A disk that fails at any step leaves the link at a copy that is whole.
func TestAnErrorAtEveryStep(t *testing.T) {
	broken := errors.New("input/output error")
	for step := 1; ; step++ {
		dir := t.TempDir()
		d := open(t, dir)
		before, err := d.Publish(t.Context(), copyOf(t, 2))
		require.NoError(t, err)
		steps := 0
		fails := func() error {
			if steps++; steps == step {
				return broken
			}
			return nil
		}
		d.system = system{
			sync: func(path string) error { return errors.Join(fails(), disk.Sync(path)) },
			rename: func(from, to string) error {
				if err := fails(); err != nil {
					return err
				}
				return os.Rename(from, to)
			},
			symlink: os.Symlink,
		}
		c := copyOf(t, 4)
		c.Keep = 1
		_, err = d.Publish(t.Context(), c)
		cycle, _ := stableOf(t, before.Stable)
		versions := versionsIn(t, filepath.Dir(before.Dir))
		if err != nil && cycle == 2 {
			assert.Len(t, versions, 1, "the version that was not published stays at step %d", step)
		}
		assertNothingIncoming(t, dir)
		if err == nil { // from here on only what is removed is concerned
			assert.EqualValues(t, 4, cycle)
			require.Greater(t, step, 10)
			break
		}
		require.ErrorIs(t, err, broken)
	}
}

func TestWithoutSymbolicLinks(t *testing.T) {
	for _, refusal := range []error{syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS} {
		dir := t.TempDir()
		d := open(t, dir)
		d.system.symlink = func(to, path string) error { return &os.LinkError{Op: "symlink", Old: to, New: path, Err: refusal} }
		for cycle := uint64(2); cycle < 10; cycle += 2 {
			c := copyOf(t, cycle)
			c.Keep, c.Chosen = 2, cycle%4 == 0
			v, err := d.Publish(t.Context(), c)
			require.NoError(t, err)
			line, err := os.ReadFile(v.Stable)
			require.NoError(t, err)
			at := filepath.Join(filepath.Dir(v.Stable), strings.TrimSuffix(string(line), "\n"))
			assert.Equal(t, v.Dir, at)
			assert.Equal(t, cycle, whole(t, at))
		}
		assert.Len(t, versionsIn(t, filepath.Join(dir, "a/m/Q4_K_M")), 2)
		d.system.symlink = os.Symlink // it was mounted with them
		v, err := d.Publish(t.Context(), copyOf(t, 12))
		require.NoError(t, err)
		cycle, _ := stableOf(t, v.Stable)
		assert.EqualValues(t, 12, cycle)
	}
}

func TestAFailedFirstPublicationLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	d.system.symlink = func(string, string) error { return syscall.ENOSPC }
	_, err := d.Publish(t.Context(), copyOf(t, 2))
	require.ErrorIs(t, err, syscall.ENOSPC)
	assert.NoDirExists(t, filepath.Join(dir, "a"))
	assertNothingIncoming(t, dir)
}

func TestOpenRefusesWhatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := Open(file, nil)
	require.ErrorContains(t, err, "making the folder to publish in")
	require.ErrorContains(t, err, file)
}

func TestASplitModelsCopyDoesNotLookLikeAPart(t *testing.T) {
	assert.Equal(t, "big-Q2_K.gguf", fileName("a/big-00001-of-00003", "Q2_K"))
	assert.Equal(t, "big-Q2_K.gguf", fileName("/abs/big", "Q2_K"))
}
