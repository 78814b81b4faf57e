package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// source makes a read-only file to clone, with a symbolic link that leads to it.
func source(t *testing.T, content []byte) (file, link string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	file = filepath.Join(dir, "model, with a comma.gguf")
	require.NoError(t, os.WriteFile(file, content, 0o400))
	link = filepath.Join(dir, "link.gguf")
	require.NoError(t, os.Symlink(filepath.Base(file), link))
	return file, link
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	first, err := os.Lstat(a)
	require.NoError(t, err)
	second, err := os.Lstat(b)
	require.NoError(t, err)
	return os.SameFile(first, second)
}

func TestClone(t *testing.T) {
	file, link := source(t, []byte("weights"))
	before, err := os.Stat(file)
	require.NoError(t, err)
	for _, mode := range []Mode{Auto, Link, Symlink, Copy} {
		for _, from := range []string{file, link} {
			t.Run(fmt.Sprintf("%s of %s", mode, filepath.Base(from)), func(t *testing.T) {
				dst := filepath.Join(t.TempDir(), "original.gguf")
				how, err := Clone(t.Context(), mode, from, dst, nil)
				require.NoError(t, err)
				content, err := os.ReadFile(dst)
				require.NoError(t, err)
				assert.Equal(t, "weights", string(content))
				switch how {
				case Link:
					assert.True(t, sameFile(t, file, dst), "the file itself, not a link that leads to it")
				case Symlink:
					target, err := os.Readlink(dst)
					require.NoError(t, err)
					assert.Equal(t, file, target)
				default:
					assert.False(t, sameFile(t, file, dst))
					require.NoError(t, os.WriteFile(dst, []byte("other"), 0o600), "a file of its own can be written to")
				}
				if mode == Auto {
					assert.Contains(t, []Mode{Reflink, Link}, how, "both are in one file system")
				} else {
					assert.Equal(t, mode, how)
				}
			})
		}
	}
	after, err := os.Stat(file)
	require.NoError(t, err)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "weights", string(content))
	assert.Equal(t, before.Mode(), after.Mode())
	assert.Equal(t, before.ModTime(), after.ModTime())
}

// File systems without links, such as SMB and exFAT.
func TestCloneWithoutLinks(t *testing.T) {
	file, _ := source(t, []byte("weights"))
	var asked []Mode
	refuse := func(mode Mode, _ *os.File, _ string) error {
		asked = append(asked, mode)
		return &os.LinkError{Op: string(mode), Err: unix.EPERM}
	}
	dst := filepath.Join(t.TempDir(), "x.gguf")
	how, err := cloneBy(t.Context(), refuse, Auto, file, dst, nil)
	require.NoError(t, err)
	assert.Equal(t, Copy, how)
	assert.Equal(t, []Mode{Reflink, Link, Symlink}, asked)
	content, err := os.ReadFile(dst)
	require.NoError(t, err)
	assert.Equal(t, "weights", string(content))

	_, err = cloneBy(t.Context(), refuse, Shared, file, dst+"2", nil)
	require.ErrorIs(t, err, ErrNotShared)
	assert.NoFileExists(t, dst+"2")
	assert.True(t, NoSymlinks(&os.LinkError{Err: unix.EPERM}))
	assert.False(t, NoSymlinks(&os.LinkError{Err: unix.ENOSPC}))
}

func TestCloneRelativePath(t *testing.T) {
	file, _ := source(t, []byte("weights"))
	t.Chdir(filepath.Dir(file))
	dst := filepath.Join(t.TempDir(), "x.gguf")
	_, err := Clone(t.Context(), Symlink, filepath.Base(file), dst, nil)
	require.NoError(t, err)
	target, err := os.Readlink(dst)
	require.NoError(t, err)
	assert.Equal(t, file, target)
}

// TestCloneReflink holds on file systems with reflinks and on those without.
func TestCloneReflink(t *testing.T) {
	file, _ := source(t, []byte("weights"))
	dst := filepath.Join(t.TempDir(), "x.gguf")
	how, err := Clone(t.Context(), Reflink, file, dst, nil)
	if err != nil {
		require.ErrorContains(t, err, "a reflink is not possible")
		require.NoFileExists(t, dst)
		return
	}
	assert.Equal(t, Reflink, how)
	assert.False(t, sameFile(t, file, dst))
	content, err := os.ReadFile(dst)
	require.NoError(t, err)
	assert.Equal(t, "weights", string(content))
}

