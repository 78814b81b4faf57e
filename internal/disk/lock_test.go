package disk

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func acquire(t *testing.T, path string) (release func()) {
	t.Helper()
	release, err := NewLock(path).Acquire(t.Context(), false, nil)
	require.NoError(t, err)
	t.Cleanup(release)
	return release
}

func TestLockHeldByAnotherProcessUntilItIsKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder := startHolder(t, path)

	_, err := NewLock(path).Acquire(t.Context(), false, nil)
	var held *HeldError
	require.ErrorAs(t, err, &held)
	assert.Equal(t, holder.Process.Pid, held.Holder.PID)
	assert.Equal(t, filepath.Base(os.Args[0]), held.Holder.Command, "flags are not for everybody to read")
	assert.WithinDuration(t, time.Now(), held.Holder.Since, time.Hour)
	require.ErrorContains(t, err, "--no-wait")

	waiting := make(chan Holder, 10)
	acquired := make(chan error, 1)
	go func() {
		_, err := NewLock(path).Acquire(t.Context(), true, func(h Holder) { waiting <- h })
		acquired <- err
	}()
	assert.Equal(t, holder.Process.Pid, (<-waiting).PID)
	// The holder's child lives on and must not keep the lock.
	require.NoError(t, holder.Process.Kill())
	_ = holder.Wait()
	require.NoError(t, <-acquired)
}

func TestLockKeepsGoroutinesApart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var holders atomic.Int32
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			release, err := NewLock(path).Acquire(t.Context(), true, nil)
			if err != nil {
				t.Errorf("waiting for the lock: %v", err)
				return
			}
			assert.Equal(t, int32(1), holders.Add(1))
			runtime.Gosched()
			holders.Add(-1)
			release()
		})
	}
	group.Wait()
}

func TestLockNamesEachHolderOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	synctest.Test(t, func(t *testing.T) {
		release := acquire(t, path)
		var reported []Holder
		acquired := make(chan struct{})
		go func() {
			_, err := NewLock(path).Acquire(t.Context(), true, func(h Holder) { reported = append(reported, h) })
			assert.NoError(t, err)
			close(acquired)
		}()
		time.Sleep(10*lockPoll + lockPoll/2)

		// Another process takes over, between two looks.
		other := Holder{PID: os.Getppid(), Since: time.Now().UTC(), Command: "other"}
		data, err := json.Marshal(other)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		time.Sleep(10 * lockPoll)

		release()
		<-acquired
		require.Len(t, reported, 2)
		assert.Equal(t, os.Getpid(), reported[0].PID)
		assert.Equal(t, other, reported[1])
	})
}

func TestLockWaitEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	synctest.Test(t, func(t *testing.T) {
		release := acquire(t, path)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := NewLock(path).Acquire(ctx, true, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		release()
		acquire(t, path) // the one that gave up holds nothing
	})
}

func TestLockEndedContextTakesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := NewLock(path).Acquire(ctx, true, nil)
	require.ErrorIs(t, err, context.Canceled)
	assert.NoFileExists(t, path)
}

func TestLockReleaseTwiceFreesOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first := acquire(t, path)
	first()
	acquire(t, path)
	first()
	_, err := NewLock(path).Acquire(t.Context(), false, nil)
	require.Error(t, err, "the second holder still has it")
}

func TestLockBelievesNoDeadHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	dead := startHolder(t, path)
	require.NoError(t, dead.Process.Kill())
	_ = dead.Wait()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotEmpty(t, content, "what the dead holder left")

	// A new holder that has the lock and has not written itself down yet.
	f, err := openLockFile(path)
	require.NoError(t, err)
	defer f.Close()
	locked, err := TryLock(f)
	require.NoError(t, err)
	require.True(t, locked)

	_, err = NewLock(path).Acquire(t.Context(), false, nil)
	var held *HeldError
	require.ErrorAs(t, err, &held)
	assert.Zero(t, held.Holder)
	assert.ErrorContains(t, err, "another measurement is running on this host: a process that is not known holds "+path+"; try again later")
}

func TestLockIsFreeOfWhatAKilledHolderLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	dead := startHolder(t, path)
	require.NoError(t, dead.Process.Kill())
	_ = dead.Wait()
	acquire(t, path)
}

func TestLockLeavesOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	const text = "root:x:0:0\n"
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	link := filepath.Join(dir, "symlink")
	require.NoError(t, os.Symlink(file, link))
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	second := filepath.Join(dir, "second")
	require.NoError(t, os.Link(empty, second))

	for path, message := range map[string]string{
		link:                             "symbolic link",
		fifo:                             "not a regular file",
		second:                           "second name",
		dir:                              "is a directory",
		filepath.Join(dir, "no", "lock"): "no such file",
	} {
		_, err := NewLock(path).Acquire(t.Context(), true, nil)
		require.ErrorContains(t, err, message)
		require.ErrorContains(t, err, "--host.lock")
	}
	release := acquire(t, file) // it is not refused for what is in it
	_, err := NewLock(file).Acquire(t.Context(), false, nil)
	require.ErrorAs(t, err, new(*HeldError))
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, text, string(content))
	release()
	content, err = os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, text, string(content))
}

// What a file system makes of a file that was written before the power went, or shortly
// before: its length without its content, a part of it, or the begin of one holder over the
// end of another.
func TestLockSurvivesAPowerLoss(t *testing.T) {
	const holder = `{"pid":2147483647,"since":"2026-11-23T14:00:00Z","command":"quant-exporter run"}` + "\n"
	left := map[string]string{
		"zeros": strings.Repeat("\x00", len(holder)), "a page of zeros": strings.Repeat("\x00", maxHolderBytes),
		"the begin, then zeros": holder[:30] + strings.Repeat("\x00", 30), "zeros, then the end": strings.Repeat("\x00", 8) + holder,
		"two of them": holder[:40] + holder, "no object": `{"pid":null}`,
	}
	for n := range len(holder) {
		left[fmt.Sprintf("%d bytes", n)] = holder[:n]
	}
	for name, content := range left {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "lock")
			require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
			release := acquire(t, path)
			var held *HeldError
			_, err := NewLock(path).Acquire(t.Context(), false, nil)
			require.ErrorAs(t, err, &held)
			assert.Equal(t, os.Getpid(), held.Holder.PID, "the hint is written anew")
			release()
			info, err := os.Stat(path)
			require.NoError(t, err)
			assert.Zero(t, info.Size())
		})
	}
}

func TestLockFileIsForEveryUser(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	path := filepath.Join(t.TempDir(), "lock")
	release := acquire(t, path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o666), info.Mode().Perm())
	release()
	info, err = os.Stat(path)
	require.NoError(t, err)
	assert.Zero(t, info.Size(), "a released lock names nobody")
}

func TestLockFileRemovedWhileFree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	stale, err := createLockFile(path, 0o600)
	require.NoError(t, err)
	defer stale.Close()
	require.NoError(t, os.Remove(path))
	named, err := stillNamed(stale, path)
	require.NoError(t, err)
	assert.False(t, named)
	acquire(t, path)
	named, err = stillNamed(stale, path)
	require.NoError(t, err)
	assert.False(t, named)
}

func TestDefaultLockPathGoesByTheDirectory(t *testing.T) {
	fallback := "/tmp/quant-exporter.lock"
	shared := t.TempDir()
	require.NoError(t, os.Chmod(shared, 0o777|os.ModeSticky))
	assert.Equal(t, filepath.Join(shared, "quant-exporter.lock"), defaultLockPath(shared, "/tmp"))
	owned := t.TempDir()
	require.NoError(t, os.Chmod(owned, 0o755))
	assert.Equal(t, fallback, defaultLockPath(owned, "/tmp"), "writable, but not to everybody")
	assert.Equal(t, fallback, defaultLockPath(filepath.Join(owned, "missing"), "/tmp"))
	assert.Equal(t, DefaultLockPath(), NewLock("").path)
}

func TestCommand(t *testing.T) {
	for want, args := range map[string][]string{
		"":                   nil,
		"quant-exporter":     {"/usr/bin/quant-exporter", "--a2a.password=x", "run"},
		"quant-exporter run": {"quant-exporter", "run", "--model", "x"},
	} {
		assert.Equal(t, want, command(args))
	}
}

func FuzzParseHolder(f *testing.F) {
	f.Add([]byte(`{"pid":12,"since":"2026-11-23T14:00:00Z","command":"quant-exporter run"}` + "\n"))
	f.Add([]byte(`{"pid":12,"since":"2026-11-23T14:00:00Z","command":"x"}` + "\nrun\"}\n"))
	f.Add([]byte(`{"pid":-1}`))
	f.Add([]byte("root:x:0:0\n"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, content []byte) {
		holder, err := parseHolder(content)
		if err == nil && holder.PID <= 0 {
			t.Fatalf("pid %d", holder.PID)
		}
		if err != nil && holder != (Holder{}) {
			t.Fatalf("a holder beside an error: %+v", holder)
		}
	})
}
