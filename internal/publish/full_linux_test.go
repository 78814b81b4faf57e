package publish

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/test/namespace"
)

// A disk that is full, really: a small file system of the test's own, in a mount
// namespace of a child. Where the system allows nobody such a namespace this test fails.
func TestDiskFull(t *testing.T) {
	child := childCommand("full", t.TempDir(), t.TempDir())
	namespace.WithMounts(child)
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// fillTheDisk publishes on another file system than the copies are on, so that they have
// to be copied, until that is full.
func fillTheDisk(args []string) error {
	if err := syscall.Mount("tmpfs", args[0], "tmpfs", 0, "size=300k"); err != nil {
		return fmt.Errorf("mounting a small file system: %w", err)
	}
	d, err := Open(args[0], nil)
	if err != nil {
		return err
	}
	publish := func(cycle uint64, keep int) (Version, error) {
		c := copyOf(inDir(args[1]), cycle)
		c.Keep = keep
		return d.Publish(context.Background(), c)
	}
	var last Version
	cycle := uint64(2)
	for ; cycle < 40; cycle += 2 {
		v, err := publish(cycle, 0)
		if err != nil {
			if !errors.Is(err, syscall.ENOSPC) || last.Dir == "" {
				return fmt.Errorf("cycle %d: %w", cycle, err)
			}
			break
		}
		last = v
	}
	if cycle == 40 {
		return errors.New("the disk was never full")
	}
	if to, err := filepath.EvalSymlinks(last.Stable); err != nil || to != last.Dir {
		return fmt.Errorf("on a full disk the link leads to %s, not %s: %w", to, last.Dir, err)
	}
	if sum, _, err := disk.Hash(context.Background(), filepath.Join(last.Dir, last.File), nil); err != nil || sum != last.SHA256 {
		return fmt.Errorf("the copy before is not what it was: %w", err)
	}
	if left, err := os.ReadDir(filepath.Join(args[0], ".incoming")); err != nil || len(left) > 0 {
		return fmt.Errorf("a failed publication has left %v: %w", left, err)
	}
	// Room again: somebody removed an old version.
	versions, err := (pair{"a/m", "Q4_K_M", "", filepath.Dir(last.Dir)}).versions()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(versions[len(versions)-1].Dir); err != nil {
		return err
	}
	_, err = publish(cycle, 1)
	return err
}