func TestKeep(t *testing.T) {
	file, link := source(t, []byte("weights"))
	dst := filepath.Join(t.TempDir(), "kept.gguf")
	how, err := Keep(t.Context(), link, dst)
	require.NoError(t, err)
	assert.Contains(t, []Mode{Reflink, Link, Copy}, how)
	require.NoError(t, os.Remove(file))
	kept, err := os.ReadFile(dst)
	require.NoError(t, err)
	assert.Equal(t, "weights", string(kept), "whatever becomes of the source")

	_, err = Keep(t.Context(), dst, dst)
	require.ErrorIs(t, err, os.ErrExist)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Keep(ctx, dst, dst+"x")
	require.ErrorIs(t, err, context.Canceled)
	assert.NoFileExists(t, dst+"x")
}

func TestCloneCopyInChunks(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), (2*copyChunk+100)/16)
	file, _ := source(t, content)
	dst := filepath.Join(t.TempDir(), "x.gguf")
	var reported []int64
	_, err := Clone(t.Context(), Copy, file, dst, func(done, total int64) {
		assert.Equal(t, int64(len(content)), total)
		reported = append(reported, done)
	})
	require.NoError(t, err)
	assert.Equal(t, []int64{copyChunk, 2 * copyChunk, int64(len(content))}, reported)
	copied, err := os.ReadFile(dst)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(content, copied))
}

func TestCloneCopyStopsWithItsContext(t *testing.T) {
	file, _ := source(t, make([]byte, 2*copyChunk))
	dst := filepath.Join(t.TempDir(), "x.gguf")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Clone(ctx, Copy, file, dst, func(done, _ int64) {
		assert.Equal(t, int64(copyChunk), done)
		cancel()
	})
	require.ErrorIs(t, err, context.Canceled)
	assert.NoFileExists(t, dst)
}

func TestCloneCopyOfAGrowingFile(t *testing.T) {
	file, _ := source(t, make([]byte, copyChunk+1))
	require.NoError(t, os.Chmod(file, 0o600))
	dst := filepath.Join(t.TempDir(), "x.gguf")
	_, err := Clone(t.Context(), Copy, file, dst, func(done, _ int64) {
		if done == copyChunk {
			assert.NoError(t, os.Truncate(file, copyChunk+2))
		}
	})
	require.ErrorContains(t, err, "is being written to")
	assert.NoFileExists(t, dst)
}

func TestCloneRefuses(t *testing.T) {
	file, _ := source(t, []byte("weights"))
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	dangling := filepath.Join(dir, "dangling")
	require.NoError(t, os.Symlink("nowhere", dangling))
	taken := filepath.Join(dir, "taken")
	require.NoError(t, os.WriteFile(taken, []byte("precious"), 0o600))
	free := filepath.Join(dir, "free")

	for _, mode := range []Mode{Auto, Reflink, Link, Symlink, Copy} {
		for name, c := range map[string]struct {
			src, dst string
			want     error
			message  string
		}{
			"missing source":   {filepath.Join(dir, "missing.gguf"), free, os.ErrNotExist, "missing.gguf"},
			"dangling link":    {dangling, free, os.ErrNotExist, "nowhere"},
			"directory":        {dir, free, nil, "not a regular file"},
			"FIFO":             {fifo, free, nil, "not a regular file"},
			"destination used": {file, taken, os.ErrExist, "taken"},
			"no directory":     {file, filepath.Join(dir, "no", "x"), os.ErrNotExist, "no"},
		} {
			t.Run(fmt.Sprintf("%s, %s", mode, name), func(t *testing.T) {
				_, err := Clone(t.Context(), mode, c.src, c.dst, nil)
				require.ErrorContains(t, err, c.message)
				if c.want != nil {
					require.ErrorIs(t, err, c.want)
				}
			})
		}
	}
	assert.NoFileExists(t, free)
	content, err := os.ReadFile(taken)
	require.NoError(t, err)
	assert.Equal(t, "precious", string(content))

	_, err = Clone(t.Context(), "hardlink", file, free, nil)
	require.ErrorContains(t, err, `"hardlink" is not a way to isolate a model: use auto, reflink`)
}

func TestBecause(t *testing.T) {
	cases := []struct {
		mode Mode
		err  error
		want string
	}{
		{Link, &os.LinkError{Err: unix.EXDEV}, "different file systems"},
		{Reflink, os.NewSyscallError("FICLONE", unix.EXDEV), "different file systems"},
		{Reflink, os.NewSyscallError("FICLONE", unix.EOPNOTSUPP), "cannot share blocks"},
		{Reflink, errors.ErrUnsupported, "cannot share blocks"},
		{Link, &os.LinkError{Err: unix.EPERM}, "protected_hardlinks"},
		{Link, &os.LinkError{Err: unix.EMLINK}, "as many names"},
		{Symlink, &os.LinkError{Err: unix.EPERM}, "the system refused it"},
	}
	for _, c := range cases {
		assert.Contains(t, because(c.mode, c.err), c.want)
	}
}
