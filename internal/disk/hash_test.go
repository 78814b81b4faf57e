package disk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/quant-exporter/quant-exporter/internal/disk"
)

func TestHash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	for _, size := range []int{0, 1, 1 << 20, 3<<20 + 1} {
		content := bytes.Repeat([]byte{7}, size)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		last := int64(0)
		sum, n, err := disk.Hash(t.Context(), path, func(read int64) {
			assert.Greater(t, read, last)
			last = read
		})
		require.NoError(t, err)
		want := sha256.Sum256(content)
		assert.Equal(t, hex.EncodeToString(want[:]), sum)
		assert.EqualValues(t, size, n)
		assert.EqualValues(t, size, last)
	}
}

func TestHashStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	require.NoError(t, os.WriteFile(path, make([]byte, 4<<20), 0o600))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("somebody asked")
	calls := 0
	_, _, err := disk.Hash(ctx, path, func(int64) { calls++; cancel(why) })
	require.ErrorIs(t, err, why)
	assert.Equal(t, 1, calls)

	_, _, err = disk.Hash(t.Context(), filepath.Dir(path), nil)
	require.ErrorContains(t, err, "reading "+filepath.Dir(path))
	_, _, err = disk.Hash(t.Context(), path+"x", nil)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestSync(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, disk.Sync(dir))
	require.ErrorIs(t, disk.Sync(filepath.Join(dir, "x")), os.ErrNotExist)
}

func TestReadSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte("four"), 0o600))
	content, err := disk.ReadSmall(path, 4)
	require.NoError(t, err)
	assert.Equal(t, "four", string(content))
	_, err = disk.ReadSmall(path, 3)
	require.ErrorContains(t, err, "has more than 3 bytes")
	require.NoError(t, os.Remove(path))
	require.NoError(t, unix.Mkfifo(path, 0o600))
	_, err = disk.ReadSmall(path, 4)
	require.ErrorContains(t, err, "is not a regular file", "and nobody waits for a writer")
	_, err = disk.ReadSmall("/dev/zero", 4)
	require.ErrorContains(t, err, "is not a regular file")
}
