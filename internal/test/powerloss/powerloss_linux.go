// Package powerloss gives tests file systems that lose their power: what was not written to the
// disk by then is lost, and the journal is replayed when the file system is mounted again.
package powerloss

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// FileSystems are those that a test should lose power on.
var FileSystems = []string{"ext4", "xfs"}

// size of a disk in bytes: no XFS is smaller.
const size = 320 << 20

// Disk is a file system in a file, mounted at Path.
type Disk struct {
	Path  string
	t     *testing.T
	image string
}

// New makes and mounts a file system, and takes it away with the test. Where this host cannot do
// that it fails the test, and says what it misses.
func New(t *testing.T, fileSystem string) *Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatalf("no power loss is tested on %s: only root mounts file systems", fileSystem)
	}
	mkfs := servers.Tool(t, "mkfs."+fileSystem)
	dir := t.TempDir()
	d := &Disk{Path: filepath.Join(dir, "mounted"), t: t, image: filepath.Join(dir, "image")}
	require.NoError(t, os.Mkdir(d.Path, 0o700))
	require.NoError(t, os.WriteFile(d.image, nil, 0o600))
	require.NoError(t, os.Truncate(d.image, size))
	if out, err := exec.Command(mkfs, "-q", d.image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.%s: %v: %s", fileSystem, err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.Path).CombinedOutput(); err != nil {
		t.Fatalf("no power loss is tested on %s: mounting it fails: %s", fileSystem, out)
	}
	t.Cleanup(d.unmount)
	return d
}

// shutDown is the ioctl EXT4_IOC_SHUTDOWN, which XFS has as XFS_IOC_GOINGDOWN, and noFlush its
// argument by which not even the log is written.
const (
	shutDown = 0x8004587d
	noFlush  = 2
)

// Lose cuts the power, ends a process that works on the disk, and brings the power back.
func (d *Disk) Lose(working *os.Process) {
	d.t.Helper()
	root, err := os.Open(d.Path)
	require.NoError(d.t, err)
	require.NoError(d.t, unix.IoctlSetPointerInt(int(root.Fd()), shutDown, noFlush), "cutting the power")
	require.NoError(d.t, root.Close())
	if working != nil {
		if err := working.Kill(); !errors.Is(err, os.ErrProcessDone) {
			require.NoError(d.t, err)
		}
		_, _ = working.Wait() // somebody else may
	}
	d.unmount()
	out, err := exec.Command("mount", "-o", "loop", d.image, d.Path).CombinedOutput()
	require.NoError(d.t, err, string(out))
}

func (d *Disk) unmount() {
	if out, err := exec.Command("umount", d.Path).CombinedOutput(); err != nil {
		d.t.Errorf("unmounting %s: %v: %s", d.Path, err, out)
	}
}
