package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/namespace"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// A disk that is full, really: a small file system of the test's own, in a mount
// namespace of a child. Where the system allows nobody such a namespace this test fails.
func TestDiskFull(t *testing.T) {
	inOwnNamespace(t, childCommand("full", t.TempDir()))
}

// The same file under another device number, as after a restart of a host whose file
// system is on overlayfs, btrfs or NFS.
func TestMountedAnew(t *testing.T) {
	inOwnNamespace(t, childCommand("remount", t.TempDir()))
}

// inOwnNamespace runs a child that may mount what nobody else sees.
func inOwnNamespace(t *testing.T, child *exec.Cmd) {
	t.Helper()
	namespace.WithMounts(child)
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func mountSmall(dir string) error {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		return fmt.Errorf("mounting a small file system: %w", err)
	}
	return nil
}

func remount(dir string) error {
	if err := mountSmall(dir); err != nil {
		return err
	}
	for _, sub := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	upper, merged := filepath.Join(dir, "upper"), filepath.Join(dir, "merged")
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", filepath.Join(dir, "lower"), upper, filepath.Join(dir, "work"))
	before, producer, err := openedOn(upper)
	if err != nil {
		return err
	}
	if err := syscall.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("mounting an overlay: %w", err)
	}
	after, same, err := openedOn(merged)
	if err != nil {
		return err
	}
	if before == after || producer != same {
		return fmt.Errorf("on device %d the producer is %s and on device %d %s", before, producer, after, same)
	}
	return nil
}

// openedOn opens a state and tells its device and its producer.
func openedOn(dir string) (device uint64, producer string, err error) {
	s, err := Open(dir, Options{Bus: true})
	if err != nil {
		return 0, "", err
	}
	var stat syscall.Stat_t
	err = syscall.Stat(filepath.Join(dir, fileName), &stat)
	return stat.Dev, s.State().Outbox.Producer, errors.Join(err, s.Close())
}

func fillTheDisk(dir string) error {
	if err := mountSmall(dir); err != nil {
		return err
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	s, err := Open(dir, Options{Bus: true})
	if err != nil {
		return err
	}
	var targets []string
	for i := range 100 {
		targets = append(targets, fmt.Sprintf("T%d", i))
	}
	id, err := s.BeginCycle(Cycle{Model: "m", Targets: targets})
	if err != nil {
		return err
	}
	commit := func(target string) error {
		big := decided("m", target, verdict.Kept)
		big.Evidence.Hardware = strings.Repeat("x", 100<<10)
		_, err := s.Commit(id, big)
		return err
	}
	stored := 0
	for err == nil && stored < len(targets) {
		if err = commit(targets[stored]); err == nil {
			stored++
		}
	}
	if !errors.Is(err, syscall.ENOSPC) || stored == 0 || s.Stats().WriteFailures != 1 {
		return fmt.Errorf("after %d results, with %d failed writes: %w", stored, s.Stats().WriteFailures, err)
	}

	// Full: nothing changes, and what is there can be read.
	for range 20 {
		before := s.State()
		if err := commit(targets[stored]); !errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("committing to a full disk: %w", err)
		}
		if !reflect.DeepEqual(before, s.State()) {
			return fmt.Errorf("the state was %+v and is %+v", before, s.State())
		}
		if err := s.Check(); err != nil {
			return fmt.Errorf("on a full disk: %w", err)
		}
	}
	if failures := s.Stats().WriteFailures; failures != 21 {
		return fmt.Errorf("21 writes failed, %d are counted", failures)
	}
	// bbolt keeps the message of this error only.
	if _, err := s.Backup(&bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		return fmt.Errorf("a backup beside the state on a full disk: %w", err)
	}
	if err := s.Export(&bytes.Buffer{}); err != nil {
		return err
	}
	if n := len(s.State().Pairs); n != stored {
		return fmt.Errorf("%d pairs are known, %d were stored", n, stored)
	}

	// Room again: the very result that was refused goes in.
	if err := os.Remove(filler); err != nil {
		return err
	}
	if err := commit(targets[stored]); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	if err := errors.Join(s.EndCycle(id, nil), s.Check()); err != nil {
		return err
	}
	before := s.State()
	if err := s.Close(); err != nil {
		return err
	}
	s, err = Open(dir, Options{Bus: true})
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(before, s.State()) {
		return errors.New("a restart finds another state")
	}
	return errors.Join(s.Check(), s.Close())
}
