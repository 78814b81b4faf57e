package store

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What an operator does with files, none of which Backup has made.
func TestCopiesAreKnown(t *testing.T) {
	cp := func(t *testing.T, args ...string) {
		t.Helper()
		out, err := exec.Command("cp", args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	for name, c := range map[string]struct {
		do   func(t *testing.T, dir string) (opened string)
		same bool
	}{
		"nothing": {same: true, do: func(_ *testing.T, dir string) string { return dir }},
		"mv of the directory": {same: true, do: func(t *testing.T, dir string) string {
			moved := filepath.Join(t.TempDir(), "moved")
			require.NoError(t, os.Rename(dir, moved))
			return moved
		}},
		"cp of the file": {do: func(t *testing.T, dir string) string {
			copied := t.TempDir()
			cp(t, filepath.Join(dir, fileName), copied)
			return copied
		}},
		"cp -a of the directory": {do: func(t *testing.T, dir string) string {
			copied := filepath.Join(t.TempDir(), "copied")
			cp(t, "-a", dir, copied)
			return copied
		}},
		"mv of a copy over it": {do: func(t *testing.T, dir string) string {
			file := filepath.Join(dir, fileName)
			cp(t, "-p", file, file+".old")
			require.NoError(t, os.Rename(file+".old", file))
			return dir
		}},
		"rm and cp of a copy": { // which may well get the inode
			do: func(t *testing.T, dir string) string {
				file, kept := filepath.Join(dir, fileName), filepath.Join(t.TempDir(), "kept")
				cp(t, "-p", file, kept)
				require.NoError(t, os.Remove(file))
				cp(t, "-p", kept, file)
				return dir
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			s := open(t, dir, Options{Bus: true})
			producer := s.State().Outbox.Producer
			require.NoError(t, s.Close())
			s = open(t, c.do(t, dir), Options{Bus: true})
			assert.Equal(t, c.same, s.State().Outbox.Producer == producer)
		})
	}
}

func TestIdentity(t *testing.T) {
	born := identity{7, start()}
	for name, c := range map[string]struct {
		other identity
		same  bool
	}{
		"the same":                   {identity{7, start()}, true},
		"another inode":              {identity{8, start()}, false},
		"the inode was used again":   {identity{7, start().Add(time.Nanosecond)}, false},
		"the birth is not known":     {identity{7, time.Time{}}, true},
		"nor is it the same inode":   {identity{8, time.Time{}}, false},
		"the zone makes none of two": {identity{7, start().In(time.FixedZone("", 3600))}, true},
	} {
		assert.Equal(t, c.same, born.sameAs(c.other), name)
		assert.Equal(t, c.same, c.other.sameAs(born), name)
	}
}
