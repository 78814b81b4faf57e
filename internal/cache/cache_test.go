package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// key is one of so many.
func key(n int) string { return fmt.Sprintf("%064x", n) }

func hashOfBytes(content []byte) string {
	hash := sha256.Sum256(content)
	return hex.EncodeToString(hash[:])
}

func openCache(t *testing.T, dir string, size int64) *Cache {
	t.Helper()
	c, err := Open(t.Context(), dir, size, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return c
}

// file writes one of so many bytes, whose content depends on n.
func file(t *testing.T, n, size int) (path string, content []byte) {
	t.Helper()
	content = bytes.Repeat([]byte{byte(n)}, size)
	path = filepath.Join(t.TempDir(), "made.gguf")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path, content
}

func put(t *testing.T, c *Cache, n, size int) {
	t.Helper()
	path, _ := file(t, n, size)
	require.NoError(t, c.Put(t.Context(), key(n), path))
	require.NoError(t, os.Remove(path)) // with the working directory
}

// used sets when a file was last used, so many hours ago.
func used(t *testing.T, c *Cache, n, hoursAgo int) {
	t.Helper()
	e, found, err := c.find(key(n))
	require.NoError(t, err)
	require.True(t, found)
	at := time.Now().Add(-time.Duration(hoursAgo) * time.Hour)
	require.NoError(t, os.Chtimes(e.path, at, at))
}

// kept are the files that are there.
func kept(t *testing.T, c *Cache) []int {
	t.Helper()
	var all []int
	for n := range 20 {
		if c.Has(key(n), c.dir) {
			all = append(all, n)
		}
	}
	return all
}

func TestWhatWasPutIsGot(t *testing.T) {
	c := openCache(t, filepath.Join(t.TempDir(), "a", "cache"), 1000)
	path, content := file(t, 1, 100)
	require.NoError(t, c.Put(t.Context(), key(1), path))
	require.NoError(t, os.Remove(path), "the file is the cache's own")

	again := openCache(t, c.dir, 1000) // as another process does
	to := filepath.Join(t.TempDir(), "copy")
	hash, found, err := again.Get(t.Context(), key(1), to)
	require.NoError(t, err)
	require.True(t, found)
	assert.Equal(t, hashOfBytes(content), hash)
	got, err := os.ReadFile(to)
	require.NoError(t, err)
	assert.Equal(t, content, got)

	_, found, err = again.Get(t.Context(), key(2), filepath.Join(t.TempDir(), "none"))
	require.NoError(t, err)
	assert.False(t, found)
	_, _, err = again.Get(t.Context(), key(1), to)
	require.ErrorContains(t, err, "exists", "it writes over nothing")
}

func TestPutAgainChangesNothing(t *testing.T) {
	c := openCache(t, t.TempDir(), 1000)
	put(t, c, 1, 100)
	other, _ := file(t, 2, 50)
	require.NoError(t, c.Put(t.Context(), key(1), other))
	hash, _, err := c.Get(t.Context(), key(1), filepath.Join(t.TempDir(), "copy"))
	require.NoError(t, err)
	assert.Equal(t, hashOfBytes(bytes.Repeat([]byte{1}, 100)), hash)
}

func TestTheOnesUnusedForLongestMakeRoom(t *testing.T) {
	c := openCache(t, t.TempDir(), 300)
	for n := range 3 {
		put(t, c, n, 100)
		used(t, c, n, 10-n)
	}
	_, _, err := c.Get(t.Context(), key(0), filepath.Join(t.TempDir(), "copy")) // which uses it
	require.NoError(t, err)
	put(t, c, 3, 150)
	assert.Equal(t, []int{0, 3}, kept(t, c))

	put(t, c, 4, 301)
	assert.Equal(t, []int{0, 3}, kept(t, c), "one larger than all may be comes not in, and nothing goes for it")

	assert.Equal(t, []int{3}, kept(t, openCache(t, c.dir, 200)), "a smaller size holds from the start")
	assert.Empty(t, kept(t, openCache(t, c.dir, 0)))
}

func TestItNeverGrowsBeyondItsSize(t *testing.T) {
	c := openCache(t, t.TempDir(), 250)
	for n := range 10 {
		path, _ := file(t, n, 100)
		require.NoError(t, c.Put(t.Context(), key(n), path))
		total := int64(0)
		files, err := os.ReadDir(c.dir)
		require.NoError(t, err)
		for _, f := range files {
			info, err := f.Info()
			require.NoError(t, err)
			total += info.Size()
		}
		assert.LessOrEqual(t, total, int64(250))
	}
}

func TestDamagedFilesAreRemovedAndNotUsed(t *testing.T) {
	c := openCache(t, t.TempDir(), 1000)
	put(t, c, 1, 100)
	e, _, err := c.find(key(1))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(e.path, bytes.Repeat([]byte{2}, 100), 0o600))
	to := filepath.Join(t.TempDir(), "copy")
	_, found, err := c.Get(t.Context(), key(1), to)
	require.NoError(t, err)
	assert.False(t, found)
	assert.NoFileExists(t, to)
	assert.NoFileExists(t, e.path)
}

func TestOpenRemovesWhatWasLeftAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, incomingPrefix+"X")
	mine := filepath.Join(dir, "notes.txt")
	for _, path := range []string{left, mine} {
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	}
	openCache(t, dir, 0)
	assert.NoFileExists(t, left)
	assert.FileExists(t, mine)
}

func TestMakeRoom(t *testing.T) {
	c := openCache(t, t.TempDir(), 1000)
	for n := range 3 {
		put(t, c, n, 100)
		used(t, c, n, 10-n)
	}
	require.NoError(t, c.MakeRoom(t.Context(), c.dir, 1, nil))
	assert.Equal(t, []int{0, 1, 2}, kept(t, c), "there is room")
	e, _, err := c.find(key(2))
	require.NoError(t, err)
	published := filepath.Join(t.TempDir(), "published.gguf")
	require.NoError(t, os.Link(e.path, published))
	require.NoError(t, c.MakeRoom(t.Context(), c.dir, 1<<62, []string{key(1)}))
	assert.Equal(t, []int{1, 2}, kept(t, c), "a file with another name would make no room")
	require.NoError(t, os.Remove(published))
	require.NoError(t, c.MakeRoom(t.Context(), c.dir, 1<<62, []string{key(1)}))
	assert.Equal(t, []int{1}, kept(t, c))
	if same, err := sameFileSystem(c.dir, "/proc"); err == nil && !same {
		require.NoError(t, c.MakeRoom(t.Context(), "/proc", 1<<62, nil))
		assert.Equal(t, []int{1}, kept(t, c), "it would make none there")
		assert.False(t, c.Has(key(1), "/proc"))
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	notDir := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(notDir, nil, 0o600))
	_, err := Open(t.Context(), notDir, 1, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "name another work.dir, or set cache.size to 0")

	c := openCache(t, t.TempDir(), 1000)
	path, _ := file(t, 1, 10)
	require.ErrorContains(t, c.Put(t.Context(), "../key", path), "is not a key")
	require.ErrorIs(t, c.Put(t.Context(), key(1), path+"x"), os.ErrNotExist)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.Put(ctx, key(1), path), context.Canceled)
	left, err := filepath.Glob(filepath.Join(c.dir, incomingPrefix+"*"))
	require.NoError(t, err)
	assert.Empty(t, left)
	assert.Empty(t, kept(t, c))
}

// Another process, or another of our own, is waited for.
func TestOneChangesTheFolderAtATime(t *testing.T) {
	dir := t.TempDir()
	caches := []*Cache{openCache(t, dir, 500), openCache(t, dir, 500)}
	var wg sync.WaitGroup
	for n := range 12 {
		path, _ := file(t, n, 100)
		to := filepath.Join(t.TempDir(), "copy")
		wg.Go(func() {
			assert.NoError(t, caches[n%2].Put(t.Context(), key(n), path))
			_, _, err := caches[n%2].Get(t.Context(), key(n), to)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.Len(t, kept(t, caches[0]), 5)

	held := make(chan struct{})
	release := make(chan struct{})
	wg.Go(func() {
		assert.NoError(t, caches[0].locked(t.Context(), func() error { close(held); <-release; return nil }))
	})
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path, _ := file(t, 1, 10)
	require.ErrorContains(t, caches[1].Put(ctx, key(19), path), "waiting for another process")
	close(release)
	wg.Wait()
}

func TestDrop(t *testing.T) {
	c := openCache(t, t.TempDir(), 1000)
	put(t, c, 1, 100)
	put(t, c, 2, 100)
	require.NoError(t, c.Drop(t.Context(), key(1)))
	require.NoError(t, c.Drop(t.Context(), key(1)), "there is none")
	assert.Equal(t, []int{2}, kept(t, c))
}

// A file that was written to through another name is dropped, and a log line warns whoever serves it.
func TestDamageUnderOtherNamesIsTold(t *testing.T) {
	for _, take := range []string{"drop", "get"} {
		for _, written := range []bool{true, false} {
			t.Run(fmt.Sprint(take, written), func(t *testing.T) {
				var log bytes.Buffer
				c, err := Open(t.Context(), t.TempDir(), 1000, slog.New(slog.NewTextHandler(&log, nil)))
				require.NoError(t, err)
				put(t, c, 1, 100)
				e, _, err := c.find(key(1))
				require.NoError(t, err)
				published := filepath.Join(c.dir, "published")
				require.NoError(t, os.Link(e.path, published))
				if written {
					require.NoError(t, os.WriteFile(published, []byte("else"), 0o600))
				}
				if take == "drop" {
					require.NoError(t, c.Drop(t.Context(), key(1)))
				} else {
					_, found, err := c.Get(t.Context(), key(1), filepath.Join(t.TempDir(), "copy"))
					require.NoError(t, err)
					assert.Equal(t, !written, found)
				}
				assert.Equal(t, written, strings.Contains(log.String(), "a damaged file has other names"), log.String())
				assert.Equal(t, take == "get" && !written, c.Has(key(1), c.dir))
			})
		}
	}
}
