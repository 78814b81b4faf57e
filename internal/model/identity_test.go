package model_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/model"
)

func TestChangesOfAModelAreTold(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, path string)
		want   string // "" for no change
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"read", func(t *testing.T, path string) {
			_, err := os.ReadFile(path)
			require.NoError(t, err)
		}, ""},
		{"hard link made", func(t *testing.T, path string) {
			require.NoError(t, os.Link(path, path+".link"))
		}, ""},
		{"permissions", func(t *testing.T, path string) {
			require.NoError(t, os.Chmod(path, 0o600))
		}, ""},
		{"grown", func(t *testing.T, path string) {
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(path, info.Size()+1))
		}, "the size of"},
		{"touched", func(t *testing.T, path string) {
			require.NoError(t, os.Chtimes(path, time.Time{}, time.Unix(1e9, 1)))
		}, "was modified at"},
		{"replaced", func(t *testing.T, path string) {
			info, err := os.Stat(path)
			require.NoError(t, err)
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path+".new", data, 0o644))
			require.NoError(t, os.Chtimes(path+".new", info.ModTime(), info.ModTime()))
			require.NoError(t, os.Rename(path+".new", path))
		}, "is another file now"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := newModels(t)
			dir.split("m", 2, 1, 2)
			m := dir.discover().Models[0]
			before, err := m.Identity()
			require.NoError(t, err)
			require.Len(t, before, 2)
			tt.change(t, m.Files[1])
			after, err := m.Identity()
			require.NoError(t, err)
			err = model.SameFiles(before, after)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, err, m.Files[1])
		})
	}
}

func TestAModelThatHasGone(t *testing.T) {
	dir := newModels(t)
	path := dir.model("m.gguf")
	m := dir.discover().Models[0]
	before, err := m.Identity()
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	_, err = m.Identity()
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, path)
	require.Error(t, model.SameFiles(before, nil))
	assert.NoError(t, model.SameFiles(nil, nil))
}
