package disk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// These make the test binary another process: one that owns a directory, one that removes
// one without root's rights, one that mounts file systems, and one that holds the lock at a path
// until it is killed or its standard input ends, with a child that lives on.
const (
	ownEnv    = "QUANT_EXPORTER_TEST_OWN"
	removeEnv = "QUANT_EXPORTER_TEST_REMOVE"
	holdEnv   = "QUANT_EXPORTER_TEST_HOLD"
	childEnv  = "QUANT_EXPORTER_TEST_CHILD"
	mountEnv  = "QUANT_EXPORTER_TEST_MOUNT"
)

func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Getenv(ownEnv) != "":
		err = own(os.Getenv(ownEnv))
	case os.Getenv(removeEnv) != "":
		err = removeReadOnly(os.Getenv(removeEnv))
	case os.Getenv(holdEnv) != "":
		err = hold(os.Getenv(holdEnv))
	case os.Getenv(mountEnv) != "":
		err = lookAtMounts(os.Getenv(mountEnv))
	case os.Getenv(childEnv) != "":
		_, err = io.Copy(io.Discard, os.Stdin)
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// own makes a working directory with a file, says where it is and waits for the end of
// its standard input, or to be killed.
func own(parent string) error {
	dir, err := NewDir(parent)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir.Path(), "file"), []byte("x"), 0o600); err != nil {
		return err
	}
	fmt.Println(dir.Path())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// startOwner runs an owner and gives the path of its directory.
func startOwner(t *testing.T, parent string) (owner *exec.Cmd, path string) {
	t.Helper()
	owner = exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), ownEnv+"="+parent)
	stdin, err := owner.StdinPipe()
	require.NoError(t, err)
	stdout, err := owner.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, owner.Start())
	t.Cleanup(func() {
		stdin.Close()
		_ = owner.Process.Kill()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	path = strings.TrimSpace(line)
	require.DirExists(t, path, line)
	return owner, path
}

func kill(t *testing.T, owner *exec.Cmd) {
	t.Helper()
	require.NoError(t, owner.Process.Kill())
	_ = owner.Wait()
}

// removeReadOnly removes a working directory that holds what only root could remove
// with a plain RemoveAll, and fails if a plain one would do.
func removeReadOnly(parent string) error {
	if os.Geteuid() == 0 {
		const nobody = 65534
		if err := errors.Join(syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			return err
		}
	}
	dir, err := NewDir(parent)
	if err != nil {
		return err
	}
	locked := filepath.Join(dir.Path(), "locked")
	deep := filepath.Join(locked, "deep")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(deep, "file"), []byte("x"), 0o400); err != nil {
		return err
	}
	for _, path := range []string{deep, locked} {
		if err := os.Chmod(path, 0); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(locked); !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("the test tests nothing, a plain RemoveAll says: %w", err)
	}
	return dir.Remove()
}

// hold takes the lock, starts a child that outlives it (as a tool of llama.cpp might),
// says so and waits.
func hold(path string) error {
	if _, err := NewLock(path).Acquire(context.Background(), false, nil); err != nil {
		return err
	}
	child := exec.Command(os.Args[0])
	child.Env = []string{childEnv + "=1"}
	child.Stdin = os.Stdin
	if err := child.Start(); err != nil {
		return err
	}
	fmt.Println("held")
	return child.Wait()
}

// startHolder runs a holder and returns once it has the lock. Its child lives to the
// end of the test.
func startHolder(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	holder := exec.Command(os.Args[0], "--flag")
	holder.Env = append(os.Environ(), holdEnv+"="+path)
	in, out, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { in.Close(); out.Close() })
	holder.Stdin = in // its child's, too, which thus ends with the test
	stdout, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	t.Cleanup(func() { _ = holder.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held", strings.TrimSpace(line))
	return holder
}
