package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestDropCache(t *testing.T) {
	dir, err := os.MkdirTemp(".", "cache-") // a temporary folder may be in memory, which is then its disk
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	path := filepath.Join(dir, "copy.gguf")
	content := bytes.Repeat([]byte("weights."), 1<<17)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	var fs unix.Statfs_t
	require.NoError(t, unix.Statfs(path, &fs))
	inMemory := fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC

	require.Equal(t, len(content), cached(t, path), "it was just written")
	require.NoError(t, DropCache(path))
	if !inMemory {
		assert.Zero(t, cached(t, path))
	}
	again, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, content, again)

	link := filepath.Join(dir, "original.gguf")
	require.NoError(t, os.Symlink("copy.gguf", link))
	require.NoError(t, DropCache(link))
	if !inMemory {
		assert.Zero(t, cached(t, path), "through a link")
	}
	assert.ErrorIs(t, DropCache(filepath.Join(dir, "gone")), os.ErrNotExist)
}

// cached returns how many bytes of a file the kernel keeps in memory.
func cached(t *testing.T, path string) int {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	info, err := file.Stat()
	require.NoError(t, err)
	mapped, err := unix.Mmap(int(file.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(mapped)) }()
	page := os.Getpagesize()
	resident := make([]byte, (len(mapped)+page-1)/page)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mapped[0])), uintptr(len(mapped)), uintptr(unsafe.Pointer(&resident[0])))
	require.Zero(t, errno)
	pages := 0
	for _, r := range resident {
		pages += int(r & 1)
	}
	return pages * page
}
